//! What a command ends with when it cannot do what was asked: a sentence and an exit code by kind.

use std::fmt::Display;
use std::path::Path;
use std::process::ExitCode;

use g2rpo::{guidance, libtorch, train};

/// Why a command ends.
#[derive(Debug)]
pub(crate) struct Failure {
    code: u8,
    message: String,
}

impl Failure {
    /// Something else went wrong.
    pub(crate) const OTHER: u8 = 1;
    /// A recipe or an argument is wrong.
    pub(crate) const SETTINGS: u8 = 2;
    /// A data set or another input cannot be used.
    pub(crate) const INPUT: u8 = 3;
    /// The folder of a run, a checkpoint or another file cannot be used.
    pub(crate) const RUN: u8 = 4;
    /// A run's telemetry says that it went wrong.
    pub(crate) const CHECK: u8 = 5;
    /// A signal ended the run, which can be resumed.
    pub(crate) const INTERRUPTED: u8 = 130;

    pub(crate) fn new(code: u8, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }

    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    /// Says which of several processes it is.
    pub(crate) fn of_rank(self, rank: usize) -> Self {
        Self::new(self.code, format!("rank {rank}: {}", self.message))
    }

    /// Says why, and gives the exit code.
    pub(crate) fn tell(self) -> ExitCode {
        use std::io::Write;
        // Where nobody listens any more there is nobody to tell.
        let _ = writeln!(std::io::stderr(), "{}", self.message);
        ExitCode::from(self.code)
    }
}

impl From<train::Error> for Failure {
    fn from(error: train::Error) -> Self {
        use train::Error;
        let code = match &error {
            Error::Recipe(_) | Error::Config { .. } => Self::SETTINGS,
            Error::Data { .. } | Error::Line { .. } | Error::Task { .. } => Self::INPUT,
            Error::Guidance(guidance::Error::NoDifficulty { .. }) => Self::INPUT,
            // What is read elsewhere says so itself.
            Error::RunFolder { .. } | Error::Checkpoint { .. } | Error::Io { .. } => Self::RUN,
            _ => Self::OTHER,
        };
        Self::new(code, error.to_string())
    }
}

impl From<libtorch::Error> for Failure {
    fn from(error: libtorch::Error) -> Self {
        use libtorch::Error;
        let code = match &error {
            Error::Invalid { .. } => Self::SETTINGS,
            Error::Io { .. }
            | Error::File { .. }
            | Error::Config { .. }
            | Error::MissingTensor { .. }
            | Error::ExtraTensor { .. }
            | Error::TensorShape { .. } => Self::RUN,
            _ => Self::OTHER,
        };
        Self::new(code, error.to_string())
    }
}

/// Adds what a library's error was about.
pub(crate) fn because<E: Display>(code: u8, what: impl Display) -> impl Fn(E) -> Failure {
    move |error| Failure::new(code, format!("{what}: {error}"))
}

/// Refuses a file where a folder is to be made; `what` stands before its name.
pub(crate) fn refuse_file(what: &str, folder: &Path) -> Result<(), Failure> {
    let Some(there) = folder.ancestors().find(|path| path.exists()) else {
        return Ok(());
    };
    if there.is_dir() {
        return Ok(());
    }
    let message = format!(
        "{what}{}: {} is a file, and a folder is needed: choose another name, or move the file away",
        folder.display(),
        match there == folder {
            true => "it".into(),
            false => there.display().to_string(),
        }
    );
    Err(Failure::new(Failure::RUN, message))
}
