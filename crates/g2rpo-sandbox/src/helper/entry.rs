//! How a confined process is entered: its pipes, its user, and how a failing step is told.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use super::sys;
use crate::wire::SetupFailure;

/// The user id that a confined process has inside its user namespace.
pub(super) const INNER_ID: u32 = 1000;

/// Descriptors that this process still needs are moved up to here first.
pub(super) const ABOVE: i32 = 16;

/// The ends of the pipes that the confined process gets, and the way its failure is told.
#[derive(Debug)]
pub(super) struct Ends {
    pub(super) messages: OwnedFd,
    pub(super) answers: OwnedFd,
    pub(super) errors: OwnedFd,
    pub(super) failure: OwnedFd,
    pub(super) go: OwnedFd,
}

/// How namespaces are entered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Entry {
    /// The level has none.
    Stay,
    /// Root with the right to do so makes them directly.
    Direct,
    /// Through a user namespace.
    UserNamespace,
}

impl Ends {
    /// The same pipes out of the way of the numbers that are given out below.
    pub(super) fn moved_up(self) -> io::Result<Self> {
        let up = |fd: OwnedFd| sys::duplicate_above(fd.as_fd(), ABOVE);
        Ok(Self {
            messages: up(self.messages)?,
            answers: up(self.answers)?,
            errors: up(self.errors)?,
            failure: up(self.failure)?,
            go: up(self.go)?,
        })
    }
}

pub(super) fn failure(stage: &str, error: &io::Error) -> SetupFailure {
    SetupFailure {
        stage: stage.to_owned(),
        errno: error.raw_os_error().unwrap_or(0),
        detail: error.to_string(),
    }
}
