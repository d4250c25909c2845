//! Errors of templates, as theirs and as ours.

use minijinja::{Error as JinjaError, ErrorKind};

use crate::error::Error;

pub(super) fn invalid(what: impl Into<String>) -> JinjaError {
    JinjaError::new(ErrorKind::InvalidOperation, what.into())
}

pub(super) fn template_error(error: JinjaError) -> Error {
    Error::Template(message(&error))
}

pub(super) fn message(error: &JinjaError) -> String {
    let place = (error.line()).map_or(String::new(), |n| format!(" (line {n})"));
    let detail = error.detail().map(str::to_owned);
    let what = detail.unwrap_or_else(|| error.kind().to_string());
    format!("{what}{place}")
}
