//! System calls without a safe form in the standard library: thin wrappers that turn return codes
//! into results. All unsafe code of the crate is in this file.
//!
//! The helper is single-threaded and calls nothing here concurrently. No wrapper keeps a pointer
//! that it is given: the kernel copies strings and structures before a call returns.
#![allow(
    unsafe_code,
    reason = "raw system calls; each wrapper passes pointers to live, correctly sized values only"
)]

use std::ffi::{CString, OsStr};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr;

fn check(code: libc::c_int) -> io::Result<()> {
    check_long(code.into()).map(drop)
}

fn check_long(code: libc::c_long) -> io::Result<libc::c_long> {
    if code < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(code)
    }
}

fn c_string(text: &OsStr) -> io::Result<CString> {
    CString::new(text.as_bytes()).map_err(io::Error::other)
}

/// `Some(pid)` in the parent, `None` in the child, which lives in new namespaces where asked.
pub(super) fn fork(namespaces: libc::c_int) -> io::Result<Option<libc::pid_t>> {
    let flags = libc::c_long::from(namespaces | libc::SIGCHLD);
    // SAFETY: a null stack makes `clone` behave like `fork`; the process has one thread, so the
    // child's copy of the allocator and of every lock is consistent.
    let pid = check_long(unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) })?;
    Ok((pid != 0).then_some(pid as libc::pid_t))
}

/// Ends this process without running destructors or exit handlers of the parent's image.
pub(super) fn exit_now(code: i32) -> ! {
    // SAFETY: `_exit` has no preconditions.
    unsafe { libc::_exit(code) }
}

/// A pipe whose ends are not inherited: (read, write).
pub(super) fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut ends = [-1; 2];
    // SAFETY: `ends` has room for the two descriptors, which nobody else owns.
    unsafe {
        check(libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC))?;
        Ok((OwnedFd::from_raw_fd(ends[0]), OwnedFd::from_raw_fd(ends[1])))
    }
}

/// A copy of the descriptor numbered at least `minimum`, closed on exec.
pub(super) fn duplicate_above(fd: BorrowedFd<'_>, minimum: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: on success the kernel returns a new descriptor that nobody else owns.
    unsafe {
        let copy = libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, minimum);
        check(copy)?;
        Ok(OwnedFd::from_raw_fd(copy))
    }
}

/// Makes `number` refer to the same file and stay open on exec. Whatever `number` was is closed,
/// so no owned descriptor may have it.
pub(super) fn place(fd: BorrowedFd<'_>, number: RawFd) -> io::Result<()> {
    // SAFETY: the callers copy every owned descriptor above the placed numbers first.
    check(unsafe { libc::dup2(fd.as_raw_fd(), number) })
}

/// Closes the descriptors `first..=last`, of which none may be owned by a value that is used later.
pub(super) fn close_range(first: u32, last: u32) -> io::Result<()> {
    // SAFETY: called at the start, before anything is opened, and in a child before it executes
    // another program, on numbers below those of all owned descriptors.
    check_long(unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) }).map(drop)
}

pub(super) fn set_nonblocking(fd: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: plain `fcntl` on an open descriptor.
    check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK) })
}

/// Waits until one of the descriptors is ready, at most `timeout_ms`; returns what is ready on each.
pub(crate) fn poll<const N: usize>(
    watched: [(BorrowedFd<'_>, libc::c_short); N],
    timeout_ms: i32,
) -> io::Result<[libc::c_short; N]> {
    let mut fds = watched.map(|(fd, events)| libc::pollfd {
        fd: fd.as_raw_fd(),
        events,
        revents: 0,
    });
    // SAFETY: `fds` is an array of N initialised entries.
    let code = unsafe { libc::poll(fds.as_mut_ptr(), N as libc::nfds_t, timeout_ms) };
    match check(code) {
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok([0; N]),
        result => result.map(|()| fds.map(|entry| entry.revents)),
    }
}

pub(super) fn kill(pid: libc::pid_t) {
    // SAFETY: no memory is involved. A process that is already gone is no error here.
    unsafe { libc::kill(pid, libc::SIGKILL) };
}

/// A child that ended: its id and wait status; `None` when children live but none has ended.
///
/// # Errors
/// `ECHILD` when there are no children.
pub(super) fn reap() -> io::Result<Option<(libc::pid_t, libc::c_int)>> {
    let mut status = 0;
    // SAFETY: `status` is a valid place for the result.
    let pid = unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG) };
    check(pid)?;
    Ok((pid != 0).then_some((pid, status)))
}

/// Orphans below this process become its children.
pub(super) fn become_subreaper() -> io::Result<()> {
    prctl(libc::PR_SET_CHILD_SUBREAPER, 1)
}

/// This process is killed when the thread that forked it ends.
pub(super) fn die_with_parent() -> io::Result<()> {
    prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as libc::c_ulong)
}

pub(super) fn no_new_privileges() -> io::Result<()> {
    prctl(libc::PR_SET_NO_NEW_PRIVS, 1)
}

fn prctl(option: libc::c_int, value: libc::c_ulong) -> io::Result<()> {
    let none: libc::c_ulong = 0;
    // SAFETY: the options used here take numbers, not pointers.
    check(unsafe { libc::prctl(option, value, none, none, none) })
}

pub(super) fn new_session() -> io::Result<()> {
    // SAFETY: no memory is involved.
    check(unsafe { libc::setsid() })
}

pub(super) fn set_umask(mask: libc::mode_t) {
    // SAFETY: no memory is involved.
    unsafe { libc::umask(mask) };
}

/// The effective user and group ids.
pub(super) fn effective_ids() -> (u32, u32) {
    // SAFETY: no memory is involved, and neither call fails.
    unsafe { (libc::geteuid(), libc::getegid()) }
}

/// Sets soft and hard limit to the value, or to the hard limit where that is lower.
pub(super) fn limit(resource: libc::__rlimit_resource_t, value: u64) -> io::Result<()> {
    let mut current = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: both calls get a valid `rlimit`.
    unsafe {
        check(libc::getrlimit(resource, &raw mut current))?;
        let value = value.min(current.rlim_max);
        let both = libc::rlimit {
            rlim_cur: value,
            rlim_max: value,
        };
        check(libc::setrlimit(resource, &raw const both))
    }
}

/// Becomes the user and group for good and leaves all other groups.
pub(super) fn become_user(uid: u32) -> io::Result<()> {
    // SAFETY: an empty list needs no memory; the others take numbers.
    unsafe {
        check(libc::setgroups(0, ptr::null()))?;
        check(libc::setresgid(uid, uid, uid))?;
        check(libc::setresuid(uid, uid, uid))
    }
}

/// Gives up all capabilities that a later exec could bring back. Must come before the user id
/// changes, which takes away the right to do it.
pub(super) fn drop_bounding_set() -> io::Result<()> {
    const LAST_POSSIBLE: libc::c_ulong = 63;
    for capability in 0..=LAST_POSSIBLE {
        match prctl(libc::PR_CAPBSET_DROP, capability) {
            Ok(()) => {}
            // Past the last capability of this kernel, or without CAP_SETPCAP: then nothing can be
            // gained on exec either, by `no_new_privs`.
            Err(error) if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EPERM)) => break,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Gives up all present capabilities.
pub(super) fn drop_capabilities() -> io::Result<()> {
    const VERSION_3: u32 = 0x2008_0522;
    let header: [u32; 2] = [VERSION_3, 0];
    let none = [0_u32; 6];
    // SAFETY: version 3 of the interface reads a header of two and data of six 32-bit words.
    check_long(unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), none.as_ptr()) }).map(drop)
}

pub(super) fn mount(
    source: Option<&Path>,
    target: &Path,
    kind: Option<&str>,
    flags: libc::c_ulong,
    options: Option<&str>,
) -> io::Result<()> {
    let source = source.map(|path| c_string(path.as_os_str())).transpose()?;
    let target = c_string(target.as_os_str())?;
    let kind = kind.map(|kind| c_string(kind.as_ref())).transpose()?;
    let options = options.map(|text| c_string(text.as_ref())).transpose()?;
    let pointer = |text: &Option<CString>| text.as_ref().map_or(ptr::null(), |t| t.as_ptr());
    // SAFETY: each pointer is null or a string that lives until after the call.
    check(unsafe {
        libc::mount(
            pointer(&source),
            target.as_ptr(),
            pointer(&kind),
            flags,
            pointer(&options).cast(),
        )
    })
}

/// Adds mount attributes to the mount at `target`, and to those below it.
pub(super) fn add_mount_attributes(target: &Path, attributes: u64) -> io::Result<()> {
    const AT_RECURSIVE: libc::c_uint = 0x8000;
    let target = c_string(target.as_os_str())?;
    // set, clear, propagation, user namespace
    let request = [attributes, 0, 0, 0];
    // SAFETY: the string and the 32-byte `struct mount_attr` live until after the call.
    check_long(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            libc::AT_FDCWD,
            target.as_ptr(),
            AT_RECURSIVE,
            request.as_ptr(),
            size_of_val(&request),
        )
    })
    .map(drop)
}

/// Makes the current folder the root and detaches the old root.
pub(super) fn pivot_to_current_folder() -> io::Result<()> {
    let here = c".".as_ptr();
    // SAFETY: both calls get a constant string. Stacking the new root upon the old one and then
    // detaching the lower is the documented use of `pivot_root(".", ".")`.
    unsafe {
        check_long(libc::syscall(libc::SYS_pivot_root, here, here))?;
        check(libc::umount2(here, libc::MNT_DETACH))
    }
}

pub(super) fn set_host_name(name: &str) -> io::Result<()> {
    // SAFETY: the pointer and length are those of a live string.
    check(unsafe { libc::sethostname(name.as_ptr().cast(), name.len()) })
}

/// The version of Landlock that the kernel offers.
///
/// # Errors
/// `ENOSYS` without Landlock, `EOPNOTSUPP` when it is built in but not enabled.
pub(super) fn landlock_version() -> io::Result<i64> {
    const CREATE_RULESET_VERSION: libc::c_uint = 1;
    let no_attributes: *const u8 = ptr::null();
    // SAFETY: with this flag the kernel takes a null pointer and a zero size.
    check_long(unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            no_attributes,
            0_usize,
            CREATE_RULESET_VERSION,
        )
    })
}
