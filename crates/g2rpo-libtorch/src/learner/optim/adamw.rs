//! AdamW on flat buffers.

use tch::{Kind, TchError, Tensor};

use super::clip::slice_len;
use crate::error::Doing;
use crate::error::{Error, Result};
use crate::model::params::{ParamSpec, Parameters};

/// Numbers of AdamW, by the names and defaults of transformers' `TrainingArguments`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamWConfig {
    /// Decay of the mean of gradients, in `[0, 1)`.
    pub adam_beta1: f64,
    /// Decay of the mean of squared gradients, in `[0, 1)`.
    pub adam_beta2: f64,
    /// Added to the root of the mean square.
    pub adam_epsilon: f64,
    /// Fraction of a parameter, times the learning rate, by which it shrinks every step. Biases
    /// and the weights of norms are exempt, as in transformers.
    pub weight_decay: f64,
}

impl Default for AdamWConfig {
    fn default() -> Self {
        Self {
            adam_beta1: 0.9,
            adam_beta2: 0.999,
            adam_epsilon: 1e-8,
            weight_decay: 0.0,
        }
    }
}

/// AdamW (Loshchilov & Hutter, arXiv 1711.05101) on flat buffers, with the arithmetic of
/// `torch.optim.AdamW`.
///
/// For parameters in bf16 it keeps a copy in f32, which is what is updated; the parameters are
/// that copy, rounded. Otherwise updates smaller than the eighth bit of a weight would be lost,
/// and at the learning rates of GRPO most are.
#[derive(Debug)]
pub struct AdamW {
    config: AdamWConfig,
    steps: u64,
    exp_avg: Tensor,
    exp_avg_sq: Tensor,
    master: Option<Tensor>,
    /// Consecutive parts of the flat buffer, with whether weights decay there.
    spans: Vec<Span>,
}

#[derive(Debug, PartialEq)]
struct Span {
    start: i64,
    len: i64,
    decay: bool,
}

impl AdamW {
    /// A new optimiser for these parameters.
    ///
    /// # Errors
    /// [`Error::Core`] for a number out of range, [`Error::Invalid`] for f16 parameters (their
    /// gradients would need loss scaling), [`Error::OutOfMemory`] naming the buffer.
    pub fn new(parameters: &Parameters, config: AdamWConfig) -> Result<Self> {
        config.validate()?;
        let (kind, keeps_master) = match parameters.kind() {
            kind @ (Kind::Float | Kind::Double) => (kind, false),
            Kind::BFloat16 => (Kind::Float, true),
            other => {
                return Err(Error::invalid(
                    "dtype of trained parameters",
                    format!("expected float32 or bfloat16, got {other:?}"),
                ));
            }
        };
        let (layout, device) = (parameters.layout(), parameters.device());
        let master = match keeps_master {
            true => {
                let mut master = layout.allocate(kind, device, "master weights")?;
                tch::no_grad(|| master.f_copy_(parameters.flat()))?;
                Some(master)
            }
            false => None,
        };
        Ok(Self {
            config,
            steps: 0,
            exp_avg: layout.allocate(kind, device, "AdamW's mean of gradients")?,
            exp_avg_sq: layout.allocate(kind, device, "AdamW's mean of squared gradients")?,
            master,
            spans: spans(parameters.specs(), &layout.offsets, layout.len),
        })
    }

    /// One update. `gradient` is a flat buffer laid out as the parameters are; it is multiplied by
    /// `scale` first, and serves as scratch space: its contents are lost.
    ///
    /// # Errors
    /// [`Error::Torch`]; the parameters may then be updated in part.
    pub(crate) fn step(
        &mut self,
        parameters: &mut Parameters,
        gradient: &Tensor,
        scale: f64,
        lr: f64,
    ) -> Result<()> {
        self.steps += 1;
        tch::no_grad(|| self.update(parameters, gradient, scale, lr))
            .doing(|| "updating the parameters".into())
    }

    fn update(
        &self,
        parameters: &mut Parameters,
        gradient: &Tensor,
        scale: f64,
        lr: f64,
    ) -> Result<(), TchError> {
        let c = &self.config;
        let t = self.steps as f64;
        let step_size = lr / (1.0 - c.adam_beta1.powf(t));
        let bias_correction2_sqrt = (1.0 - c.adam_beta2.powf(t)).sqrt();
        let slice = slice_len(gradient.device());
        let weights = self.master.as_ref().unwrap_or(parameters.flat());
        for span in &self.spans {
            for start in (span.start..span.start + span.len).step_by(slice as usize) {
                let len = slice.min(span.start + span.len - start);
                let part = |flat: &Tensor| flat.f_narrow(0, start, len);
                let [mut w, mut g] = [part(weights)?, part(gradient)?];
                let [mut m, mut v] = [part(&self.exp_avg)?, part(&self.exp_avg_sq)?];
                if scale != 1.0 {
                    let _ = g.f_mul_scalar_(scale)?;
                }
                if span.decay && c.weight_decay != 0.0 {
                    let _ = w.f_mul_scalar_(1.0 - lr * c.weight_decay)?;
                }
                let _ = m.f_lerp_(&g, 1.0 - c.adam_beta1)?;
                let _ = g.f_square_()?.f_mul_scalar_(1.0 - c.adam_beta2)?;
                let _ = v.f_mul_scalar_(c.adam_beta2)?.f_add_(&g)?;
                // The gradient is in the moments now; its buffer takes the denominator, then the
                // change of the weights.
                let _ = (v.f_sqrt_out(&g)?)
                    .f_div_scalar_(bias_correction2_sqrt)?
                    .f_add_scalar_(c.adam_epsilon)?;
                let _ = m.f_div_out(&g, &g)?.f_mul_scalar_(-step_size)?;
                let _ = w.f_add_(&g)?;
                if self.master.is_some() {
                    part(parameters.flat())?.f_copy_(&w)?;
                }
            }
        }
        Ok(())
    }

    /// Number of updates so far.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// What must be saved besides the number of steps, each laid out as the parameters are: the
    /// weights in the precision they are updated in, and the two moments.
    pub(crate) fn buffers<'a>(
        &'a self,
        parameters: &'a Parameters,
    ) -> [(&'static str, &'a Tensor); 3] {
        [
            ("param", self.master.as_ref().unwrap_or(parameters.flat())),
            ("exp_avg", &self.exp_avg),
            ("exp_avg_sq", &self.exp_avg_sq),
        ]
    }

    /// To be called after the buffers were overwritten with saved ones.
    pub(crate) fn restored(&mut self, parameters: &mut Parameters, steps: u64) -> Result<()> {
        self.steps = steps;
        if let Some(master) = &self.master {
            tch::no_grad(|| parameters.flat().shallow_clone().f_copy_(master))
                .doing(|| "rounding master weights".into())?;
        }
        Ok(())
    }
}

impl AdamWConfig {
    fn validate(&self) -> Result<()> {
        for (name, value, ok, domain) in [
            (
                "adam_beta1",
                self.adam_beta1,
                (0.0..1.0).contains(&self.adam_beta1),
                "[0, 1)",
            ),
            (
                "adam_beta2",
                self.adam_beta2,
                (0.0..1.0).contains(&self.adam_beta2),
                "[0, 1)",
            ),
            (
                "adam_epsilon",
                self.adam_epsilon,
                (0.0..f64::INFINITY).contains(&self.adam_epsilon),
                "[0, ∞)",
            ),
            (
                "weight_decay",
                self.weight_decay,
                (0.0..f64::INFINITY).contains(&self.weight_decay),
                "[0, ∞)",
            ),
        ] {
            if !ok {
                return Err(Error::Core(g2rpo_core::Error::Config {
                    name,
                    value,
                    domain,
                }));
            }
        }
        Ok(())
    }
}

/// Cuts the flat buffer where weight decay begins or ends.
fn spans(specs: &[ParamSpec], offsets: &[i64], total: i64) -> Vec<Span> {
    let ends = offsets.iter().skip(1).copied().chain([total]);
    let mut spans: Vec<Span> = Vec::new();
    for ((spec, &start), end) in specs.iter().zip(offsets).zip(ends) {
        let (len, decay) = (end - start, decays(&spec.name));
        match spans.last_mut() {
            Some(last) if last.decay == decay => last.len += len,
            _ => spans.push(Span { start, len, decay }),
        }
    }
    spans
}

/// Whether weight decay applies to the parameter of this name: not to biases and norms. The
/// patterns are those of transformers' `Trainer.get_decay_parameter_names`, which looks at names
/// in lower case for `bias`, `layernorm`, `rmsnorm`, and `norm` as the end of a dotted part.
fn decays(name: &str) -> bool {
    let name = name.to_lowercase();
    let anywhere = ["bias", "layernorm", "rmsnorm"];
    !anywhere.iter().any(|part| name.contains(part))
        && !(name.split('.')).any(|part| part == "norm" || part.ends_with("_norm"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;
    use tch::Device;

    #[derive(Deserialize)]
    struct Case {
        name: String,
        shapes: Vec<(String, Vec<i64>)>,
        config: [f64; 4],
        max_grad_norm: f64,
        lrs: Vec<f64>,
        params: Vec<Vec<f64>>,
        grads: Vec<Vec<Vec<f64>>>,
        norms: Vec<f64>,
        after_one: Vec<Vec<f64>>,
        after_all: Vec<Vec<f64>>,
    }

    fn tensor(values: &[f64], shape: &[i64], kind: Kind) -> Tensor {
        Tensor::from_slice(values).to_kind(kind).view(shape)
    }

    fn assert_close(p: &Parameters, expected: &[Vec<f64>], tolerance: f64, what: &str) {
        for (spec, expected) in p.specs().iter().zip(expected) {
            let got = p.get(&spec.name).unwrap().to_kind(Kind::Double).view(-1);
            for (got, want) in Vec::<f64>::try_from(got).unwrap().iter().zip(expected) {
                assert!(
                    (got - want).abs() <= tolerance * want.abs().max(1.0),
                    "{what}, {}: {got} instead of {want}",
                    spec.name
                );
            }
        }
    }

    #[test]
    fn one_and_ten_steps_equal_torch() {
        let cases: Vec<Case> =
            serde_json::from_str(include_str!("../../../../../testdata/learner/adamw.json"))
                .unwrap();
        assert!(cases.len() >= 3);
        for case in &cases {
            let specs: Vec<ParamSpec> = (case.shapes.iter())
                .map(|(name, shape)| ParamSpec {
                    name: name.clone(),
                    shape: shape.clone(),
                })
                .collect();
            // f32 as torch ran it, and bf16 through its master copy.
            let mut p = Parameters::zeros(&specs, Kind::Float, Device::Cpu).unwrap();
            for (spec, values) in specs.iter().zip(&case.params) {
                p.copy_from(&spec.name, &tensor(values, &spec.shape, Kind::Float))
                    .unwrap();
            }
            let [adam_beta1, adam_beta2, adam_epsilon, weight_decay] = case.config;
            let config = AdamWConfig {
                adam_beta1,
                adam_beta2,
                adam_epsilon,
                weight_decay,
            };
            let mut adamw = AdamW::new(&p, config).unwrap();
            for (i, (grads, &lr)) in case.grads.iter().zip(&case.lrs).enumerate() {
                let mut g = crate::model::params::Gradients::zeros(&p).unwrap();
                for (j, (spec, values)) in specs.iter().zip(grads).enumerate() {
                    g.add(j, &tensor(values, &spec.shape, Kind::Float)).unwrap();
                }
                let norm = super::super::grad_norm(g.flat()).unwrap();
                approx::assert_relative_eq!(norm, case.norms[i], max_relative = 1e-6);
                let scale = super::super::clip_factor(norm, case.max_grad_norm);
                adamw.step(&mut p, g.flat(), scale, lr).unwrap();
                if i == 0 {
                    assert_close(&p, &case.after_one, 1e-6, &format!("{}, step 1", case.name));
                }
            }
            assert_eq!(adamw.steps(), 10);
            assert_close(
                &p,
                &case.after_all,
                1e-6,
                &format!("{}, step 10", case.name),
            );
        }
    }

    #[test]
    fn bf16_parameters_collect_updates_too_small_for_them() {
        let specs = [ParamSpec {
            name: "w".into(),
            shape: vec![3],
        }];
        let mut p = Parameters::zeros(&specs, Kind::BFloat16, Device::Cpu).unwrap();
        p.copy_from("w", &Tensor::from_slice(&[1f32, 1., 1.]))
            .unwrap();
        let mut adamw = AdamW::new(&p, AdamWConfig::default()).unwrap();
        // A step of AdamW on a constant gradient moves by lr: 1e-4 is lost against 1 in bf16
        // (spacing 2⁻⁸ below 1), ten of them are not quite half a spacing, twenty-five are more.
        for step in 1..=25 {
            let g = Tensor::full([64], 1.0, (Kind::Float, Device::Cpu));
            adamw.step(&mut p, &g, 1.0, 1e-4).unwrap();
            let w = p.get("w").unwrap().double_value(&[0]);
            match step {
                1..=10 => assert_eq!(w, 1.0),
                25 => assert_eq!(w, 1.0 - 2f64.powi(-8)),
                _ => {}
            }
        }
    }

    #[test]
    fn decay_spares_norms_and_biases() {
        for name in [
            "model.norm.weight",
            "model.layers.0.input_layernorm.weight",
            "model.layers.0.self_attn.q_norm.weight",
            "model.layers.0.self_attn.q_proj.bias",
        ] {
            assert!(!decays(name), "{name}");
        }
        for name in [
            "model.embed_tokens.weight",
            "lm_head.weight",
            "normal.weight",
        ] {
            assert!(decays(name), "{name}");
        }
        let spec = |name: &str| ParamSpec {
            name: name.into(),
            shape: vec![64],
        };
        let specs = [
            spec("a.weight"),
            spec("b.weight"),
            spec("norm.weight"),
            spec("c.weight"),
        ];
        let span = |start, len, decay| Span { start, len, decay };
        assert_eq!(
            spans(&specs, &[0, 64, 128, 192], 256),
            [
                span(0, 128, true),
                span(128, 64, false),
                span(192, 64, true)
            ]
        );
    }

    #[test]
    fn settings_out_of_range_are_refused() {
        let p = Parameters::zeros(&[], Kind::Float, Device::Cpu).unwrap();
        let config = AdamWConfig {
            adam_beta2: 1.0,
            ..AdamWConfig::default()
        };
        assert_eq!(
            AdamW::new(&p, config).unwrap_err().to_string(),
            "adam_beta2 = 1 is outside its domain [0, 1)"
        );
        let p = Parameters::zeros(&[], Kind::Half, Device::Cpu).unwrap();
        assert!(AdamW::new(&p, AdamWConfig::default()).is_err());
    }
}
