use g2rpo_core::{
    BatchTotals, Learner, LossConfig, LossMetrics, Scoring, TokenStreams, UpdateStats, WhichPolicy,
    policy_loss,
};
use g2rpo_rollout::Batch;

use crate::{Error, Result};

/// How a generation batch is used for updates. Names as in TRL.
#[derive(Debug, Clone, PartialEq)]
pub struct UpdateConfig {
    /// The loss.
    pub loss: LossConfig,
    /// Passes over the same rollouts. Default 1, as in TRL.
    pub num_iterations: usize,
    /// Optimiser steps per pass; groups are dealt to them whole. Default 1: strictly on-policy.
    pub steps_per_generation: usize,
}

impl Default for UpdateConfig {
    fn default() -> Self {
        Self {
            loss: LossConfig::default(),
            num_iterations: 1,
            steps_per_generation: 1,
        }
    }
}

/// What the updates of one generation batch did.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Update {
    /// Mean of the loss over the optimiser steps.
    pub loss: f64,
    /// Merged over all steps and micro-batches.
    pub metrics: LossMetrics,
    /// Of the last optimiser step; `None` when no row had anything to teach and the parameters
    /// were left alone.
    pub stats: Option<UpdateStats>,
}

/// Trains on one generation batch.
///
/// `logp_old` is recomputed by the learner when rollouts are used for more than one update, or to
/// correct for the sampler's rounding; otherwise the ratio is 1 by construction and the pass is
/// saved, as in TRL. Rows whose advantage is zero
/// are not even scored when nothing but the advantage could give them a gradient: the loss and
/// its gradient are the same without them, the metrics then speak of the rows that were scored.
/// `scoring` says at which temperature the batch was sampled and whether entropies are wanted for
/// the metrics; those that the loss needs are computed anyway.
///
/// # Errors
/// [`Error::Learner`], [`Error::Core`], and [`Error::Config`] for a count of zero.
pub fn update<L: Learner + ?Sized>(
    learner: &mut L,
    batch: &Batch,
    advantages: &[f64],
    config: &UpdateConfig,
    scoring: &Scoring,
    lr: f64,
) -> Result<Update> {
    let scoring = &Scoring {
        entropy: scoring.entropy || config.loss.needs_entropy(),
        ..*scoring
    };
    for (name, value) in [
        ("num_iterations", config.num_iterations),
        ("steps_per_generation", config.steps_per_generation),
    ] {
        if value == 0 {
            return Err(Error::Config {
                name,
                value: "0".into(),
                problem: "at least one update must be made per generation batch",
            });
        }
    }
    let step = Step {
        batch,
        streams: streams(learner, batch, advantages, config, scoring)?,
        config,
        scoring,
    };
    let n_groups = batch.groups.iter().max().map_or(0, |g| g + 1);
    let n_parts = config.steps_per_generation.min(n_groups.max(1));
    let mut result = Update {
        loss: 0.0,
        metrics: LossMetrics::default(),
        stats: None,
    };
    for _ in 0..config.num_iterations {
        for part in 0..n_parts {
            let in_part = |row: &usize| batch.groups[*row] * n_parts / n_groups.max(1) == part;
            let rows: Vec<usize> = (0..batch.groups.len()).filter(in_part).collect();
            step.run(learner, &rows, lr, &mut result)?;
        }
    }
    result.loss /= (config.num_iterations * n_parts) as f64;
    Ok(result)
}

/// Everything the loss needs except the log-probabilities of the coming forward pass.
fn streams<L: Learner + ?Sized>(
    learner: &mut L,
    batch: &Batch,
    advantages: &[f64],
    config: &UpdateConfig,
    scoring: &Scoring,
) -> Result<TokenStreams> {
    let mut streams = TokenStreams::new(
        batch.roles.clone(),
        batch.roles.map(|_| 0.0),
        advantages.to_vec(),
    )?
    .with_truncated(batch.truncated.clone())?;
    let scoring = Scoring {
        entropy: false,
        ..*scoring
    };
    let mut score = |policy| {
        (learner.token_logps(&batch.sequences, policy, &scoring))
            .map(|outputs| outputs.logp)
            .map_err(Error::learner)
    };
    let corrects_mismatch = config.loss.importance_sampling_correction.is_some();
    if config.num_iterations * config.steps_per_generation > 1 || corrects_mismatch {
        streams = streams.with_logp_old(score(WhichPolicy::Current)?)?;
    }
    if config.loss.needs_reference() {
        streams = streams.with_logp_ref(score(WhichPolicy::Reference)?)?;
    }
    if corrects_mismatch || config.loss.off_policy_mask_threshold.is_some() {
        streams = streams
            .with_logp_sampling(batch.logp_sampling.clone())?
            .with_log_kept(batch.log_kept.clone())?;
    }
    Ok(streams)
}

/// What the optimiser steps on one generation batch have in common.
struct Step<'a> {
    batch: &'a Batch,
    streams: TokenStreams,
    config: &'a UpdateConfig,
    scoring: &'a Scoring,
}

impl Step<'_> {
    /// One optimiser step on the given rows.
    fn run<L: Learner + ?Sized>(
        &self,
        learner: &mut L,
        rows: &[usize],
        lr: f64,
        result: &mut Update,
    ) -> Result<()> {
        let loss = &self.config.loss;
        let of_step = self.streams.select(rows);
        let totals = BatchTotals::of(&of_step.roles, of_step.truncated.as_deref(), loss)?;
        let only_advantage = !loss.needs_reference() && !loss.needs_entropy();
        let scored: Vec<usize> = (rows.iter().copied())
            .filter(|&row| self.streams.advantages[row] != 0.0 || !only_advantage)
            .collect();
        if scored.is_empty() {
            return Ok(());
        }
        let of_step = self.streams.select(&scored);
        let sequences = self.batch.sequences.select(&scored);
        learner
            .accumulate(&sequences, self.scoring, &mut |outputs| {
                let part = policy_loss(&of_step.with_outputs(outputs)?, loss, &totals)?;
                result.loss += part.loss;
                result.metrics.merge(&part.metrics);
                Ok(part.into_grads())
            })
            .map_err(Error::learner)?;
        result.stats = Some(learner.apply(lr).map_err(Error::learner)?);
        Ok(())
    }
}
