//! `config.json`, read.

mod layers;
mod refuse;
mod rope;

use std::path::Path;

use serde_json::Value;

use self::layers::{delta_net, experts, layers};
use self::refuse::{refuse_generation, refuse_rotations, refuse_unsupported};
use self::rope::ropes;
use super::fields::Fields;
use crate::error::Result;
use crate::hf::files::read_json;
use crate::model::config::{Architecture, DecoderConfig, RopeScaling};
use crate::model::dtype::DType;

impl DecoderConfig {
    /// Reads `config.json`.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io), [`Error::File`](crate::Error::File) if it is not JSON, [`Error::Config`](crate::Error::Config) with the name of a
    /// field that is missing, malformed or unsupported.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        Self::from_json(&read_json(path)?, path)
    }

    /// Reads a parsed `config.json`; `path` serves error messages only. Of a model that also sees images
    /// (Qwen3.5, Gemma 3, Mistral 3) it is the half that reads and writes text.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config), as [`from_file`](Self::from_file).
    pub fn from_json(value: &Value, path: &Path) -> Result<Self> {
        let text = text_half(value);
        let f = match &text {
            Some(text) => Fields::new(text, path, "text_config.")?,
            None => Fields::new(value, path, "")?,
        };
        let name = f.str("model_type")?;
        let name = name.ok_or_else(|| f.error("model_type", "missing"))?;
        let architecture = Architecture::of_model_type(name).ok_or_else(|| {
            let supported = Architecture::model_types().join(", ");
            let what = format!("`{name}` is not supported; supported are {supported}");
            f.error("model_type", what)
        })?;
        refuse_unsupported(&f, architecture)?;
        let hidden_size = f.size("hidden_size", None)?;
        // Gemma 3's larger files leave out what is their class's default.
        let is_gemma3 = architecture == Architecture::Gemma3;
        let num_attention_heads = f.size("num_attention_heads", is_gemma3.then_some(8))?;
        // What transformers takes where the file says nothing.
        let (default_kv_heads, takes_null) = match architecture {
            Architecture::Qwen2 | Architecture::Qwen3 => (32, true),
            Architecture::Llama
            | Architecture::Granite
            | Architecture::GraniteMoeHybrid
            | Architecture::Phi3 => (num_attention_heads, true),
            Architecture::SmolLm3 => (4, true),
            Architecture::Gemma3 | Architecture::Qwen3Moe | Architecture::Qwen35 => (4, false),
            Architecture::Ministral3 | Architecture::Mistral => (8, false),
        };
        let num_key_value_heads = match f.usize("num_key_value_heads")? {
            Some(heads) => heads,
            None if !f.map.contains_key("num_key_value_heads") => default_kv_heads,
            None => {
                let what = "null is not supported; give a number";
                f.ensure(takes_null, "num_key_value_heads", what)?;
                num_attention_heads
            }
        };
        let divides = num_attention_heads.checked_rem(num_key_value_heads) == Some(0);
        let what = format!(
            "{num_key_value_heads} does not divide num_attention_heads = {num_attention_heads}"
        );
        f.ensure(divides, "num_key_value_heads", what)?;
        let head_dim = match (f.usize("head_dim")?, architecture) {
            (Some(d), _) => d,
            (None, Architecture::Qwen3 | Architecture::Ministral3) => 128,
            (None, Architecture::Gemma3 | Architecture::Qwen35) => 256,
            (None, _) => hidden_size / num_attention_heads,
        };
        let what = format!("{head_dim} is not a positive even number");
        f.ensure(head_dim > 0 && head_dim % 2 == 0, "head_dim", what)?;
        let attention_bias = f.bool("attention_bias")?.unwrap_or(false);
        let has_no_bias = matches!(
            architecture,
            Architecture::Phi3 | Architecture::Ministral3 | Architecture::Mistral
        );
        let what = "the family has no biases";
        f.ensure(!(attention_bias && has_no_bias), "attention_bias", what)?;
        let has_mlp_bias = matches!(
            architecture,
            Architecture::Llama | Architecture::SmolLm3 | Architecture::Granite
        );
        let num_hidden_layers = f.required("num_hidden_layers")?;
        let granite = matches!(
            architecture,
            Architecture::Granite | Architecture::GraniteMoeHybrid
        );
        let multiplier = |field: &str| -> Result<f64> {
            let given = granite.then(|| f.f64(field)).transpose()?;
            let value = given.flatten().unwrap_or(1.0);
            let what = format!("expected a number other than 0, got {value}");
            f.ensure(value.is_finite() && value != 0.0, field, what)?;
            Ok(value)
        };
        let intermediate = match architecture {
            Architecture::GraniteMoeHybrid => "shared_intermediate_size",
            _ => "intermediate_size",
        };
        let (rope, local_rope) = ropes(&f, architecture)?;
        let config =
            Self {
                architecture,
                vocab_size: f.size("vocab_size", is_gemma3.then_some(262_208))?,
                hidden_size,
                intermediate_size: f.size(intermediate, None)?,
                num_hidden_layers,
                num_attention_heads,
                num_key_value_heads,
                head_dim,
                rms_norm_eps: f.f64("rms_norm_eps")?.unwrap_or(match architecture {
                    Architecture::Phi3 | Architecture::Ministral3 => 1e-5,
                    _ => 1e-6,
                }),
                rope,
                local_rope,
                layers: layers(&f, architecture, num_hidden_layers)?,
                experts: match architecture {
                    Architecture::Qwen3Moe => Some(experts(&f)?),
                    _ => None,
                },
                delta_net: match architecture {
                    Architecture::Qwen35 => Some(delta_net(&f)?),
                    _ => None,
                },
                embedding_multiplier: match architecture {
                    Architecture::Gemma3 => (hidden_size as f64).sqrt(),
                    _ => multiplier("embedding_multiplier")?,
                },
                attention_multiplier: match architecture {
                    _ if granite => Some(multiplier("attention_multiplier")?),
                    Architecture::Gemma3 => {
                        let scalar = f.f64("query_pre_attn_scalar")?.unwrap_or(256.0);
                        let what = format!("expected a positive number, got {scalar}");
                        f.ensure(scalar > 0.0, "query_pre_attn_scalar", what)?;
                        Some(scalar.sqrt().recip())
                    }
                    _ => None,
                },
                residual_multiplier: multiplier("residual_multiplier")?,
                logits_scaling: multiplier("logits_scaling")?,
                tie_word_embeddings: f.bool("tie_word_embeddings")?.unwrap_or(matches!(
                    architecture,
                    Architecture::SmolLm3 | Architecture::Gemma3
                )),
                qkv_bias: attention_bias || architecture == Architecture::Qwen2,
                o_bias: attention_bias && architecture != Architecture::Qwen2,
                mlp_bias: has_mlp_bias && f.bool("mlp_bias")?.unwrap_or(false),
                max_position_embeddings: f
                    .usize("max_position_embeddings")?
                    .unwrap_or(if is_gemma3 { 131_072 } else { 2048 }),
                initializer_range: f.f64("initializer_range")?.unwrap_or(0.02),
                dtype: dtype(&f)?,
                bos_token_id: f.id("bos_token_id")?,
                eos_token_id: f.ids("eos_token_id")?,
                pad_token_id: f.id("pad_token_id")?,
            };
        refuse_rotations(&f, &config)?;
        let n = config.rope.rotated(head_dim);
        let what = format!("{n} of {head_dim} coordinates are turned, expected an even number");
        f.ensure(n > 0 && n.is_multiple_of(2), "partial_rotary_factor", what)?;
        if let RopeScaling::LongRope {
            short_factor,
            long_factor,
            ..
        } = &config.rope.scaling
        {
            for (field, factors) in [("short_factor", short_factor), ("long_factor", long_factor)] {
                let what = format!("{} factors, expected {}", factors.len(), n / 2);
                f.ensure(factors.len() == n / 2, field, what)?;
            }
        }
        Ok(config)
    }

    /// Takes over what `generation_config.json` says about the ends of a text, which is more than
    /// config.json says for chat models.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) for an id that is no id, and for a field by which transformers would
    /// draw other completions than any [`SamplingParams`](g2rpo_rollout::SamplingParams) here, such as
    /// `no_repeat_ngram_size`. What `SamplingParams` has, such as `temperature`, is theirs to say and not read.
    pub fn add_generation_config(&mut self, value: &Value, path: &Path) -> Result<()> {
        let f = Fields::new(value, path, "")?;
        refuse_generation(&f)?;
        let eos = f.ids("eos_token_id")?;
        if !eos.is_empty() {
            self.eos_token_id = eos;
        }
        self.bos_token_id = f.id("bos_token_id")?.or(self.bos_token_id);
        self.pad_token_id = f.id("pad_token_id")?.or(self.pad_token_id);
        Ok(())
    }

    /// Of a folder without `generation_config.json`: refuses what transformers takes from `config.json` instead.
    pub(crate) fn refuse_generation_in(value: &Value, path: &Path) -> Result<()> {
        let f = Fields::new(value, path, "")?;
        refuse_generation(&f)?;
        match f.object("text_config")? {
            Some(text) => refuse_generation(&text),
            None => Ok(()),
        }
    }
}

/// The part of a composite model's configuration that is about text, with what stands beside it for both.
fn text_half(value: &Value) -> Option<Value> {
    const COMPOSITE: [&str; 3] = ["qwen3_5", "gemma3", "mistral3"];
    if !COMPOSITE.contains(&value.get("model_type")?.as_str()?) {
        return None;
    }
    let mut text = value.get("text_config")?.clone();
    for field in ["dtype", "torch_dtype", "quantization_config"] {
        if text.get(field).is_none_or(Value::is_null) {
            text[field] = value.get(field).cloned().unwrap_or_default();
        }
    }
    // What ends a text is a setting of generation, for which the whole goes before its half.
    for field in ["bos_token_id", "eos_token_id", "pad_token_id"] {
        if let Some(ids) = value.get(field).filter(|ids| !ids.is_null()) {
            text[field] = ids.clone();
        }
    }
    // It is the whole that ties its embeddings or does not.
    if let Some(tied) = value.get("tie_word_embeddings") {
        text["tie_word_embeddings"] = tied.clone();
    }
    Some(text)
}

fn dtype(f: &Fields<'_>) -> Result<Option<DType>> {
    for field in ["dtype", "torch_dtype"] {
        if let Some(name) = f.str(field)? {
            let known = DType::of_name(name.trim_start_matches("torch."));
            let what = "is not supported; supported are float32, bfloat16 and float16";
            f.ensure(known.is_some(), field, format!("`{name}` {what}"))?;
            return Ok(known);
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests;
