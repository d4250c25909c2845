//! Reads the configuration of `trl grpo --config` as settings of a recipe.

use serde_json::{Map, Value};

use super::merge::merge;
use super::setting::Setting;
use super::trl_keys::{Fate, fate};
use crate::Error;

/// What a file of TRL amounts to.
#[derive(Debug, Clone, PartialEq)]
pub struct TrlConfig {
    /// The settings of the recipe.
    pub settings: Vec<Setting>,
    /// Keys that were passed over or mean something slightly different, each with the reason.
    pub notes: Vec<String>,
}

/// Translates the flat keys of a TRL config; `origin` gives the place of a key for messages.
///
/// What TRL leaves to its defaults is set to what TRL takes, where a recipe's default is another.
///
/// # Errors
/// Every key that TRL does not have, and every value that asks for what is not done here.
pub fn from_trl(
    config: &Map<String, Value>,
    origin: &dyn Fn(&str) -> String,
) -> Result<TrlConfig, Vec<String>> {
    let mut translation = Translation {
        config,
        origin,
        settings: Vec::new(),
        notes: Vec::new(),
        problems: Vec::new(),
    };
    for (name, value) in config {
        translation.key(name, value);
    }
    translation.batches();
    translation.servers();
    translation.defaults();
    if translation.problems.is_empty() {
        Ok(TrlConfig {
            settings: translation.settings,
            notes: translation.notes,
        })
    } else {
        translation.add_wrong_values();
        Err(translation.problems)
    }
}

struct Translation<'a> {
    config: &'a Map<String, Value>,
    origin: &'a dyn Fn(&str) -> String,
    settings: Vec<Setting>,
    notes: Vec<String>,
    problems: Vec<String>,
}

impl<'a> Translation<'a> {
    fn key(&mut self, name: &str, value: &Value) {
        match fate(name) {
            None => {
                let names = super::trl_keys::TABLE.iter().map(|row| row.0);
                let meant = super::keys::nearest(name, names);
                let meant = meant.map_or(String::new(), |m| format!("; did you mean {m}?"));
                self.problem(name, format!("is no key of TRL 1.16{meant}"));
            }
            Some(_) if name.starts_with("vllm_") && !self.uses_vllm() => {
                self.note(name, "has no effect without use_vllm");
            }
            Some(Fate::Taken) if value.is_null() => {}
            // As TRL does.
            Some(Fate::Taken) if name == "dataset_name" && self.asks("datasets") => {
                self.note(name, "is passed over, as datasets is given");
            }
            // With the functions that they are of.
            Some(Fate::Taken)
                if name == "reward_weights" && self.said("reward_funcs").is_some() => {}
            Some(Fate::Taken) => self.set(name, typed(name, value)),
            Some(Fate::Translated(how)) => self.translate(name, value, how),
            Some(Fate::Refused(why)) if !is_off(value) => {
                self.problem(name, format!("cannot be done: {why}"));
            }
            Some(Fate::Refused(_)) => {}
            Some(Fate::Meaningless(why)) => self.note(name, why),
        }
    }

    /// Keys that say something otherwise; those of batches are translated together.
    fn translate(&mut self, name: &str, value: &Value, how: &str) {
        let text = value.as_str().unwrap_or_default();
        let fine = match name {
            _ if value.is_null() => true,
            "lr_scheduler_kwargs" => {
                let kwargs = value.as_object();
                if let Some(rate) = kwargs.and_then(|k| k.get("min_lr_rate")) {
                    self.set("min_lr_rate", rate.clone());
                }
                kwargs.is_some_and(|k| k.keys().all(|key| key == "min_lr_rate"))
            }
            "optim" => matches!(text, "adamw_torch" | "adamw_torch_fused"),
            "bf16" => self.where_it_is(true, value, "dtype", "bfloat16"),
            "activation_checkpointing" => {
                self.set("gradient_checkpointing", typed(name, value));
                truth(value).is_some()
            }
            "logging_steps" | "save_steps" => match whole(value) {
                Some(n) if n >= 1 => {
                    self.set(name, n);
                    true
                }
                _ => false,
            },
            "report_to" => match value {
                Value::Array(items) => items.iter().all(|item| self.report_to(item)),
                one => self.report_to(one),
            },
            "eval_strategy" => {
                if text == "steps" && !self.config.contains_key("eval_steps") {
                    self.set("eval_steps", self.logging_steps());
                }
                text == "steps" || is_off(value)
            }
            "save_strategy" => matches!(text, "steps" | "best"),
            "metric_for_best_model" | "dataset_train_split" | "dataset_test_split" => {
                self.note(name, how);
                true
            }
            "use_cpu" => self.where_it_is(true, value, "device", "cpu"),
            "train_sampling_strategy" => text == "random",
            "shuffle_dataset" => self.where_it_is(false, value, "curriculum", "given"),
            "multi_objective_aggregation" => text == "sum_then_normalize",
            "log_completions" => {
                let shown = truth(value) == Some(true);
                let steps = if shown { self.logging_steps() } else { 0 };
                self.set("log_completions_steps", steps);
                truth(value).is_some()
            }
            "model_revision" => text == "main",
            "lora_dropout" => {
                if number(value) != Some(0.0) {
                    self.note(name, how);
                }
                number(value).is_some()
            }
            "datasets" if is_off(value) => true,
            "datasets" => match one_file(value) {
                Some(file) => {
                    self.set_by("datasets", "dataset_name", file);
                    true
                }
                None => false,
            },
            "scale_rewards" => {
                let scale = match (value, text) {
                    (Value::Bool(true), _) | (_, "group") => Some("group_std"),
                    (Value::Bool(false), _) | (_, "none") => Some("none"),
                    (_, "batch") => Some("batch_std"),
                    _ => None,
                };
                if let Some(scale) = scale {
                    self.set("scale", scale);
                }
                scale.is_some()
            }
            "reward_funcs" => self.reward_funcs(value),
            // Of the mismatch, below.
            "vllm_importance_sampling_correction" => truth(value).is_some(),
            "vllm_importance_sampling_mode" => mismatch_mode(text).is_some(),
            "vllm_importance_sampling_clip_max"
            | "vllm_importance_sampling_clip_min"
            | "vllm_importance_sampling_cap" => number(value).is_some(),
            // Of batches, below.
            "per_device_train_batch_size"
            | "gradient_accumulation_steps"
            | "generation_batch_size"
            | "steps_per_generation"
            | "max_steps" => whole(value).is_some(),
            _ => false,
        };
        if !fine {
            self.problem(name, how.to_owned());
        }
    }

    /// Sets a key where a switch of TRL is on, or off; says whether it is either.
    fn where_it_is(&mut self, on: bool, switch: &Value, key: &str, value: &str) -> bool {
        if truth(switch) == Some(on) {
            self.set(key, value);
        }
        truth(switch).is_some()
    }

    fn report_to(&mut self, target: &Value) -> bool {
        match target.as_str() {
            Some("none") => true,
            Some("tensorboard" | "all") => {
                self.set("report_to", "tensorboard");
                true
            }
            _ => false,
        }
    }

    fn reward_funcs(&mut self, value: &Value) -> bool {
        let single = [value.clone()];
        let names = value.as_array().map_or(&single[..], Vec::as_slice);
        let mut functions = Vec::new();
        let mut places = Vec::new();
        for (i, name) in names.iter().enumerate() {
            let name = name.as_str().unwrap_or_default();
            let name = name.rsplit('.').next().unwrap_or_default();
            let here = match name {
                "accuracy_reward" | "reasoning_accuracy_reward" => continue,
                "get_soft_overlong_punishment" => "soft_overlong_punishment_reward",
                "get_cosine_scaled_reward" => "cosine_scaled_reward",
                "get_repetition_penalty_reward" => "repetition_penalty_reward",
                name if super::check::REWARD_FUNCS.contains(&name) => name,
                _ => return false,
            };
            functions.push(Value::from(here));
            places.push(i);
        }
        let verdict = functions.len() < names.len();
        if !verdict {
            let why = "the verdict of the verifier pays 1 beside them";
            self.note("reward_funcs", why);
        }
        self.reward_weights(names.len(), &places);
        self.set("reward_funcs", Value::Array(functions));
        true
    }

    /// The weights of functions at these `places` among `all`; that of the verdict is 1.
    fn reward_weights(&mut self, all: usize, places: &[usize]) {
        let Some(value) = self.said("reward_weights") else {
            return;
        };
        let single = vec![value.clone()];
        let weights = value.as_array().unwrap_or(&single);
        if weights.len() != all {
            let problem = format!("{} weights for {all} reward_funcs", weights.len());
            return self.problem("reward_weights", problem);
        }
        if weights.iter().any(|weight| number(weight).is_none()) {
            return self.problem("reward_weights", "expected a list of numbers".into());
        }
        let numbers: Vec<f64> = weights.iter().filter_map(number).collect();
        let mut of_verdict = (0..all).filter(|i| !places.contains(i));
        if let Some(i) = of_verdict.find(|&i| numbers[i] != 1.0) {
            let problem = format!(
                "the weight of accuracy_reward is that of the verdict, which is 1 and not {}: divide all weights by it, so \
                 that the verdict's is 1",
                numbers[i]
            );
            return self.problem("reward_weights", problem);
        }
        let kept = places.iter().map(|&i| Value::from(numbers[i]));
        let kept: Vec<Value> = kept.collect();
        if !kept.is_empty() {
            self.set("reward_weights", Value::Array(kept));
        }
    }

    /// TRL counts completions and micro-batches, a recipe counts problems and optimiser steps.
    fn batches(&mut self) {
        let or = |name, default| self.said(name).and_then(whole).unwrap_or(default);
        let rows = or("per_device_train_batch_size", 8);
        let accumulated = or("gradient_accumulation_steps", 1);
        let generations = or("num_generations", 8);
        let micro_batches = match self.said("generation_batch_size").and_then(whole) {
            Some(batch) if rows > 0 && batch % rows == 0 => batch / rows,
            Some(_) => {
                let problem = format!("is no multiple of per_device_train_batch_size = {rows}");
                return self.problem("generation_batch_size", problem);
            }
            None => or("steps_per_generation", accumulated),
        };
        let (completions, max_steps) = (rows * micro_batches, or("max_steps", -1));
        if accumulated < 1 || micro_batches < 1 || micro_batches % accumulated != 0 {
            let problem = format!(
                "{micro_batches} micro-batches of a generation are no whole number of optimiser steps of {accumulated}"
            );
            return self.problem("gradient_accumulation_steps", problem);
        }
        if generations < 1 || completions < 1 || completions % generations != 0 {
            let problem = format!("{completions} completions are no whole number of groups of it");
            return self.problem("num_generations", problem);
        }
        let updates = micro_batches / accumulated;
        let per_step = updates * or("num_iterations", 1);
        let prompts = completions / generations;
        self.set_by("per_device_train_batch_size", "prompts_per_step", prompts);
        self.set_by("steps_per_generation", "steps_per_generation", updates);
        if max_steps > 0 {
            if max_steps % per_step != 0 {
                let note = format!(
                    "{max_steps} optimiser steps are rounded up to whole steps of {per_step}"
                );
                self.note("max_steps", &note);
            }
            let steps = (max_steps + per_step - 1) / per_step;
            self.set_by("max_steps", "max_steps", steps);
            self.settings.retain(|s| s.key != "num_train_epochs");
        }
        if per_step > 1 {
            let counts = [
                "eval_steps",
                "save_steps",
                "logging_steps",
                "log_completions_steps",
            ];
            let settings = self.settings.iter_mut();
            for setting in settings.filter(|s| counts.contains(&s.key.as_str())) {
                let steps = whole(&setting.value).unwrap_or(0);
                setting.value = ((steps + per_step - 1) / per_step).into();
            }
        }
    }

    fn said(&self, name: &str) -> Option<&'a Value> {
        self.config.get(name).filter(|value| !value.is_null())
    }

    fn logging_steps(&self) -> i64 {
        let steps = self.config.get("logging_steps").and_then(whole);
        steps.unwrap_or(10)
    }

    fn asks(&self, name: &str) -> bool {
        self.config.get(name).is_some_and(|value| !is_off(value))
    }

    fn uses_vllm(&self) -> bool {
        self.config.get("use_vllm").and_then(truth) == Some(true)
    }

    /// What TRL does with vLLM when nothing is said: it runs inside, and its log-probabilities are
    /// corrected for.
    fn servers(&mut self) {
        if !self.uses_vllm() {
            return;
        }
        if !self.config.contains_key("vllm_mode") {
            self.default("vllm_mode", "colocate".into());
        }
        let said = |name: &str| self.said(name);
        let corrects = said("vllm_importance_sampling_correction").and_then(truth);
        if corrects == Some(false) {
            return;
        }
        let mode = said("vllm_importance_sampling_mode").and_then(Value::as_str);
        let Some((level, out_of_range)) = mismatch_mode(mode.unwrap_or("sequence_mask")) else {
            return;
        };
        let max = [
            "vllm_importance_sampling_cap",
            "vllm_importance_sampling_clip_max",
        ];
        let max = max.into_iter().find_map(said).and_then(number);
        let mut correction = Map::from_iter([
            ("level".to_owned(), level.into()),
            ("out_of_range".to_owned(), out_of_range.into()),
            ("clip_max".to_owned(), max.unwrap_or(3.0).into()),
        ]);
        if let Some(min) = said("vllm_importance_sampling_clip_min").and_then(number) {
            correction.insert("clip_min".to_owned(), min.into());
        }
        self.default("importance_sampling_correction", correction.into());
    }

    /// What TRL does when nothing is said and a recipe would not.
    fn defaults(&mut self) {
        for (key, value) in [
            ("method", Value::from("grpo")),
            ("num_generations", 8.into()),
            ("max_completion_length", 512.into()),
            ("loss_type", "dapo".into()),
            ("beta", 0.0.into()),
            ("use_bias_correction_kl", true.into()),
            ("save_steps", 500.into()),
            ("logging_steps", 10.into()),
            ("log_completions_steps", 0.into()),
        ] {
            if !self.settings.iter().any(|s| s.key == key) {
                self.default(key, value);
            }
        }
    }

    fn set(&mut self, key: &str, value: impl Into<Value>) {
        self.set_by(key, key, value);
    }

    /// Sets what another key of TRL says.
    fn set_by(&mut self, theirs: &str, key: &str, value: impl Into<Value>) {
        self.push((self.origin)(theirs), key, value.into());
    }

    fn default(&mut self, key: &str, value: Value) {
        self.push("default of TRL".into(), key, value);
    }

    fn push(&mut self, origin: String, key: &str, value: Value) {
        self.settings.push(Setting {
            key: key.to_owned(),
            value,
            origin,
            ..Setting::default()
        });
    }

    /// Adds what is wrong with the values of keys that were translated, so that all is told at once. What needs other files
    /// to be known is left to them.
    fn add_wrong_values(&mut self) {
        let Err(Error::Recipe(wrong)) = merge(self.settings.clone(), Vec::new()) else {
            return;
        };
        for name in self.config.keys() {
            let begin = format!("{}: {name}", (self.origin)(name));
            let is_about = |problem: &&String| {
                let rest = problem.strip_prefix(&begin);
                rest.is_some_and(|rest| rest.starts_with([' ', ':']))
            };
            if !self.problems.iter().any(|told| is_about(&told)) {
                self.problems.extend(wrong.iter().find(is_about).cloned());
            }
        }
    }

    fn note(&mut self, name: &str, why: &str) {
        self.notes
            .push(format!("{}: {name}: {why}", (self.origin)(name)));
    }

    fn problem(&mut self, name: &str, problem: String) {
        let value = (self.config.get(name)).map_or(String::new(), |v| format!(" = {v}"));
        self.problems
            .push(format!("{}: {name}{value}: {problem}", (self.origin)(name)));
    }
}

/// The file that a mixture of one data set is, whole.
fn one_file(datasets: &Value) -> Option<&str> {
    let [set] = datasets.as_array()?.as_slice() else {
        return None;
    };
    let said = |name: &str| set.get(name).filter(|value| !value.is_null());
    let split = said("split").is_none_or(|split| split == "train");
    // Columns that nothing names are passed over, and a share of a single data set is all of it.
    let known = ["path", "data_files", "split", "columns", "fraction"];
    let rest = set.as_object()?.iter();
    let rest = rest.filter(|(name, value)| !known.contains(&name.as_str()) && !is_off(value));
    if !split || rest.count() > 0 {
        return None;
    }
    let path = said("path")?.as_str()?;
    match said("data_files") {
        // A builder of files, which is found out from the file's name here.
        Some(file) => matches!(path, "json" | "parquet").then_some(file.as_str()?),
        None => Some(path),
    }
}

/// Level of a correction and what it does outside its range, by TRL's name of both.
fn mismatch_mode(name: &str) -> Option<(&'static str, &'static str)> {
    match name {
        "token_truncate" => Some(("token", "truncate")),
        "token_mask" => Some(("token", "mask")),
        "sequence_truncate" => Some(("sequence_sum", "truncate")),
        "sequence_mask" => Some(("sequence_sum", "mask")),
        _ => None,
    }
}

/// Values that do not ask for anything.
fn is_off(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(on) => !on,
        Value::Number(n) => n.as_f64() == Some(0.0),
        Value::String(text) => matches!(text.as_str(), "" | "no" | "none" | "off" | "false"),
        Value::Array(items) => items.is_empty(),
        Value::Object(entries) => entries.is_empty(),
    }
}

/// The value that TRL's parser makes of one: YAML leaves `1e-6` and, in places, `yes` as texts.
fn typed(name: &str, value: &Value) -> Value {
    let Value::String(text) = value else {
        return value.clone();
    };
    let default = super::keys::key(name).map(|key| &key.default);
    match default {
        Some(Value::Number(_)) | None => text
            .parse()
            .ok()
            .and_then(serde_json::Number::from_f64)
            .map_or(value.clone(), Value::Number),
        Some(Value::Bool(_)) => truth(value).map_or(value.clone(), Value::Bool),
        Some(Value::Array(_)) => Value::Array(vec![value.clone()]),
        _ => value.clone(),
    }
}

fn truth(value: &Value) -> Option<bool> {
    match value {
        Value::Bool(on) => Some(*on),
        Value::String(text) => match text.to_ascii_lowercase().as_str() {
            "yes" | "true" | "on" | "1" => Some(true),
            "no" | "false" | "off" | "0" => Some(false),
            _ => None,
        },
        _ => None,
    }
}

fn number(value: &Value) -> Option<f64> {
    value.as_f64().or_else(|| value.as_str()?.parse().ok())
}

fn whole(value: &Value) -> Option<i64> {
    let number = number(value)?;
    (number.fract() == 0.0).then_some(number as i64)
}
