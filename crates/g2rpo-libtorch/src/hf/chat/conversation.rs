//! Messages made ready for a template, and the last one left open.

use minijinja::Value;

use super::error::template_error;
use crate::error::{Error, Result};

/// Marks the end of the last message while it is rendered; transformers' own marker, since a
/// template sees it.
const TAG: &str = "CONTINUE_FINAL_MESSAGE_TAG ";

/// Reasoning under any of its names is found under all that templates read, as in transformers.
pub(super) fn alias_reasoning(message: &Value) -> Result<Value> {
    let names = ["reasoning_content", "thinking", "reasoning"];
    let get = |name: &str| {
        message
            .get_attr(name)
            .ok()
            .filter(|v| !v.is_undefined() && !v.is_none())
    };
    let Some(reasoning) = names.into_iter().find_map(get) else {
        return Ok(message.clone());
    };
    let mut pairs = vec![(Value::from("thinking"), reasoning.clone())];
    for (key, value) in pairs_of(message)? {
        set(&mut pairs, key, value);
    }
    set(&mut pairs, Value::from("reasoning_content"), reasoning);
    Ok(Value::from_pairs(pairs))
}

fn pairs_of(map: &Value) -> Result<Vec<(Value, Value)>> {
    (map.try_iter().map_err(template_error)?)
        .map(|key| {
            let value = map.get_item(&key).map_err(template_error)?;
            Ok((key, value))
        })
        .collect()
}

/// Replaces in place or appends, as a dictionary of Python does.
fn set(pairs: &mut Vec<(Value, Value)>, key: Value, value: Value) {
    match pairs.iter_mut().find(|(k, _)| *k == key) {
        Some(pair) => pair.1 = value,
        None => pairs.push((key, value)),
    }
}

/// Puts the marker behind the text of a message and returns the text.
pub(super) fn tag_content(message: &mut Value) -> Result<String> {
    let mut pairs = pairs_of(message)?;
    let content = pairs
        .iter_mut()
        .find(|(key, _)| key.as_str() == Some("content"));
    let Some((text, value)) =
        content.and_then(|(_, value)| Some((value.as_str()?.to_owned(), value)))
    else {
        return Err(Error::invalid(
            "messages",
            "the last one has no text as content to continue",
        ));
    };
    *value = Value::from(format!("{text}{TAG}"));
    *message = Value::from_pairs(pairs);
    Ok(text)
}

pub(super) fn cut_at_tag(mut text: String, final_text: &str) -> Result<String> {
    let at = text.rfind(TAG.trim_end());
    let Some(at) = at.filter(|_| text.contains(final_text.trim())) else {
        return Err(Error::invalid(
            "continue_final_message",
            "the template leaves out the last message, or part of it",
        ));
    };
    // A template that trims messages has eaten the marker's blank; then the blanks that end the
    // message go as well.
    let keeps_blanks = text[at..].starts_with(TAG);
    text.truncate(at);
    if !keeps_blanks {
        text.truncate(text.trim_end().len());
    }
    Ok(text)
}
