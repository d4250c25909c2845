//! Errors of templates as ours.

use minijinja::Error as JinjaError;

use crate::error::Error;

pub(super) fn template_error(error: JinjaError) -> Error {
    Error::Template(message(&error))
}

pub(super) fn message(error: &JinjaError) -> String {
    let place = error
        .line()
        .map_or(String::new(), |n| format!(" (line {n})"));
    let what = error
        .detail()
        .map_or_else(|| error.kind().to_string(), str::to_owned);
    format!("{what}{place}")
}
