//! Why a sandbox cannot be started or does not answer.

use std::path::PathBuf;
use std::time::Duration;

use crate::isolation::IsolationLevel;

/// Why a sandbox could not be started, or did not answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SandboxError {
    /// The system is not Linux.
    #[error("the sandbox needs Linux; elsewhere, judge code through a remote executor")]
    Unsupported,
    /// No helper program was found.
    #[error(
        "no sandbox helper: tried {tried}. Call `main_if_requested()` first thing in `main`, put the \
         program `g2rpo-sandbox` beside the executable or on PATH, or name it in G2RPO_SANDBOX"
    )]
    HelperNotFound {
        /// Where it was looked for, in order.
        tried: String,
    },
    /// The helper program could not be executed.
    #[error("cannot start the sandbox helper {}: {source}", path.display())]
    HelperStart {
        /// The program.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The helper ended or its pipe broke.
    #[error("the sandbox helper ended unexpectedly: {0}")]
    HelperDied(String),
    /// The isolation could not be set up.
    #[error("isolation {} failed at {stage}: {detail}. {remedy}", level_name(*level))]
    Setup {
        /// The level that was tried; absent without isolation.
        level: Option<IsolationLevel>,
        /// Which step failed.
        stage: String,
        /// What the system said.
        detail: String,
        /// What can be done about it.
        remedy: &'static str,
    },
    /// No answer in time. Everything inside was killed; the next request starts afresh.
    #[error("no answer from the sandbox within {0:?}; everything in it was killed")]
    Deadline(Duration),
    /// The confined process ended before it answered. The next request starts afresh.
    #[error("the confined process ended before it answered: {0}")]
    Ended(String),
    /// A message was longer than the limit or out of turn.
    #[error("malformed message: {0}")]
    Protocol(String),
}

fn level_name(level: Option<IsolationLevel>) -> &'static str {
    level.map_or("none", IsolationLevel::name)
}
