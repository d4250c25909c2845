//! Rotary position embedding.

use tch::{Device, Kind, Tensor};

use crate::error::Result;
use crate::model::config::{RopeConfig, RopeScaling};

/// Rotary position embedding: turns pairs of coordinates of queries and keys by angles
/// proportional to the position. The pairs are `(i, i + head_dim / 2)`, as in transformers.
#[derive(Debug)]
pub struct Rope {
    /// Angle per position of every pair, f32, shape `[head_dim / 2]`.
    inv_freq: Tensor,
}

impl Rope {
    /// Frequencies of the configuration.
    ///
    /// # Errors
    /// libtorch's.
    pub fn new(config: &RopeConfig, head_dim: usize, device: Device) -> Result<Self> {
        // Computed by libtorch in f32, as transformers does: the last bit of a frequency is a
        // thousandth of a radian at position 10 000.
        let exponent =
            Tensor::f_arange_start_step(0, head_dim as i64, 2, (Kind::Int64, Device::Cpu))?
                .f_to_kind(Kind::Float)?
                .f_div_scalar(head_dim as f64)?;
        let inv_freq = Tensor::f_pow_scalar(config.theta, &exponent)?.f_reciprocal()?;
        let mut frequencies = vec![0f32; head_dim / 2];
        inv_freq.f_copy_data(&mut frequencies, head_dim / 2)?;
        for f in &mut frequencies {
            *f = scale(*f, config.scaling);
        }
        Ok(Self {
            inv_freq: Tensor::f_from_slice(&frequencies)?.f_to_device(device)?,
        })
    }

    /// Cosines and sines, in `kind`, for integer positions of any shape: `[.., head_dim]` each.
    ///
    /// # Errors
    /// libtorch's.
    pub fn cos_sin(&self, positions: &Tensor, kind: Kind) -> Result<(Tensor, Tensor)> {
        let angles = positions
            .f_to_kind(Kind::Float)?
            .f_unsqueeze(-1)?
            .f_mul(&self.inv_freq)?;
        let angles = Tensor::f_cat(&[&angles, &angles], -1)?;
        Ok((
            angles.f_cos()?.f_to_kind(kind)?,
            angles.f_sin()?.f_to_kind(kind)?,
        ))
    }

    /// Another handle to the same tensor.
    #[must_use]
    pub fn shallow_clone(&self) -> Self {
        Self {
            inv_freq: self.inv_freq.shallow_clone(),
        }
    }
}

/// Turns `x` of shape `[.., head_dim]` by angles whose cosines and sines broadcast against it.
///
/// # Errors
/// libtorch's.
pub fn rotate(x: &Tensor, cos: &Tensor, sin: &Tensor) -> Result<Tensor> {
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

fn scale(inv_freq: f32, scaling: RopeScaling) -> f32 {
    match scaling {
        RopeScaling::None => inv_freq,
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
        let of_wavelength = |w: f32| 2.0 * std::f32::consts::PI / w;
        let short = of_wavelength(100.0);
        assert_eq!(scale(short, LLAMA3), short);
        let long = of_wavelength(10_000.0);
        assert_eq!(scale(long, LLAMA3), long / 8.0);
        // 8192 / 4096 = 2, a third of the way from 1 to 4: (2/3)/8 + 1/3 = 5/12.
        let middle = of_wavelength(4096.0);
        approx::assert_relative_eq!(
            scale(middle, LLAMA3) / middle,
            5.0 / 12.0,
            max_relative = 1e-5
        );
    }

    #[test]
    fn position_one_turns_the_first_pair_by_one_radian() {
        let config = RopeConfig {
            theta: 100.0,
            scaling: RopeScaling::None,
        };
        let rope = Rope::new(&config, 4, Device::Cpu).unwrap();
        let (cos, sin) = rope
            .cos_sin(&Tensor::from_slice(&[1i64]), Kind::Float)
            .unwrap();
        let x = Tensor::from_slice(&[1f32, 0., 0., 1.]);
        let y = Vec::<f32>::try_from(rotate(&x, &cos, &sin).unwrap().view(-1)).unwrap();
        // Pairs (0, 2) by 1 rad and (1, 3) by 100^(-1/2) = 0.1 rad.
        let expected = [1f32.cos(), -(0.1f32.sin()), 1f32.sin(), 0.1f32.cos()];
        for (y, e) in y.iter().zip(expected) {
            approx::assert_relative_eq!(*y, e, epsilon = 1e-6);
        }
    }
}
