//! One recipe from the settings of several places, or everything that is wrong with them.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::check::check;
use super::keys::{SECTIONS, did_you_mean, expected, key, keys, nearest};
use super::method::check_method;
use super::overrides::{Overrides, merge_values, twice};
use super::setting::{Setting, beside, joined};
use super::settings::{MethodSettings, Recipe};
use super::trl_keys::{Fate, fate};
use crate::{Error, Result};

/// A recipe from settings, later ones over earlier ones; tables are merged key by key. What one file says twice is refused.
///
/// # Errors
/// [`Error::Recipe`] with `problems` and every further mistake.
pub fn merge(settings: Vec<Setting>, mut problems: Vec<String>) -> Result<Recipe> {
    let mut given: BTreeMap<String, (Value, String)> = BTreeMap::new();
    let mut method = Overrides::default();
    // One mistake of a setting is enough, and what others need of it is not known.
    let mut told = BTreeSet::new();
    for setting in settings {
        if let Err(problem) = place(&setting) {
            problems.push(format!("{}: {problem}", setting.origin));
            let elsewhere = (setting.section.as_deref()).is_some_and(|s| !SECTIONS.contains(&s));
            if elsewhere || key(&setting.key).is_some() {
                told.insert(setting.key);
            }
            continue;
        }
        let whole = |part: &str| joined(&setting.key, part);
        for (part, problem) in &setting.faults {
            let origin = setting.origin_of(part);
            problems.push(format!("{origin}: {}: {problem}", whole(part)));
            told.insert(whole(part));
        }
        if key(&setting.key).is_none() {
            method.push(&setting);
            continue;
        }
        if !setting.faults.is_empty() {
            told.insert(setting.key);
            continue;
        }
        if setting.value.is_null() {
            given.remove(&setting.key);
            continue;
        }
        let (merged, origin) = (given.entry(setting.key.clone())).or_default();
        if beside(origin, &setting.origin) {
            let key = &setting.key;
            problems.push(twice((key, &setting.origin), (key, origin)));
            told.insert(setting.key);
            continue;
        }
        merge_values(merged, setting.value);
        *origin = setting.origin;
    }
    let mut recipe =
        serde_json::to_value(Recipe::default()).map_err(|e| Error::Recipe(vec![e.to_string()]))?;
    for (name, (value, origin)) in &given {
        let section = key(name).map_or("method", |key| key.section);
        match serde_json::from_value::<Recipe>(json!({ section: { name.as_str(): value } })) {
            Ok(_) => recipe[section][name] = value.clone(),
            Err(error) => {
                let expected = expected(&error.to_string(), value);
                problems.push(format!("{origin}: {name} = {value}: {expected}"));
                told.insert(name.clone());
            }
        }
    }
    let preset = recipe["method"]["method"].as_str().map(str::to_owned);
    let preset = preset.unwrap_or_else(|| MethodSettings::default().method);
    let method = method.settle(&preset, &mut problems);
    for (name, value) in method.tree() {
        recipe["method"][name] = value;
    }
    let recipe: Recipe =
        serde_json::from_value(recipe).map_err(|e| Error::Recipe(vec![e.to_string()]))?;
    let mut wrong = check(&recipe, &|key| given.contains_key(key));
    let sound = !told.iter().any(|name| key(name).is_none());
    wrong.extend(check_method(&recipe, sound, !told.contains("method")));
    for (name, problem) in wrong {
        // Of a setting whose value is not known nothing follows for others.
        let follows = told.iter().any(|told| mentions(&problem, told));
        if told.contains(&name) || follows {
            continue;
        }
        let written = given.get(&name).map(|(v, o)| (v.clone(), o.as_str()));
        problems.push(match written.or_else(|| method.place(&name)) {
            Some((value, origin)) => format!("{origin}: {name} = {value}: {problem}"),
            None => format!("{name}: {problem}"),
        });
    }
    if problems.is_empty() {
        Ok(recipe)
    } else {
        Err(Error::Recipe(problems))
    }
}

/// Whether a text has a key as a word of its own.
fn mentions(text: &str, key: &str) -> bool {
    let word = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(key).any(|(at, _)| {
        let (before, after) = (&text[..at], &text[at + key.len()..]);
        !before.ends_with(word) && !after.starts_with(word)
    })
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
        (Some(key), _) => key.section,
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
            let meant = nearest(name, keys().iter().map(|key| key.name));
            match meant {
                Some(meant) => Err(format!("unknown key {name}: {}", did_you_mean(meant))),
                None => {
                    let there = keys().iter().filter(|key| key.section == *section);
                    let there: Vec<&str> = there.map(|key| key.name).collect();
                    let there = there.join(", ");
                    Err(format!("unknown key {name}: [{section}] has {there}"))
                }
            }
        }
        Some(section) if section != belongs => {
            Err(format!("{name} belongs to [{belongs}], not to [{section}]"))
        }
        _ => Ok(()),
    }
}
