//! What can go wrong in a training run.

use std::path::{Path, PathBuf};

/// What can go wrong in a training run.
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
    /// A line of a file cannot be used.
    #[error("{path}, line {line}: {problem}")]
    Line {
        /// The file.
        path: PathBuf,
        /// Which line, counted from 1.
        line: usize,
        /// What is wrong with it, and what is expected.
        problem: String,
    },
    /// A data set cannot be used.
    #[error("{path}: {problem}")]
    Data {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// A recipe has mistakes, each with its place and what is expected.
    #[error("{}", .0.join("\n"))]
    Recipe(Vec<String>),
    /// The folder of a run cannot be used.
    #[error("{path}: {problem}")]
    RunFolder {
        /// The folder.
        path: PathBuf,
        /// Why not, and what to do.
        problem: String,
    },
    /// A checkpoint cannot be written; the ones before are there still.
    #[error("{path}: the checkpoint cannot be written: {source}")]
    Checkpoint {
        /// Its folder.
        path: PathBuf,
        /// What the writing failed with.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A setting is outside its domain.
    #[error("{name} = {value}: {problem}")]
    Config {
        /// Name of the setting.
        name: &'static str,
        /// The value given.
        value: String,
        /// What is expected instead.
        problem: String,
    },
    /// A task cannot be used.
    #[error("task {task}: {problem}")]
    Task {
        /// Index of the task in its data set.
        task: usize,
        /// What is wrong with it.
        problem: String,
    },
    /// The learner failed.
    #[error("learner: {0}")]
    Learner(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The engine could not be given the learner's new weights.
    #[error("weights to the engine: {0}")]
    Sync(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The engine goes on sampling by weights that are too old.
    #[error(
        "{batches} batches in a row were sampled by weights more than max_staleness = {max_staleness} behind, and dropped: \
         the engine does not get the learner's weights"
    )]
    Stale {
        /// Batches that were dropped.
        batches: u64,
        /// The bound.
        max_staleness: u64,
    },
    /// A verifier did not judge every answer.
    #[error("verifier: expected {expected} verdicts, got {got}")]
    Verdicts {
        /// Number of answers.
        expected: usize,
        /// Number of verdicts.
        got: usize,
    },
    /// A reward function failed.
    #[error(transparent)]
    Reward(#[from] g2rpo_verify::RewardError),
    /// The picture of the curves cannot be drawn.
    #[error("drawing {path}: {problem}")]
    Plot {
        /// The picture.
        path: PathBuf,
        /// What the drawing library said.
        problem: String,
    },
    /// Rollouts could not be made or packed.
    #[error(transparent)]
    Rollout(#[from] g2rpo_rollout::Error),
    /// Guidance could not be planned.
    #[error(transparent)]
    Guidance(#[from] g2rpo_guidance::Error),
    /// The numbers do not fit together.
    #[error(transparent)]
    Core(#[from] g2rpo_core::Error),
}

/// [`std::result::Result`] with this crate's [`enum@Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    pub(crate) fn io(path: &Path) -> impl Fn(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io {
            path: path.clone(),
            source,
        }
    }

    pub(crate) fn config(
        name: &'static str,
        value: impl ToString,
        problem: impl Into<String>,
    ) -> Self {
        Self::Config {
            name,
            value: value.to_string(),
            problem: problem.into(),
        }
    }

    pub(crate) fn data(path: &Path, problem: impl ToString) -> Self {
        Self::Data {
            path: path.to_owned(),
            problem: problem.to_string(),
        }
    }

    pub(crate) fn run_folder(path: &Path, problem: impl Into<String>) -> Self {
        Self::RunFolder {
            path: path.to_owned(),
            problem: problem.into(),
        }
    }

    pub(crate) fn learner(error: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self::Learner(Box::new(error))
    }
}
