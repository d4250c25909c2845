//! What of `config.json` and `generation_config.json` is refused, by the field's name.

use serde_json::Value;

use super::super::fields::Fields;
use crate::error::Result;
use crate::model::config::{Activation, Architecture, DecoderConfig, RopeScaling};

pub(super) fn refuse_unsupported(f: &Fields<'_>, architecture: Architecture) -> Result<()> {
    let (field, supported) = match architecture.block().activation {
        Activation::Silu => ("hidden_act", "silu"),
        Activation::GeluTanh => ("hidden_activation", "gelu_pytorch_tanh"),
    };
    if let Some(act) = f.str(field)?
        && act != supported
    {
        return Err(f.error(field, format!("`{act}` is not supported, only {supported}")));
    }
    // What means something in other families is a mistake in these.
    for field in [
        "final_logit_softcapping",
        "attn_logit_softcapping",
        "clip_qkv",
        "n_shared_experts",
        "shared_expert_intermediate_size",
    ] {
        if let Some(value) = f.f64(field)?
            && (value != 0.0 || architecture == Architecture::Gemma3)
        {
            return Err(f.error(field, format!("{value} is not supported, only null")));
        }
    }
    if architecture == Architecture::Gemma3 && f.bool("use_bidirectional_attention")? == Some(true)
    {
        return Err(f.error(
            "use_bidirectional_attention",
            "attention to later positions is not supported",
        ));
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
    } else if !reads_layer_types(f, architecture) {
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
    if let Some(layers) = f.map.get("per_layer_config").filter(|v| !v.is_null()) {
        let what = format!("{layers} is not supported, only null");
        return Err(f.error("per_layer_config", what));
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

/// Whether the layers of the family differ as `layer_types` says.
fn reads_layer_types(f: &Fields<'_>, architecture: Architecture) -> bool {
    match architecture {
        Architecture::SmolLm3 | Architecture::Gemma3 | Architecture::Qwen35 => true,
        Architecture::Mistral => !f.is_nested(),
        _ => false,
    }
}

/// Refuses kinds of rotations that transformers does not have in the family.
pub(super) fn refuse_rotations(f: &Fields<'_>, config: &DecoderConfig) -> Result<()> {
    refuse_nested_rotations(f, config.architecture)?;
    let phi3 = config.architecture == Architecture::Phi3;
    let local = config.local_rope.iter();
    let mut factors = local
        .chain([&config.rope])
        .map(|rope| rope.partial_rotary_factor);
    if let Some(factor) = factors.find(|&factor| factor != 1.0)
        && !phi3
        && config.architecture != Architecture::Qwen35
    {
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
    let ministral3 = config.architecture == Architecture::Ministral3;
    match (config.rope.query_growth.is_some(), ministral3) {
        (true, false) => Err(f.error("llama_4_scaling_beta", "only ministral3 has it")),
        (false, true) => Err(f.error("llama_4_scaling_beta", "missing in rope_parameters")),
        _ => Ok(()),
    }
}

/// Rotations by the kind of layer, which Gemma 3 has and no other family: transformers goes past what stands
/// in the one way where it expects the other.
fn refuse_nested_rotations(f: &Fields<'_>, architecture: Architecture) -> Result<()> {
    for field in ["rope_scaling", "rope_parameters"] {
        let Some(rope) = f.object(field)? else {
            continue;
        };
        let by_kind = architecture == Architecture::Gemma3 && field == "rope_parameters";
        for (key, value) in rope.map {
            let is_kind = ["full_attention", "sliding_attention"].contains(&key.as_str());
            if !by_kind && value.is_object() {
                let what = "only rope_parameters of gemma3_text tells kinds of layers apart; put what stands \
                            in it one level up";
                return Err(rope.error(key, what));
            }
            if by_kind && !is_kind && !value.is_null() {
                let what = "rope_parameters of gemma3_text tells kinds of layers apart; put it into \
                            full_attention or sliding_attention";
                return Err(rope.error(key, what));
            }
            if by_kind
                && let Some(entry) = rope.object(key)?
                && let Some(factor) = entry.f64("partial_rotary_factor")?
                && factor != 1.0
            {
                let what = format!("{factor} is not supported, only 1");
                return Err(entry.error("partial_rotary_factor", what));
            }
        }
    }
    Ok(())
}

/// Refuses what would give other completions with transformers or vLLM than with any sampling settings of this
/// crate. Temperature, top-k and their like are not looked at: the settings of a run say them.
pub(super) fn refuse_generation(f: &Fields<'_>) -> Result<()> {
    for (field, neutral) in [
        ("num_beams", Some(1.0)),
        ("num_beam_groups", Some(1.0)),
        ("typical_p", Some(1.0)),
        ("guidance_scale", Some(1.0)),
        ("encoder_repetition_penalty", Some(1.0)),
        ("encoder_no_repeat_ngram_size", Some(0.0)),
        ("presence_penalty", Some(0.0)),
        ("frequency_penalty", Some(0.0)),
        ("no_repeat_ngram_size", Some(0.0)),
        ("min_length", Some(0.0)),
        ("min_new_tokens", Some(0.0)),
        ("min_tokens", Some(0.0)),
        ("penalty_alpha", Some(0.0)),
        ("epsilon_cutoff", Some(0.0)),
        ("eta_cutoff", Some(0.0)),
        ("assistant_ensemble_weight", Some(0.0)),
        ("max_time", None),
        ("stop_strings", None),
        ("top_h", None),
        ("bad_words_ids", None),
        ("suppress_tokens", None),
        ("begin_suppress_tokens", None),
        ("forced_bos_token_id", None),
        ("force_bos_token_to_be_generated", None),
        ("forced_eos_token_id", None),
        ("force_words_ids", None),
        ("constraints", None),
        ("sequence_bias", None),
        ("logit_bias", None),
        ("exponential_decay_length_penalty", None),
        ("token_healing", None),
        ("watermarking_config", None),
        ("dola_layers", None),
    ] {
        let Some(value) = f.map.get(field) else {
            continue;
        };
        let unused = match value {
            Value::Null | Value::Bool(false) => true,
            Value::Number(number) => neutral.is_some() && number.as_f64() == neutral,
            Value::Array(items) => items.is_empty(),
            Value::Object(items) => items.is_empty(),
            _ => false,
        };
        if !unused {
            let what = "is not supported; take it out of the file to sample without it";
            return Err(f.error(field, format!("{value} {what}")));
        }
    }
    // Others keep the same numbers in another way.
    if f.map.get("cache_implementation").and_then(Value::as_str) == Some("quantized") {
        let what = "\"quantized\" is not supported; take it out of the file to sample without it";
        return Err(f.error("cache_implementation", what));
    }
    Ok(())
}
