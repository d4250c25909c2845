//! The method of a recipe: a preset and what is changed in it.

use g2rpo_guidance::{Error as MethodError, Method};
use serde_json::Value;

use super::keys::{expected, keys, nearest};
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
        self.try_build(steps).map_err(|problems| {
            let problem = |(key, problem)| format!("{key}: {problem}");
            Error::Recipe(problems.into_iter().map(problem).collect())
        })
    }

    fn try_build(&self, steps: u64) -> Result<Method, Vec<(String, String)>> {
        let mut method = Method::preset(&self.method, steps)
            .map_err(|error| vec![("method".into(), preset_problem(&self.method, &error))])?;
        // Sections come before what is in them, so that a single setting is not lost to them.
        let mut overrides: Vec<(&String, &Value)> = self.overrides.iter().collect();
        overrides.sort_by_key(|(_, value)| !value.is_object());
        let mut problems = Vec::new();
        for (name, value) in overrides {
            // Settings under the name of a preset are for that one, so that a recipe can hold
            // those of several.
            let (target, of_preset) = match Method::NAMES.iter().find(|preset| *preset == name) {
                Some(preset) if *preset != self.method => {
                    (Method::preset(preset, steps).ok(), true)
                }
                named => (Some(method.clone()), named.is_some()),
            };
            let Some(target) = target else { continue };
            let changed = match value {
                Value::Object(table) if of_preset => (table.iter())
                    .try_fold(target, |method, (part, value)| apply(method, part, value)),
                value => apply(target, name, value),
            };
            match changed {
                Ok(changed) if !of_preset || *name == self.method => method = changed,
                Ok(_) => {}
                Err(error) => problems.push((name.clone(), setting_problem(name, value, error))),
            }
        }
        if problems.is_empty()
            && let Err(error) = method.check()
        {
            problems.push(("method".into(), error.to_string()));
        }
        if problems.is_empty() {
            Ok(method)
        } else {
            Err(problems)
        }
    }
}

/// Keys of the method's section and what is wrong with them.
pub(crate) fn check_method(recipe: &Recipe) -> Vec<(String, String)> {
    // How many steps there will be is not known yet, and of no influence on what is right.
    let steps = recipe.train.max_steps.unwrap_or(1000);
    recipe.method.try_build(steps).err().unwrap_or_default()
}

/// Sets a setting, or each of a table of them; a table with a `kind` is a section of its own.
fn apply(method: Method, name: &str, value: &Value) -> Result<Method, MethodError> {
    if let Value::Object(table) = value
        && !table.contains_key("kind")
    {
        let each = table
            .iter()
            .try_fold(method.clone(), |method, (part, value)| {
                apply(method, &format!("{name}.{part}"), value)
            });
        if each.is_ok() {
            return each;
        }
    }
    method.set(name, value.clone())
}

fn preset_problem(name: &str, error: &MethodError) -> String {
    let meant = nearest(name, Method::NAMES.iter().copied());
    meant.map_or_else(|| error.to_string(), |m| format!("did you mean {m}?"))
}

fn setting_problem(name: &str, value: &Value, error: MethodError) -> String {
    match error {
        MethodError::UnknownKey { nearest: meant, .. } => {
            let end = meant.rsplit('.').next().unwrap_or(&meant);
            let known = keys().iter().map(|key| key.name.as_str());
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
