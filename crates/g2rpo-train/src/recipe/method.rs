//! The method of a recipe: a preset and what is changed in it.

use g2rpo_core::Error as CoreError;
use g2rpo_guidance::{Error as MethodError, Method};
use serde_json::{Map, Value};

use super::keys::{expected, keys, nearest};
use super::setting::joined;
use super::settings::{MethodSettings, Recipe};
use crate::{Error, Result};

impl MethodSettings {
    /// The method, for a run of that many steps. A table under the name of a preset holds settings
    /// for that preset alone.
    ///
    /// ```
    /// use g2rpo_train::recipe::settings::MethodSettings;
    /// let mut settings = MethodSettings::default();
    /// settings.overrides.insert("alpha".into(), 0.5.into());
    /// settings.overrides.insert("loss".into(), serde_json::json!({ "epsilon_high": 0.28 }));
    /// let method = settings.build(100)?;
    /// assert_eq!((method.loss.epsilon, method.loss.epsilon_high), (0.2, Some(0.28)));
    /// settings.overrides.insert("grpo".into(), serde_json::json!({ "beta": 0.04 }));
    /// assert_eq!(settings.build(100)?.loss.beta, method.loss.beta);
    /// settings.method = "grpo".into();
    /// settings.overrides.remove("alpha");
    /// assert_eq!(settings.build(100)?.loss.beta, 0.04);
    /// # Ok::<(), g2rpo_train::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Recipe`] with every setting that the method does not have, cannot have, or that does
    /// not go with the others.
    pub fn build(&self, steps: u64) -> Result<Method> {
        self.try_build(steps, true).map_err(|faults| {
            let told = |(path, problem)| format!("{path}: {problem}");
            Error::Recipe(faults.into_iter().map(told).collect())
        })
    }

    /// The method, or everything that is wrong with it. What follows from several settings is told if they are all known,
    /// which is to be `sound`.
    fn try_build(&self, steps: u64, sound: bool) -> Result<Method, Vec<Fault>> {
        let preset = Method::preset(&self.method, steps)
            .map_err(|error| vec![("method".into(), preset_problem(&self.method, &error))])?;
        let (method, mut faults) = self.set_all(preset.clone(), &self.overrides, steps);
        let sound = sound && faults.is_empty();
        // Without a setting that is refused the others show what is wrong with them.
        let mut rest = self.overrides.clone();
        let mut refused: Vec<String> = Vec::new();
        let mut reduced = method.clone();
        while let Err(error) = reduced.check() {
            let names = named(&error);
            let is_about = |leaf: &str| names.iter().any(|name| is_called(leaf, name));
            let of_one = matches!(
                error,
                MethodError::Config { .. }
                    | MethodError::GroupSize { .. }
                    | MethodError::Core(CoreError::Config { .. })
            );
            let idle = matches!(error, MethodError::Idle { .. });
            if idle || !of_one && (!sound || refused.iter().any(|leaf| is_about(leaf))) {
                break;
            }
            let leaves = self.leaves(&rest);
            let mut about: Vec<&String> = leaves.iter().filter(|leaf| is_about(leaf)).collect();
            if about.is_empty() {
                // What is as the preset has it, and outside of what somebody allows.
                let bounds = bounds(&error);
                let is_bound = |leaf: &str| bounds.iter().any(|name| is_called(leaf, name));
                about = leaves.iter().filter(|leaf| is_bound(leaf)).collect();
            }
            let at = about.first().map_or("method", |leaf| leaf.as_str());
            faults.push((at.to_owned(), error.to_string()));
            if about.is_empty() {
                break;
            }
            about.iter().for_each(|leaf| forget(&mut rest, leaf));
            refused.extend(about.into_iter().cloned());
            reduced = self.set_all(preset.clone(), &rest, steps).0;
        }
        if sound {
            let leaves = self.leaves(&self.overrides);
            for (key, needs) in method.idle() {
                let at = leaves.iter().find(|leaf| is_called(leaf, key));
                // What the preset says is idle by what somebody changed, which is told once.
                if at.is_some() || faults.is_empty() {
                    let at = at.map_or("method", String::as_str);
                    let problem = MethodError::Idle { key, needs }.to_string();
                    faults.push((at.to_owned(), problem));
                }
            }
        }
        if faults.is_empty() {
            Ok(method)
        } else {
            Err(faults)
        }
    }

    /// A method with settings that can be set, and what is wrong with the others.
    fn set_all(
        &self,
        mut method: Method,
        overrides: &Map<String, Value>,
        steps: u64,
    ) -> (Method, Vec<Fault>) {
        let preset = |name: &str| Method::NAMES.contains(&name);
        // Sections come before what is in them, so that a single setting is not lost to them, and what is for one preset
        // alone comes last.
        let mut overrides: Vec<(&String, &Value)> = overrides.iter().collect();
        overrides.sort_by_key(|(name, value)| (preset(name), !value.is_object()));
        let mut faults = Vec::new();
        for (name, value) in overrides {
            match value {
                Value::Object(table) if preset(name) => {
                    let own = *name == self.method;
                    let Some(mut target) = (match own {
                        true => Some(method.clone()),
                        false => Method::preset(name, steps).ok(),
                    }) else {
                        continue;
                    };
                    for (part, value) in table {
                        target = apply(target, part, &format!("{name}.{part}"), value, &mut faults);
                    }
                    if own {
                        method = target;
                    }
                }
                value => method = apply(method, name, name, value, &mut faults),
            }
        }
        (method, faults)
    }

    /// Paths of all settings of this method, the parts of tables one by one.
    fn leaves(&self, overrides: &Map<String, Value>) -> Vec<String> {
        fn below(path: &str, value: &Value, leaves: &mut Vec<String>) {
            match value {
                Value::Object(table) if !table.is_empty() => {
                    for (name, value) in table {
                        below(&joined(path, name), value, leaves);
                    }
                }
                _ => leaves.push(path.to_owned()),
            }
        }
        let mut leaves = Vec::new();
        for (name, value) in overrides {
            if !Method::NAMES.contains(&name.as_str()) || *name == self.method {
                below(name, value, &mut leaves);
            }
        }
        leaves
    }
}

/// The path of a setting as it was written, and what is wrong with it.
pub(crate) type Fault = (String, String);

/// Paths in the method's section and what is wrong with them; `sound` says that no other setting of it was refused before,
/// and `known` that the name of the method was not.
pub(crate) fn check_method(recipe: &Recipe, sound: bool, known: bool) -> Vec<Fault> {
    // How many steps there will be is not known yet, and of no influence on what is right.
    let steps = recipe.train.max_steps.unwrap_or(1000);
    let faults =
        |settings: &MethodSettings| settings.try_build(steps, sound).err().unwrap_or_default();
    let method = &recipe.method;
    let is_preset = Method::NAMES.contains(&method.method.as_str());
    let mut found = match known {
        true => faults(method),
        false => Vec::new(),
    };
    if !known || !is_preset {
        found.extend(in_every_preset(method, &faults));
    }
    found
}

/// What is wrong whichever preset is meant.
fn in_every_preset(
    settings: &MethodSettings,
    faults: &dyn Fn(&MethodSettings) -> Vec<Fault>,
) -> Vec<Fault> {
    let of_preset = |name: &&str| {
        let mut settings = settings.clone();
        settings.method = (*name).to_owned();
        faults(&settings)
    };
    // What is told is what the one that was probably meant says.
    let likely = nearest(&settings.method, Method::NAMES.iter().copied());
    let likely = likely.unwrap_or(Method::NAMES[0]);
    let mut found = of_preset(&likely);
    found.retain(|(path, _)| path != "method");
    for name in Method::NAMES.iter().filter(|name| **name != likely) {
        let other = of_preset(name);
        found.retain(|(path, _)| other.iter().any(|(of_other, _)| of_other == path));
    }
    found
}

/// Sets a setting, or each of a table of them; a table with a `kind` is a section of its own. `written` is the path that it
/// was written under.
fn apply(
    method: Method,
    path: &str,
    written: &str,
    value: &Value,
    faults: &mut Vec<Fault>,
) -> Method {
    let mut of_parts = Vec::new();
    let mut by_parts = None;
    if let Value::Object(table) = value
        && !table.contains_key("kind")
    {
        let mut changed = method.clone();
        for (part, value) in table {
            let (path, written) = (joined(path, part), joined(written, part));
            changed = apply(changed, &path, &written, value, &mut of_parts);
        }
        if of_parts.is_empty() {
            return changed;
        }
        by_parts = Some(changed);
    }
    match (method.clone().set(path, value.clone()), by_parts) {
        // Some tables are a value, such as a choice with settings of its own.
        (Ok(changed), _) => changed,
        (Err(error), Some(changed)) => {
            if !is_section(&method, path) {
                faults.push(fault(path, written, value, error));
                return method;
            }
            faults.extend(of_parts);
            changed
        }
        (Err(error), None) => {
            faults.push(fault(path, written, value, error));
            method
        }
    }
}

fn is_section(method: &Method, path: &str) -> bool {
    let whole = method.path(path).unwrap_or_default();
    let method = serde_json::to_value(method).unwrap_or_default();
    let at = whole.split('.').try_fold(&method, |at, name| at.get(name));
    at.is_some_and(Value::is_object)
}

fn fault(path: &str, written: &str, value: &Value, error: MethodError) -> Fault {
    let problem = setting_problem(path, value, error);
    // What a table of a kind does not have stands at a place of its own.
    let field = problem.split_once("unknown field `");
    let field = field.and_then(|(_, rest)| Some(rest.split_once('`')?.0));
    let path = joined(written, field.unwrap_or_default());
    (path, problem)
}

/// Words of an error that may be names of settings.
fn named(error: &MethodError) -> Vec<String> {
    let texts: Vec<&str> = match error {
        MethodError::Config { name, .. } | MethodError::Core(CoreError::Config { name, .. }) => {
            vec![name]
        }
        MethodError::Conflict { first, second, .. } => vec![first, second],
        MethodError::Core(CoreError::Conflict { first, second, .. }) => vec![first, second],
        MethodError::GroupSize { .. } => vec!["num_generations"],
        MethodError::Parts { .. } => vec!["num_generations", "alpha"],
        MethodError::LadderSize { .. } => vec!["num_generations", "rungs"],
        _ => Vec::new(),
    };
    texts.into_iter().flat_map(words).collect()
}

/// Words of the domain of a setting that may be names of others.
fn bounds(error: &MethodError) -> Vec<String> {
    match error {
        MethodError::Config { domain, .. }
        | MethodError::Core(CoreError::Config { domain, .. }) => words(domain),
        _ => Vec::new(),
    }
}

fn words(text: &str) -> Vec<String> {
    text.split(|c: char| !(c.is_alphanumeric() || "_.".contains(c)))
        .filter(|word| word.chars().any(char::is_alphabetic))
        .map(str::to_owned)
        .collect()
}

/// Whether a setting has this name, or is in the section of this name. Paths and names may leave out their beginning.
fn is_called(leaf: &str, name: &str) -> bool {
    let dotted = format!(".{leaf}.");
    dotted.contains(&format!(".{name}."))
        || format!(".{name}").ends_with(&format!(".{leaf}"))
        || dotted.ends_with(&format!(".{name}s."))
}

/// Takes a setting out of tables in each other.
fn forget(table: &mut Map<String, Value>, path: &str) {
    match path.split_once('.') {
        None => drop(table.remove(path)),
        Some((first, rest)) => {
            if let Some(Value::Object(inner)) = table.get_mut(first) {
                forget(inner, rest);
                if inner.is_empty() {
                    table.remove(first);
                }
            }
        }
    }
}

fn preset_problem(name: &str, error: &MethodError) -> String {
    let meant = nearest(name, Method::NAMES.iter().copied());
    meant.map_or_else(|| error.to_string(), |m| format!("did you mean {m}?"))
}

fn setting_problem(name: &str, value: &Value, error: MethodError) -> String {
    match error {
        MethodError::UnknownKey { nearest: meant, .. } => {
            let end = meant.rsplit('.').next().unwrap_or(&meant);
            let known = keys().iter().map(|key| key.name);
            let meant = nearest(name, known.chain([end, meant.as_str()]));
            meant.map_or_else(
                || "unknown key: `g2rpo init` writes a recipe with all keys".into(),
                |m| format!("unknown key: did you mean {m}?"),
            )
        }
        MethodError::Value { problem, .. } => expected(&problem, value),
        other => other.to_string(),
    }
}
