//! Reads recipes: TOML files and settings from the command line.

use std::fs;
use std::path::Path;

use serde_json::{Map, Value};
use toml::de::{DeTable, DeValue};

use super::keys::{SECTIONS, key};
use super::setting::joined;
use super::settings::Recipe;
use crate::{Error, Result};

pub use super::merge::merge;
pub use super::setting::Setting;

/// Reads files of settings and settings such as `learning_rate=1e-6`, later ones over earlier ones.
///
/// # Errors
/// [`Error::Recipe`] with every mistake in one list, each with its place and what is expected; as [`read_files`].
pub fn read_recipe(files: &[impl AsRef<Path>], sets: &[impl AsRef<str>]) -> Result<Recipe> {
    with_arguments(read_files(files)?, &[] as &[&str], sets)
}

/// Settings of files, in their order.
///
/// # Errors
/// [`Error::Recipe`] where a file is no TOML, with that alone, as it hides what the file says; [`Error::Io`].
pub fn read_files(files: &[impl AsRef<Path>]) -> Result<Vec<Setting>> {
    let (mut settings, mut unreadable) = (Vec::new(), Vec::new());
    for file in files {
        let path = file.as_ref();
        let text = fs::read_to_string(path).map_err(Error::io(path))?;
        match parse_toml(&text, &path.display().to_string()) {
            Ok(of_file) => settings.extend(of_file),
            Err(of_file) => unreadable.extend(of_file),
        }
    }
    if unreadable.is_empty() {
        Ok(settings)
    } else {
        Err(Error::Recipe(unreadable))
    }
}

/// A recipe from settings of files and what a command line says over them: keys that are left out, then settings.
///
/// # Errors
/// [`Error::Recipe`] with every mistake.
pub fn with_arguments(
    mut settings: Vec<Setting>,
    unsets: &[impl AsRef<str>],
    sets: &[impl AsRef<str>],
) -> Result<Recipe> {
    let mut problems = Vec::new();
    let unsets = unsets.iter().map(|key| parse_unset(key.as_ref()));
    for said in unsets.chain(sets.iter().map(|set| parse_set(set.as_ref()))) {
        match said {
            Ok(setting) => settings.push(setting),
            Err(problem) => problems.push(problem),
        }
    }
    merge(settings, problems)
}

/// Settings of a TOML text, in the order in which they stand there; `name` says where they are from.
///
/// # Errors
/// Every place where the text is not TOML.
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
    let mut add = |section: Option<&str>, table: &DeTable<'_>| {
        for (name, value) in table.iter() {
            let at = name.span().start;
            let setting = Setting {
                section: section.map(str::to_owned),
                key: name.get_ref().to_string(),
                origin: origin(at),
                ..setting_of(value.get_ref(), &origin)
            };
            settings.push((at, setting));
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
    settings.sort_by_key(|(at, _)| *at);
    Ok(settings.into_iter().map(|(_, setting)| setting).collect())
}

/// A table of the name is a section, right or wrong, unless it is the value of a key.
fn is_section(name: &str) -> bool {
    SECTIONS.contains(&name) || key(name).is_none()
}

/// A setting such as `learning_rate=1e-6` or `optim.learning_rate=1e-6`. A value that is no TOML is
/// a text.
///
/// # Errors
/// In words, without `=` or without anything before or behind it.
pub fn parse_set(text: &str) -> Result<Setting, String> {
    let Some((name, value)) = text.split_once('=') else {
        return Err(format!(
            "--set {text}: expected key=value, such as learning_rate=1e-6"
        ));
    };
    let (name, value) = (name.trim(), value.trim());
    if name.is_empty() {
        return Err(format!(
            "--set {text}: no key is before the sign: expected key=value, such as learning_rate=1e-6"
        ));
    }
    if value.is_empty() {
        return Err(format!(
            "--set {name}=: nothing is behind the sign: write a value, '\"\"' for an empty text, or --unset {name} to leave \
             out what files say"
        ));
    }
    let (section, key) = sectioned(name);
    let said = match DeValue::parse(value) {
        Ok(parsed) => setting_of(parsed.get_ref(), &|_| "--set".to_owned()),
        Err(_) => Setting {
            value: Value::String(value.to_owned()),
            ..Setting::default()
        },
    };
    Ok(Setting {
        section,
        key,
        origin: "--set".into(),
        ..said
    })
}

/// What takes back a setting of the files before it: a key such as `max_steps` or `train.max_steps`.
///
/// # Errors
/// In words, with a value.
pub fn parse_unset(text: &str) -> Result<Setting, String> {
    let name = text.trim();
    if let Some((name, _)) = name.split_once('=') {
        return Err(format!(
            "--unset {text}: expected a key alone, such as --unset {}",
            name.trim()
        ));
    }
    let (section, key) = sectioned(name);
    Ok(Setting {
        section,
        key,
        origin: "--unset".into(),
        ..Setting::default()
    })
}

/// A key and the section before it. A path such as `loss.epsilon` is the method's.
fn sectioned(name: &str) -> (Option<String>, String) {
    match name.split_once('.') {
        Some((section, key)) if SECTIONS.contains(&section) => {
            (Some(section.to_owned()), key.to_owned())
        }
        _ => (None, name.to_owned()),
    }
}

/// The value of a setting, with where its parts stand and which of them no setting can be.
fn setting_of(value: &DeValue<'_>, origin: &dyn Fn(usize) -> String) -> Setting {
    let mut setting = Setting::default();
    setting.value = setting.json(value, "", origin);
    setting
}

impl Setting {
    /// A value as JSON, null where no setting can be such.
    fn json(&mut self, value: &DeValue<'_>, path: &str, origin: &dyn Fn(usize) -> String) -> Value {
        match value {
            DeValue::String(text) => Value::String(text.to_string()),
            DeValue::Integer(integer) => {
                match i64::from_str_radix(integer.as_str(), integer.radix()) {
                    Ok(parsed) => parsed.into(),
                    // An integer of TOML can be nothing else that is no number here.
                    Err(_) => {
                        let bound = match integer.as_str().starts_with('-') {
                            true => format!("too small: a whole number is at least {}", i64::MIN),
                            false => format!("too large: a whole number is at most {}", i64::MAX),
                        };
                        self.fault(path, format!("{integer} is {bound}"))
                    }
                }
            }
            DeValue::Float(float) => {
                let parsed = float.as_str().parse::<f64>().ok();
                let number = parsed.and_then(serde_json::Number::from_f64);
                match number {
                    Some(number) => Value::Number(number),
                    None => self.fault(path, format!("{float} is not a finite number")),
                }
            }
            DeValue::Boolean(boolean) => Value::Bool(*boolean),
            DeValue::Datetime(date) => self.fault(path, format!("{date}: no setting is a date")),
            DeValue::Array(array) => {
                let items = array.iter();
                Value::Array(
                    items
                        .map(|item| self.json(item.get_ref(), path, origin))
                        .collect(),
                )
            }
            DeValue::Table(table) => {
                let mut map = Map::new();
                for (name, value) in table.iter() {
                    let here = joined(path, name.get_ref());
                    self.parts.insert(here.clone(), origin(name.span().start));
                    let value = self.json(value.get_ref(), &here, origin);
                    map.insert(name.get_ref().to_string(), value);
                }
                Value::Object(map)
            }
        }
    }

    fn fault(&mut self, path: &str, problem: String) -> Value {
        self.faults.push((path.to_owned(), problem));
        Value::Null
    }
}
