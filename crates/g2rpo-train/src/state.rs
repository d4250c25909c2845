use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Error, Result, write_atomically};

/// What a run must remember besides the learner's parameters and moments to go on exactly as if
/// it had not been interrupted. There is no generator state: every draw is keyed by its place.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunState {
    /// The seed of the run; a resumed run must use the same.
    pub seed: u64,
    /// The next step.
    pub step: u64,
    /// Tokens sampled so far.
    pub sampled_tokens: u64,
    /// What the length controller has learned.
    pub controller: Value,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_survives_the_disk() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.json");
        let controller = serde_json::json!({"length": 1.0 / 3.0});
        let state = RunState {
            seed: u64::MAX,
            step: 7,
            sampled_tokens: 1 << 40,
            controller,
        };
        state.save(&path).unwrap();
        assert_eq!(RunState::load(&path).unwrap(), state);
        fs::write(&path, "{\"seed\": 1}").unwrap();
        let err = RunState::load(&path).unwrap_err().to_string();
        assert!(err.contains("state.json: missing field"), "{err}");
    }
}
