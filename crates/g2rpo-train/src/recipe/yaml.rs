//! Reads TRL's YAML files.

use std::fs;
use std::path::Path;

use serde_json::{Map, Value};
use serde_saphyr::NonFiniteFloatPolicy;

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
    // A number that is none is told with the other values that cannot be.
    let options = serde_saphyr::options! {
        non_finite_float_policy: NonFiniteFloatPolicy::AsString,
    };
    let config: Map<String, Value> = serde_saphyr::from_str_with_options(text, options)
        .map_err(|e| vec![format!("{name}: {e}")])?;
    let origin = |key: &str| {
        let at = (text.lines()).position(|line| {
            let rest = line.strip_prefix(key).map(str::trim_start);
            rest.is_some_and(|rest| rest.starts_with(':'))
        });
        at.map_or_else(|| name.to_owned(), |at| format!("{name}, line {}", at + 1))
    };
    from_trl(&config, &origin)
}
