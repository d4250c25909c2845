//! What `config.json` says of single layers: experts, windows, rotations.

use serde_json::Value;

use super::super::fields::Fields;
use crate::error::Result;
use crate::model::config::{Architecture, DeltaNetConfig, ExpertsConfig, LayerRope, LayerSpec};

/// What the delta nets of a model are.
pub(super) fn delta_net(f: &Fields<'_>) -> Result<DeltaNetConfig> {
    let config = DeltaNetConfig {
        key_heads: f.size("linear_num_key_heads", Some(16))?,
        value_heads: f.size("linear_num_value_heads", Some(32))?,
        key_width: f.size("linear_key_head_dim", Some(128))?,
        value_width: f.size("linear_value_head_dim", Some(128))?,
        conv_kernel: f.size("linear_conv_kernel_dim", Some(4))?,
    };
    let (keys, values) = (config.key_heads, config.value_heads);
    let what = format!("{keys} does not divide linear_num_value_heads = {values}");
    f.ensure(values.is_multiple_of(keys), "linear_num_key_heads", what)?;
    let what = "1 is not supported, only 2 and more";
    f.ensure(config.conv_kernel >= 2, "linear_conv_kernel_dim", what)?;
    let gated = f.bool("attn_output_gate")?.unwrap_or(true);
    let what = "false is not supported, only true";
    f.ensure(gated, "attn_output_gate", what)?;
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
        intermediate_size: f.size("moe_intermediate_size", Some(768))?,
        norm_topk_prob: f.bool("norm_topk_prob")?.unwrap_or(false),
    };
    let read = config.num_experts_per_tok;
    let what = format!("{read} of {count} experts");
    f.ensure((1..=count).contains(&read), "num_experts_per_tok", what)?;
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
                let flag = given.as_ref().map(|given| given[i]);
                let rotated = match flag.map(|flag| (flag, flag.as_u64())) {
                    None => (i + 1) % every != 0,
                    Some((_, Some(flag @ 0..=1))) => flag == 1,
                    Some((flag, _)) => {
                        return Err(f.error("no_rope_layers", format!("{flag} is no flag")));
                    }
                };
                if !rotated {
                    layer.rope = LayerRope::None;
                }
            }
            // The masks go by `layer_types`; `use_sliding_window` only says what these are where they are left out.
            let width = f.usize("sliding_window")?;
            let used = f.bool("use_sliding_window")? == Some(true) && width.is_some();
            for (i, layer) in layers.iter_mut().enumerate() {
                let otherwise = used && layer.rope == LayerRope::None;
                if differs(f, types.as_deref(), i, SLIDING, otherwise)? {
                    layer.window = Some(window(f, width)?);
                }
            }
        }
        Architecture::Gemma3 => {
            let width = width_or_default(f)?;
            let every = interval(f, "sliding_window_pattern", 6)?;
            for (i, layer) in layers.iter_mut().enumerate() {
                if differs(f, types.as_deref(), i, SLIDING, (i + 1) % every != 0)? {
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
            for given in types {
                let attends = matches!(given.as_str(), Some("full_attention" | "attention"));
                let what = format!("{given} is not supported, only full_attention");
                f.ensure(attends, field, what)?;
            }
            let kind = f.str("position_embedding_type")?.unwrap_or("nope");
            let what = format!("`{kind}` is not supported, only rope and nope");
            f.ensure(
                ["rope", "nope"].contains(&kind),
                "position_embedding_type",
                what,
            )?;
            if kind == "nope" {
                layers
                    .iter_mut()
                    .for_each(|layer| layer.rope = LayerRope::None);
            }
        }
        Architecture::Qwen35 => {
            let every = interval(f, "full_attention_interval", 4)?;
            for (i, layer) in layers.iter_mut().enumerate() {
                let kind = "linear_attention";
                layer.delta_net = differs(f, types.as_deref(), i, kind, (i + 1) % every != 0)?;
            }
        }
        Architecture::Mistral => {
            let width = width_or_default(f)?;
            // A file with `layer_types` is opened as the class that goes by them, but not half a file.
            let types = types.filter(|_| !f.is_nested());
            for (i, layer) in layers.iter_mut().enumerate() {
                if differs(f, types.as_deref(), i, SLIDING, width.is_some())? {
                    layer.window = Some(window(f, width)?);
                }
            }
        }
        Architecture::Phi3 | Architecture::Ministral3 => {
            let width = f.usize("sliding_window")?;
            layers.iter_mut().for_each(|layer| layer.window = width);
        }
        _ => {}
    }
    let blind = layers.iter().any(|layer| layer.window == Some(0));
    let what = "a position sees itself at least, got 0";
    f.ensure(!blind, "sliding_window", what)?;
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

const SLIDING: &str = "sliding_attention";

/// Whether layer `i` is of this kind and not full attention; `otherwise` where the file names no kinds.
fn differs(
    f: &Fields<'_>,
    types: Option<&[&Value]>,
    i: usize,
    kind: &str,
    otherwise: bool,
) -> Result<bool> {
    match types.map(|types| types[i]) {
        None => Ok(otherwise),
        Some(given) if given.as_str() == Some(kind) => Ok(true),
        Some(given) if given.as_str() == Some("full_attention") => Ok(false),
        Some(given) => {
            let what = format!("{given} is not supported, only full_attention and {kind}");
            Err(f.error("layer_types", what))
        }
    }
}
