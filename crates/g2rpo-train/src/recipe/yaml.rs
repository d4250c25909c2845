//! Reads TRL's YAML files.

use std::fs;
use std::path::Path;

use serde_json::{Map, Value};
use serde_saphyr::{Error, NonFiniteFloatPolicy};

use super::trl::{TrlConfig, from_trl};
use crate::Result;

/// Reads a config file of `trl grpo --config`.
///
/// # Errors
/// [`crate::Error::Recipe`] with everything that is no flat YAML or cannot be translated, [`crate::Error::Io`].
pub fn read_trl(path: &Path) -> Result<TrlConfig> {
    let text = fs::read_to_string(path).map_err(crate::Error::io(path))?;
    parse_trl(&text, &path.display().to_string()).map_err(crate::Error::Recipe)
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
    let read = serde_saphyr::from_str_with_options::<Map<String, Value>>(text, options);
    let config = read.map_err(|error| vec![problem(text, name, &error)])?;
    let origin = |key: &str| {
        let at = text.lines().position(|line| gives(line, key));
        at.map_or_else(|| name.to_owned(), |at| format!("{name}, line {}", at + 1))
    };
    from_trl(&config, &origin)
}

/// Whether a line begins with this key.
fn gives(line: &str, key: &str) -> bool {
    let rest = line.strip_prefix(key);
    rest.is_some_and(|rest| rest.trim_start().starts_with(':'))
}

/// What is no YAML, in words.
fn problem(text: &str, name: &str, error: &Error) -> String {
    match error.without_snippet() {
        Error::DuplicateMappingKey { key, location } => {
            let key = key.as_deref().unwrap_or("a key");
            let line = usize::try_from(location.line()).unwrap_or(0);
            let mut before = text.lines().take(line.saturating_sub(1));
            let first = before.position(|line| gives(line.trim_start(), key));
            let first = first.map_or("the file".to_owned(), |at| format!("line {}", at + 1));
            format!(
                "{name}, line {line}: {key}: {first} gives it as well, and nothing says which counts: keep one of the two"
            )
        }
        _ => format!("{name}: {error}"),
    }
}
