//! Starts the interpreter inside its namespaces and waits for its first answer.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::time::Duration;

use super::confined::Confined;
use super::entry::{Ends, Entry, INNER_ID, failure};
use super::exchange::{Exchange, exchange};
use super::{confine, kill, sys};
use crate::spec::Spec;
use crate::wire::SetupFailure;

/// How long the interpreter may take from its start to its first answer. Generous: a loaded machine
/// with a cold disk needs seconds, and nothing untrusted runs before.
const START: Duration = Duration::from_secs(30);
/// Starts the interpreter inside the isolation and exchanges the greeting with it.
pub(super) fn start(spec: &Spec, caller: &File) -> Result<Confined, SetupFailure> {
    let entry = match spec.level {
        Some(level) if level.has_namespaces() => {
            if can_administer() {
                Entry::Direct
            } else {
                Entry::UserNamespace
            }
        }
        _ => Entry::Stay,
    };
    let mut confined = spawn(spec, entry)?;
    let answer = exchange(&mut confined, &spec.greeting, START, caller, 1 << 16);
    if let Exchange::Answer(..) = answer {
        return Ok(confined);
    }
    let detail = match answer {
        Exchange::Deadline => format!("no sign of life within {START:?}"),
        _ => format!("the interpreter ended: {}", confined.last_words()),
    };
    kill::everything(confined.pid);
    Err(SetupFailure {
        stage: "interpreter".to_owned(),
        errno: 0,
        detail,
    })
}

fn spawn(spec: &Spec, entry: Entry) -> Result<Confined, SetupFailure> {
    let at = |stage: &'static str| move |error: io::Error| failure(stage, &error);
    let pipe = || sys::pipe().map_err(at("pipes"));
    let (inner_messages, messages) = pipe()?;
    let (answers, inner_answers) = pipe()?;
    let (errors, inner_errors) = pipe()?;
    let (failed, inner_failure) = pipe()?;
    let (inner_go, go) = pipe()?;
    for fd in [messages.as_fd(), answers.as_fd(), errors.as_fd()] {
        sys::set_nonblocking(fd).map_err(at("pipes"))?;
    }
    let Some(pid) = sys::fork(namespaces(entry)).map_err(at("namespaces"))? else {
        let ends = Ends {
            messages: inner_messages,
            answers: inner_answers,
            errors: inner_errors,
            failure: inner_failure,
            go: inner_go,
        };
        confine::enter(spec, entry, ends);
    };
    let confined = Confined {
        pid,
        messages: File::from(messages),
        answers: File::from(answers),
        errors: File::from(errors),
    };
    drop((
        inner_messages,
        inner_answers,
        inner_errors,
        inner_failure,
        inner_go,
    ));
    let mapped = if entry == Entry::UserNamespace {
        map_users(pid, spec.uid)
    } else {
        Ok(())
    };
    let outcome = match mapped {
        Ok(()) => File::from(go)
            .write_all(&[1])
            .map_err(at("start"))
            .and_then(|()| read_failure(File::from(failed))),
        Err(error) => Err(failure("user map", &error)),
    };
    match outcome {
        Ok(()) => Ok(confined),
        Err(failure) => {
            kill::everything(confined.pid);
            Err(failure)
        }
    }
}

/// The child writes its failure, or its end of the pipe closes as it becomes the interpreter.
fn read_failure(mut failed: File) -> Result<(), SetupFailure> {
    let mut report = Vec::new();
    match failed.read_to_end(&mut report) {
        Ok(0) => Ok(()),
        Ok(_) => Err(serde_json::from_slice(&report)
            .unwrap_or_else(|error| failure("start", &io::Error::other(error)))),
        Err(error) => Err(failure("start", &error)),
    }
}

fn namespaces(entry: Entry) -> libc::c_int {
    let all = libc::CLONE_NEWPID
        | libc::CLONE_NEWNS
        | libc::CLONE_NEWNET
        | libc::CLONE_NEWIPC
        | libc::CLONE_NEWUTS;
    match entry {
        Entry::Stay => 0,
        Entry::Direct => all,
        Entry::UserNamespace => all | libc::CLONE_NEWUSER,
    }
}

/// Maps the users that the child needs: the one that it ends as and, for root, root itself, whose
/// rights the child uses to find the interpreter before it gives them up.
fn map_users(pid: libc::pid_t, uid: u32) -> io::Result<()> {
    let (own_uid, own_gid) = sys::effective_ids();
    let map = |own: u32| {
        if own_uid == 0 {
            format!("0 0 1\n{INNER_ID} {uid} 1\n")
        } else {
            format!("{INNER_ID} {own} 1\n")
        }
    };
    if own_uid != 0 {
        fs::write(format!("/proc/{pid}/setgroups"), "deny")?;
    }
    fs::write(format!("/proc/{pid}/gid_map"), map(own_gid))?;
    fs::write(format!("/proc/{pid}/uid_map"), map(own_uid))
}

/// Whether this process is root with `CAP_SYS_ADMIN`, which container root usually is not.
fn can_administer() -> bool {
    const CAP_SYS_ADMIN: u32 = 21;
    let capabilities = fs::read_to_string("/proc/self/status")
        .ok()
        .and_then(|status| {
            let line = status
                .lines()
                .find_map(|line| line.strip_prefix("CapEff:"))?;
            u64::from_str_radix(line.trim(), 16).ok()
        });
    sys::effective_ids().0 == 0 && capabilities.is_some_and(|set| set >> CAP_SYS_ADMIN & 1 == 1)
}
