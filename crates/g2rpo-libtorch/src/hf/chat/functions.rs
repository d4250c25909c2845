//! What templates may call, and how values are printed, as in Python.

use minijinja::value::{Kwargs, ValueKind};
use minijinja::{Error as JinjaError, ErrorKind, Output, State, Value};

use super::error::invalid;
use super::json;

/// `{% generation %}` blocks as `{% with %}` blocks, which open a scope and print nothing just the
/// same; marks of whitespace control stay.
pub(super) fn plain_blocks(source: &str) -> String {
    let mut text = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(start) = rest.find("{%") {
        let Some(end) = rest[start..].find("%}").map(|n| start + n + 2) else {
            break;
        };
        text.push_str(&rest[..start]);
        let tag = &rest[start..end];
        let name = tag[2..tag.len() - 2].trim_matches(['-', '+']).trim();
        match name {
            "generation" => text.push_str(&tag.replace("generation", "with")),
            "endgeneration" => text.push_str(&tag.replace("endgeneration", "endwith")),
            _ => text.push_str(tag),
        }
        rest = &rest[end..];
    }
    text.push_str(rest);
    text
}

/// Prints as Python does where Jinja for Rust differs.
pub(super) fn print(
    out: &mut Output<'_>,
    state: &mut State<'_, '_>,
    value: &Value,
) -> Result<(), JinjaError> {
    let text = match value.kind() {
        ValueKind::None => "None",
        ValueKind::Bool if value.is_true() => "True",
        ValueKind::Bool => "False",
        ValueKind::Number if !value.is_integer() => match f64::try_from(value.clone()) {
            Ok(x) if x.is_finite() => &json::python_float(x),
            _ => return minijinja::escape_formatter(out, state, value),
        },
        _ => return minijinja::escape_formatter(out, state, value),
    };
    out.write_str(text)
        .map_err(|e| JinjaError::new(ErrorKind::WriteFailure, e.to_string()))
}

pub(super) fn to_json(value: &Value, options: Kwargs) -> Result<String, JinjaError> {
    let indent: Option<usize> = options.get("indent")?;
    let ascii: Option<bool> = options.get("ensure_ascii")?;
    let separators: Option<Vec<String>> = options.get("separators")?;
    let separators = match separators.as_deref() {
        None => None,
        Some([comma, colon]) => Some((comma.clone(), colon.clone())),
        Some(_) => {
            return Err(invalid("separators of tojson are two texts"));
        }
    };
    let sort_keys: Option<bool> = options.get("sort_keys")?;
    options.assert_all_used()?;
    let style = json::Style {
        indent,
        ascii: ascii.unwrap_or(false),
        separators,
        sort_keys: sort_keys.unwrap_or(false),
    };
    json::dumps(value, style).map_err(|e| invalid(format!("cannot become JSON: {e}")))
}

pub(super) fn raise_exception(message: String) -> Result<String, JinjaError> {
    Err(invalid(message))
}

pub(super) fn strftime_now(format: String) -> Result<String, JinjaError> {
    let time = jiff::ZonedDateTime::now();
    jiff::fmt::strtime::format(&format, &time).map_err(|e| invalid(e.to_string()))
}
