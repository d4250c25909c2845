//! Writes recipes: with comments for people, whole for the record, and as differences.

use std::collections::HashSet;
use std::fmt::Write;

use serde_json::Value;

use super::check::idle_keys;
use super::keys::{SECTIONS, key, keys};
use super::settings::Recipe;

/// The recipe as TOML with every key; `comments` adds what each means. Keys without a value, and
/// those that the others leave without effect, stand as comments.
///
/// ```
/// use g2rpo_train::recipe::settings::Recipe;
/// use g2rpo_train::recipe::write::to_toml;
/// let text = to_toml(&Recipe::default(), false);
/// assert!(text.contains("\n[optim]\n") && text.contains("\nlearning_rate = 1e-6\n"));
/// assert!(text.contains("\n# max_steps =\n"));
/// ```
pub fn to_toml(recipe: &Recipe, comments: bool) -> String {
    let idle = idle_keys(recipe);
    let recipe = serde_json::to_value(recipe).unwrap_or_default();
    let mut text = String::new();
    for section in SECTIONS {
        let gap = if text.is_empty() { "" } else { "\n" };
        line(&mut text, format_args!("{gap}[{section}]"));
        for key in keys().iter().filter(|key| key.section == section) {
            if comments {
                line(&mut text, format_args!("# {}", key.doc));
            }
            let idle = idle.iter().any(|(name, _)| *name == key.name);
            write_key(&mut text, key.name, &recipe[section][key.name], idle);
        }
        if let ("method", Some(settings)) = (section, recipe[section].as_object()) {
            for (name, value) in settings.iter().filter(|(name, _)| key(name).is_none()) {
                write_key(&mut text, name, value, false);
            }
        }
    }
    text
}

/// Settings in which two recipes differ: key, value of the first, value of the second, each as TOML
/// and `none` where there is none.
///
/// ```
/// use g2rpo_train::recipe::settings::Recipe;
/// use g2rpo_train::recipe::write::differences;
/// let mut other = Recipe::default();
/// other.optim.learning_rate = 3e-6;
/// let found = differences(&Recipe::default(), &other);
/// assert_eq!(found, [("learning_rate".into(), "1e-6".into(), "3e-6".into())]);
/// ```
pub fn differences(first: &Recipe, second: &Recipe) -> Vec<(String, String, String)> {
    let json = |recipe| serde_json::to_value(recipe).unwrap_or_default();
    let (first, second) = (json(first), json(second));
    let methods = [&first, &second].map(|recipe| recipe["method"].as_object());
    let of_methods = methods.into_iter().flatten().flat_map(|m| m.keys());
    let mut names: Vec<(&str, &str)> = (keys().iter())
        .map(|key| (key.section, key.name))
        .chain(of_methods.map(|name| ("method", name.as_str())))
        .collect();
    let mut seen = HashSet::new();
    names.retain(|name| seen.insert(*name));
    let value = |recipe: &Value, (section, name): (&str, &str)| {
        show(&recipe[section][name]).unwrap_or_else(|| "none".into())
    };
    (names.into_iter())
        .map(|at| (at.1.to_owned(), value(&first, at), value(&second, at)))
        .filter(|(_, first, second)| first != second)
        .collect()
}

fn write_key(text: &mut String, name: &str, value: &Value, idle: bool) {
    // A table of the method's is written by its parts, but for one that is of a kind.
    if let Value::Object(table) = value
        && key(name).is_none()
        && !table.contains_key("kind")
    {
        for (part, value) in table {
            write_key(text, &format!("{name}.{part}"), value, idle);
        }
        return;
    }
    match show(value) {
        Some(value) if idle => line(text, format_args!("# {name} = {value}")),
        Some(value) => line(text, format_args!("{name} = {value}")),
        None => line(text, format_args!("# {name} =")),
    }
}

fn line(text: &mut String, args: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _ = writeln!(text, "{args}");
}

/// A value as TOML; nothing for none.
fn show(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::Object(table) if table.is_empty() => Some("{}".into()),
        // The shortest form that is read as a float again.
        Value::Number(number) if number.is_f64() => number.as_f64().map(|n| format!("{n:?}")),
        value => toml::Value::try_from(value).ok().map(|v| v.to_string()),
    }
}
