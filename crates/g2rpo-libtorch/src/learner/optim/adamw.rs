//! AdamW on flat buffers.

use tch::{Kind, TchError, Tensor};

use super::clip::slice_len;
use crate::error::{Doing, Error, Result};
use crate::learner::config::LearnerConfig;
use crate::model::params::{ParamSpec, Parameters};

/// AdamW (Loshchilov & Hutter, arXiv 1711.05101) on flat buffers, with the arithmetic of
/// `torch.optim.AdamW`.
///
/// For parameters in bf16 it keeps a copy in f32, which is what is updated; the parameters are
/// that copy, rounded. Otherwise updates smaller than the eighth bit of a weight would be lost,
/// and at the learning rates of GRPO most are.
#[derive(Debug)]
pub(crate) struct AdamW {
    steps: u64,
    exp_avg: Tensor,
    exp_avg_sq: Tensor,
    master: Option<Tensor>,
    /// Consecutive parts of the flat buffer, with whether weights decay there.
    spans: Vec<Span>,
}

#[derive(Debug)]
struct Span {
    start: i64,
    len: i64,
    decay: bool,
}

impl AdamW {
    /// A new optimiser for these parameters.
    ///
    /// # Errors
    /// [`Error::Invalid`] for f16 parameters (their gradients would need loss scaling),
    /// [`Error::OutOfMemory`] naming the buffer.
    pub(crate) fn new(parameters: &Parameters) -> Result<Self> {
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
        let mut master = None;
        if keeps_master {
            let copy = master.insert(layout.allocate(kind, device, "master weights")?);
            tch::no_grad(|| copy.f_copy_(parameters.flat()))?;
        }
        Ok(Self {
            steps: 0,
            exp_avg: layout.allocate(kind, device, "AdamW's mean of gradients")?,
            exp_avg_sq: layout.allocate(kind, device, "AdamW's mean of squared gradients")?,
            master,
            spans: spans(parameters.specs(), &layout.offsets, layout.len),
        })
    }

    /// One update by the numbers of `config`. `gradient` is a flat buffer laid out as the parameters are; it is multiplied by
    /// `scale` first, and serves as scratch space: its contents are lost.
    /// After an error the parameters may be updated in part.
    pub(crate) fn step(
        &mut self,
        config: &LearnerConfig,
        parameters: &Parameters,
        gradient: &Tensor,
        scale: f64,
        lr: f64,
    ) -> Result<()> {
        self.steps += 1;
        tch::no_grad(|| self.update(config, parameters, gradient, scale, lr))
            .doing(|| "updating the parameters".into())
    }

    fn update(
        &self,
        c: &LearnerConfig,
        parameters: &Parameters,
        gradient: &Tensor,
        scale: f64,
        lr: f64,
    ) -> Result<(), TchError> {
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
    pub(crate) fn steps(&self) -> u64 {
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
    pub(crate) fn restored(&mut self, parameters: &Parameters, steps: u64) -> Result<()> {
        self.steps = steps;
        if let Some(master) = &self.master {
            tch::no_grad(|| parameters.flat().shallow_clone().f_copy_(master))
                .doing(|| "rounding master weights".into())?;
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

    fn assert_close(p: &Parameters, expected: &[Vec<f64>], what: &str) {
        for (spec, expected) in p.specs().iter().zip(expected) {
            let got = p.get(&spec.name).unwrap().to_kind(Kind::Double).view(-1);
            for (got, want) in Vec::<f64>::try_from(got).unwrap().iter().zip(expected) {
                let off = (got - want).abs();
                let name = &spec.name;
                assert!(
                    off <= 1e-6 * want.abs().max(1.0),
                    "{what}, {name}: {got} instead of {want}"
                );
            }
        }
    }

    #[test]
    fn one_and_ten_steps_equal_torch() {
        let text = include_str!("../../../../../testdata/learner/adamw.json");
        let cases: Vec<Case> = serde_json::from_str(text).unwrap();
        assert!(cases.len() >= 3);
        for case in &cases {
            let specs: Vec<ParamSpec> = (case.shapes.iter())
                .map(|(name, shape)| ParamSpec::new(name, shape))
                .collect();
            // f32 as torch ran it, and bf16 through its master copy.
            let mut p = Parameters::zeros(&specs, Kind::Float, Device::Cpu).unwrap();
            for (spec, values) in specs.iter().zip(&case.params) {
                p.copy_from(&spec.name, &tensor(values, &spec.shape, Kind::Float))
                    .unwrap();
            }
            let [adam_beta1, adam_beta2, adam_epsilon, weight_decay] = case.config;
            let config = LearnerConfig {
                adam_beta1,
                adam_beta2,
                adam_epsilon,
                weight_decay,
                ..LearnerConfig::default()
            };
            let mut adamw = AdamW::new(&p).unwrap();
            for (i, (grads, &lr)) in case.grads.iter().zip(&case.lrs).enumerate() {
                let mut g = crate::model::params::Gradients::zeros(&p).unwrap();
                for (j, (spec, values)) in specs.iter().zip(grads).enumerate() {
                    g.add(j, &tensor(values, &spec.shape, Kind::Float)).unwrap();
                }
                let norm = super::super::grad_norm(g.flat()).unwrap();
                approx::assert_relative_eq!(norm, case.norms[i], max_relative = 1e-6);
                let scale = super::super::clip_factor(norm, case.max_grad_norm);
                adamw.step(&config, &p, g.flat(), scale, lr).unwrap();
                if i == 0 {
                    assert_close(&p, &case.after_one, &format!("{}, step 1", case.name));
                }
            }
            assert_eq!(adamw.steps(), 10);
            assert_close(&p, &case.after_all, &format!("{}, step 10", case.name));
        }
    }

    #[test]
    fn bf16_parameters_collect_updates_too_small_for_them() {
        let specs = [ParamSpec::new("w", &[3])];
        let mut p = Parameters::zeros(&specs, Kind::BFloat16, Device::Cpu).unwrap();
        p.copy_from("w", &Tensor::from_slice(&[1f32, 1., 1.]))
            .unwrap();
        let (mut adamw, config) = (AdamW::new(&p).unwrap(), LearnerConfig::default());
        // A step of AdamW on a constant gradient moves by lr: 1e-4 is lost against 1 in bf16
        // (spacing 2⁻⁸ below 1), ten of them are not quite half a spacing, twenty-five are more.
        for step in 1..=25 {
            let g = Tensor::full([64], 1.0, (Kind::Float, Device::Cpu));
            adamw.step(&config, &p, &g, 1.0, 1e-4).unwrap();
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
        for (name, expected) in [
            ("model.norm.weight", false),
            ("model.layers.0.input_layernorm.weight", false),
            ("model.layers.0.self_attn.q_norm.weight", false),
            ("model.layers.0.self_attn.q_proj.bias", false),
            ("model.embed_tokens.weight", true),
            ("lm_head.weight", true),
            ("normal.weight", true),
        ] {
            assert_eq!(decays(name), expected, "{name}");
        }
        let names = ["a.weight", "b.weight", "norm.weight", "c.weight"];
        let specs = names.map(|name| ParamSpec::new(name, &[64]));
        let spans = spans(&specs, &[0, 64, 128, 192], 256);
        let spans: Vec<_> = (spans.iter().map(|s| (s.start, s.len, s.decay))).collect();
        assert_eq!(spans, [(0, 128, true), (128, 64, false), (192, 64, true)]);
    }

    #[test]
    fn f16_parameters_are_refused() {
        let p = Parameters::zeros(&[], Kind::Half, Device::Cpu).unwrap();
        assert!(AdamW::new(&p).is_err());
    }
}
