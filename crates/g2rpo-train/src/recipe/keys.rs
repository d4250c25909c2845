//! Names: which keys there are, where they belong, and which one was meant.

use std::sync::OnceLock;

use serde_json::Value;

use super::settings::Recipe;

/// A key of a recipe, without those of the method.
#[derive(Debug, Clone, PartialEq)]
pub struct Key {
    /// Its section.
    pub section: String,
    /// Its name.
    pub name: String,
    /// What it is when nobody says anything; `null` for none.
    pub default: Value,
    /// What it means.
    pub doc: String,
}

/// All keys, in the order in which the sections declare them.
pub fn keys() -> &'static [Key] {
    static KEYS: OnceLock<Vec<Key>> = OnceLock::new();
    let place = |name: &str| SOURCE.find(&format!("pub {name}: "));
    KEYS.get_or_init(|| {
        let mut keys = Vec::new();
        if let Ok(Value::Object(sections)) = serde_json::to_value(Recipe::default()) {
            for section in SECTIONS {
                let Some(Value::Object(of_section)) = sections.get(section) else {
                    continue;
                };
                let mut of_section: Vec<_> = of_section.iter().collect();
                of_section.sort_by_key(|(name, _)| place(name));
                keys.extend(of_section.into_iter().map(|(name, default)| Key {
                    section: section.to_owned(),
                    name: name.clone(),
                    default: default.clone(),
                    doc: doc(name),
                }));
            }
        }
        keys
    })
}

/// Where the fields say what they mean, so that it is said in one place.
const SOURCE: &str = concat!(include_str!("settings.rs"), include_str!("server.rs"));

/// What the field of that name says of itself.
fn doc(name: &str) -> String {
    let field = format!("pub {name}: ");
    let mut words = Vec::new();
    for line in SOURCE.lines().map(str::trim) {
        match line.strip_prefix("/// ") {
            Some(text) => words.push(text),
            None if line.starts_with("#[") => {}
            None if line.starts_with(&field) => break,
            None => words.clear(),
        }
    }
    words.join(" ")
}

/// The key of that name.
pub fn key(name: &str) -> Option<&'static Key> {
    keys().iter().find(|key| key.name == name)
}

/// The sections, in the order in which they are written.
pub const SECTIONS: [&str; 11] = [
    "model", "data", "verify", "method", "generate", "server", "optim", "train", "evaluate",
    "save", "log",
];

/// The name nearest to what was written, if any is near enough to have been meant.
///
/// ```
/// use g2rpo_train::recipe::keys::nearest;
/// assert_eq!(nearest("learing_rate", ["seed", "learning_rate"]), Some("learning_rate"));
/// assert_eq!(nearest("xyz", ["seed", "learning_rate"]), None);
/// ```
pub fn nearest<'a>(written: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let distance = |name: &&str| strsim::damerau_levenshtein(written, name);
    let best = known.into_iter().min_by_key(distance)?;
    let most = written.len().max(best.len()) / 3;
    let shorter = written.len().min(best.len());
    let named = shorter >= 3 && written.as_bytes()[..shorter] == best.as_bytes()[..shorter];
    (named || distance(&best) <= most).then_some(best)
}

pub(crate) fn did_you_mean(name: &str) -> String {
    format!("did you mean {name}?")
}

/// What serde expected, in a reader's words.
pub(crate) fn expected(message: &str, value: &Value) -> String {
    let message = match message.split_once(", expected ") {
        Some((start, expected)) if !start.starts_with("unknown field") => expected,
        _ => return message.to_owned(),
    };
    if let Some(variants) = message.strip_prefix("one of ") {
        let names: Vec<&str> = variants.split('`').skip(1).step_by(2).collect();
        let meant = (value.as_str()).and_then(|text| nearest(text, names.iter().copied()));
        let meant = meant.map_or(String::new(), |name| format!("; {}", did_you_mean(name)));
        return format!("expected one of {}{meant}", names.join(", "));
    }
    let words = match message {
        "f64" => "a number",
        "u64" | "usize" => "a whole number, 0 or more",
        "a string" | "path string" => "a text in quotes",
        "a boolean" => "true or false",
        "a sequence" => "a list in brackets",
        "a map" => "a table such as { question = \"problem\" }",
        other => other,
    };
    format!("expected {words}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_section_is_listed_and_no_key_occurs_twice() {
        let Value::Object(recipe) = serde_json::to_value(Recipe::default()).unwrap() else {
            panic!("a recipe is a table");
        };
        let sections: HashSet<&str> = recipe.keys().map(String::as_str).collect();
        assert_eq!(sections, SECTIONS.into_iter().collect());
        let names: HashSet<&str> = keys().iter().map(|k| k.name.as_str()).collect();
        assert_eq!(names.len(), keys().len());
        assert!(names.len() > 60 && names.contains("max_steps"));
        let silent: Vec<&Key> = keys().iter().filter(|k| k.doc.is_empty()).collect();
        assert!(silent.is_empty(), "{silent:?}");
        assert_eq!(
            key("seed").unwrap().doc,
            "Of everything that is drawn. TRL's default."
        );
    }
}
