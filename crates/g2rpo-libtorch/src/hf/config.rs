//! `config.json`, read.

use std::path::Path;

use serde_json::Value;

use super::fields::Fields;
use crate::error::Result;
use crate::hf::files::read_json;
use crate::model::config::{
    Activation, Architecture, DType, DecoderConfig, ExpertsConfig, LayerRope, LayerSpec,
    QueryGrowth, RopeConfig, RopeScaling,
};

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

    /// Reads a parsed `config.json`; `path` serves error messages only.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config), as [`from_file`](Self::from_file).
    pub fn from_json(value: &Value, path: &Path) -> Result<Self> {
        let f = Fields::new(value, path, "")?;
        let name = f.str("model_type")?;
        let name = name.ok_or_else(|| f.error("model_type", "missing"))?;
        let architecture = Architecture::of_model_type(name).ok_or_else(|| {
            let supported: Vec<&str> = Architecture::model_types().collect();
            f.error(
                "model_type",
                format!(
                    "`{name}` is not supported; supported are {}",
                    supported.join(", ")
                ),
            )
        })?;
        refuse_unsupported(&f, architecture)?;
        let (hidden_size, num_attention_heads) = (
            f.required("hidden_size")?,
            f.required("num_attention_heads")?,
        );
        // What transformers takes where the file says nothing.
        let default_kv_heads = match architecture {
            Architecture::Qwen2 | Architecture::Qwen3 => 32,
            Architecture::Llama
            | Architecture::Granite
            | Architecture::GraniteMoeHybrid
            | Architecture::Phi3 => num_attention_heads,
            Architecture::SmolLm3 | Architecture::Gemma3 | Architecture::Qwen3Moe => 4,
            Architecture::Ministral3 => 8,
        };
        let num_key_value_heads = f.usize("num_key_value_heads")?.unwrap_or(default_kv_heads);
        if num_attention_heads == 0
            || num_key_value_heads == 0
            || num_attention_heads % num_key_value_heads != 0
        {
            return Err(f.error(
                "num_key_value_heads",
                format!("{num_key_value_heads} does not divide num_attention_heads = {num_attention_heads}"),
            ));
        }
        let head_dim = match (f.usize("head_dim")?, architecture) {
            (Some(d), _) => d,
            (None, Architecture::Qwen3 | Architecture::Ministral3) => 128,
            (None, Architecture::Gemma3) => 256,
            (None, _) => hidden_size / num_attention_heads,
        };
        if head_dim == 0 || head_dim % 2 != 0 {
            return Err(f.error(
                "head_dim",
                format!("{head_dim} is not a positive even number"),
            ));
        }
        let attention_bias = f.bool("attention_bias")?.unwrap_or(false);
        if attention_bias && matches!(architecture, Architecture::Phi3 | Architecture::Ministral3) {
            return Err(f.error("attention_bias", "the family has no biases"));
        }
        let has_mlp_bias = matches!(
            architecture,
            Architecture::Llama | Architecture::SmolLm3 | Architecture::Granite
        );
        let num_hidden_layers = f.required("num_hidden_layers")?;
        let multiplier = |field: &str| -> Result<f64> {
            let value = f.f64(field)?.unwrap_or(1.0);
            if value.is_finite() && value != 0.0 {
                return Ok(value);
            }
            Err(f.error(
                field,
                format!("expected a number other than 0, got {value}"),
            ))
        };
        let granite = matches!(
            architecture,
            Architecture::Granite | Architecture::GraniteMoeHybrid
        );
        let gemma3 = architecture == Architecture::Gemma3;
        let (rope, local_rope) = ropes(&f, architecture)?;
        let config = Self {
            architecture,
            vocab_size: f.required("vocab_size")?,
            hidden_size,
            intermediate_size: f.required(match architecture {
                Architecture::GraniteMoeHybrid => "shared_intermediate_size",
                _ => "intermediate_size",
            })?,
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
            embedding_multiplier: match architecture {
                _ if granite => multiplier("embedding_multiplier")?,
                Architecture::Gemma3 => (hidden_size as f64).sqrt(),
                _ => 1.0,
            },
            attention_multiplier: match architecture {
                _ if granite => Some(multiplier("attention_multiplier")?),
                Architecture::Gemma3 => {
                    let scalar = f.f64("query_pre_attn_scalar")?.unwrap_or(256.0);
                    if scalar <= 0.0 {
                        let what = format!("expected a positive number, got {scalar}");
                        return Err(f.error("query_pre_attn_scalar", what));
                    }
                    Some(scalar.sqrt().recip())
                }
                _ => None,
            },
            residual_multiplier: if granite {
                multiplier("residual_multiplier")?
            } else {
                1.0
            },
            logits_scaling: if granite {
                multiplier("logits_scaling")?
            } else {
                1.0
            },
            tie_word_embeddings: f.bool("tie_word_embeddings")?.unwrap_or(matches!(
                architecture,
                Architecture::SmolLm3 | Architecture::Gemma3
            )),
            qkv_bias: attention_bias || architecture == Architecture::Qwen2,
            o_bias: attention_bias && architecture != Architecture::Qwen2,
            mlp_bias: has_mlp_bias && f.bool("mlp_bias")?.unwrap_or(false),
            max_position_embeddings: f.usize("max_position_embeddings")?.unwrap_or(if gemma3 {
                131_072
            } else {
                2048
            }),
            initializer_range: f.f64("initializer_range")?.unwrap_or(0.02),
            dtype: dtype(&f)?,
            bos_token_id: f.ids("bos_token_id")?.first().copied(),
            eos_token_id: f.ids("eos_token_id")?,
            pad_token_id: f.ids("pad_token_id")?.first().copied(),
        };
        for (field, value) in [
            ("vocab_size", config.vocab_size),
            ("hidden_size", config.hidden_size),
            ("intermediate_size", config.intermediate_size),
        ] {
            if value == 0 {
                return Err(f.error(field, "0 is not a size"));
            }
        }
        refuse_rotations(&f, &config)?;
        let n = config.rope.rotated(head_dim);
        if n == 0 || !n.is_multiple_of(2) {
            let what = format!("{n} of {head_dim} coordinates are turned, expected an even number");
            return Err(f.error("partial_rotary_factor", what));
        }
        if let RopeScaling::LongRope {
            short_factor,
            long_factor,
            ..
        } = &config.rope.scaling
        {
            for (field, factors) in [("short_factor", short_factor), ("long_factor", long_factor)] {
                if factors.len() != n / 2 {
                    let what = format!("{} factors, expected {}", factors.len(), n / 2);
                    return Err(f.error(field, what));
                }
            }
        }
        Ok(config)
    }

    /// Takes over what `generation_config.json` says about the ends of a text, which is more than
    /// config.json says for chat models.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) for an id that is no id.
    pub fn add_generation_config(&mut self, value: &Value, path: &Path) -> Result<()> {
        let f = Fields::new(value, path, "")?;
        let eos = f.ids("eos_token_id")?;
        if !eos.is_empty() {
            self.eos_token_id = eos;
        }
        self.bos_token_id = f
            .ids("bos_token_id")?
            .first()
            .copied()
            .or(self.bos_token_id);
        self.pad_token_id = f
            .ids("pad_token_id")?
            .first()
            .copied()
            .or(self.pad_token_id);
        Ok(())
    }
}

/// The rotations of full layers and, for Gemma 3, of those with a window, wherever the file puts
/// their base: `rope_scaling` (transformers 4) goes before `rope_parameters` (5), and what the object
/// leaves out stands at the top level.
fn ropes(f: &Fields<'_>, architecture: Architecture) -> Result<(RopeConfig, Option<RopeConfig>)> {
    let (default, local_default) = match architecture {
        Architecture::SmolLm3 => (2_000_000.0, None),
        Architecture::Gemma3 => (1_000_000.0, Some(10_000.0)),
        _ => (10_000.0, None),
    };
    let parameters = f.object("rope_parameters")?;
    let old = f.object("rope_scaling")?.filter(|old| !old.map.is_empty());
    let nested = |key: &str| -> Result<Option<Fields<'_>>> {
        (parameters.as_ref()).map_or(Ok(None), |p| p.object(key))
    };
    let full = match (old, nested("full_attention")?) {
        (Some(old), _) => Some(old),
        (None, Some(full)) => Some(full),
        (None, None) => f.object("rope_parameters")?,
    };
    if full.is_none() && architecture == Architecture::Ministral3 {
        return Err(f.error("rope_parameters", "missing"));
    }
    let theta = f.f64("rope_theta")?.unwrap_or(default);
    let rope = RopeConfig::from_fields(full.as_ref(), theta, f)?;
    let Some(local_default) = local_default else {
        return Ok((rope, None));
    };
    let theta = f.f64("rope_local_base_freq")?.unwrap_or(local_default);
    let local = RopeConfig::from_fields(nested("sliding_attention")?.as_ref(), theta, f)?;
    Ok((rope, Some(local)))
}

impl RopeConfig {
    fn from_fields(rope: Option<&Fields<'_>>, theta: f64, top: &Fields<'_>) -> Result<Self> {
        let field = "partial_rotary_factor";
        let given = rope.map_or(Ok(None), |rope| rope.f64(field))?;
        let factor = given.or(top.f64(field)?).unwrap_or(1.0);
        if !(factor > 0.0 && factor <= 1.0) {
            return Err(top.error(field, format!("expected a number in (0, 1], got {factor}")));
        }
        let plain = Self {
            partial_rotary_factor: factor,
            ..Self::new(theta)
        };
        let Some(rope) = rope else {
            return Ok(plain);
        };
        Ok(Self {
            theta: rope.f64("rope_theta")?.unwrap_or(theta),
            scaling: RopeScaling::from_fields(rope, top)?,
            query_growth: match rope.f64("llama_4_scaling_beta")? {
                Some(beta) => Some(QueryGrowth {
                    beta,
                    original: original_length(rope, top)?,
                }),
                None => None,
            },
            ..plain
        })
    }
}

/// The context length before stretching, wherever the file puts it.
fn original_length(f: &Fields<'_>, top: &Fields<'_>) -> Result<f64> {
    let field = "original_max_position_embeddings";
    let value = top.f64(field)?.or(f.f64(field)?);
    match value.or(top.f64("max_position_embeddings")?) {
        Some(value) if value >= 1.0 => Ok(value),
        Some(value) => Err(f.error(field, format!("expected a length, got {value}"))),
        None => Err(f.error(field, "missing")),
    }
}

impl RopeScaling {
    fn from_fields(f: &Fields<'_>, top: &Fields<'_>) -> Result<Self> {
        let (field, kind) = match f.str("rope_type")? {
            Some(kind) => ("rope_type", kind),
            None => ("type", f.str("type")?.unwrap_or("default")),
        };
        let needed = |name| f.f64(name)?.ok_or_else(|| f.error(name, "missing"));
        // By which the context grows, and what was given for what the scores grow by.
        let growth = |original: f64| -> Result<f64> {
            let longest = top.f64("max_position_embeddings")?;
            match (f.f64("factor")?, longest) {
                (Some(factor), _) => Ok(factor),
                (None, Some(longest)) => Ok(nine_digits(longest / original)),
                (None, None) => Err(f.error("factor", "missing")),
            }
        };
        match kind {
            "default" => Ok(Self::None),
            "linear" => Ok(Self::Linear {
                factor: needed("factor")?,
            }),
            "llama3" => Ok(Self::Llama3 {
                factor: needed("factor")?,
                low_freq_factor: needed("low_freq_factor")?,
                high_freq_factor: needed("high_freq_factor")?,
                original_max_position_embeddings: original_length(f, top)?,
            }),
            "yarn" => {
                let original = original_length(f, top)?;
                let factor = growth(original)?;
                let scale = |m: f64| match factor <= 1.0 {
                    true => 1.0,
                    false => 0.1 * m * factor.ln() + 1.0,
                };
                let not_zero = |x: Option<f64>| x.filter(|&x| x != 0.0);
                let inferred = match (
                    not_zero(f.f64("mscale")?),
                    not_zero(f.f64("mscale_all_dim")?),
                ) {
                    (Some(m), Some(all)) => scale(m) / scale(all),
                    _ => scale(1.0),
                };
                Ok(Self::Yarn {
                    factor,
                    beta_fast: not_zero(f.f64("beta_fast")?).unwrap_or(32.0),
                    beta_slow: not_zero(f.f64("beta_slow")?).unwrap_or(1.0),
                    original_max_position_embeddings: original,
                    attention_factor: (f.f64("attention_factor")?).unwrap_or(nine_digits(inferred)),
                    truncate: f.bool("truncate")?.unwrap_or(true),
                })
            }
            "longrope" | "su" => {
                let original = original_length(f, top)?;
                let factor = growth(original)?;
                let inferred = match factor <= 1.0 {
                    true => 1.0,
                    false => (1.0 + factor.ln() / original.ln()).sqrt(),
                };
                let factors = |name| f.numbers(name)?.ok_or_else(|| f.error(name, "missing"));
                Ok(Self::LongRope {
                    short_factor: factors("short_factor")?,
                    long_factor: factors("long_factor")?,
                    original_max_position_embeddings: original,
                    attention_factor: (f.f64("attention_factor")?).unwrap_or(nine_digits(inferred)),
                })
            }
            other => Err(f.error(
                field,
                format!(
                    "`{other}` is not supported; supported are default, linear, llama3, yarn and \
                     longrope"
                ),
            )),
        }
    }
}

/// A number as a decimal that any parser reads back; of more digits than f32 has, in which it is used.
fn nine_digits(x: f64) -> f64 {
    format!("{x:.8e}").parse().unwrap_or(x)
}

/// Refuses kinds of rotations that transformers does not have in the family.
fn refuse_rotations(f: &Fields<'_>, config: &DecoderConfig) -> Result<()> {
    let phi3 = config.architecture == Architecture::Phi3;
    let factor = config.rope.partial_rotary_factor;
    if factor != 1.0 && !phi3 {
        let what = format!("{factor} is not supported, only 1");
        return Err(f.error("partial_rotary_factor", what));
    }
    let fits = matches!(
        config.rope.scaling,
        RopeScaling::None | RopeScaling::LongRope { .. }
    );
    if phi3 && !fits {
        return Err(f.error("rope_type", "phi3 has default and longrope only"));
    }
    if config.rope.query_growth.is_some() && config.architecture != Architecture::Ministral3 {
        return Err(f.error("llama_4_scaling_beta", "only ministral3 has it"));
    }
    Ok(())
}

/// Layers with experts, and what these are.
fn experts(f: &Fields<'_>) -> Result<ExpertsConfig> {
    // transformers 5 writes the one, 4 wrote the other.
    let count = match f.usize("num_local_experts")? {
        Some(count) => count,
        None => f.usize("num_experts")?.unwrap_or(128),
    };
    let config = ExpertsConfig {
        num_experts: count,
        num_experts_per_tok: f.usize("num_experts_per_tok")?.unwrap_or(8),
        intermediate_size: f.usize("moe_intermediate_size")?.unwrap_or(768),
        norm_topk_prob: f.bool("norm_topk_prob")?.unwrap_or(false),
    };
    if config.num_experts_per_tok == 0 || config.num_experts_per_tok > count {
        let what = format!("{} of {count} experts", config.num_experts_per_tok);
        return Err(f.error("num_experts_per_tok", what));
    }
    if config.intermediate_size == 0 {
        return Err(f.error("moe_intermediate_size", "0 is not a size"));
    }
    Ok(config)
}

/// What is special about each layer: windows, and layers without rotations.
fn layers(f: &Fields<'_>, architecture: Architecture, n: usize) -> Result<Vec<LayerSpec>> {
    let mut layers = vec![LayerSpec::default(); n];
    match architecture {
        Architecture::SmolLm3 => {
            let every = f.usize("no_rope_layer_interval")?.unwrap_or(4).max(1);
            let given = f.list("no_rope_layers", n)?;
            for (i, layer) in layers.iter_mut().enumerate() {
                let rotated = match &given {
                    Some(given) => match given[i].as_u64() {
                        Some(flag @ 0..=1) => flag == 1,
                        _ => {
                            return Err(
                                f.error("no_rope_layers", format!("{} is no flag", given[i]))
                            );
                        }
                    },
                    None => (i + 1) % every != 0,
                };
                if !rotated {
                    layer.rope = LayerRope::None;
                }
            }
            if f.bool("use_sliding_window")? == Some(true)
                && let Some(window) = f.usize("sliding_window")?
            {
                let types = f.list("layer_types", n)?;
                for (i, layer) in layers.iter_mut().enumerate() {
                    let slides = match &types {
                        Some(types) => slides(f, types[i])?,
                        None => layer.rope == LayerRope::None,
                    };
                    layer.window = slides.then_some(window);
                }
            }
        }
        Architecture::Gemma3 => {
            let window = f.usize("sliding_window")?.unwrap_or(4096);
            let every = f.usize("sliding_window_pattern")?.unwrap_or(6).max(1);
            let types = f.list("layer_types", n)?;
            for (i, layer) in layers.iter_mut().enumerate() {
                let slides = match &types {
                    Some(types) => slides(f, types[i])?,
                    None => (i + 1) % every != 0,
                };
                if slides {
                    (layer.rope, layer.window) = (LayerRope::Local, Some(window));
                }
            }
        }
        Architecture::Qwen3Moe => {
            let every = f.usize("decoder_sparse_step")?.unwrap_or(1).max(1);
            let plain = f.list("mlp_only_layers", 0)?.unwrap_or_default();
            let plain: Vec<Option<u64>> = plain.into_iter().map(Value::as_u64).collect();
            for (i, layer) in layers.iter_mut().enumerate() {
                layer.experts = (i + 1) % every == 0 && !plain.contains(&Some(i as u64));
            }
        }
        Architecture::GraniteMoeHybrid => {
            let types = f.list("layer_types", n)?;
            let types = types.ok_or_else(|| f.error("layer_types", "missing"))?;
            let attends = |t: &&&Value| matches!(t.as_str(), Some("full_attention" | "attention"));
            if let Some(other) = types.iter().find(|t| !attends(t)) {
                let what = format!("{other} is not supported, only full_attention");
                return Err(f.error("layer_types", what));
            }
            match f.str("position_embedding_type")? {
                Some("rope") => {}
                None | Some("nope") => layers.iter_mut().for_each(|l| l.rope = LayerRope::None),
                Some(other) => {
                    let what = format!("`{other}` is not supported, only rope and nope");
                    return Err(f.error("position_embedding_type", what));
                }
            }
        }
        Architecture::Phi3 | Architecture::Ministral3 => {
            let window = f.usize("sliding_window")?;
            layers.iter_mut().for_each(|layer| layer.window = window);
        }
        _ => {}
    }
    if layers.iter().any(|layer| layer.window == Some(0)) {
        return Err(f.error("sliding_window", "a position sees itself at least, got 0"));
    }
    while layers.last() == Some(&LayerSpec::default()) {
        layers.pop();
    }
    Ok(layers)
}

fn slides(f: &Fields<'_>, kind: &Value) -> Result<bool> {
    match kind.as_str() {
        Some("sliding_attention") => Ok(true),
        Some("full_attention") => Ok(false),
        _ => Err(f.error(
            "layer_types",
            format!("{kind} is not supported, only full_attention and sliding_attention"),
        )),
    }
}

fn refuse_unsupported(f: &Fields<'_>, architecture: Architecture) -> Result<()> {
    let (field, supported) = match architecture.block().activation {
        Activation::Silu => ("hidden_act", "silu"),
        Activation::GeluTanh => ("hidden_activation", "gelu_pytorch_tanh"),
    };
    if let Some(act) = f.str(field)?
        && act != supported
    {
        return Err(f.error(field, format!("`{act}` is not supported, only {supported}")));
    }
    if architecture == Architecture::Gemma3 {
        for field in ["final_logit_softcapping", "attn_logit_softcapping"] {
            if let Some(cap) = f.f64(field)? {
                return Err(f.error(field, format!("{cap} is not supported, only null")));
            }
        }
        if f.bool("use_bidirectional_attention")? == Some(true) {
            return Err(f.error(
                "use_bidirectional_attention",
                "attention to later positions is not supported",
            ));
        }
    }
    if f.bool("output_router_logits")? == Some(true) {
        return Err(f.error(
            "output_router_logits",
            "the routers' auxiliary loss is not supported, only false",
        ));
    }
    if architecture == Architecture::GraniteMoeHybrid {
        let experts = f.usize("num_local_experts")?.unwrap_or(8);
        if experts != 0 {
            let what =
                format!("{experts} experts beside the shared layer are not supported, only 0");
            return Err(f.error("num_local_experts", what));
        }
    } else if !matches!(architecture, Architecture::SmolLm3 | Architecture::Gemma3) {
        if f.bool("use_sliding_window")? == Some(true) {
            return Err(f.error(
                "use_sliding_window",
                "sliding-window attention is not supported",
            ));
        }
        if let Some(Value::Array(types)) = f.map.get("layer_types")
            && let Some(other) = types.iter().find(|t| t.as_str() != Some("full_attention"))
        {
            return Err(f.error(
                "layer_types",
                format!("{other} is not supported, only full_attention"),
            ));
        }
    }
    if f.object("quantization_config")?.is_some() {
        return Err(f.error(
            "quantization_config",
            "quantised checkpoints are not supported; use the bf16 or f32 one",
        ));
    }
    for field in ["attention_dropout", "resid_pdrop", "embd_pdrop"] {
        if let Some(p) = f.f64(field)?
            && p != 0.0
        {
            return Err(f.error(field, format!("{p} is not supported, only 0")));
        }
    }
    Ok(())
}

fn dtype(f: &Fields<'_>) -> Result<Option<DType>> {
    for field in ["dtype", "torch_dtype"] {
        if let Some(name) = f.str(field)? {
            return match name.trim_start_matches("torch.") {
                "float32" => Ok(Some(DType::F32)),
                "bfloat16" => Ok(Some(DType::Bf16)),
                "float16" => Ok(Some(DType::F16)),
                _ => Err(f.error(
                    field,
                    format!(
                        "`{name}` is not supported; supported are float32, bfloat16 and float16"
                    ),
                )),
            };
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::rope::Rope;
    use serde_json::json;
    use tch::{Device, Kind, Tensor};

    fn parse(value: Value) -> Result<DecoderConfig> {
        DecoderConfig::from_json(&value, Path::new("config.json"))
    }

    fn qwen3() -> Value {
        json!({
            "model_type": "qwen3", "vocab_size": 100, "hidden_size": 16, "intermediate_size": 24,
            "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
            "head_dim": 8, "tie_word_embeddings": true,
            "rope_parameters": {"rope_theta": 5e5, "rope_type": "default"}, "dtype": "bfloat16",
            "eos_token_id": [3, 4],
        })
    }

    #[test]
    fn both_generations_of_the_file_agree() {
        let mut old = qwen3();
        old.as_object_mut().unwrap().remove("rope_parameters");
        old.as_object_mut().unwrap().remove("dtype");
        old["rope_theta"] = json!(5e5);
        old["rope_scaling"] = Value::Null;
        old["torch_dtype"] = json!("bfloat16");
        let new = parse(qwen3()).unwrap();
        assert_eq!(new, parse(old).unwrap());
        assert_eq!(new.rope.theta, 5e5);
        assert_eq!(new.dtype, Some(DType::Bf16));
        assert_eq!(new.eos_token_id, [3, 4]);
    }

    #[test]
    fn what_is_written_reads_back() {
        let mut config = parse(qwen3()).unwrap();
        assert_eq!(parse(config.to_json()).unwrap(), config);
        config.rope.scaling = RopeScaling::Llama3 {
            factor: 8.0,
            low_freq_factor: 1.0,
            high_freq_factor: 4.0,
            original_max_position_embeddings: 8192.0,
        };
        config.architecture = Architecture::Llama;
        (config.qkv_bias, config.o_bias, config.mlp_bias) = (true, true, true);
        assert_eq!(parse(config.to_json()).unwrap(), config);
        config.architecture = Architecture::Qwen2;
        (config.o_bias, config.mlp_bias) = (false, false);
        assert_eq!(parse(config.to_json()).unwrap(), config);
    }

    #[test]
    fn refusals_name_the_field() {
        for (field, value, message) in [
            (
                "model_type",
                json!("mamba"),
                "config.json: field `model_type`: `mamba` is not supported; supported are llama, qwen2, qwen3, smollm3, granite, gemma3_text, qwen3_moe, granitemoehybrid, phi3, ministral3",
            ),
            (
                "model_type",
                Value::Null,
                "config.json: field `model_type`: missing",
            ),
            (
                "hidden_size",
                json!("16"),
                "config.json: field `hidden_size`: expected a whole number, got \"16\"",
            ),
            (
                "hidden_size",
                Value::Null,
                "config.json: field `hidden_size`: missing",
            ),
            (
                "num_key_value_heads",
                json!(3),
                "config.json: field `num_key_value_heads`: 3 does not divide num_attention_heads = 4",
            ),
            (
                "rope_parameters",
                json!({"rope_type": "dynamic"}),
                "config.json: field `rope_parameters.rope_type`: `dynamic` is not supported; supported are default, linear, llama3, yarn and longrope",
            ),
            (
                "rope_parameters",
                json!({"rope_type": "default", "partial_rotary_factor": 0.5}),
                "config.json: field `partial_rotary_factor`: 0.5 is not supported, only 1",
            ),
            (
                "rope_parameters",
                json!({"rope_type": "yarn"}),
                "config.json: field `rope_parameters.original_max_position_embeddings`: missing",
            ),
            (
                "output_router_logits",
                json!(true),
                "config.json: field `output_router_logits`: the routers' auxiliary loss is not supported, only false",
            ),
            (
                "rope_parameters",
                json!({"rope_type": "llama3"}),
                "config.json: field `rope_parameters.factor`: missing",
            ),
            (
                "rope_parameters",
                json!(7),
                "config.json: field `rope_parameters`: not a JSON object",
            ),
            (
                "use_sliding_window",
                json!(true),
                "config.json: field `use_sliding_window`: sliding-window attention is not supported",
            ),
            (
                "layer_types",
                json!(["full_attention", "sliding_attention"]),
                "config.json: field `layer_types`: \"sliding_attention\" is not supported, only full_attention",
            ),
            (
                "hidden_act",
                json!("gelu"),
                "config.json: field `hidden_act`: `gelu` is not supported, only silu",
            ),
            (
                "quantization_config",
                json!({"bits": 4}),
                "config.json: field `quantization_config`: quantised checkpoints are not supported; use the bf16 or f32 one",
            ),
            (
                "dtype",
                json!("int8"),
                "config.json: field `dtype`: `int8` is not supported; supported are float32, bfloat16 and float16",
            ),
            (
                "eos_token_id",
                json!([1, -1]),
                "config.json: field `eos_token_id`: expected an id or a list of ids, got [1,-1]",
            ),
            (
                "head_dim",
                json!(7),
                "config.json: field `head_dim`: 7 is not a positive even number",
            ),
            (
                "vocab_size",
                json!(0),
                "config.json: field `vocab_size`: 0 is not a size",
            ),
        ] {
            let mut config = qwen3();
            config[field] = value;
            assert_eq!(parse(config).unwrap_err().to_string(), message);
        }
    }

    #[test]
    fn what_a_family_cannot_have_is_refused_by_field_name() {
        let granite4 = json!({"model_type": "granitemoehybrid", "shared_intermediate_size": 24,
            "num_local_experts": 0, "layer_types": ["attention", "full_attention"]});
        let longrope = json!({"rope_type": "longrope", "short_factor": [1.0, 1.5], "long_factor": [2.0],
            "original_max_position_embeddings": 64, "factor": 2.0});
        let phi3 = json!({"model_type": "phi3", "head_dim": 4});
        let moe = json!({"model_type": "qwen3_moe", "num_local_experts": 4});
        let ministral3 = json!({"model_type": "ministral3"});
        for (family, field, value, message) in [
            (
                &granite4,
                "layer_types",
                json!(["attention", "mamba"]),
                "`layer_types`: \"mamba\" is not",
            ),
            (
                &granite4,
                "num_local_experts",
                json!(8),
                "`num_local_experts`: 8 experts beside",
            ),
            (
                &granite4,
                "position_embedding_type",
                json!("alibi"),
                "`position_embedding_type`: `alibi`",
            ),
            (
                &phi3,
                "rope_parameters",
                longrope,
                "`long_factor`: 1 factors, expected 2",
            ),
            (
                &phi3,
                "rope_parameters",
                json!({"rope_type": "linear", "factor": 2.0}),
                "`rope_type`: phi3",
            ),
            (
                &phi3,
                "partial_rotary_factor",
                json!(1.5),
                "`partial_rotary_factor`: expected a number in",
            ),
            (
                &phi3,
                "partial_rotary_factor",
                json!(0.8),
                "`partial_rotary_factor`: 3 of 4 coordinates",
            ),
            (
                &phi3,
                "resid_pdrop",
                json!(0.1),
                "`resid_pdrop`: 0.1 is not supported",
            ),
            (
                &phi3,
                "attention_bias",
                json!(true),
                "`attention_bias`: the family has no biases",
            ),
            (
                &moe,
                "num_experts_per_tok",
                json!(5),
                "`num_experts_per_tok`: 5 of 4 experts",
            ),
            (
                &ministral3,
                "rope_parameters",
                Value::Null,
                "`rope_parameters`: missing",
            ),
        ] {
            let mut config = qwen3();
            for (name, value) in family.as_object().unwrap() {
                config[name] = value.clone();
            }
            if family["model_type"] == "qwen3_moe" {
                config["num_experts_per_tok"] = json!(2);
            }
            assert!(parse(config.clone()).is_ok(), "{config}");
            config[field] = value;
            let error = parse(config).unwrap_err().to_string();
            assert!(error.contains(message), "{error}");
        }
    }

    #[test]
    fn parameters_are_counted() {
        // 100·16 embedding, and per layer 2·16 norms, (4+2+2)·8·16 qkv, 4·8·16 o, 2·8 head
        // norms, 3·16·24 feed-forward; 16 final norm.
        let config = parse(qwen3()).unwrap();
        assert_eq!(
            config.num_parameters(),
            1600 + 2 * (32 + 1024 + 512 + 16 + 1152) + 16
        );
    }

    /// `testdata/libtorch/rope.json`, written by transformers (`make_rope.py`).
    #[test]
    fn rotations_are_found_where_transformers_finds_them() {
        let text = include_str!("../../../../testdata/libtorch/rope.json");
        let file: Value = serde_json::from_str(text).unwrap();
        for case in file["cases"].as_array().unwrap() {
            let config = parse(case["config"].clone()).unwrap();
            let expected = &case["rope_parameters"];
            let check = |rope: &RopeConfig, expected: &Value| {
                assert_eq!(Some(rope.theta), expected["rope_theta"].as_f64(), "{case}");
                let scaling = match expected["rope_type"].as_str().unwrap() {
                    "yarn" | "longrope" => return,
                    "default" => RopeScaling::None,
                    "linear" => RopeScaling::Linear {
                        factor: expected["factor"].as_f64().unwrap(),
                    },
                    _ => RopeScaling::Llama3 {
                        factor: expected["factor"].as_f64().unwrap(),
                        low_freq_factor: expected["low_freq_factor"].as_f64().unwrap(),
                        high_freq_factor: expected["high_freq_factor"].as_f64().unwrap(),
                        original_max_position_embeddings:
                            expected["original_max_position_embeddings"]
                                .as_f64()
                                .unwrap(),
                    },
                };
                assert_eq!(rope.scaling, scaling, "{case}");
            };
            match &config.local_rope {
                Some(local) => {
                    check(&config.rope, &expected["full_attention"]);
                    check(local, &expected["sliding_attention"]);
                }
                None => check(&config.rope, expected),
            }
            if let Some(cos_sin) = case.get("cos_sin") {
                let positions: Vec<i64> =
                    serde_json::from_value(case["positions"].clone()).unwrap();
                let rope = Rope::new(&config.rope, config.head_dim, Device::Cpu).unwrap();
                let (cos, sin) =
                    (rope.cos_sin(&Tensor::from_slice(&positions), Kind::Float)).unwrap();
                for (ours, theirs) in [cos, sin].iter().zip(cos_sin.as_array().unwrap()) {
                    let theirs: Vec<Vec<f32>> = serde_json::from_value(theirs.clone()).unwrap();
                    let off = (ours - Tensor::from_slice2(&theirs)).abs().max();
                    assert!(f64::try_from(off).unwrap() < 1e-6, "{case}");
                }
            }
        }
    }
}
