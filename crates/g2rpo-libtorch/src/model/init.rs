//! Fresh parameters.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Normal};
use tch::{Device, Kind, Tensor};

use crate::error::{Error, Result};
use crate::model::config::DecoderConfig;
use crate::model::params::Parameters;

/// Fresh parameters as transformers initialises them: matrices normal with standard deviation
/// [`DecoderConfig::initializer_range`], norms 1 (0 where 1 is added to them), biases 0, a delta net's
/// `dt_bias` 1 and its `A_log` the logarithm of something uniform in [0.01, 16). The same seed gives the same numbers on
/// every machine and device.
///
/// # Errors
/// [`Error::Invalid`] if the standard deviation is not a positive number; libtorch's.
pub fn init_parameters(
    config: &DecoderConfig,
    seed: u64,
    kind: Kind,
    device: Device,
) -> Result<Parameters> {
    let normal = Normal::new(0.0, config.initializer_range as f32)
        .ok()
        .filter(|_| config.initializer_range > 0.0)
        .ok_or_else(|| {
            let got = config.initializer_range;
            let why = format!("expected a positive number, got {got}");
            Error::invalid("initializer_range", why)
        })?;
    let specs = config.param_specs();
    let mut parameters = Parameters::zeros(&specs, kind, device)?;
    for (i, spec) in specs.iter().enumerate() {
        // One stream per tensor, so that a tensor does not depend on the ones before it.
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(i as u64);
        let value = if spec.name.ends_with("A_log") {
            // Uniform rates of forgetting.
            let rates: Vec<f32> = (0..spec.numel())
                .map(|_| rng.random_range(0.01f32..16.0))
                .collect();
            Tensor::f_from_slice(&rates)?.f_log()?
        } else if spec.name.ends_with("norm.weight") || spec.name.ends_with("dt_bias") {
            let is_offset = !spec.name.contains(".linear_attn.");
            let offset = config.architecture.block().norm_offset;
            let one = if is_offset { 1.0 - offset } else { 1.0 };
            Tensor::f_full(&spec.shape, one, (Kind::Float, Device::Cpu))?
        } else if spec.name.ends_with(".bias") {
            Tensor::f_zeros(&spec.shape, (Kind::Float, Device::Cpu))?
        } else {
            let draws = normal.sample_iter(&mut rng);
            let values: Vec<f32> = draws.take(spec.numel() as usize).collect();
            Tensor::f_from_slice(&values)?.f_view(&spec.shape[..])?
        };
        parameters.copy_from(&spec.name, &value)?;
    }
    Ok(parameters)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::says;

    #[test]
    fn matrices_are_normal_norms_one_and_the_seed_decides() {
        let config = DecoderConfig::tiny_qwen3(64, 32, 2, 4, 2);
        let init = |seed| init_parameters(&config, seed, Kind::Float, Device::Cpu).unwrap();
        let (a, b, c) = (init(1), init(1), init(2));
        assert_eq!(a.flat(), b.flat());
        assert_ne!(a.flat(), c.flat());
        let embedding = a.get("model.embed_tokens.weight").unwrap();
        let std = embedding.std(true).double_value(&[]);
        // 2048 draws: the standard error of the standard deviation is 1.6 %.
        assert!((std - 0.02).abs() < 0.02 * 0.08, "{std}");
        let norm = a.get("model.layers.1.self_attn.q_norm.weight").unwrap();
        assert_eq!(Vec::<f32>::try_from(norm).unwrap(), [1.0; 8]);
        let other = a.get("model.layers.0.self_attn.q_proj.weight").unwrap();
        let same = a.get("model.layers.1.self_attn.q_proj.weight").unwrap();
        assert_ne!(other, same);
    }

    #[test]
    fn a_standard_deviation_must_be_positive() {
        let mut config = DecoderConfig::tiny_qwen3(64, 32, 2, 4, 2);
        for wrong in [0.0, -1.0, f64::NAN] {
            config.initializer_range = wrong;
            let expected = format!("initializer_range: expected a positive number, got {wrong}");
            says(
                init_parameters(&config, 1, Kind::Float, Device::Cpu),
                &expected,
            );
        }
    }
}
