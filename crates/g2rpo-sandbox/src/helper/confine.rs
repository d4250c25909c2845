//! The forked child: gives up every right and becomes the interpreter.

use std::convert::Infallible;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::Command;

use super::entry::{ABOVE, Ends, Entry, INNER_ID, failure};
use super::{files, root, sys};
use crate::isolation::IsolationLevel;
use crate::seccomp;
use crate::spec::Spec;
use crate::wire::SetupFailure;

/// Numbers of the descriptors that the interpreter gets, besides 0 and 1 (`/dev/null`) and 2
/// (standard error, read by the helper).
const ANSWERS: i32 = 3;
const MESSAGES: i32 = 4;
/// In the forked child: gives up every right, and becomes the interpreter. Never returns; a failure
/// is written to the pipe that the helper reads.
pub(super) fn enter(spec: &Spec, entry: Entry, ends: Ends) -> ! {
    let failed = match ends.moved_up() {
        Ok(ends) => {
            let Err(failed) = become_interpreter(spec, entry, &ends);
            (failed, Some(File::from(ends.failure)))
        }
        Err(error) => (failure("descriptors", &error), None),
    };
    if let (failed, Some(mut report)) = failed
        && let Ok(text) = serde_json::to_vec(&failed)
    {
        let _ = report.write_all(&text);
    }
    sys::exit_now(1)
}

/// The order matters. Namespaces and mounts need the rights that are dropped next; Landlock and
/// seccomp come last because they would forbid the steps before them.
fn become_interpreter(spec: &Spec, entry: Entry, ends: &Ends) -> Result<Infallible, SetupFailure> {
    let at = |stage: &'static str| move |error: io::Error| failure(stage, &error);
    wait_for_go(ends).map_err(at("start"))?;
    sys::new_session().map_err(at("session"))?;
    place_descriptors(ends).map_err(at("descriptors"))?;
    if entry != Entry::Stay {
        sys::set_host_name("sandbox").map_err(at("namespaces"))?;
        root::enter_private_root(spec).map_err(at("mounts"))?;
    }
    // After the private root, whose folders everybody inside must be able to enter.
    sys::set_umask(0o077);
    set_limits(spec).map_err(at("limits"))?;
    drop_rights(spec, entry).map_err(at("rights"))?;
    if spec.level.is_some_and(IsolationLevel::has_landlock) {
        files::restrict(spec).map_err(at("landlock"))?;
    }
    if spec.level.is_some() {
        seccomp::confine_interpreter().map_err(|error| SetupFailure {
            stage: "seccomp".to_owned(),
            errno: 0,
            detail: error.to_string(),
        })?;
    }
    let error = Command::new(&spec.program)
        .args(&spec.args)
        .env_clear()
        .envs(spec.env.iter().map(|(name, value)| (name, value)))
        .exec();
    Err(failure("exec", &error))
}

/// A new user namespace is without rights until the helper has written its map.
fn wait_for_go(ends: &Ends) -> io::Result<()> {
    let mut go = File::from(ends.go.try_clone()?);
    let mut byte = [0];
    go.read_exact(&mut byte)
}

/// Puts the pipes where the interpreter expects them; everything else is closed, or will be by exec.
/// The helper's own descriptors are closed here too: nothing in this process uses them any more.
fn place_descriptors(ends: &Ends) -> io::Result<()> {
    let null = {
        let null = OpenOptions::new()
            .read(true)
            .write(true)
            .open("/dev/null")?;
        sys::duplicate_above(null.as_fd(), ABOVE)?
    };
    sys::place(null.as_fd(), 0)?;
    sys::place(null.as_fd(), 1)?;
    sys::place(ends.errors.as_fd(), 2)?;
    sys::place(ends.answers.as_fd(), ANSWERS)?;
    sys::place(ends.messages.as_fd(), MESSAGES)?;
    sys::close_range(MESSAGES as u32 + 1, ABOVE as u32 - 1)
}

fn set_limits(spec: &Spec) -> io::Result<()> {
    let limits = &spec.limits;
    sys::limit(libc::RLIMIT_CORE, 0)?;
    sys::limit(libc::RLIMIT_AS, limits.memory_bytes)?;
    sys::limit(libc::RLIMIT_STACK, limits.stack_bytes)?;
    sys::limit(libc::RLIMIT_FSIZE, limits.file_bytes)?;
    sys::limit(libc::RLIMIT_NOFILE, limits.open_files)?;
    sys::limit(libc::RLIMIT_MEMLOCK, 0)?;
    sys::limit(libc::RLIMIT_MSGQUEUE, 0)?;
    if sys::effective_ids().0 == 0 {
        sys::limit(libc::RLIMIT_NPROC, limits.processes)?;
    }
    Ok(())
}

fn drop_rights(spec: &Spec, entry: Entry) -> io::Result<()> {
    sys::no_new_privileges()?;
    // Before the ids change: dropping from the bounding set needs a capability.
    let root = sys::effective_ids().0 == 0;
    if root && spec.level.is_some() {
        sys::drop_bounding_set()?;
        match entry {
            Entry::UserNamespace => sys::become_user(INNER_ID)?,
            Entry::Direct | Entry::Stay => sys::become_user(spec.uid)?,
        }
    }
    sys::drop_capabilities()?;
    // After the ids change, which would clear it.
    sys::die_with_parent()
}
