//! The files in which PEFT keeps an adapter: `adapter_config.json` and
//! `adapter_model.safetensors`.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::{Value, json};
use tch::{Device, Kind, Tensor};

use crate::error::{Error, Result};
use crate::hf::fields::is_unused;
use crate::hf::files::{read_json, write_json};
use crate::hf::safetensors::{TensorFiles, save_safetensors};
use crate::model::config::DecoderConfig;
use crate::model::dtype::DType;
use crate::model::lora::{Adapter, LoraConfig};

/// What PEFT puts before the names of a causal language model's layers.
const PREFIX: &str = "base_model.model.";

impl Adapter {
    /// Writes the adapter as PEFT does, so that `PeftModel.from_pretrained(model, dir)` opens it.
    /// `base_model` is the name or folder of the model it belongs to; PEFT's `AutoPeftModel`
    /// loads that one.
    ///
    /// # Errors
    /// [`Error::Io`] with the file; [`Error::Invalid`] if the matrices are not 16- or 32-bit
    /// floats.
    pub fn save(&self, dir: impl AsRef<Path>, base_model: Option<&str>) -> Result<()> {
        let dir = dir.as_ref();
        let names: Vec<String> = (self.parameters.specs().iter())
            .map(|spec| format!("{PREFIX}{}", spec.name))
            .collect();
        let tensors: Vec<(&str, &Tensor)> = (names.iter().map(String::as_str))
            .zip(self.parameters.tensors())
            .collect();
        let dtype = DType::from_kind(self.parameters.kind())?;
        save_safetensors(&dir.join("adapter_model.safetensors"), &tensors, dtype)?;
        let mut config = self.config.to_peft(base_model);
        if self.config.target_modules == ["all-linear"] {
            // As PEFT writes them: what its "all-linear" means depends on versions and on the model.
            let names = self
                .modules()
                .iter()
                .filter_map(|name| name.rsplit('.').next());
            config["target_modules"] = json!(names.collect::<BTreeSet<_>>());
        }
        write_json(&dir.join("adapter_config.json"), &config)
    }

    /// Reads an adapter that PEFT or [`save`](Self::save) wrote, for a model of this
    /// configuration. Dropout that the adapter was trained with is not applied.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::File`] for a file that is malformed; [`Error::Config`] naming a
    /// field that this crate does not support (other kinds of adapters, `DoRA`, trained biases or
    /// whole modules, ranks that differ by layer); [`Error::MissingTensor`],
    /// [`Error::ExtraTensor`] or [`Error::TensorShape`] with the tensor's name.
    pub fn load(
        dir: impl AsRef<Path>,
        model: &DecoderConfig,
        kind: Kind,
        device: Device,
    ) -> Result<Self> {
        let dir = dir.as_ref();
        let path = dir.join("adapter_config.json");
        let config = LoraConfig::from_peft(&read_json(&path)?, &path)?;
        let mut adapter = Self::zeros(model, &config, kind, device)?;
        let files = TensorFiles::open_file(&dir.join("adapter_model.safetensors"))?;
        files.read_into(&mut adapter.parameters, PREFIX, |_| false)?;
        Ok(adapter)
    }
}

impl LoraConfig {
    /// `adapter_config.json`, with the fields that PEFT needs to build the same adapter.
    fn to_peft(&self, base_model: Option<&str>) -> Value {
        json!({
            "base_model_name_or_path": base_model,
            "bias": "none",
            "fan_in_fan_out": false,
            "inference_mode": true,
            "init_lora_weights": true,
            "lora_alpha": self.lora_alpha,
            "lora_dropout": 0.0,
            "modules_to_save": null,
            "peft_type": "LORA",
            "r": self.r,
            "target_modules": self.target_modules,
            "task_type": "CAUSAL_LM",
            "use_dora": false,
            "use_rslora": self.use_rslora,
        })
    }

    fn from_peft(value: &Value, path: &Path) -> Result<Self> {
        let error = |field: &str, what: String| Error::Config {
            path: path.into(),
            field: field.into(),
            what,
        };
        let malformed = |field: &str, expected: &str| {
            error(field, format!("expected {expected}, got {}", value[field]))
        };
        if value["peft_type"] != "LORA" {
            return Err(malformed("peft_type", "\"LORA\", the only kind supported"));
        }
        // Fields that change what an adapter computes, and that this crate does not have. Absent
        // and null, like false and empty, mean that they are not used.
        for field in [
            "alora_invocation_tokens",
            "alpha_pattern",
            "exclude_modules",
            "fan_in_fan_out",
            "layer_replication",
            "layers_to_transform",
            "lora_bias",
            "modules_to_save",
            "rank_pattern",
            "target_parameters",
            "trainable_token_indices",
            "use_bdlora",
            "use_dora",
            "use_qalora",
        ] {
            if !is_unused(&value[field]) {
                return Err(error(field, format!("{} is not supported", value[field])));
            }
        }
        if !(value["bias"].is_null() || value["bias"] == "none") {
            return Err(malformed("bias", "\"none\", the only choice supported"));
        }
        let targets = match &value["target_modules"] {
            Value::String(all) if all == "all-linear" => Some(vec![all.clone()]),
            Value::Array(names) => names
                .iter()
                .map(|n| n.as_str().map(str::to_owned))
                .collect(),
            _ => None,
        };
        let rank = value["r"].as_u64().filter(|&r| r > 0);
        let config = Self {
            r: rank.ok_or_else(|| malformed("r", "a whole number above 0"))? as usize,
            lora_alpha: (value["lora_alpha"].as_f64())
                .ok_or_else(|| malformed("lora_alpha", "a number"))?,
            use_rslora: value["use_rslora"] == true,
            target_modules: targets
                .ok_or_else(|| malformed("target_modules", "a list of names or \"all-linear\""))?,
        };
        config.validate()?;
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::says;

    fn model() -> DecoderConfig {
        DecoderConfig::tiny_qwen3(13, 16, 2, 2, 1)
    }

    fn config() -> LoraConfig {
        LoraConfig {
            r: 3,
            lora_alpha: 5.0,
            use_rslora: true,
            target_modules: vec!["q_proj".into(), "mlp.down_proj".into()],
        }
    }

    #[test]
    fn what_is_not_supported_is_named() {
        let path = Path::new("adapter_config.json");
        let whole = config().to_peft(None);
        assert_eq!(LoraConfig::from_peft(&whole, path).unwrap(), config());
        for (field, value, message) in [
            ("peft_type", json!("IA3"), "expected \"LORA\""),
            ("use_dora", json!(true), "true is not supported"),
            ("rank_pattern", json!({"q_proj": 4}), "{"),
            ("bias", json!("all"), "expected \"none\""),
            ("target_modules", json!(".*proj"), "expected a list"),
            ("r", json!(0), "expected a whole number above 0, got 0"),
            ("lora_alpha", Value::Null, "expected a number, got null"),
        ] {
            let mut changed = whole.clone();
            changed[field] = value;
            let expected = format!("adapter_config.json: field `{field}`: {message}…");
            says(LoraConfig::from_peft(&changed, path), &expected);
        }
    }

    #[test]
    fn an_adapter_of_another_model_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let adapter = Adapter::new(&model(), &config(), Kind::Float, Device::Cpu).unwrap();
        adapter.save(dir.path(), None).unwrap();
        for (hidden_size, layers, expected) in [
            (16, 1, "…`base_model.model.model.layers.1.…"),
            (32, 2, "…has shape [3, 16]…"),
            (16, 3, "…layers.2.…is missing"),
        ] {
            let model = DecoderConfig::tiny_qwen3(13, hidden_size, layers, 2, 1);
            let loaded = Adapter::load(dir.path(), &model, Kind::Float, Device::Cpu);
            says(loaded, expected);
        }
    }
}
