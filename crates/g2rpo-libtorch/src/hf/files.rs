//! JSON files.

use std::path::Path;

use g2rpo_rollout::write_atomically;
use serde_json::Value;

use crate::error::{Error, Result};

/// Writes a JSON file, which is whole or the one that was there before.
pub(crate) fn write_json(path: &Path, value: &Value) -> Result<()> {
    write_atomically(path, format!("{value:#}\n").as_bytes()).map_err(Error::io(path))
}

/// Reads a JSON file.
pub(crate) fn read_json(path: &Path) -> Result<Value> {
    let text = std::fs::read_to_string(path).map_err(Error::io(path))?;
    serde_json::from_str(&text).map_err(|e| Error::File {
        path: path.into(),
        what: format!("not JSON: {e}"),
    })
}
