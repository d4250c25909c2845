//! Eighth of a step: the learner is updated from the rows.

use g2rpo_core::{
    BatchTotals, GuidanceTokenLoss, Learner, LossConfig, LossMetrics, Role, Scoring, Sequences,
    TokenAdvantage, TokenStreams, UpdateStats, policy_loss,
};
use g2rpo_guidance::{Method, ScoreContext};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::step::mismatch::{Mismatch, without_ratio};
use crate::step::rows::Rows;

/// How a generation batch is used for updates. Names as in TRL.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct UpdateConfig {
    /// Passes over the same rollouts (μ). Default 1, as in TRL.
    pub num_iterations: usize,
    /// Optimiser steps per pass, at most as many as there are groups, which are dealt to them whole.
    /// Default 1: strictly on-policy.
    pub steps_per_generation: usize,
    /// Temperature of the log-probabilities: the one that rollouts are sampled at. Default 1.
    #[serde(skip)]
    pub temperature: f64,
    /// Whether token entropies are measured for the metrics and the detectors. Default true.
    pub log_entropy: bool,
    /// Whether ratios are against the sampler's own log-probabilities. [`Ahead`](crate::Ahead) sets it. Default false:
    /// against the learner's before the first update.
    #[serde(skip)]
    pub old_is_sampler: bool,
    /// Whether the distance of the sampler's log-probabilities from the learner's is measured. Default false.
    #[serde(skip)]
    pub log_mismatch: bool,
}

impl Default for UpdateConfig {
    fn default() -> Self {
        Self {
            num_iterations: 1,
            steps_per_generation: 1,
            temperature: 1.0,
            log_entropy: true,
            old_is_sampler: false,
            log_mismatch: false,
        }
    }
}

impl UpdateConfig {
    pub(crate) fn scoring(&self, entropy: bool) -> Scoring {
        Scoring {
            temperature: self.temperature,
            entropy,
        }
    }

    /// Whether a batch of this method can be used so; [`rescore`](crate::rescore) and [`update`] ask it.
    ///
    /// # Errors
    /// As [`Method::check`]; [`Error::Config`] for a count of zero, and for several optimiser steps
    /// where the advantages are of a single one.
    pub fn check(&self, method: &Method) -> Result<()> {
        method.check()?;
        for (name, value) in [
            ("num_iterations", self.num_iterations),
            ("steps_per_generation", self.steps_per_generation),
        ] {
            if value == 0 {
                let problem = "at least one update must be made per generation batch";
                return Err(Error::config(name, 0, problem));
            }
        }
        if let Some(problem) = needs_its_sampler(method).filter(|_| self.old_is_sampler) {
            return Err(Error::config("old_is_sampler", true, problem));
        }
        if let Some(TokenAdvantage::Rlcsd(_)) = &method.token_advantages
            && self.steps_per_generation > 1
        {
            let problem =
                "the two means of rlcsd are over one optimiser step: set steps_per_generation = 1";
            return Err(Error::config("token_advantages", "rlcsd", problem));
        }
        Ok(())
    }
}

/// Why nothing can be learned by a method from what another policy has sampled, if so.
pub(crate) fn needs_its_sampler(method: &Method) -> Option<&'static str> {
    if method.score_context == ScoreContext::HintFree {
        return Some(
            "score_context = hint_free scores tokens under another prompt than they were sampled under, \
             so nothing tells how stale they are: use off_policy or as_sampled",
        );
    }
    (method.token_advantages.is_some()).then_some(
        "token_advantages compare log-probabilities of the policy that sampled under several prompts, \
         and that policy is gone: leave them out",
    )
}

/// What the updates of one generation batch did.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Update {
    /// Mean of the loss over the optimiser steps.
    pub loss: f64,
    /// Merged over all steps and micro-batches.
    pub metrics: LossMetrics,
    /// Of the first pass over the rows, where [`UpdateConfig::log_mismatch`] asks for it.
    pub mismatch: Mismatch,
    /// Of the last optimiser step; `None` when no row had anything to teach and the parameters
    /// were left alone.
    pub stats: Option<UpdateStats>,
    /// Optimiser steps that the batch was for, those without anything to teach included.
    pub n_updates: u64,
}

/// Trains on the rows, which `streams` describes further. Groups are dealt whole to the optimiser
/// steps, of which some have nothing to teach where there are fewer groups; `lr` is the learning rate
/// of each step, counted from 0.
///
/// Rows whose advantage is zero are not even scored when nothing but the advantage could give them
/// a gradient: the loss and its gradient are the same without them, the metrics then speak of the
/// rows that were scored. A batch in which nothing can be learned changes no parameter.
///
/// # Errors
/// [`Error::Learner`], [`Error::Core`], and what [`UpdateConfig::check`] refuses.
pub fn update<L: Learner + ?Sized>(
    learner: &mut L,
    rows: &Rows,
    streams: &TokenStreams,
    method: &Method,
    config: &UpdateConfig,
    lr: impl Fn(u64) -> f64,
) -> Result<Update> {
    config.check(method)?;
    let last = rows.members.iter().map(|(group, _)| *group).max();
    let (n_groups, n_parts) = (last.map_or(1, |g| g + 1), config.steps_per_generation);
    let mut result = Update::default();
    for iteration in 0..config.num_iterations {
        for part in 0..n_parts {
            let in_part = |row: &usize| rows.members[*row].0 * n_parts / n_groups == part;
            let part: Vec<usize> = (0..rows.len()).filter(in_part).collect();
            let step = Step {
                sequences: &rows.batch.sequences,
                streams,
                loss: &method.loss,
                config,
                is_first: iteration == 0,
                lr: lr(result.n_updates),
            };
            result.n_updates += 1;
            step.run(learner, &part, &mut result)?;
        }
    }
    result.loss /= (config.num_iterations * n_parts) as f64;
    Ok(result)
}

/// One optimiser step.
struct Step<'a> {
    sequences: &'a Sequences,
    streams: &'a TokenStreams,
    loss: &'a LossConfig,
    config: &'a UpdateConfig,
    is_first: bool,
    lr: f64,
}

impl Step<'_> {
    fn run<L: Learner + ?Sized>(
        &self,
        learner: &mut L,
        rows: &[usize],
        result: &mut Update,
    ) -> Result<()> {
        let loss = self.loss;
        let of_step = self.streams.select(rows);
        let truncated = of_step.truncated.as_deref();
        let mut totals = BatchTotals::of(&of_step.roles, truncated, loss)?;
        if let Some(entropy) = &of_step.entropy {
            totals = totals.with_entropies(&of_step.roles, entropy, truncated, loss)?;
        }
        let guidance_counts = loss.guidance_token_loss != GuidanceTokenLoss::Masked;
        if totals.n_own == 0.0 && !(guidance_counts && totals.n_guidance > 0.0) {
            return Ok(());
        }
        let scored: Vec<usize> = (rows.iter().copied())
            .filter(|&row| self.has_gradient(row))
            .collect();
        if scored.is_empty() {
            return Ok(());
        }
        let of_step = self.streams.select(&scored);
        let scoring = (self.config).scoring(self.config.log_entropy || loss.needs_entropy());
        let sequences = self.sequences.select(&scored);
        let done = learner.accumulate(&sequences, &scoring, &mut |outputs| {
            let mut streams = of_step.with_outputs(outputs)?;
            if self.config.log_mismatch && self.is_first {
                result.mismatch.add(&streams);
            }
            if self.config.old_is_sampler {
                without_ratio(&mut streams);
            }
            let part = policy_loss(&streams, loss, &totals)?;
            result.loss += part.loss;
            result.metrics.merge(&part.metrics);
            Ok(part.into_grads())
        });
        done.map_err(Error::learner)?;
        result.stats = Some(learner.apply(self.lr).map_err(Error::learner)?);
        Ok(())
    }

    /// Whether a row could have a gradient.
    fn has_gradient(&self, row: usize) -> bool {
        let loss = self.loss;
        let guidance_learns_anyway = match loss.guidance_token_loss {
            GuidanceTokenLoss::Supervised { .. } | GuidanceTokenLoss::Trust { .. } => true,
            GuidanceTokenLoss::Masked
            | GuidanceTokenLoss::SameAdvantage
            | GuidanceTokenLoss::PositiveOnly
            | GuidanceTokenLoss::Shaped { .. }
            | GuidanceTokenLoss::TopEntropy { .. } => false,
        };
        let of_tokens = self.streams.token_advantages.as_ref();
        self.streams.advantages[row] != 0.0
            || of_tokens.is_some_and(|a| a.row(row).iter().any(|a| *a != 0.0))
            || (guidance_learns_anyway && self.streams.roles.row(row).contains(&Role::Guidance))
            || loss.needs_reference()
            || loss.needs_entropy()
    }
}
