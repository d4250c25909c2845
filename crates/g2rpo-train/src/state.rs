//! What a run remembers beside the learner, to go on exactly as if it had not been interrupted.

use std::fs;
use std::path::Path;

use g2rpo_guidance::Detectors;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::data::order::TaskOrderState;
use crate::error::{Error, Result};
use crate::run::files::write_atomically;

/// Where a [`Trainer`](crate::Trainer) is. The parameters and moments are the learner's, and there
/// is no generator state: every draw is keyed by its place.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunState {
    /// The seed of the run; a resumed run must use the same.
    pub seed: u64,
    /// The method as JSON, text so that every digit is compared; a resumed run must choose and guide alike.
    pub method: String,
    /// Tasks of the data set, of which a resumed run must have as many.
    pub tasks: u64,
    /// Of their questions in their order: a resumed run must draw from the same. 0 where it was not noted.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub questions: u64,
    /// The next step.
    pub step: u64,
    /// Optimiser steps so far.
    pub updates: u64,
    /// Tokens sampled so far.
    pub sampled_tokens: u64,
    /// Batches dropped so far because they were too old.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub dropped: u64,
    /// Batches discarded so far because the run stopped before they were learned from, those in flight included.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub discarded: u64,
    /// Which tasks come next.
    pub order: TaskOrderState,
    /// What the length controller has learned.
    pub controller: Value,
    /// What the source of guidance has learned.
    pub source: Value,
    /// What the detectors have seen.
    pub detectors: Detectors,
}

fn is_zero(n: &u64) -> bool {
    *n == 0
}

impl RunState {
    /// Writes the state as JSON, atomically.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn save(&self, path: &Path) -> Result<()> {
        let json = serde_json::to_vec_pretty(self).map_err(|e| Error::io(path)(e.into()))?;
        write_atomically(path, &json)
    }

    /// Reads a state back.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be read or is not such a state.
    pub fn load(path: &Path) -> Result<Self> {
        let bytes = fs::read(path).map_err(Error::io(path))?;
        serde_json::from_slice(&bytes).map_err(|e| Error::io(path)(e.into()))
    }
}
