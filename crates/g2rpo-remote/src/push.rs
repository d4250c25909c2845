//! How weights are brought to one server, in the words of its kind.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::config::Backend;
use crate::error::Fault;
use crate::line::Line;
use crate::protocol::parse;

/// Weights as a server is told of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Weights {
    /// Those that it was started with.
    AsStarted,
    /// A PEFT folder, and the name that it is to have.
    Adapter(PathBuf, String),
    /// A folder with all weights.
    Folder(PathBuf),
}

impl Line<'_> {
    /// Makes the server serve `weights` under `label`.
    pub(crate) fn push(&self, weights: &Weights, label: &str) -> Result<(), Fault> {
        match (weights, self.config.backend) {
            (Weights::AsStarted, _) => Ok(()),
            (Weights::Adapter(path, name), Backend::Vllm) => self.vllm_adapter(path, name),
            (Weights::Adapter(path, name), Backend::Sglang) => self.sglang_adapter(path, name),
            (Weights::Folder(path), Backend::Vllm) => self.vllm_folder(path, label),
            (Weights::Folder(path), Backend::Sglang) => self.sglang_folder(path, label),
        }
    }

    /// Whether the server still has what was pushed to it; one that was started again has not.
    /// `None` where it does not say.
    pub(crate) fn has(&self, weights: &Weights, label: &str) -> Result<Option<bool>, Fault> {
        let labelled = |path| Ok(Some(self.get(path)?["weight_version"] == label));
        match (weights, self.config.backend) {
            (Weights::AsStarted, _) => Ok(Some(true)),
            (Weights::Adapter(_, name), Backend::Vllm) => Ok(Some(
                (self.get("/v1/models")?["data"].as_array())
                    .is_some_and(|models| models.iter().any(|model| model["id"] == **name)),
            )),
            (Weights::Adapter(..), Backend::Sglang) => Ok(None),
            (Weights::Folder(_), Backend::Vllm) => labelled("/weight_info"),
            (Weights::Folder(_), Backend::Sglang) => labelled("/get_model_info"),
        }
    }

    /// Takes an adapter away. A server that does not know it is as good.
    pub(crate) fn unload(&self, name: &str) -> Result<(), Fault> {
        let path = match self.config.backend {
            Backend::Vllm => "/v1/unload_lora_adapter",
            Backend::Sglang => "/unload_lora_adapter",
        };
        match self.post(path, Some(&json!({ "lora_name": name }))) {
            Err(Fault::Status {
                status: 400 | 404, ..
            }) => Ok(()),
            other => other.map(drop),
        }
    }

    fn vllm_adapter(&self, path: &Path, name: &str) -> Result<(), Fault> {
        let mut body = json!({ "lora_name": name, "lora_path": path });
        let route = "/v1/load_lora_adapter";
        match self.post_slowly(route, Some(&body)) {
            // Left by an earlier run, or by a try of which only the answer was lost. Unloading
            // first would leave its prefix cache under the same name.
            Err(Fault::Status {
                status: 400,
                message,
                ..
            }) if message.contains("already") => {
                body["load_inplace"] = json!(true);
                self.post_slowly(route, Some(&body)).map(drop)
            }
            other => other.map(drop),
        }
    }

    fn sglang_adapter(&self, path: &Path, name: &str) -> Result<(), Fault> {
        let body = json!({ "lora_name": name, "lora_path": path, "pinned": false });
        let load = || self.succeeded("/load_lora_adapter", Some(&body));
        match load() {
            Err(Fault::Status { message, .. } | Fault::Body(message))
                if message.contains("already") =>
            {
                self.unload(name)?;
                load()
            }
            other => other,
        }
    }

    fn vllm_folder(&self, path: &Path, label: &str) -> Result<(), Fault> {
        self.post_slowly("/pause?mode=abort", None)?;
        let reloaded = self.vllm_reload(path, label);
        // A server that stays paused answers nobody; one that resumes shows what is wrong with it.
        reloaded.and(self.post("/resume", None).map(drop))
    }

    fn vllm_reload(&self, path: &Path, label: &str) -> Result<(), Fault> {
        let body = json!({ "method": "reload_weights", "kwargs": { "weights_path": path } });
        self.post_slowly("/collective_rpc", Some(&body))?;
        // Keys and values of the old weights would answer prompts that were seen before.
        self.succeeded("/reset_prefix_cache", None)?;
        let label = json!({ "new_version": label });
        self.succeeded("/update_weight_version", Some(&label))
    }

    fn sglang_folder(&self, path: &Path, label: &str) -> Result<(), Fault> {
        let body = json!({
            "model_path": path,
            "load_format": "auto",
            "abort_all_requests": true,
            "weight_version": label,
            "flush_cache": true,
            "keep_pause": false,
        });
        self.succeeded("/update_weights_from_disk", Some(&body))
    }

    /// Status 200 alone is no success where the answer has a field of that name.
    fn succeeded(&self, path: &str, body: Option<&Value>) -> Result<(), Fault> {
        let text = self.post_slowly(path, body)?;
        let reply: Value = parse(&text)?;
        if reply["success"] == true {
            return Ok(());
        }
        let words = reply.get("message").or_else(|| reply.get("error_message"));
        let words = words.and_then(Value::as_str).unwrap_or(&text);
        Err(Fault::Body(format!("{path} did not succeed: {words}")))
    }
}
