//! A learner on libtorch: token log-probabilities, their gradient, and AdamW.

use g2rpo_core::{
    ExpertLoad, Learner, Scoring, Sequences, TokenGrads, TokenOutputs, UpdateStats, WhichPolicy,
};
use tch::Tensor;

use super::config::{LearnerConfig, Reference};
use super::pass::Scorer;
use super::trunk::Trained;
use crate::error::{Doing, Error, Result, within};
use crate::learner::optim::{AdamW, clip_factor, grad_norm};
use crate::model::config::DecoderConfig;
use crate::model::decoder::Decoder;
use crate::model::lora::Adapter;
use crate::model::params::{Gradients, Parameters, first_not_finite};

/// Trains a [`Decoder`], all of it or low-rank adapters beside it.
///
/// Memory, beside the model's: gradients in f32, AdamW's two moments in f32, a master copy in f32
/// for bf16 parameters, each as large as what is trained; the activations of one micro-batch (one
/// layer's and every layer's input with checkpointing); a few tensors of logits of
/// [`LearnerConfig::max_logits_mib`].
#[derive(Debug)]
pub struct TorchLearner {
    config: LearnerConfig,
    pub(super) base: Parameters,
    adapter: Option<Adapter>,
    policy: Decoder,
    trained: Trained,
    reference: Option<ReferencePolicy>,
    pub(super) gradients: Gradients,
    /// Whether the gradient holds anything yet, which waits for [`apply`](Learner::apply).
    pub(super) has_gradient: bool,
    pub(super) optimizer: AdamW,
    expert_loads: Vec<Vec<u64>>,
}

/// The reference: a decoder, and the parameters that are its own.
#[derive(Debug)]
pub(crate) struct ReferencePolicy {
    pub(crate) decoder: Decoder,
    /// A copy of what is trained; `None` when the reference is the base model.
    pub(crate) copy: Option<Parameters>,
}

impl TorchLearner {
    /// A learner for a model. With [`LearnerConfig::lora`], the adapters are fresh, and so add
    /// nothing at first.
    ///
    /// # Errors
    /// [`Error::Invalid`] or [`Error::Core`] for settings that do not fit,
    /// [`Error::UnknownParameter`] if parameters of the model are missing,
    /// [`Error::OutOfMemory`] naming the buffer.
    pub fn new(
        model: &DecoderConfig,
        parameters: Parameters,
        config: LearnerConfig,
    ) -> Result<Self> {
        let (kind, device) = (parameters.kind(), parameters.device());
        let adapter = config.lora.as_ref();
        let adapter = adapter.map(|lora| Adapter::new(model, lora, kind, device));
        Self::with_adapter(model, parameters, adapter.transpose()?, config)
    }

    /// A learner that goes on training an adapter, for example one read by [`Adapter::load`]. Its
    /// settings replace [`LearnerConfig::lora`].
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn with_adapter(
        model: &DecoderConfig,
        mut base: Parameters,
        adapter: Option<Adapter>,
        mut config: LearnerConfig,
    ) -> Result<Self> {
        config.lora = adapter.as_ref().map(|adapter| adapter.config().clone());
        config.validate()?;
        base.set_trainable(adapter.is_none())?;
        let policy = Adapter::decoder(model, &base, adapter.as_ref())?;
        let updated = adapter.as_ref().map_or(&base, Adapter::parameters);
        let trained = Trained::new(
            updated.specs(),
            updated.tensors(),
            policy.n_layers(),
            model.tie_word_embeddings,
        );
        let reference = match config.reference {
            Reference::None => None,
            Reference::AdapterDisabled => Some(ReferencePolicy {
                decoder: Decoder::new(model, &base)?,
                copy: None,
            }),
            Reference::FrozenCopy => {
                let mut copy = updated.to(updated.kind(), updated.device())?;
                copy.set_trainable(false)?;
                Some(ReferencePolicy {
                    decoder: match &adapter {
                        None => Decoder::new(model, &copy)?,
                        Some(adapter) => adapter.attach(Decoder::new(model, &base)?, &copy)?,
                    },
                    copy: Some(copy),
                })
            }
        };
        Ok(Self {
            gradients: Gradients::zeros(updated)?,
            optimizer: AdamW::new(updated)?,
            has_gradient: false,
            expert_loads: Vec::new(),
            config,
            base,
            adapter,
            policy,
            trained,
            reference,
        })
    }

    /// The settings.
    pub fn config(&self) -> &LearnerConfig {
        &self.config
    }

    /// The policy being trained. A clone is a handle to the same tensors for a generation
    /// engine, which sees every update.
    pub fn policy(&self) -> &Decoder {
        &self.policy
    }

    /// The model's parameters, without adapters.
    pub fn base(&self) -> &Parameters {
        &self.base
    }

    /// The low-rank adapters, if they are what is trained.
    pub fn adapter(&self) -> Option<&Adapter> {
        self.adapter.as_ref()
    }

    /// What is trained: the adapters' parameters or the model's.
    pub fn updated(&self) -> &Parameters {
        let adapter = self.adapter.as_ref();
        adapter.map_or(&self.base, Adapter::parameters)
    }

    /// A copy of the model with the adapters merged into its weights; without adapters, a plain
    /// copy.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`]; libtorch's.
    pub fn merged(&self) -> Result<Parameters> {
        let mut merged = self.base.to(self.base.kind(), self.base.device())?;
        if let Some(adapter) = &self.adapter {
            adapter.merge_into(&mut merged)?;
        }
        Ok(merged)
    }

    /// Number of optimiser steps so far.
    pub fn steps(&self) -> u64 {
        self.optimizer.steps()
    }

    /// The gradient accumulated since the last step, one flat buffer laid out as
    /// [`updated`](Self::updated) is.
    pub fn gradient(&self) -> &Tensor {
        self.gradients.flat()
    }

    /// For every layer with experts, how often each was read for a completion token of the batch that was
    /// accumulated last, until another is begun. Empty for models without experts.
    pub fn expert_loads(&self) -> &[Vec<u64>] {
        &self.expert_loads
    }

    /// Forgets the accumulated gradient.
    ///
    /// # Errors
    /// libtorch's.
    pub fn clear_gradient(&mut self) -> Result<()> {
        self.has_gradient = false;
        self.gradients.clear()
    }

    /// Moves the reference towards the policy: `reference ← (1 − alpha)·reference +
    /// alpha·policy`, so 1 makes it a copy. [`apply`](Learner::apply) does this by itself every
    /// [`LearnerConfig::ref_model_sync_steps`] steps if [`LearnerConfig::sync_ref_model`] is set.
    ///
    /// # Errors
    /// [`Error::Invalid`] if there is no frozen copy.
    pub fn sync_reference(&mut self, alpha: f64) -> Result<()> {
        let Some(copy) = self.reference_copy() else {
            let why = "there is no frozen copy that could follow the policy";
            return Err(Error::invalid("reference", why));
        };
        let mut flat = copy.flat().shallow_clone();
        tch::no_grad(|| flat.f_lerp_(self.updated().flat(), alpha))
            .map(drop)
            .doing(|| "syncing the reference with the policy".into())
    }

    /// The reference's own parameters, if it has any.
    pub(super) fn reference_copy(&self) -> Option<&Parameters> {
        self.reference.as_ref()?.copy.as_ref()
    }

    /// Takes over buffers that were overwritten with saved ones.
    pub(crate) fn restored(&mut self, steps: u64) -> Result<()> {
        self.clear_gradient()?;
        let adapter = self.adapter.as_ref();
        let updated = adapter.map_or(&self.base, Adapter::parameters);
        self.optimizer.restored(updated, steps)
    }

    /// Refuses parameters that are not finite, by name. Log-probabilities do not tell: fused
    /// attention kernels can swallow a NaN.
    fn check_parameters(&self) -> Result<()> {
        let adapter = self.adapter.as_ref().map(Adapter::parameters);
        for parameters in [Some(&self.base), adapter].into_iter().flatten() {
            if let Some(name) = parameters.first_not_finite()? {
                return Err(Error::NotFinite {
                    what: format!("parameter `{name}`"),
                });
            }
        }
        Ok(())
    }
}

impl Learner for TorchLearner {
    type Error = Error;

    fn token_logps(
        &mut self,
        sequences: &Sequences,
        policy: WhichPolicy,
        scoring: &Scoring,
    ) -> Result<TokenOutputs> {
        scoring.check()?;
        let decoder = match (policy, &self.reference) {
            (WhichPolicy::Current, _) => &self.policy,
            (WhichPolicy::Reference, Some(reference)) => &reference.decoder,
            (WhichPolicy::Reference, None) => {
                let why = "the learner was made without a reference policy";
                return Err(Error::invalid("reference", why));
            }
        };
        self.check_parameters()?;
        Scorer {
            decoder,
            trained: &self.trained,
            config: &self.config,
            scoring: *scoring,
        }
        .token_logps(sequences)
    }

    fn accumulate(
        &mut self,
        sequences: &Sequences,
        scoring: &Scoring,
        loss: &mut dyn FnMut(&TokenOutputs) -> g2rpo_core::Result<TokenGrads>,
    ) -> Result<()> {
        if !std::mem::replace(&mut self.has_gradient, true) {
            self.expert_loads.clear();
        }
        let scorer = Scorer {
            decoder: &self.policy,
            trained: &self.trained,
            config: &self.config,
            scoring: *scoring,
        };
        let outcome = (scoring.check().map_err(Error::Core))
            .and_then(|()| self.check_parameters())
            .and_then(|()| {
                scorer.accumulate(sequences, loss, &mut self.gradients, &mut self.expert_loads)
            });
        outcome.or_else(|error| {
            self.clear_gradient()?;
            Err(error)
        })
    }

    fn apply(&mut self, lr: f64) -> Result<UpdateStats> {
        within("lr", lr, &(0.0..f64::INFINITY), "[0, ∞)")?;
        let norm = grad_norm(self.gradients.flat())?;
        if !norm.is_finite() {
            let name = first_not_finite(self.gradients.flat(), self.updated().layout())?
                .unwrap_or("all parameters together")
                .to_owned();
            self.clear_gradient()?;
            return Err(Error::NotFinite {
                what: format!("the gradient of `{name}`"),
            });
        }
        let scale = clip_factor(norm, self.config.max_grad_norm);
        let experts = ExpertLoad::of(&self.expert_loads);
        let adapter = self.adapter.as_ref();
        let updated = adapter.map_or(&self.base, Adapter::parameters);
        let gradient = self.gradients.flat();
        (self.optimizer).step(&self.config, updated, gradient, scale, lr)?;
        self.clear_gradient()?;
        let every = self.config.ref_model_sync_steps;
        if self.config.sync_ref_model && self.steps().is_multiple_of(every) {
            self.sync_reference(self.config.ref_model_mixup_alpha)?;
        }
        Ok(UpdateStats {
            grad_norm: norm,
            lr,
            experts,
        })
    }
}
