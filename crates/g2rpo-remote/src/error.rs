//! What can go wrong between an engine and its servers, each with what to do about it.

use std::path::PathBuf;
use std::time::Duration;

use g2rpo_core::TokenId;
use g2rpo_rollout::RolloutKey;

use crate::canary::CanaryReport;

/// [`std::result::Result`] with this crate's [`enum@Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The learner's log-probabilities of a fixed sequence, at temperature 1: one number for each id
/// from the second on.
pub type Scorer<'a> =
    dyn FnMut(&[TokenId]) -> Result<Vec<f32>, Box<dyn std::error::Error + Send + Sync>> + 'a;

/// Why rollouts could not be had from the servers, or weights not be brought to them.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A setting that cannot be used.
    #[error("{name}: {problem}")]
    Config {
        /// Name of the setting.
        name: &'static str,
        /// What is wrong, and what would be right.
        problem: String,
    },
    /// A sampling setting under which a server cannot report what training needs.
    #[error("{setting} cannot be used with the server {server}: {reason}")]
    Sampling {
        /// The setting and its value.
        setting: String,
        /// The server's address.
        server: String,
        /// Why not, and what to do.
        reason: String,
    },
    /// A server lacks something that the configuration asks for.
    #[error("the server {server} cannot be used: {problem}")]
    Server {
        /// The server's address.
        server: String,
        /// What is missing, and how to start the server with it.
        problem: String,
    },
    /// A rollout that no server can make, or an answer that cannot be trained on.
    #[error("rollout {} at {server}: {problem}", named(.key))]
    Rollout {
        /// The rollout.
        key: RolloutKey,
        /// The server's address, or `any server`.
        server: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A rollout was tried as often as allowed.
    #[error("rollout {} at {server}: given up after {tries} tries; the last: {fault}", named(.key))]
    GaveUp {
        /// The rollout.
        key: RolloutKey,
        /// The server of the last try.
        server: String,
        /// Tries made.
        tries: u32,
        /// What the last one met.
        fault: Fault,
    },
    /// A call that is not a rollout failed.
    #[error("{doing} at {server}: {fault}")]
    Call {
        /// What was being done.
        doing: String,
        /// The server's address.
        server: String,
        /// What it met.
        fault: Fault,
    },
    /// No server answers.
    #[error(
        "{server} does not answer for {} s (vllm_server_timeout): {fault}; the engine behind it may \
         have died, its log says why",
        .waited.as_secs_f64().round()
    )]
    Unreachable {
        /// The server's address.
        server: String,
        /// How long it was waited for.
        waited: Duration,
        /// What the last call met.
        fault: Fault,
    },
    /// A server's log-probabilities are not the learner's.
    #[error(
        "after the sync of weights {version}, {report}; training on its rollouts would be wrong"
    )]
    Canary {
        /// The version that was to be served.
        version: u64,
        /// How far apart they are.
        report: CanaryReport,
    },
    /// A weight folder that must not be handed to a server.
    #[error("{path}: {problem}")]
    Folder {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The learner could not compute its side of the canary.
    #[error("the learner's log-probabilities for the canary: {0}")]
    Scorer(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// [`Canceller::cancel`](crate::Canceller::cancel) was called.
    #[error("generation was cancelled; requests in flight were dropped")]
    Cancelled,
}

/// What one HTTP call met.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// No connection: nothing listens there, or the host is not found.
    #[error("no connection: {0}")]
    Connect(String),
    /// The connection ended, or carried something else than HTTP, before the whole answer was there.
    #[error("the connection broke before the answer was complete: {0}")]
    Broken(String),
    /// The time limit passed.
    #[error("no complete answer within {} s; is the server paused, or overloaded?", .0.as_secs_f64())]
    Timeout(Duration),
    /// The server answered with an error.
    #[error("status {status}: {message}")]
    Status {
        /// HTTP status.
        status: u16,
        /// The server's own words.
        message: String,
        /// `Retry-After`, where the server names one.
        retry_after: Option<Duration>,
    },
    /// The answer is not what the protocol says.
    #[error("an answer that cannot be read: {0}")]
    Body(String),
    /// The server ended the request before it was complete (somebody paused it, or aborted requests).
    #[error("the server aborted the request; does somebody else pause it?")]
    Aborted,
    /// The call cannot be made at all, for example because a certificate is not trusted.
    #[error("{0}")]
    Impossible(String),
}

impl Fault {
    /// The error of a call that is not a rollout.
    pub(crate) fn when(self, doing: &str, server: &str) -> Error {
        Error::Call {
            doing: doing.into(),
            server: server.into(),
            fault: self,
        }
    }
}

fn named(key: &RolloutKey) -> String {
    let (run, step, group, member) = (key.run, key.step, key.group, key.member);
    format!("(run {run}, step {step}, group {group}, member {member})")
}
