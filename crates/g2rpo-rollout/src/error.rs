//! What can go wrong between a data set and a packed batch.

use std::path::PathBuf;

/// What can go wrong between a data set and a packed batch.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file cannot be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A line of a data set is not what its format asks for.
    #[error("{path}, line {line}: {problem}")]
    Line {
        /// The file.
        path: PathBuf,
        /// Line number, from 1.
        line: usize,
        /// What is wrong with the line and what was expected.
        problem: String,
    },
    /// A data set holds no task.
    #[error("{path}: the data set is empty; expected at least one JSON line")]
    EmptyDataSet {
        /// The file, or a name for a data set that is not a file.
        path: PathBuf,
    },
    /// The generator cannot make as many different problems as asked.
    #[error(
        "only {made} different problems of {steps} steps were found in {tries} tries, \
         {asked} were asked for; ask for fewer or for more steps"
    )]
    TooFewProblems {
        /// Problems found.
        made: usize,
        /// Steps of each.
        steps: usize,
        /// Draws made.
        tries: usize,
        /// Problems asked for.
        asked: usize,
    },
    /// A text cannot be encoded or decoded.
    #[error("tokenizer: {0}")]
    Tokenizer(String),
    /// An engine did not keep its contract.
    #[error("rollout engine: {what}: expected {expected}, got {got}")]
    Engine {
        /// What was counted.
        what: &'static str,
        /// The count that the contract asks for.
        expected: usize,
        /// The count found.
        got: usize,
    },
    /// A sampling setting outside its range.
    #[error("{name}: {problem}")]
    Sampling {
        /// Name of the setting.
        name: &'static str,
        /// Expected and got.
        problem: String,
    },
    /// A sampling setting that an engine does not have.
    #[error("{engine} samples by {known} alone; leave other sampling settings at their defaults")]
    Unsupported {
        /// The engine.
        engine: &'static str,
        /// The settings it has.
        known: &'static str,
    },
    /// An engine failed.
    #[error("rollout engine: {0}")]
    Generate(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Streams that do not align.
    #[error(transparent)]
    Core(#[from] g2rpo_core::Error),
}

/// [`std::result::Result`] with this crate's [`enum@Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;
