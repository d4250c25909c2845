//! Reads TRL's YAML files.

use std::fs;
use std::path::Path;

use serde_json::{Map, Value};

use super::trl::{TrlConfig, from_trl};
use crate::{Error, Result};

/// Reads a config file of `trl grpo --config`.
///
/// # Errors
/// [`Error::Recipe`] with everything that is no flat YAML or cannot be translated, [`Error::Io`].
pub fn read_trl(path: &Path) -> Result<TrlConfig> {
    let text = fs::read_to_string(path).map_err(Error::io(path))?;
    parse_trl(&text, &path.display().to_string()).map_err(Error::Recipe)
}

/// [`read_trl`] of a text; `name` says where it is from.
///
/// # Errors
/// Every mistake, in words.
pub fn parse_trl(text: &str, name: &str) -> Result<TrlConfig, Vec<String>> {
    let config: Map<String, Value> =
        serde_saphyr::from_str(text).map_err(|e| vec![format!("{name}: {e}")])?;
    let origin = |key: &str| {
        let at = (text.lines()).position(|line| {
            let rest = line.strip_prefix(key).map(str::trim_start);
            rest.is_some_and(|rest| rest.starts_with(':'))
        });
        at.map_or_else(|| name.to_owned(), |at| format!("{name}, line {}", at + 1))
    };
    from_trl(&config, &origin)
}
