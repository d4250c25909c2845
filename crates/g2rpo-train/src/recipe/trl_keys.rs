//! What becomes of every key that `trl grpo --config` reads.

use std::sync::LazyLock;

/// What becomes of a key of TRL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It has the same name and meaning here.
    Taken,
    /// It says something that is said otherwise here.
    Translated(&'static str),
    /// It asks for what is not done here; a value that does not ask for it is passed over.
    Refused(&'static str),
    /// Nothing here depends on it.
    Meaningless(&'static str),
}

/// What becomes of the key of that name; `None` if TRL has no such key.
pub fn fate(key: &str) -> Option<Fate> {
    TABLE.iter().find(|(name, _)| *name == key).map(|row| row.1)
}

/// Every key, in the order of TRL 1.16: the fields of `GRPOConfig`, then those of `ModelConfig`, of the arguments of its
/// script and of `DatasetMixtureConfig`, and what its parser and its launcher take from the file themselves.
pub static TABLE: LazyLock<Vec<(&str, Fate)>> =
    LazyLock::new(|| MARKDOWN.lines().filter_map(row).collect());

/// The table in Markdown, as it stands in the documentation.
pub const MARKDOWN: &str = include_str!("trl_keys.md");

fn row(line: &'static str) -> Option<(&'static str, Fate)> {
    let (key, here) = (line.strip_prefix("| `")?.strip_suffix(" |")?).split_once("` | ")?;
    let fate = match here.split_once(": ") {
        None if here == "taken" => Fate::Taken,
        Some(("translated", how)) => Fate::Translated(how),
        Some(("refused", why)) => Fate::Refused(why),
        Some(("no effect", why)) => Fate::Meaningless(why),
        _ => return None,
    };
    Some((key, fate))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::keys::key;
    use serde_json::Value;

    #[test]
    fn every_key_of_trl_is_in_the_table_and_no_other() {
        let text = include_str!("../../../../testdata/train/grpo_config.json");
        let trl: Value = serde_json::from_str(text).unwrap();
        let classes = trl.as_object().unwrap().values();
        let mut theirs: Vec<&str> = classes
            .filter_map(Value::as_object)
            .flat_map(|class| class.keys())
            .map(String::as_str)
            .collect();
        let mut ours: Vec<&str> = TABLE.iter().map(|row| row.0).collect();
        theirs.sort_unstable();
        ours.sort_unstable();
        assert_eq!(ours, theirs);
    }

    #[test]
    fn a_key_of_a_recipe_that_trl_has_is_taken_or_translated() {
        for (name, fate) in &*TABLE {
            let here = matches!(fate, Fate::Taken | Fate::Translated(_));
            assert!(key(name).is_none() || here, "{name}");
        }
    }
}
