//! Rotary position embedding.

use tch::{Device, Kind, Tensor};

use super::handle::Handle;
use crate::error::Result;
use crate::model::config::{QueryGrowth, RopeConfig, RopeScaling};

/// Rotary position embedding: turns pairs of coordinates of queries and keys by angles
/// proportional to the position. The pairs are `(i, i + n / 2)` of the n coordinates that are turned, as in
/// transformers.
#[derive(Debug, Clone)]
pub struct Rope {
    /// Angle per position of every pair, f32, shape `[n / 2]`.
    inv_freq: Handle,
    /// Cosines and sines are multiplied by it.
    factor: f64,
}

impl Rope {
    /// Frequencies of the configuration.
    pub fn new(config: &RopeConfig, head_dim: usize, device: Device) -> Result<Self> {
        // Computed by libtorch in f32, as transformers does: the last bit of a frequency is a
        // thousandth of a radian at position 10 000.
        let n = config.rotated(head_dim);
        let exponent = Tensor::f_arange_start_step(0, n as i64, 2, (Kind::Int64, Device::Cpu))?
            .f_to_kind(Kind::Float)?
            .f_div_scalar(n as f64)?;
        let bases = Tensor::f_pow_scalar(config.theta, &exponent)?;
        let mut frequencies = vec![0f32; n / 2];
        bases.f_copy_data(&mut frequencies, n / 2)?;
        for (i, f) in frequencies.iter_mut().enumerate() {
            *f = frequency(*f, (i, n), config);
        }
        Ok(Self {
            inv_freq: (Tensor::f_from_slice(&frequencies)?.f_to_device(device)?).into(),
            factor: match config.scaling {
                RopeScaling::Yarn {
                    attention_factor, ..
                }
                | RopeScaling::LongRope {
                    attention_factor, ..
                } => attention_factor,
                _ => 1.0,
            },
        })
    }

    /// Cosines and sines, in `kind`, for integer positions of any shape: `[.., n]` each.
    pub fn cos_sin(&self, positions: &Tensor, kind: Kind) -> Result<(Tensor, Tensor)> {
        let angles = positions
            .f_to_kind(Kind::Float)?
            .f_unsqueeze(-1)?
            .f_mul(&self.inv_freq)?;
        let angles = Tensor::f_cat(&[&angles, &angles], -1)?;
        let scaled = |x: Tensor| x.f_mul_scalar(self.factor)?.f_to_kind(kind);
        Ok((scaled(angles.f_cos()?)?, scaled(angles.f_sin()?)?))
    }
}

impl QueryGrowth {
    /// What queries at integer positions of any shape are multiplied by, in `kind`: `[.., 1, 1]`.
    pub(crate) fn factors(&self, positions: &Tensor, kind: Kind) -> Result<Tensor> {
        let steps = (positions.f_to_kind(Kind::Float)?)
            .f_div_scalar(self.original)?
            .f_floor()?;
        let factors =
            (steps.f_add_scalar(1.0)?.f_log()?.f_mul_scalar(self.beta)?).f_add_scalar(1.0)?;
        Ok(factors.f_to_kind(kind)?.f_unsqueeze(-1)?.f_unsqueeze(-1)?)
    }
}

/// Turns the first coordinates of `x` of shape `[.., head_dim]`, as many as there are cosines, by angles
/// whose cosines and sines broadcast against it.
pub fn rotate(x: &Tensor, cos: &Tensor, sin: &Tensor) -> Result<Tensor> {
    let width = |t: &Tensor| t.size().last().copied().unwrap_or(0);
    let (d, n) = (width(x), width(cos));
    if n < d {
        let turned = rotate(&x.f_narrow(-1, 0, n)?, cos, sin)?;
        return Ok(Tensor::f_cat(&[turned, x.f_narrow(-1, n, d - n)?], -1)?);
    }
    let half = x.size().last().copied().unwrap_or(0) / 2;
    let turned = Tensor::f_cat(
        &[
            x.f_narrow(-1, half, half)?.f_neg()?,
            x.f_narrow(-1, 0, half)?,
        ],
        -1,
    )?;
    Ok(x.f_mul(cos)?.f_add(&turned.f_mul(sin)?)?)
}

/// The frequency of pair `i` of `n` coordinates, where `base` is θ^(2i/n); in f32 where transformers
/// computes in f32.
fn frequency(base: f32, (i, n): (usize, usize), config: &RopeConfig) -> f32 {
    let inv_freq = 1.0 / base;
    match config.scaling {
        RopeScaling::None => inv_freq,
        RopeScaling::LongRope {
            ref short_factor, ..
        } => 1.0 / (short_factor[i] as f32 * base),
        RopeScaling::Yarn {
            factor,
            beta_fast,
            beta_slow,
            original_max_position_embeddings: original,
            truncate,
            ..
        } => {
            let turns_at = |turns: f64| {
                let n = n as f64;
                n * (original / (turns * std::f64::consts::TAU)).ln() / (2.0 * config.theta.ln())
            };
            let (mut low, mut high) = (turns_at(beta_fast), turns_at(beta_slow));
            if truncate {
                (low, high) = (low.floor(), high.ceil());
            }
            let (low, mut high) = (low.max(0.0), high.min(n as f64 - 1.0));
            if low == high {
                high += 0.001;
            }
            let ramp = ((i as f32 - low as f32) / (high - low) as f32).clamp(0.0, 1.0);
            let kept = 1.0 - ramp;
            let stretched = 1.0 / (factor as f32 * base);
            stretched * (1.0 - kept) + inv_freq * kept
        }
        RopeScaling::Linear { factor } => inv_freq / factor as f32,
        RopeScaling::Llama3 {
            factor,
            low_freq_factor,
            high_freq_factor,
            original_max_position_embeddings: original,
        } => {
            let wavelength = f64::from(2.0 * std::f32::consts::PI / inv_freq);
            if wavelength < original / high_freq_factor {
                inv_freq
            } else if wavelength > original / low_freq_factor {
                inv_freq / factor as f32
            } else {
                let smooth = ((original / wavelength - low_freq_factor)
                    / (high_freq_factor - low_freq_factor)) as f32;
                (1.0 - smooth) * (inv_freq / factor as f32) + smooth * inv_freq
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LLAMA3: RopeScaling = RopeScaling::Llama3 {
        factor: 8.0,
        low_freq_factor: 1.0,
        high_freq_factor: 4.0,
        original_max_position_embeddings: 8192.0,
    };

    #[test]
    fn llama3_stretches_long_waves_only() {
        let config = RopeConfig {
            scaling: LLAMA3,
            ..RopeConfig::new(1e4)
        };
        // What a frequency is multiplied by.
        let stretched = |wavelength: f32| {
            let base = wavelength / (2.0 * std::f32::consts::PI);
            frequency(base, (0, 2), &config) * base
        };
        approx::assert_relative_eq!(stretched(100.0), 1.0, max_relative = 1e-6);
        approx::assert_relative_eq!(stretched(10_000.0), 0.125, max_relative = 1e-6);
        // 8192 / 4096 = 2, a third of the way from 1 to 4: (2/3)/8 + 1/3 = 5/12.
        approx::assert_relative_eq!(stretched(4096.0), 5.0 / 12.0, max_relative = 1e-5);
    }
}
