//! What of `config.json` and `generation_config.json` is refused, by the field's name.

use serde_json::Value;

use super::super::fields::{Fields, is_unused};
use crate::error::Result;
use crate::model::config::{Architecture, DecoderConfig, RopeScaling};

pub(super) fn refuse_unsupported(f: &Fields<'_>, architecture: Architecture) -> Result<()> {
    let is_gemma3 = architecture == Architecture::Gemma3;
    let (field, supported) = architecture.block().activation.setting();
    let act = f.str(field)?.unwrap_or(supported);
    let what = format!("`{act}` is not supported, only {supported}");
    f.ensure(act == supported, field, what)?;
    // What means something in other families is a mistake in these.
    for field in [
        "final_logit_softcapping",
        "attn_logit_softcapping",
        "clip_qkv",
        "n_shared_experts",
        "shared_expert_intermediate_size",
    ] {
        if let Some(value) = f.f64(field)? {
            let what = format!("{value} is not supported, only null");
            f.ensure(value == 0.0 && !is_gemma3, field, what)?;
        }
    }
    let plain =
        architecture != Architecture::GraniteMoeHybrid && !reads_layer_types(f, architecture);
    for (field, looked_at, what) in [
        (
            "use_bidirectional_attention",
            is_gemma3,
            "attention to later positions is not supported",
        ),
        (
            "output_router_logits",
            true,
            "the routers' auxiliary loss is not supported, only false",
        ),
        (
            "use_sliding_window",
            plain,
            "sliding-window attention is not supported",
        ),
    ] {
        f.ensure(!looked_at || f.bool(field)? != Some(true), field, what)?;
    }
    if architecture == Architecture::GraniteMoeHybrid {
        let experts = f.usize("num_local_experts")?.unwrap_or(8);
        let what = format!("{experts} experts beside the shared layer are not supported, only 0");
        f.ensure(experts == 0, "num_local_experts", what)?;
    }
    if plain && let Some(Value::Array(types)) = f.map.get("layer_types") {
        for given in types {
            let what = format!("{given} is not supported, only full_attention");
            f.ensure(given == "full_attention", "layer_types", what)?;
        }
    }
    let quantised = f.object("quantization_config")?.is_some();
    let what = "quantised checkpoints are not supported; use the bf16 or f32 one";
    f.ensure(!quantised, "quantization_config", what)?;
    let layers = f.map.get("per_layer_config").unwrap_or(&Value::Null);
    let what = format!("{layers} is not supported, only null");
    f.ensure(layers.is_null(), "per_layer_config", what)?;
    for field in ["attention_dropout", "resid_pdrop", "embd_pdrop"] {
        let p = f.f64(field)?.unwrap_or(0.0);
        f.ensure(p == 0.0, field, format!("{p} is not supported, only 0"))?;
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
    let turns_part = phi3 || config.architecture == Architecture::Qwen35;
    for rope in config.local_rope.iter().chain([&config.rope]) {
        let factor = rope.partial_rotary_factor;
        let what = format!("{factor} is not supported, only 1");
        f.ensure(turns_part || factor == 1.0, "partial_rotary_factor", what)?;
    }
    let fits = matches!(
        config.rope.scaling,
        RopeScaling::None | RopeScaling::LongRope { .. }
    );
    let what = "phi3 has default and longrope only";
    f.ensure(!phi3 || fits, "rope_type", what)?;
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
            let what = "only rope_parameters of gemma3_text tells kinds of layers apart; put what stands \
                        in it one level up";
            rope.ensure(by_kind || !value.is_object(), key, what)?;
            let what = "rope_parameters of gemma3_text tells kinds of layers apart; put it into \
                        full_attention or sliding_attention";
            rope.ensure(!by_kind || is_kind || value.is_null(), key, what)?;
            if by_kind && let Some(entry) = rope.object(key)? {
                let factor = entry.f64("partial_rotary_factor")?.unwrap_or(1.0);
                let what = format!("{factor} is not supported, only 1");
                entry.ensure(factor == 1.0, "partial_rotary_factor", what)?;
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
        ("cache_implementation", None),
    ] {
        let Some(value) = f.map.get(field) else {
            continue;
        };
        let is_neutral = neutral.is_some() && value.as_f64() == neutral;
        // Of caches, others than this one keep the same numbers in another way.
        let is_harmless = field == "cache_implementation" && value != "quantized";
        let what =
            format!("{value} is not supported; take it out of the file to sample without it");
        f.ensure(is_neutral || is_harmless || is_unused(value), field, what)?;
    }
    Ok(())
}
