//! Confines one interpreter process that runs untrusted code.
//!
//! [`Sandbox::start`] launches a small single-threaded *helper* process. The helper sets up the
//! isolation, executes the interpreter inside it, passes messages in both directions and kills
//! everything when a deadline passes, when its caller goes away or when the [`Sandbox`] is dropped.
//! The calling process is never forked: a trainer that holds a GPU context and many threads only
//! spawns (`posix_spawn`) a program.
//!
//! * [`IsolationLevel`] and [`Isolation`]: which kernel mechanisms hold the process, and what is accepted.
//! * [`Spec`] and [`ProcessLimits`]: what is run, what it may read, what it may use.
//! * [`Sandbox`]: one helper with one confined process; requests in, replies out.
//! * [`main_if_requested`]: lets any program be its own helper, with one line in `main`.
//! * [`test_filter`]: the system calls that remain for a process that runs untrusted code.
//!
//! The crate knows nothing of Python or of tests. What it promises, and what it does not, is in
//! `docs/sandbox.md`.
#![deny(missing_docs)]

mod client;
mod error;
mod isolation;
mod locate;
mod spec;
mod wire;

#[cfg(target_os = "linux")]
mod helper;
#[cfg(target_os = "linux")]
mod seccomp;

pub use client::Sandbox;
pub use error::SandboxError;
pub use isolation::{Isolation, IsolationLevel};
pub use locate::{HELPER_ARGUMENT, HELPER_ENV, Helper, main_if_requested};
pub use spec::{ProcessLimits, Spec};

/// Runs the helper on standard input and output and returns its exit status.
///
/// This is the whole `main` of the `g2rpo-sandbox` program; programs that are their own helper
/// call [`main_if_requested`] instead.
#[must_use]
pub fn helper_main() -> i32 {
    #[cfg(target_os = "linux")]
    {
        helper::run()
    }
    #[cfg(not(target_os = "linux"))]
    {
        eprintln!("{}", SandboxError::Unsupported);
        1
    }
}

/// The seccomp program for a process that runs untrusted code, as the bytes of the kernel's
/// `struct sock_filter` array. The confined program installs it in each process it forks, after the
/// fork and before the first untrusted instruction.
///
/// It is an allow-list: reading, memory, time, threads, pipes and one kind of socket
/// pair. New processes, `execve`, sockets, signals to others, changes of file metadata, tracing,
/// namespaces and everything newer than the list fail with `EPERM`.
///
/// # Errors
/// On an architecture or a system that the program is not written for.
pub fn test_filter() -> Result<Vec<u8>, SandboxError> {
    #[cfg(target_os = "linux")]
    {
        seccomp::test_filter()
    }
    #[cfg(not(target_os = "linux"))]
    {
        Err(SandboxError::Unsupported)
    }
}
