//! Passes over a batch: log-probabilities, and gradients of a loss given per token.

use g2rpo_core::{Ragged, Scoring, Sequences, TokenGrads, TokenOutputs};
use tch::{Kind, Tensor};

use super::batch::{Inputs, MicroBatch, plan};
use super::config::LearnerConfig;
use super::head::TokenHead;
use super::trunk::{Trained, Trunk};
use crate::error::{Doing, Error, Result};
use crate::model::decoder::Decoder;
use crate::model::params::{Gradients, float_kind};

/// Passes over a batch, micro-batch by micro-batch.
#[derive(Debug)]
pub(super) struct Scorer<'a> {
    pub(super) decoder: &'a Decoder,
    pub(super) trained: &'a Trained,
    pub(super) config: &'a LearnerConfig,
    pub(super) scoring: Scoring,
}

impl Scorer<'_> {
    /// Log-probabilities of all completion tokens, and their entropies if they are wanted.
    pub(super) fn token_logps(&self, sequences: &Sequences) -> Result<TokenOutputs> {
        let mut logps = vec![Vec::new(); sequences.n_rows()];
        let mut entropies = logps.clone();
        let weight_vh = self.head_weight()?;
        let head = self.head(&weight_vh);
        for batch in self.plan(sequences) {
            if batch.width == 0 {
                continue;
            }
            let inputs = self.inputs(&batch, sequences)?;
            let hidden_nh = self.trunk().infer(&inputs.ids_bt, &inputs.position_n)?;
            let hidden_nh = hidden_nh.f_to_kind(weight_vh.kind())?;
            let output = head.forward(&hidden_nh, &inputs.target_n, false)?;
            for (what, values_n, rows) in [
                ("log-probability", Some(&output.logp_n), &mut logps),
                ("entropy", output.entropy_n.as_ref(), &mut entropies),
            ] {
                let Some(values_n) = values_n else { continue };
                let values = split(values_n, &batch, sequences)?;
                check_finite(what, &values, &batch)?;
                for (&row, values) in batch.rows.iter().zip(values.rows()) {
                    rows[row] = values.to_vec();
                }
            }
        }
        Ok(TokenOutputs {
            rows: (0..sequences.n_rows()).collect(),
            logp: Ragged::from_rows(logps),
            entropy: self.scoring.entropy.then(|| Ragged::from_rows(entropies)),
        })
    }

    /// Adds to the gradients. On an error they hold a part of the sum.
    ///
    /// Adds to `expert_loads`, per layer with experts, how often each was read for a completion token.
    pub(super) fn accumulate(
        &self,
        sequences: &Sequences,
        loss: &mut dyn FnMut(&TokenOutputs) -> g2rpo_core::Result<TokenGrads>,
        gradients: &mut Gradients,
        expert_loads: &mut Vec<Vec<u64>>,
    ) -> Result<()> {
        for batch in self.plan(sequences) {
            if batch.width == 0 {
                let none = Ragged::from_rows(batch.rows.iter().map(|_| []));
                let outputs = TokenOutputs {
                    rows: batch.rows.clone(),
                    entropy: self.scoring.entropy.then(|| none.clone()),
                    logp: none,
                };
                check_grads(&loss(&outputs)?, &outputs, &batch)?;
                continue;
            }
            let loads = self.accumulate_batch(&batch, sequences, loss, gradients)?;
            expert_loads.resize(loads.len(), Vec::new());
            for (sums, loads) in expert_loads.iter_mut().zip(loads) {
                sums.resize(loads.len(), 0);
                sums.iter_mut()
                    .zip(loads)
                    .for_each(|(sum, load)| *sum += load);
            }
        }
        Ok(())
    }

    fn accumulate_batch(
        &self,
        batch: &MicroBatch,
        sequences: &Sequences,
        loss: &mut dyn FnMut(&TokenOutputs) -> g2rpo_core::Result<TokenGrads>,
        gradients: &mut Gradients,
    ) -> Result<Vec<Vec<u64>>> {
        let Inputs {
            ids_bt,
            position_n,
            target_n,
        } = self.inputs(batch, sequences)?;
        let weight_vh = self.head_weight()?;
        let (trunk, head) = (self.trunk(), self.head(&weight_vh));
        let mut activations = trunk.forward(&ids_bt, &position_n)?;
        let loads = std::mem::take(&mut activations.expert_loads);
        let hidden_nh = activations.hidden_nh()?.f_to_kind(weight_vh.kind())?;
        let output = head.forward(&hidden_nh, &target_n, true)?;
        let outputs = TokenOutputs {
            rows: batch.rows.clone(),
            logp: split(&output.logp_n, batch, sequences)?,
            entropy: (output.entropy_n.as_ref())
                .map(|entropy| split(entropy, batch, sequences))
                .transpose()?,
        };
        check_finite("log-probability", &outputs.logp, batch)?;
        if let Some(entropy) = &outputs.entropy {
            check_finite("entropy", entropy, batch)?;
        }
        let grads = loss(&outputs)?;
        check_grads(&grads, &outputs, batch)?;
        let entropy_grad = grads
            .entropy
            .filter(|g| g.values().iter().any(|&g| g != 0.0));
        if entropy_grad.is_none() && grads.logp.values().iter().all(|&g| g == 0.0) {
            // As for groups whose rewards are all equal: nothing to learn, nothing to compute.
            return Ok(loads);
        }
        let logp_grad_n = self.upload(&grads.logp)?;
        let entropy_grad_n = entropy_grad.map(|g| self.upload(&g)).transpose()?;
        let hidden_grad_nh = head.backward(
            &hidden_nh,
            &target_n,
            output,
            &logp_grad_n,
            entropy_grad_n.as_ref(),
            self.trained.head.map(|i| gradients.view(i)),
        )?;
        drop(weight_vh);
        let hidden_grad_nh = hidden_grad_nh.f_to_kind(self.decoder.kind())?;
        trunk.backward(&ids_bt, activations, &hidden_grad_nh, gradients)?;
        Ok(loads)
    }

    fn plan(&self, sequences: &Sequences) -> Vec<MicroBatch> {
        plan(sequences, self.config.max_tokens_per_micro_batch)
    }

    fn inputs(&self, batch: &MicroBatch, sequences: &Sequences) -> Result<Inputs> {
        batch.inputs(
            sequences,
            self.decoder.config().vocab_size,
            self.decoder.device(),
        )
    }

    fn trunk(&self) -> Trunk<'_> {
        Trunk {
            decoder: self.decoder,
            trained: self.trained,
            checkpointing: self.config.gradient_checkpointing,
        }
    }

    /// The vocabulary projection, in the number format that it is computed in.
    fn head_weight(&self) -> Result<Tensor> {
        let weight_vh = self.decoder.lm_head();
        if !self.config.cast_lm_head_to_fp32 {
            return Ok(weight_vh.shallow_clone());
        }
        tch::no_grad(|| weight_vh.f_to_kind(float_kind(weight_vh.kind())))
            .doing(|| "copying the vocabulary projection to f32".into())
    }

    fn head<'a>(&self, weight_vh: &'a Tensor) -> TokenHead<'a> {
        let vocab = self.decoder.config().vocab_size;
        let row = vocab * float_kind(self.decoder.kind()).elt_size_in_bytes();
        TokenHead {
            weight_vh,
            temperature: self.scoring.temperature,
            entropy: self.scoring.entropy,
            frozen: self.trained.head.is_none(),
            chunk: ((self.config.max_logits_mib << 20) / row.max(1)).max(1) as i64,
        }
    }

    fn upload(&self, values: &Ragged<f64>) -> Result<Tensor> {
        Tensor::f_from_slice(values.values())
            .and_then(|t| t.f_to_kind(float_kind(self.decoder.kind())))
            .and_then(|t| t.f_to_device(self.decoder.device()))
            .doing(|| "copying gradients to the device".into())
    }
}

/// `[N]` to one row per sequence of the micro-batch.
fn split(values_n: &Tensor, batch: &MicroBatch, sequences: &Sequences) -> Result<Ragged<f64>> {
    let values: Vec<f64> = values_n
        .f_to_kind(Kind::Double)
        .and_then(|t| t.f_to_device(tch::Device::Cpu))
        .and_then(|t| Vec::try_from(&t))
        .doing(|| "copying log-probabilities from the device".into())?;
    let lengths: Vec<usize> = (batch.rows.iter())
        .map(|&row| sequences.completion(row).len())
        .collect();
    Ok(Ragged::from_parts(values, &lengths)?)
}

fn check_finite(what: &str, values: &Ragged<f64>, batch: &MicroBatch) -> Result<()> {
    for (&row, values) in batch.rows.iter().zip(values.rows()) {
        if let Some(token) = values.iter().position(|v| !v.is_finite()) {
            return Err(Error::NotFinite {
                what: format!("the {what} of row {row}, completion token {token}"),
            });
        }
    }
    Ok(())
}

/// Checks what the loss returned.
fn check_grads(grads: &TokenGrads, outputs: &TokenOutputs, batch: &MicroBatch) -> Result<()> {
    grads
        .logp
        .check_shape("gradient of log-probabilities", &outputs.logp)?;
    check_finite("gradient of the log-probability", &grads.logp, batch)?;
    match (&grads.entropy, &outputs.entropy) {
        (None, _) => Ok(()),
        (Some(grad), Some(entropy)) => {
            grad.check_shape("gradient of entropies", entropy)?;
            check_finite("gradient of the entropy", grad, batch)
        }
        (Some(_), None) => Err(Error::invalid(
            "Scoring::entropy",
            "the loss has an entropy term, but the learner was not asked for entropies",
        )),
    }
}
