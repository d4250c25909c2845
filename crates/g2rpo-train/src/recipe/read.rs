//! Reads recipes: TOML files and settings from the command line, merged from left to right.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use g2rpo_guidance::Method;
use serde_json::{Map, Value};
use toml::de::{DeTable, DeValue};

use super::check::check;
use super::keys::{SECTIONS, did_you_mean, expected, key, keys, nearest};
use super::method::check_method;
use super::settings::Recipe;
use super::trl_keys::{Fate, fate};
use crate::{Error, Result};

/// One setting and where it was written.
#[derive(Debug, Clone, PartialEq)]
pub struct Setting {
    /// The section it stands in, if it stands in one.
    pub section: Option<String>,
    /// Its key.
    pub key: String,
    /// Its value.
    pub value: Value,
    /// Where: `recipe.toml, line 3`, or `--set`.
    pub origin: String,
}

/// Reads files of settings and settings such as `learning_rate=1e-6`, later ones over earlier ones.
///
/// # Errors
/// [`Error::Recipe`] with every mistake in one list, each with its place and what is expected;
/// [`Error::Io`].
pub fn read_recipe(files: &[impl AsRef<Path>], sets: &[impl AsRef<str>]) -> Result<Recipe> {
    let mut problems = Vec::new();
    let mut settings = Vec::new();
    for file in files {
        let path = file.as_ref();
        let text = fs::read_to_string(path).map_err(Error::io(path))?;
        match parse_toml(&text, &path.display().to_string()) {
            Ok(of_file) => settings.extend(of_file),
            Err(of_file) => problems.extend(of_file),
        }
    }
    for set in sets {
        match parse_set(set.as_ref()) {
            Ok(setting) => settings.push(setting),
            Err(problem) => problems.push(problem),
        }
    }
    merge(settings, problems)
}

/// Settings of a TOML text; `name` says where they are from.
///
/// # Errors
/// Every place where the text is not TOML, or holds a value that no setting has.
pub fn parse_toml(text: &str, name: &str) -> Result<Vec<Setting>, Vec<String>> {
    // Editors of some systems write a byte order mark, which means nothing in UTF-8.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let origin = |at: usize| {
        let line = text[..at.min(text.len())].matches('\n').count() + 1;
        format!("{name}, line {line}")
    };
    let (table, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        let problem = |e: &toml::de::Error| {
            let at = e.span().map_or(0, |span| span.start);
            format!("{}: {}", origin(at), e.message())
        };
        return Err(errors.iter().map(problem).collect());
    }
    let mut settings = Vec::new();
    let mut problems = Vec::new();
    let mut add = |section: Option<&str>, table: &DeTable<'_>| {
        for (name, value) in table.iter() {
            let origin = origin(name.span().start);
            match to_json(value.get_ref()) {
                Ok(value) => settings.push(Setting {
                    section: section.map(str::to_owned),
                    key: name.get_ref().to_string(),
                    value,
                    origin,
                }),
                Err(problem) => problems.push(format!("{origin}: {}: {problem}", name.get_ref())),
            }
        }
    };
    let (mut flat, mut sections) = (DeTable::new(), Vec::new());
    for (name, value) in table.into_inner() {
        match value.get_ref() {
            DeValue::Table(table) if is_section(name.get_ref()) => {
                sections.push((name.get_ref().to_string(), table.clone()));
            }
            _ => drop(flat.insert(name, value)),
        }
    }
    add(None, &flat);
    for (section, table) in &sections {
        add(Some(section), table);
    }
    if problems.is_empty() {
        Ok(settings)
    } else {
        Err(problems)
    }
}

/// A table of the name is a section, right or wrong, unless it is the value of a key.
fn is_section(name: &str) -> bool {
    SECTIONS.contains(&name) || key(name).is_none()
}

/// A setting such as `learning_rate=1e-6` or `optim.learning_rate=1e-6`. A value that is no TOML is
/// a text; an empty one takes a setting of a file back.
///
/// # Errors
/// In words, without `=`.
pub fn parse_set(text: &str) -> Result<Setting, String> {
    let Some((name, value)) = text.split_once('=') else {
        return Err(format!(
            "--set {text}: expected key=value, such as learning_rate=1e-6"
        ));
    };
    let (name, value) = (name.trim(), value.trim());
    // A path such as loss.epsilon is the method's.
    let (section, key) = match name.split_once('.') {
        Some((section, key)) if SECTIONS.contains(&section) => (Some(section.to_owned()), key),
        _ => (None, name),
    };
    let parsed = DeValue::parse(value).ok();
    let json = match &parsed {
        _ if value.is_empty() => Value::Null,
        Some(parsed) => to_json(parsed.get_ref()).map_err(|p| format!("--set {key}: {p}"))?,
        None => Value::String(value.to_owned()),
    };
    Ok(Setting {
        section,
        key: key.to_owned(),
        value: json,
        origin: "--set".into(),
    })
}

/// A recipe from settings, later ones over earlier ones; tables are merged key by key.
///
/// # Errors
/// [`Error::Recipe`] with `problems` and every further mistake.
pub fn merge(settings: Vec<Setting>, mut problems: Vec<String>) -> Result<Recipe> {
    let mut given: BTreeMap<String, (Value, String)> = BTreeMap::new();
    for setting in settings {
        if let Err(problem) = place(&setting) {
            problems.push(format!("{}: {problem}", setting.origin));
            continue;
        }
        let Setting {
            key, value, origin, ..
        } = setting;
        if value.is_null() {
            given.remove(&key);
            continue;
        }
        // What is said later for every preset is said for each.
        for (name, (table, place)) in &mut given {
            if Method::NAMES.contains(&name.as_str()) && source(place) != source(&origin) {
                forget(table, "", &key);
            }
        }
        let (key, value) = nested(key, value);
        let (merged, place) = given.entry(key).or_insert((Value::Null, String::new()));
        merge_values(merged, value);
        *place = origin;
    }
    let mut recipe =
        serde_json::to_value(Recipe::default()).map_err(|e| Error::Recipe(vec![e.to_string()]))?;
    for (name, (value, origin)) in &given {
        let section = key(name).map_or("method", |key| &key.section);
        let single = Value::Object(Map::from_iter([(
            section.to_owned(),
            Value::Object(Map::from_iter([(name.clone(), value.clone())])),
        )]));
        match serde_json::from_value::<Recipe>(single) {
            Ok(_) => recipe[section][name] = value.clone(),
            Err(error) => {
                let expected = expected(&error.to_string(), value);
                problems.push(format!("{origin}: {name} = {}: {expected}", show(value)));
            }
        }
    }
    let recipe: Recipe =
        serde_json::from_value(recipe).map_err(|e| Error::Recipe(vec![e.to_string()]))?;
    let wrong = check(&recipe, &|key| given.contains_key(key));
    for (name, problem) in wrong.into_iter().chain(check_method(&recipe)) {
        let place = given.get(&name);
        // One mistake of a setting is enough.
        let told = place.is_some_and(|(_, origin)| {
            let start = format!("{origin}: {name} = ");
            problems.iter().any(|p| p.starts_with(&start))
        });
        if !told {
            problems.push(match place {
                Some((value, origin)) => format!("{origin}: {name} = {}: {problem}", show(value)),
                None => format!("{name}: {problem}"),
            });
        }
    }
    if problems.is_empty() {
        Ok(recipe)
    } else {
        Err(Error::Recipe(problems))
    }
}

/// Whether a setting may stand where it stands.
fn place(setting: &Setting) -> Result<(), String> {
    let name = &setting.key;
    if let Some(section) = &setting.section
        && !SECTIONS.contains(&section.as_str())
    {
        let meant = nearest(section, SECTIONS)
            .map_or_else(|| format!("they are {}", SECTIONS.join(", ")), did_you_mean);
        return Err(format!("[{section}] is no section: {meant}"));
    }
    let belongs = match (key(name), fate(name)) {
        (Some(key), _) => &key.section,
        (None, Some(Fate::Refused(why) | Fate::Meaningless(why) | Fate::Translated(why))) => {
            return Err(format!(
                "{name} is a key of TRL that recipes do not have: {why}"
            ));
        }
        // Whatever is not the recipe's own is the method's, or nobody's.
        (None, Some(Fate::Taken) | None) => "method",
    };
    match &setting.section {
        Some(section) if section != belongs && key(name).is_none() && fate(name).is_none() => {
            let meant = nearest(name, keys().iter().map(|key| key.name.as_str()));
            let meant = meant.map_or_else(String::new, |m| format!(": {}", did_you_mean(m)));
            Err(format!("unknown key {name}{meant}"))
        }
        Some(section) if section != belongs => {
            Err(format!("{name} belongs to [{belongs}], not to [{section}]"))
        }
        _ => Ok(()),
    }
}

/// The file that a setting is from, or `--set`.
fn source(origin: &str) -> &str {
    origin
        .rsplit_once(", line ")
        .map_or(origin, |(file, _)| file)
}

/// Takes a setting out of a table of a preset's. Paths may leave out their beginning.
fn forget(table: &mut Value, at: &str, path: &str) {
    let Value::Object(table) = table else { return };
    table.retain(|name, value| {
        let here = match at {
            "" => name.clone(),
            at => format!("{at}.{name}"),
        };
        let ends = |long: &str, short: &str| {
            long.strip_suffix(short)
                .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        };
        forget(value, &here, path);
        !ends(&here, path) && !ends(path, &here)
    });
}

/// A setting of a path as a table in its first part, as files have it.
fn nested(path: String, value: Value) -> (String, Value) {
    match path.split_once('.') {
        Some((first, rest)) => {
            let (part, value) = nested(rest.to_owned(), value);
            (
                first.to_owned(),
                Value::Object(Map::from_iter([(part, value)])),
            )
        }
        None => (path, value),
    }
}

fn merge_values(into: &mut Value, value: Value) {
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

fn to_json(value: &DeValue<'_>) -> Result<Value, String> {
    Ok(match value {
        DeValue::String(text) => Value::String(text.to_string()),
        DeValue::Integer(integer) => {
            let parsed = i64::from_str_radix(integer.as_str(), integer.radix());
            parsed.map_err(|e| format!("{integer}: {e}"))?.into()
        }
        DeValue::Float(float) => {
            let parsed: f64 = float.as_str().parse().map_err(|_| float.to_string())?;
            let number = serde_json::Number::from_f64(parsed);
            Value::Number(number.ok_or_else(|| format!("{parsed} is not a finite number"))?)
        }
        DeValue::Boolean(boolean) => Value::Bool(*boolean),
        DeValue::Datetime(date) => return Err(format!("{date}: no setting is a date")),
        DeValue::Array(array) => {
            let items = array.iter().map(|item| to_json(item.get_ref()));
            Value::Array(items.collect::<Result<_, _>>()?)
        }
        DeValue::Table(table) => {
            let entry = |(key, value): (&toml::Spanned<_>, &toml::Spanned<_>)| {
                let key: &std::borrow::Cow<'_, str> = key.get_ref();
                Ok::<_, String>((key.to_string(), to_json(value.get_ref())?))
            };
            Value::Object(table.iter().map(entry).collect::<Result<_, _>>()?)
        }
    })
}

fn show(value: &Value) -> String {
    value.to_string()
}
