//! What went wrong and what to do about it, as one sentence for a person.

use std::fmt;
use std::io::ErrorKind;

/// One sentence that says what is wrong and what to do.
#[derive(Debug)]
pub(crate) struct Error(String);

pub(crate) type Result<T> = std::result::Result<T, Error>;

impl Error {
    pub(crate) fn new(sentence: impl Into<String>) -> Self {
        Self(sentence.into())
    }

    /// For use in `map_err`: the action that failed, with what, and the operating system's reason.
    pub(crate) fn io(action: &str, what: impl fmt::Display) -> impl FnOnce(std::io::Error) -> Self {
        move |error| {
            let reason = match error.kind() {
                ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
                    "the disk is full; free some space, or set XDG_CACHE_HOME to a folder on a larger disk, and run the same command again".to_owned()
                }
                _ => error.to_string(),
            };
            Self::new(format!("cannot {action} {what}: {reason}"))
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
