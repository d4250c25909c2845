//! The running interpreter, as the helper sees it.

use std::fs::File;
use std::io::Read;

/// The running interpreter, seen from outside.
#[derive(Debug)]
pub(super) struct Confined {
    pub(super) pid: libc::pid_t,
    pub(super) messages: File,
    pub(super) answers: File,
    pub(super) errors: File,
}

impl Confined {
    /// The end of what the interpreter wrote to its standard error.
    pub(super) fn last_words(&mut self) -> String {
        let mut bytes = vec![0; 1 << 16];
        let n = self.errors.read(&mut bytes).unwrap_or(0);
        let text = String::from_utf8_lossy(&bytes[..n]);
        let text = text.trim();
        if text.is_empty() {
            "it said nothing".to_owned()
        } else {
            text.chars()
                .rev()
                .take(2000)
                .collect::<Vec<_>>()
                .into_iter()
                .rev()
                .collect()
        }
    }
}
