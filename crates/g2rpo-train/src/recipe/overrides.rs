//! What a recipe says of its method, and which of two settings counts where both name the same one.

use std::collections::BTreeMap;

use g2rpo_guidance::Method;
use serde_json::{Map, Value};

use super::setting::{Setting, beside, joined, line};

/// Settings of a method in the order in which they were written.
#[derive(Debug, Default)]
pub(crate) struct Overrides(Vec<Written>);

/// One of them, a single value or a table of a kind.
#[derive(Debug, Clone)]
struct Written {
    /// The preset for which alone it holds, if there is one.
    preset: Option<String>,
    /// Its path as it was written, without the preset.
    path: String,
    value: Value,
    origin: String,
    parts: BTreeMap<String, String>,
}

impl Overrides {
    /// Adds a setting; the parts of a table one by one, without those that no setting can be.
    pub(crate) fn push(&mut self, setting: &Setting) {
        self.take(setting, "", &setting.value);
    }

    fn take(&mut self, setting: &Setting, part: &str, value: &Value) {
        if let Value::Object(table) = value
            && !table.is_empty()
            && !table.contains_key("kind")
        {
            for (name, value) in table {
                self.take(setting, &joined(part, name), value);
            }
            return;
        }
        let below = |path: &str| within(path, part).map(str::to_owned);
        if setting.faults.iter().any(|(at, _)| below(at).is_some()) {
            return;
        }
        let path = joined(&setting.key, part);
        let (preset, path) = match path.split_once('.') {
            Some((first, rest)) if Method::NAMES.contains(&first) => {
                (Some(first.to_owned()), rest.to_owned())
            }
            _ => (None, path),
        };
        let parts = setting.parts.iter();
        let parts = parts.filter_map(|(path, origin)| Some((below(path)?, origin.clone())));
        self.0.push(Written {
            preset,
            path,
            value: value.clone(),
            origin: setting.origin_of(part).to_owned(),
            parts: parts.collect(),
        });
    }

    /// Leaves of settings that are the same under whatever name the last one, which counts. Two of one file are told, as
    /// nothing says which is meant.
    pub(crate) fn settle(self, preset: &str, problems: &mut Vec<String>) -> Self {
        let methods: BTreeMap<&str, Method> = (Method::NAMES.iter())
            .filter_map(|name| Some((*name, self.as_method(name)?)))
            .collect();
        let mut kept: Vec<Written> = Vec::new();
        for setting in self.0 {
            let mut taken_back = false;
            kept.retain(|before| {
                // What is said later for every preset is said for each.
                let for_all = setting.preset.is_none() && !beside(&before.origin, &setting.origin);
                if before.preset != setting.preset && !for_all {
                    return true;
                }
                let Some(method) = methods.get(before.preset.as_deref().unwrap_or(preset)) else {
                    return before.path != setting.path;
                };
                let (old, new) = (
                    whole_path(method, &before.path),
                    whole_path(method, &setting.path),
                );
                if beside(&before.origin, &setting.origin) {
                    // A single setting beside the section that it is in changes that, unless it is in it as well.
                    let same = match (within(&old, &new), within(&new, &old)) {
                        (Some(part), _) => setting.part(part).zip(before.part("")),
                        (_, Some(part)) => setting.part("").zip(before.part(part)),
                        _ => None,
                    };
                    if let Some((later, first)) = &same {
                        problems.push(twice((&later.0, later.1), (&first.0, first.1)));
                    }
                    return same.is_none();
                }
                let replaced = within(&old, &new).is_some();
                taken_back |= replaced;
                !replaced
            });
            if !setting.value.is_null() {
                kept.push(setting);
                continue;
            }
            let method = methods.get(setting.preset.as_deref().unwrap_or(preset));
            if let Some(Err(error)) = method.map(|method| method.path(&setting.path))
                && !taken_back
            {
                problems.push(format!("{}: {error}", setting.origin));
            }
        }
        Self(kept)
    }

    /// The method of a preset with what can be set.
    fn as_method(&self, preset: &str) -> Option<Method> {
        let mut method = Method::preset(preset, 1000).ok()?;
        let for_it = |s: &&Written| s.preset.as_deref().is_none_or(|name| name == preset);
        for setting in self.0.iter().filter(for_it) {
            if !setting.value.is_null()
                && let Ok(set) = method.clone().set(&setting.path, setting.value.clone())
            {
                method = set;
            }
        }
        Some(method)
    }

    /// As the section of the recipe holds them.
    pub(crate) fn tree(&self) -> Map<String, Value> {
        let mut tree = Value::Object(Map::new());
        for setting in &self.0 {
            merge_values(&mut tree, nested(&setting.whole(), setting.value.clone()));
        }
        match tree {
            Value::Object(tree) => tree,
            _ => Map::new(),
        }
    }

    /// Value and place of what was written under a path, or of the first setting around or below it.
    pub(crate) fn place(&self, path: &str) -> Option<(Value, &str)> {
        let around = self.0.iter().rev().find_map(|setting| {
            let rest = within(path, &setting.whole())?.to_owned();
            let value = setting.value.pointer(&pointer(&rest));
            let origin = setting.parts.get(&rest).unwrap_or(&setting.origin);
            Some((value.unwrap_or(&setting.value).clone(), origin.as_str()))
        });
        let below = || {
            let found = self.0.iter().find(|s| within(&s.whole(), path).is_some())?;
            Some((found.value.clone(), found.origin.as_str()))
        };
        around.or_else(below)
    }
}

impl Written {
    fn whole(&self) -> String {
        joined(self.preset.as_deref().unwrap_or_default(), &self.path)
    }

    /// Name and place of a part of the value, if it has that.
    fn part(&self, path: &str) -> Option<(String, &str)> {
        self.value.pointer(&pointer(path))?;
        let origin = self.parts.get(path).unwrap_or(&self.origin);
        Some((joined(&self.whole(), path), origin))
    }
}

/// Says that a file gives a setting at two places; each has its name there and its place.
pub(crate) fn twice(later: (&str, &str), first: (&str, &str)) -> String {
    let name = match first.0 == later.0 {
        true => String::new(),
        false => format!(", as {}", first.0),
    };
    format!(
        "{}: {}: {} gives it as well{name}, and nothing says which counts: keep one of the two",
        later.1,
        later.0,
        line(first.1)
    )
}

/// A path without the one around it; nothing for one that is not in it.
pub(crate) fn within<'p>(path: &'p str, around: &str) -> Option<&'p str> {
    if around.is_empty() {
        return Some(path);
    }
    let rest = path.strip_prefix(around)?;
    match rest.strip_prefix('.') {
        Some(rest) => Some(rest),
        None => rest.is_empty().then_some(rest),
    }
}

fn pointer(path: &str) -> String {
    match path {
        "" => String::new(),
        path => format!("/{}", path.replace('.', "/")),
    }
}

/// The whole path of what a path names, as far as the method has it.
fn whole_path(method: &Method, path: &str) -> String {
    let mut end = path.len();
    loop {
        if let Ok(whole) = method.path(&path[..end]) {
            return format!("{whole}{}", &path[end..]);
        }
        match path[..end].rfind('.') {
            Some(at) => end = at,
            None => return path.to_owned(),
        }
    }
}

/// A setting of a path as tables in each other, as files have it.
fn nested(path: &str, value: Value) -> Value {
    let (first, value) = match path.split_once('.') {
        Some((first, rest)) => (first, nested(rest, value)),
        None => (path, value),
    };
    Value::Object(Map::from_iter([(first.to_owned(), value)]))
}

/// Puts a value over another, tables key by key.
pub(crate) fn merge_values(into: &mut Value, value: Value) {
    match (into, value) {
        // A table with a kind is a section of its own, of which nothing is left from another kind.
        (Value::Object(into), Value::Object(value)) if !value.contains_key("kind") => {
            for (key, value) in value {
                merge_values(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, value) => *into = value,
    }
}
