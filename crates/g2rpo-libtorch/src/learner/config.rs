//! Settings of the learner.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::learner::optim::AdamWConfig;
use crate::model::lora::LoraConfig;

/// Settings of a [`TorchLearner`](crate::TorchLearner), by the names of TRL and transformers where
/// they have one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LearnerConfig {
    /// Fraction of a weight, times the learning rate, by which it shrinks every step; biases and
    /// norms are exempt. Transformers' default is 0.
    pub weight_decay: f64,
    /// Decay of AdamW's mean of gradients.
    pub adam_beta1: f64,
    /// Decay of AdamW's mean of squared gradients.
    pub adam_beta2: f64,
    /// Added to the root of AdamW's mean square.
    pub adam_epsilon: f64,
    /// Largest Euclidean norm of the gradient; a longer one is scaled down. 0 switches clipping
    /// off. Transformers' default is 1.
    pub max_grad_norm: f64,
    /// Most positions, padding included, that one micro-batch may have; a longer sequence has one
    /// to itself. Loss and gradient do not depend on it beyond rounding, memory does.
    pub max_tokens_per_micro_batch: usize,
    /// Whether layers are computed once more in the backward pass instead of keeping all their
    /// activations. TRL's default is true.
    pub gradient_checkpointing: bool,
    /// Most MiB that one tensor of logits may take. Tokens are projected to the vocabulary in
    /// chunks of that size; when all tokens of a micro-batch fit, they are projected once, and
    /// otherwise once more in the backward pass. A few such tensors exist at a time.
    pub max_logits_mib: usize,
    /// Whether the projection to the vocabulary of a bf16 model is computed in f32, with a copy of
    /// its weight in f32 for the length of a micro-batch. Otherwise its products are rounded to
    /// bf16 before log-probabilities are computed in f32. TRL's default is false.
    pub cast_lm_head_to_fp32: bool,
    /// Train low-rank adapters instead of all parameters.
    pub lora: Option<LoraConfig>,
    /// What [`WhichPolicy::Reference`](g2rpo_core::WhichPolicy::Reference) is.
    pub reference: Reference,
    /// Whether the reference follows the policy. Only for [`Reference::FrozenCopy`].
    pub sync_ref_model: bool,
    /// Share of the current policy in the reference after it was synced: 1 replaces it, less is a
    /// moving average (TR-DPO, arXiv 2404.09656). TRL's default.
    pub ref_model_mixup_alpha: f64,
    /// Optimiser steps between syncs. TRL's default.
    pub ref_model_sync_steps: u64,
}

impl Default for LearnerConfig {
    fn default() -> Self {
        let AdamWConfig {
            adam_beta1,
            adam_beta2,
            adam_epsilon,
            weight_decay,
        } = AdamWConfig::default();
        Self {
            weight_decay,
            adam_beta1,
            adam_beta2,
            adam_epsilon,
            max_grad_norm: 1.0,
            max_tokens_per_micro_batch: 4096,
            gradient_checkpointing: true,
            max_logits_mib: 64,
            cast_lm_head_to_fp32: false,
            lora: None,
            reference: Reference::None,
            sync_ref_model: false,
            ref_model_mixup_alpha: 0.6,
            ref_model_sync_steps: 512,
        }
    }
}

/// What the reference policy of the KL term is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reference {
    /// There is none, for runs with `beta = 0`.
    None,
    /// The policy as it was when the learner was made. With LoRA only the adapters are copied.
    FrozenCopy,
    /// The base model without the adapters; takes no memory.
    AdapterDisabled,
}

impl LearnerConfig {
    /// The part that concerns the optimiser.
    pub(crate) fn adamw(&self) -> AdamWConfig {
        AdamWConfig {
            adam_beta1: self.adam_beta1,
            adam_beta2: self.adam_beta2,
            adam_epsilon: self.adam_epsilon,
            weight_decay: self.weight_decay,
        }
    }

    /// Checks the numbers, and that the choices fit together.
    ///
    /// # Errors
    /// [`Error::Core`] naming a number out of range, [`Error::Invalid`] naming a choice that does
    /// not fit the others.
    pub fn validate(&self) -> Result<()> {
        let alpha = self.ref_model_mixup_alpha;
        for (name, value, ok, domain) in [
            (
                "max_grad_norm",
                self.max_grad_norm,
                self.max_grad_norm >= 0.0,
                "[0, ∞]",
            ),
            (
                "max_tokens_per_micro_batch",
                self.max_tokens_per_micro_batch as f64,
                self.max_tokens_per_micro_batch > 0,
                "[1, ∞)",
            ),
            (
                "ref_model_mixup_alpha",
                alpha,
                (0.0..=1.0).contains(&alpha),
                "[0, 1]",
            ),
            (
                "ref_model_sync_steps",
                self.ref_model_sync_steps as f64,
                self.ref_model_sync_steps > 0,
                "[1, ∞)",
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
        if self.reference == Reference::AdapterDisabled && self.lora.is_none() {
            return Err(Error::invalid(
                "reference",
                "adapter_disabled needs lora; use frozen_copy or none",
            ));
        }
        if self.sync_ref_model && self.reference != Reference::FrozenCopy {
            return Err(Error::invalid(
                "sync_ref_model",
                "only a reference of kind frozen_copy can follow the policy",
            ));
        }
        self.lora.as_ref().map_or(Ok(()), LoraConfig::validate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_that_do_not_fit_are_refused() {
        let message = |change: &dyn Fn(&mut LearnerConfig)| {
            let mut config = LearnerConfig::default();
            change(&mut config);
            config.validate().unwrap_err().to_string()
        };
        assert!(LearnerConfig::default().validate().is_ok());
        assert!(message(&|c| c.max_grad_norm = f64::NAN).starts_with("max_grad_norm"));
        assert!(message(&|c| c.ref_model_sync_steps = 0).starts_with("ref_model_sync_steps"));
        assert!(message(&|c| c.reference = Reference::AdapterDisabled).starts_with("reference"));
        assert!(message(&|c| c.sync_ref_model = true).starts_with("sync_ref_model"));
    }

    #[test]
    fn a_misspelt_setting_is_refused() {
        let parse = |text: &str| serde_json::from_str::<LearnerConfig>(text);
        let config = parse(r#"{"reference": "frozen_copy", "lora": {"r": 4}}"#).unwrap();
        assert_eq!(config.reference, Reference::FrozenCopy);
        assert_eq!(config.lora.unwrap().r, 4);
        assert!(parse(r#"{"wieght_decay": 0.1}"#).is_err());
    }
}
