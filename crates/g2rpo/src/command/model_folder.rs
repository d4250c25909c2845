//! The folder of a model that somebody named, told from folders that hold one, or a part of one.

use std::path::{Path, PathBuf};

use g2rpo::libtorch::model_folder;
use serde_json::Value;

use super::failure::Failure;

/// The folder of a model by its path or its id on the hub.
pub(crate) fn open(name: &str) -> Result<PathBuf, Failure> {
    let folder = model_folder(name)?;
    match other(name, &folder) {
        None => Ok(folder),
        Some(what) => Err(Failure::new(Failure::SETTINGS, format!("{name}: {what}"))),
    }
}

/// What a folder is that is not a model's, and which one may be meant.
fn other(name: &str, folder: &Path) -> Option<String> {
    let has = |file: &str| folder.join(file).exists();
    let weights = ["model.safetensors", "model.safetensors.index.json"];
    if has("adapter_config.json") && !weights.iter().any(|file| has(file)) {
        return Some(adapter(name, folder));
    }
    if has("config.json") {
        return None;
    }
    let inner = |within: &Path| {
        let model = within.join("model");
        model.join("config.json").exists().then_some(model)
    };
    // As it was named, so that it can be written again.
    let path = Path::new(name);
    if has("recipe.toml") && (has("checkpoints") || has("metrics.jsonl")) {
        let last = || {
            let entries = std::fs::read_dir(path.join("checkpoints")).ok()?;
            let models = entries.filter_map(|entry| inner(&entry.ok()?.path()));
            models.max()
        };
        return Some(match (inner(path), last()) {
            (Some(model), _) => format!(
                "it is the folder of a run and not of a model: its model is {}",
                model.display()
            ),
            (None, Some(model)) => format!(
                "it is the folder of a run and not of a model; the run did not come to its end, and the model of its last \
                 checkpoint is {}",
                model.display()
            ),
            (None, None) => "it is the folder of a run, which has no model yet".into(),
        });
    }
    Some(match inner(path) {
        Some(model) => format!(
            "it is no model, there is no config.json in it: is {} meant?",
            model.display()
        ),
        None => "it is no model: there is no config.json in it".into(),
    })
}

fn adapter(name: &str, folder: &Path) -> String {
    let text = std::fs::read_to_string(folder.join("adapter_config.json")).unwrap_or_default();
    let config: Value = serde_json::from_str(&text).unwrap_or_default();
    let base = config["base_model_name_or_path"].as_str();
    let base = base.map_or("a model that it does not name".to_owned(), |base| {
        format!("{base} (base_model_name_or_path)")
    });
    // A run leaves both beside each other.
    let merged = Path::new(name).parent().map(|parent| parent.join("model"));
    let merged = merged.filter(|model| model.join("config.json").exists());
    match merged {
        Some(model) => format!(
            "it is an adapter to {base} and not a model: {} has it merged",
            model.display()
        ),
        None => format!(
            "it is an adapter to {base} and not a model: merge it, in PEFT by merge_and_unload() and save_pretrained(), and \
             name the folder that comes of it"
        ),
    }
}
