//! Settings of a method by key.

use g2rpo_core::{Rlsd, TokenAdvantage};
use serde_json::Value;

use crate::error::{Error, Result};
use crate::method::settings::Method;

impl Method {
    /// The method with one setting changed. A setting is named by its path (`"loss.epsilon"`) or
    /// by the end of it that no other setting has (`"alpha"`); a path may end at a whole section.
    /// Naming a part of a section that is off (`"max_num_gen_batches"`) switches it on; `null`
    /// switches an optional one off, and so do NaN and infinities, which JSON cannot hold.
    ///
    /// Whether the settings fit together is [`check`](Self::check)'s business.
    ///
    /// ```
    /// use g2rpo_guidance::Method;
    /// let dapo = Method::preset("grpo", 100)?.set("loss.epsilon_high", 0.28)?.set("max_num_gen_batches", 4)?;
    /// assert_eq!(dapo.dynamic_sampling.map(|d| d.max_num_gen_batches), Some(4));
    /// let text = |key: &str| dapo.clone().set(key, 1).unwrap_err().to_string();
    /// assert_eq!(text("epsilom"), "no setting is called `epsilom`; did you mean `loss.epsilon`?");
    /// assert_eq!(text("rounding"), "`rounding` could be cutter.rounding or selector.rounding: give the whole path");
    /// let error = dapo.set("num_generations", 2.5).unwrap_err().to_string();
    /// assert!(error.starts_with("num_generations = 2.5: invalid type"), "{error}");
    /// # Ok::<(), g2rpo_guidance::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::UnknownKey`], [`Error::AmbiguousKey`], and [`Error::Value`] for a value of the
    /// wrong type.
    pub fn set(self, key: &str, value: impl Into<Value>) -> Result<Self> {
        let value = value.into();
        let (mut json, path) = self.located(key)?;
        let problem = |problem: String| Error::Value {
            key: path.clone(),
            value: value.to_string(),
            problem,
        };
        match json.pointer_mut(&pointer(&path)) {
            Some(place) => *place = value.clone(),
            None => return Err(problem("there is no such place".into())),
        }
        serde_json::from_value(json).map_err(|e| problem(e.to_string()))
    }

    /// The whole path of a setting that [`set`](Self::set) would change by this name.
    ///
    /// ```
    /// use g2rpo_guidance::Method;
    /// let grpo = Method::preset("grpo", 100)?;
    /// assert_eq!(grpo.path("epsilon")?, "loss.epsilon");
    /// assert_eq!(grpo.path("max_num_gen_batches")?, "dynamic_sampling.max_num_gen_batches");
    /// assert!(grpo.path("epsilom").is_err());
    /// # Ok::<(), g2rpo_guidance::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::UnknownKey`] and [`Error::AmbiguousKey`].
    pub fn path(&self, key: &str) -> Result<String> {
        Ok(self.located(key)?.1)
    }

    /// The method as JSON, with the section of the setting switched on, and the setting's path.
    fn located(&self, key: &str) -> Result<(Value, String)> {
        let mut json = as_json(self);
        if let Some(path) = found(&json, key)? {
            return Ok((json, path));
        }
        let spread = TokenAdvantage::Rlsd(Rlsd::default());
        let full = as_json(&Self {
            token_advantages: Some(self.token_advantages.unwrap_or(spread)),
            dynamic_sampling: Some(self.dynamic_sampling.unwrap_or_default()),
            overlong: Some(self.overlong.unwrap_or_default()),
            difficulty: Some(self.difficulty.unwrap_or_default()),
            ..self.clone()
        });
        let path = found(&full, key)?.ok_or_else(|| unknown(&full, key))?;
        let section = path.split('.').next().unwrap_or_default();
        json[section] = full[section].clone();
        Ok((json, path))
    }

    /// Where two methods differ: path, value here, value there. A section of another kind is given
    /// whole; what one of them lacks is `null`.
    pub fn diff(&self, other: &Self) -> Vec<(String, Value, Value)> {
        let mut differences = Vec::new();
        compare("", &as_json(self), &as_json(other), &mut differences);
        differences
    }
}

fn as_json(method: &Method) -> Value {
    // Every map of a method has names for keys, the one thing that can fail here.
    serde_json::to_value(method).unwrap_or_default()
}

fn compare(path: &str, ours: &Value, theirs: &Value, out: &mut Vec<(String, Value, Value)>) {
    if ours == theirs {
        return;
    }
    match (ours, theirs) {
        (Value::Object(a), Value::Object(b)) if a.get("kind") == b.get("kind") => {
            let mut names: Vec<&String> = a.keys().chain(b.keys()).collect();
            names.sort_unstable();
            names.dedup();
            for name in names {
                let null = Value::Null;
                let (x, y) = (a.get(name).unwrap_or(&null), b.get(name).unwrap_or(&null));
                compare(&joined(path, name), x, y, out);
            }
        }
        _ => out.push((path.to_owned(), ours.clone(), theirs.clone())),
    }
}

fn joined(path: &str, name: &str) -> String {
    if path.is_empty() {
        name.to_owned()
    } else {
        format!("{path}.{name}")
    }
}

fn pointer(path: &str) -> String {
    format!("/{}", path.replace('.', "/"))
}

/// All paths of a tree of settings, sections before what they hold.
fn paths(tree: &Value) -> Vec<String> {
    let mut all = Vec::new();
    let mut open = vec![(String::new(), tree)];
    while let Some((path, node)) = open.pop() {
        if !path.is_empty() {
            all.push(path.clone());
        }
        if let Value::Object(map) = node {
            let inner = map.iter().rev();
            open.extend(inner.map(|(name, node)| (joined(&path, name), node)));
        }
    }
    all
}

/// The path that `key` names, if it names one.
fn found(tree: &Value, key: &str) -> Result<Option<String>> {
    let end = format!(".{key}");
    let mut named: Vec<String> = Vec::new();
    for path in paths(tree) {
        if path == key {
            return Ok(Some(path));
        }
        if path.ends_with(&end) {
            named.push(path);
        }
    }
    // A setting of a section comes before one deeper down: `beta` is the loss's.
    let depth = |path: &String| path.matches('.').count();
    let least = named.iter().map(depth).min();
    named.retain(|path| Some(depth(path)) == least);
    match named.len() {
        0 | 1 => Ok(named.pop()),
        _ => Err(Error::AmbiguousKey {
            key: key.to_owned(),
            paths: named,
        }),
    }
}

fn unknown(tree: &Value, key: &str) -> Error {
    let distance = |path: &String| {
        let name = path.rsplit('.').next().unwrap_or(path);
        edits(key, path).min(edits(key, name))
    };
    let nearest = paths(tree).into_iter().min_by_key(distance);
    Error::UnknownKey {
        key: key.to_owned(),
        nearest: nearest.unwrap_or_default(),
    }
}

/// Levenshtein's distance in bytes.
fn edits(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.bytes().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn of(name: &str) -> Method {
        Method::preset(name, 500).unwrap()
    }

    #[test]
    fn every_setting_of_every_preset_can_be_set_to_itself_by_its_path() {
        for name in Method::NAMES {
            let json = as_json(&of(name));
            for path in paths(&json) {
                let value = json.pointer(&pointer(&path)).unwrap().clone();
                let same = of(name).set(&path, value);
                assert_eq!(same.unwrap_or_else(|e| panic!("{name}: {e}")), of(name));
            }
        }
    }

    #[test]
    fn sections_can_be_replaced_and_switched_off() {
        let method = of("dapo").set("dynamic_sampling", Value::Null).unwrap();
        assert_eq!(method.dynamic_sampling, None);
        let selector = json!({"kind": "dropout", "p": 0.1, "whole_group": true,
            "inner": {"kind": "fixed_fraction", "alpha": 1.0}});
        let method = method.set("selector", selector).unwrap();
        assert_eq!(
            method.clone().set("alpha", 0.5).unwrap().diff(&method),
            [("selector.inner.alpha".to_owned(), json!(0.5), json!(1.0))]
        );
        let method = method
            .set("guidance_token_loss", json!({"shaped": {"gamma": 0.2}}))
            .unwrap();
        assert!(method.set("gamma", 0.1).is_ok());
    }

    #[test]
    fn what_is_wrong_is_said() {
        let text = |key: &str, value: Value| of("target").set(key, value).unwrap_err().to_string();
        assert!(text("placement", json!("prompt_hnt")).contains("unknown variant `prompt_hnt`"));
        assert!(
            text("target", json!("half")).starts_with("controller.target = \"half\": invalid type")
        );
        assert!(text("unit", json!("line")).contains("controller.unit or cutter.unit"));
        assert!(text("controller", json!({"kind": "fixed", "amont": 3})).contains("amount"));
        let extra = json!({"kind": "fixed", "amont": 3, "amount": {"tokens": 3.0}});
        assert!(text("controller", extra).contains("unknown field `amont`"));
        let extra = json!({"kind": "fixed_fraction", "alpha": 0.5, "beta": 1.0});
        assert!(text("selector", extra).contains("unknown field `beta`"));
    }

    #[test]
    fn kinds_that_differ_are_compared_whole() {
        let differences = of("target").diff(&of("grpo"));
        let controller = differences.iter().find(|d| d.0 == "controller").unwrap();
        let fixed = json!({"kind": "fixed", "amount": {"tokens": 0.0}});
        assert_eq!(controller.2, fixed);
        assert!(of("uft").diff(&of("uft")).is_empty());
    }

    #[test]
    fn distances_by_hand() {
        assert_eq!(edits("kitten", "sitting"), 3);
        assert_eq!((edits("", "ab"), edits("ab", "ab")), (2, 0));
    }
}
