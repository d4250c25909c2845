//! What `config.json` says of single layers: experts, windows, rotations.

use serde_json::Value;

use super::super::fields::Fields;
use crate::error::Result;
use crate::model::config::{Architecture, DeltaNetConfig, ExpertsConfig, LayerRope, LayerSpec};

/// What the delta nets of a model are.
pub(super) fn delta_net(f: &Fields<'_>) -> Result<DeltaNetConfig> {
    let size = |field: &str, default: usize| -> Result<usize> {
        match f.usize(field)?.unwrap_or(default) {
            0 => Err(f.error(field, "0 is not a size")),
            n => Ok(n),
        }
    };
    let config = DeltaNetConfig {
        key_heads: size("linear_num_key_heads", 16)?,
        value_heads: size("linear_num_value_heads", 32)?,
        key_width: size("linear_key_head_dim", 128)?,
        value_width: size("linear_value_head_dim", 128)?,
        conv_kernel: size("linear_conv_kernel_dim", 4)?,
    };
    let (keys, values) = (config.key_heads, config.value_heads);
    if !values.is_multiple_of(keys) {
        let what = format!("{keys} does not divide linear_num_value_heads = {values}");
        return Err(f.error("linear_num_key_heads", what));
    }
    if config.conv_kernel < 2 {
        return Err(f.error(
            "linear_conv_kernel_dim",
            "1 is not supported, only 2 and more",
        ));
    }
    if f.bool("attn_output_gate")? == Some(false) {
        return Err(f.error("attn_output_gate", "false is not supported, only true"));
    }
    Ok(config)
}

/// Layers with experts, and what these are.
pub(super) fn experts(f: &Fields<'_>) -> Result<ExpertsConfig> {
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
pub(super) fn layers(
    f: &Fields<'_>,
    architecture: Architecture,
    n: usize,
) -> Result<Vec<LayerSpec>> {
    let mut layers = vec![LayerSpec::default(); n];
    let types = types(f, "layer_types", n)?;
    match architecture {
        Architecture::SmolLm3 => {
            let every = interval(f, "no_rope_layer_interval", 4)?;
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
            // The masks go by `layer_types`; `use_sliding_window` only says what these are where they are left out.
            let width = f.usize("sliding_window")?;
            let used = f.bool("use_sliding_window")? == Some(true) && width.is_some();
            for (i, layer) in layers.iter_mut().enumerate() {
                let slides = match &types {
                    Some(types) => slides(f, types[i])?,
                    None => used && layer.rope == LayerRope::None,
                };
                if slides {
                    layer.window = Some(window(f, width)?);
                }
            }
        }
        Architecture::Gemma3 => {
            let width = width_or_default(f)?;
            let every = interval(f, "sliding_window_pattern", 6)?;
            for (i, layer) in layers.iter_mut().enumerate() {
                let slides = match &types {
                    Some(types) => slides(f, types[i])?,
                    None => (i + 1) % every != 0,
                };
                if slides {
                    (layer.rope, layer.window) = (LayerRope::Local, Some(window(f, width)?));
                }
            }
        }
        Architecture::Qwen3Moe => {
            let every = interval(f, "decoder_sparse_step", 1)?;
            let plain = f.list("mlp_only_layers", 0)?.unwrap_or_default();
            let plain: Vec<Option<u64>> = plain.into_iter().map(Value::as_u64).collect();
            for (i, layer) in layers.iter_mut().enumerate() {
                layer.experts = (i + 1) % every == 0 && !plain.contains(&Some(i as u64));
            }
        }
        Architecture::GraniteMoeHybrid => {
            // The older name goes before the newer one where a file has both.
            let (field, types) = match self::types(f, "layers_block_type", n)? {
                Some(types) => ("layers_block_type", Some(types)),
                None => ("layer_types", types),
            };
            let types = types.ok_or_else(|| f.error(field, "missing"))?;
            let attends = |t: &&&Value| matches!(t.as_str(), Some("full_attention" | "attention"));
            if let Some(other) = types.iter().find(|t| !attends(t)) {
                let what = format!("{other} is not supported, only full_attention");
                return Err(f.error(field, what));
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
        Architecture::Qwen35 => {
            let every = interval(f, "full_attention_interval", 4)?;
            for (i, layer) in layers.iter_mut().enumerate() {
                layer.delta_net = match types.as_ref().map(|types| types[i]) {
                    None => (i + 1) % every != 0,
                    Some(kind) => match kind.as_str() {
                        Some("linear_attention") => true,
                        Some("full_attention") => false,
                        _ => {
                            let what = "is not supported, only full_attention and linear_attention";
                            return Err(f.error("layer_types", format!("{kind} {what}")));
                        }
                    },
                };
            }
        }
        Architecture::Mistral => {
            let width = width_or_default(f)?;
            // A file with `layer_types` is opened as the class that goes by them, but not half a file.
            let types = types.filter(|_| !f.is_nested());
            for (i, layer) in layers.iter_mut().enumerate() {
                layer.window = match &types {
                    Some(types) if slides(f, types[i])? => Some(window(f, width)?),
                    Some(_) => None,
                    None => width,
                };
            }
        }
        Architecture::Phi3 | Architecture::Ministral3 => {
            let width = f.usize("sliding_window")?;
            layers.iter_mut().for_each(|layer| layer.window = width);
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

/// The kinds of the layers, one for each.
fn types<'a>(f: &Fields<'a>, field: &str, n: usize) -> Result<Option<Vec<&'a Value>>> {
    let types = f.list(field, 0)?;
    match types.as_ref().map(Vec::len) {
        Some(given) if given != n => {
            let what = format!("{given} entries, expected one for each of num_hidden_layers = {n}");
            Err(f.error(field, what))
        }
        _ => Ok(types),
    }
}

/// Which layers differ from the others: each `n`th, counted from 1.
fn interval(f: &Fields<'_>, field: &str, default: usize) -> Result<usize> {
    match f.usize(field)?.unwrap_or(default) {
        0 => Err(f.error(field, "expected 1 or more, got 0")),
        n => Ok(n),
    }
}

/// The width of the windows in families that have one where the file says nothing; null is none.
fn width_or_default(f: &Fields<'_>) -> Result<Option<usize>> {
    match f.map.contains_key("sliding_window") {
        true => f.usize("sliding_window"),
        false => Ok(Some(4096)),
    }
}

/// The window of a layer that has one.
fn window(f: &Fields<'_>, width: Option<usize>) -> Result<usize> {
    let what = "missing, and there are layers with a window; give its width or make all of \
                `layer_types` full_attention";
    width.ok_or_else(|| f.error("sliding_window", what))
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
