//! What the helper runs, and the limits that the kernel keeps for it.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::isolation::IsolationLevel;

/// What the helper runs, and inside what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spec {
    /// The isolation level; `None` only under [`Isolation::UnsafeNone`](crate::Isolation).
    pub level: Option<IsolationLevel>,
    /// Absolute path of the interpreter, with symbolic links resolved.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<String>,
    /// The whole environment of the confined process.
    pub env: Vec<(String, String)>,
    /// Files and folders that may be read and mapped, recursively. Missing ones are skipped.
    pub read_paths: Vec<PathBuf>,
    /// The user and group id to become when the helper runs as root. Give every sandbox that runs
    /// at the same time its own. Ignored when the helper is not root.
    pub uid: u32,
    /// Limits that the kernel keeps for each process.
    pub limits: ProcessLimits,
    /// The first message to the process, before the first request; it must answer with one
    /// message, or the start counts as failed.
    pub greeting: Vec<u8>,
    /// Longest message that the process may answer with, in bytes.
    pub reply_bytes: usize,
}

/// Limits that the kernel keeps for each confined process. Soft and hard limits are equal, so the
/// process cannot raise them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessLimits {
    /// Address space in bytes (`RLIMIT_AS`).
    pub memory_bytes: u64,
    /// Stack of the main thread, and default of other threads, in bytes.
    pub stack_bytes: u64,
    /// Longest file that can be written, in bytes. No level lets untrusted code create a file on
    /// disk; this bounds anonymous files such as the standard input of a test.
    pub file_bytes: u64,
    /// Open descriptors.
    pub open_files: u64,
    /// Processes and threads of the sandbox's user id. Applied only when the helper is root, because
    /// the kernel counts all processes of a user, not those of a sandbox.
    pub processes: u64,
}

impl Default for ProcessLimits {
    /// 1 GiB of address space (evalplus allows 4 GiB, `LiveCodeBench` the same; 1 GiB holds any
    /// honest solution of those sets and 64 of them fit a training machine), 64 MiB of stack,
    /// 16 MiB files, 64 descriptors, 64 threads.
    fn default() -> Self {
        Self {
            memory_bytes: 1 << 30,
            stack_bytes: 64 << 20,
            file_bytes: 16 << 20,
            open_files: 64,
            processes: 64,
        }
    }
}
