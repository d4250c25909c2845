//! Methods of Python's strings and lists that templates call and Jinja for Rust has not.

use minijinja::value::Value;
use minijinja::{Error, State};
use minijinja_contrib::pycompat::unknown_method_callback;

use super::error::invalid;

/// Methods that are called on a value without having them as attributes.
pub(super) fn method(
    state: &mut State<'_, '_>,
    value: &Value,
    name: &str,
    args: &[Value],
) -> Result<Value, Error> {
    match (value.as_str(), name, args) {
        (Some(text), _, [argument]) => {
            if let Some(argument) = argument.as_str()
                && let Some(result) = of_text(text, name, argument)
            {
                return result;
            }
        }
        (None, "index", [item]) if value.try_iter().is_ok() => {
            let at = value.try_iter()?.position(|other| other == *item);
            return at
                .map(Value::from)
                .ok_or_else(|| invalid(format!("{item} is not in list")));
        }
        _ => {}
    }
    unknown_method_callback(state, value, name, args)
}

fn of_text(text: &str, name: &str, argument: &str) -> Option<Result<Value, Error>> {
    let characters = |byte: usize| text[..byte].chars().count();
    let index = |at: Option<usize>| {
        at.map(|byte| Value::from(characters(byte)))
            .ok_or_else(|| invalid("substring not found"))
    };
    let three = |parts: [&str; 3]| Value::from(parts.map(Value::from).to_vec());
    Some(match name {
        "removeprefix" => Ok(text.strip_prefix(argument).unwrap_or(text).into()),
        "removesuffix" => Ok(text.strip_suffix(argument).unwrap_or(text).into()),
        "index" => index(text.find(argument)),
        "rindex" => index(text.rfind(argument)),
        "partition" | "rpartition" if argument.is_empty() => Err(invalid("empty separator")),
        "partition" => Ok(match text.split_once(argument) {
            Some((before, behind)) => three([before, argument, behind]),
            None => three([text, "", ""]),
        }),
        "rpartition" => Ok(match text.rsplit_once(argument) {
            Some((before, behind)) => three([before, argument, behind]),
            None => three(["", "", text]),
        }),
        _ => return None,
    })
}
