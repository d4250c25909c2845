//! One setting of a recipe as somebody wrote it.

use std::collections::BTreeMap;

use serde_json::Value;

/// One setting and where it was written.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Setting {
    /// The section it stands in, if it stands in one.
    pub section: Option<String>,
    /// Its key.
    pub key: String,
    /// Its value; null takes back what was said before.
    pub value: Value,
    /// Where: `recipe.toml, line 3`, or `--set`.
    pub origin: String,
    /// Where the parts of a table stand, by their paths in it.
    pub parts: BTreeMap<String, String>,
    /// What no setting can be, such as NaN or a date: the path in the value, empty for all of it, and what is wrong there.
    pub faults: Vec<(String, String)>,
}

impl Setting {
    /// Where a part of the value stands.
    pub(crate) fn origin_of(&self, part: &str) -> &str {
        self.parts.get(part).unwrap_or(&self.origin)
    }
}

/// A path and what follows it.
pub(crate) fn joined(path: &str, name: &str) -> String {
    match (path, name) {
        ("", name) => name.to_owned(),
        (path, "") => path.to_owned(),
        (path, name) => format!("{path}.{name}"),
    }
}

/// The file that a setting is from, if it is from one.
pub(crate) fn file(origin: &str) -> Option<&str> {
    origin.rsplit_once(", line ").map(|(file, _)| file)
}

/// Which line of a file it is, in words.
pub(crate) fn line(origin: &str) -> String {
    let line = origin.rsplit_once(", line ").map(|(_, line)| line);
    line.map_or_else(|| origin.to_owned(), |line| format!("line {line}"))
}

/// Whether both are from one file, at different places: nothing says which of the two counts.
pub(crate) fn beside(origin: &str, other: &str) -> bool {
    origin != other && file(origin).is_some() && file(origin) == file(other)
}
