//! The rotations that `config.json` asks for.

use serde_json::{Value, json};

use super::super::fields::Fields;
use crate::error::Result;
use crate::model::config::{Architecture, QueryGrowth, RopeConfig, RopeScaling};

/// The rotations of full layers and, for Gemma 3, of those with a window, wherever the file puts
/// their base: `rope_scaling` (transformers 4) goes before `rope_parameters` (5), and what the object
/// leaves out stands at the top level. In Gemma 3 it does not go before the newer entry but into it.
pub(super) fn ropes(
    f: &Fields<'_>,
    architecture: Architecture,
) -> Result<(RopeConfig, Option<RopeConfig>)> {
    let (default, local_default) = match architecture {
        Architecture::SmolLm3 => (2_000_000.0, None),
        Architecture::Gemma3 => (1_000_000.0, Some(10_000.0)),
        _ => (10_000.0, None),
    };
    let parameters = f.object("rope_parameters")?;
    let old = f.object("rope_scaling")?.filter(|old| !old.map.is_empty());
    let joined = match (&old, architecture) {
        (Some(old), Architecture::Gemma3) => Some(joined(old, parameters.as_ref())?),
        _ => None,
    };
    let joined = match &joined {
        Some(joined) => Some(f.in_place_of("rope_scaling", joined)?),
        None => None,
    };
    let old = joined.or(old);
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
    let part = match architecture {
        Architecture::Qwen35 => 0.25,
        _ => 1.0,
    };
    let rope = RopeConfig::from_fields(full.as_ref(), (theta, part), f)?;
    let Some(local_default) = local_default else {
        return Ok((rope, None));
    };
    let theta = f.f64("rope_local_base_freq")?.unwrap_or(local_default);
    let local = RopeConfig::from_fields(nested("sliding_attention")?.as_ref(), (theta, part), f)?;
    Ok((rope, Some(local)))
}

/// The entry of full layers with `rope_scaling` written over it.
fn joined(old: &Fields<'_>, parameters: Option<&Fields<'_>>) -> Result<Value> {
    let mut entry = match parameters {
        None => json!({ "rope_type": "default" }),
        Some(parameters) => match parameters.map.get("full_attention") {
            Some(full @ Value::Object(_)) => full.clone(),
            _ => return Err(parameters.error("full_attention", "missing beside rope_scaling")),
        },
    };
    for (name, value) in old.map {
        entry[name] = value.clone();
    }
    Ok(entry)
}

impl RopeConfig {
    fn from_fields(
        rope: Option<&Fields<'_>>,
        (theta, default_factor): (f64, f64),
        top: &Fields<'_>,
    ) -> Result<Self> {
        let field = "partial_rotary_factor";
        let given = rope.map_or(Ok(None), |rope| rope.f64(field))?;
        let factor = given.or(top.f64(field)?).unwrap_or(default_factor);
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
        let positive = |name, value: f64| match value > 0.0 && value.is_finite() {
            true => Ok(value),
            false => Err(f.error(name, format!("expected a number above 0, got {value}"))),
        };
        let needed = |name| positive(name, f.f64(name)?.ok_or_else(|| f.error(name, "missing"))?);
        // By which the context grows, and what was given for what the scores grow by.
        let growth = |original: f64| -> Result<f64> {
            let longest = top.f64("max_position_embeddings")?;
            match (f.f64("factor")?, longest) {
                (Some(factor), _) => positive("factor", factor),
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
                high_freq_factor: match needed("high_freq_factor")? {
                    high if Some(high) == f.f64("low_freq_factor")? => {
                        return Err(f.error("high_freq_factor", "is low_freq_factor"));
                    }
                    high => high,
                },
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
