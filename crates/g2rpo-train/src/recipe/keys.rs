//! Names: which keys there are, where they belong, and which one was meant.

use std::sync::LazyLock;

use serde_json::Value;

use super::server::ServerSettings;
use super::settings::{
    DataSettings, EvaluateSettings, GenerateSettings, LogSettings, ModelSettings, OptimSettings,
    Recipe, SaveSettings, TrainSettings, VerifySettings,
};

/// A key of a recipe, without those of the method.
#[derive(Debug, Clone, PartialEq)]
pub struct Key {
    /// Its section.
    pub section: &'static str,
    /// Its name.
    pub name: &'static str,
    /// What it is when nobody says anything; `null` for none.
    pub default: Value,
    /// What it means.
    pub doc: &'static str,
}

/// All keys, in the order in which the sections declare them.
pub fn keys() -> &'static [Key] {
    static KEYS: LazyLock<Vec<Key>> = LazyLock::new(|| {
        let defaults = serde_json::to_value(Recipe::default()).unwrap_or_default();
        let of_sections = [
            ModelSettings::KEYS,
            DataSettings::KEYS,
            VerifySettings::KEYS,
            &[("method", "Name of a preset.")],
            GenerateSettings::KEYS,
            ServerSettings::KEYS,
            OptimSettings::KEYS,
            TrainSettings::KEYS,
            EvaluateSettings::KEYS,
            SaveSettings::KEYS,
            LogSettings::KEYS,
        ];
        let sections = SECTIONS.into_iter().zip(of_sections);
        let keys = sections.flat_map(|(section, keys)| keys.iter().map(move |key| (section, key)));
        keys.map(|(section, &(name, doc))| Key {
            section,
            name,
            default: defaults[section][name].clone(),
            doc: doc.trim_start(),
        })
        .collect()
    });
    &KEYS
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
        let names: HashSet<&str> = keys().iter().map(|k| k.name).collect();
        assert_eq!(names.len(), keys().len());
        assert!(names.len() > 60 && names.contains("max_steps"));
        let known = |k: &Key| recipe[k.section].get(k.name).is_some();
        let odd: Vec<&Key> = (keys().iter())
            .filter(|k| k.doc.is_empty() || !known(k))
            .collect();
        assert!(odd.is_empty(), "{odd:?}");
        let doc = "Of everything that is drawn. TRL's default.";
        assert_eq!(key("seed").unwrap().doc, doc);
    }
}
