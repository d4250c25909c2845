//! Settings of the learner.

use serde::{Deserialize, Serialize};

use crate::error::{Result, ensure, within};
use crate::model::lora::LoraConfig;

/// Settings of a [`TorchLearner`](crate::TorchLearner), by the names of TRL and transformers where
/// they have one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LearnerConfig {
    /// Fraction of a weight, times the learning rate, by which it shrinks every step; biases and
    /// norms are exempt. Transformers' default is 0.
    pub weight_decay: f64,
    /// Decay of AdamW's mean of gradients, in `[0, 1)`.
    pub adam_beta1: f64,
    /// Decay of AdamW's mean of squared gradients, in `[0, 1)`.
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
        Self {
            weight_decay: 0.0,
            adam_beta1: 0.9,
            adam_beta2: 0.999,
            adam_epsilon: 1e-8,
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
    /// Checks the numbers, and that the choices fit together.
    ///
    /// # Errors
    /// [`Error::Core`](crate::Error::Core) naming a number out of range,
    /// [`Error::Invalid`](crate::Error::Invalid) naming a choice that does not fit the others.
    pub fn validate(&self) -> Result<()> {
        let (share, amount) = (0.0..1.0, 0.0..f64::INFINITY);
        within("adam_beta1", self.adam_beta1, &share, "[0, 1)")?;
        within("adam_beta2", self.adam_beta2, &share, "[0, 1)")?;
        within("adam_epsilon", self.adam_epsilon, &amount, "[0, ∞)")?;
        within("weight_decay", self.weight_decay, &amount, "[0, ∞)")?;
        let positions = self.max_tokens_per_micro_batch as f64;
        let (alpha, steps) = (self.ref_model_mixup_alpha, self.ref_model_sync_steps as f64);
        within("max_grad_norm", self.max_grad_norm, &(0.0..), "[0, ∞]")?;
        within("max_tokens_per_micro_batch", positions, &(1.0..), "[1, ∞)")?;
        within("ref_model_mixup_alpha", alpha, &(0.0..=1.0), "[0, 1]")?;
        within("ref_model_sync_steps", steps, &(1.0..), "[1, ∞)")?;
        let is_there = self.reference != Reference::AdapterDisabled || self.lora.is_some();
        let why = "adapter_disabled needs lora; use frozen_copy or none";
        ensure(is_there, "reference", || why)?;
        let follows = !self.sync_ref_model || self.reference == Reference::FrozenCopy;
        let why = "only a reference of kind frozen_copy can follow the policy";
        ensure(follows, "sync_ref_model", || why)?;
        self.lora.as_ref().map_or(Ok(()), LoraConfig::validate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::says;

    #[test]
    fn choices_that_do_not_fit_are_refused() {
        assert!(LearnerConfig::default().validate().is_ok());
        let check = |expected, change: fn(&mut LearnerConfig)| {
            let mut config = LearnerConfig::default();
            change(&mut config);
            says(config.validate(), expected);
        };
        let domain = "adam_beta2 = 1 is outside its domain [0, 1)";
        check(domain, |c| c.adam_beta2 = 1.0);
        check("max_grad_norm…", |c| c.max_grad_norm = f64::NAN);
        check("ref_model_sync_steps…", |c| c.ref_model_sync_steps = 0);
        check("reference…", |c| c.reference = Reference::AdapterDisabled);
        check("sync_ref_model…", |c| c.sync_ref_model = true);
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
