//! Sixth of a step: what the learner says about the rows before it learns from them.

use g2rpo_core::{KlPlacement, Learner, Ragged, Scoring, Sequences, TokenStreams, WhichPolicy};
use g2rpo_guidance::{Method, ScoreContext};
use g2rpo_rollout::pack;

use crate::error::{Error, Result};
use crate::step::group::Group;
use crate::step::rows::Rows;
use crate::step::update::UpdateConfig;

/// Everything that the loss needs beside the log-probabilities of the coming passes with gradient:
/// old, reference and sampling log-probabilities, and entropies, each only if something uses it.
/// Advantages are still 0.
///
/// `logp_old` is computed by the learner when rollouts are used for more than one update, or to
/// correct for the sampler's rounding; otherwise the ratio is 1 by construction and the pass is
/// saved, as in TRL. Under [`ScoreContext::OffPolicy`] it is taken under the prompt that a row was
/// sampled under, so that the ratio is an importance weight. With [`UpdateConfig::old_is_sampler`] it is what the sampler
/// itself said, which needs no pass.
///
/// # Errors
/// [`Error::Learner`], among others that it has no reference policy; what [`UpdateConfig::check`]
/// refuses.
pub fn rescore<L: Learner + ?Sized>(
    learner: &mut L,
    groups: &[Group],
    rows: &Rows,
    method: &Method,
    config: &UpdateConfig,
) -> Result<TokenStreams> {
    config.check(method)?;
    let (batch, loss) = (&rows.batch, &method.loss);
    let zeros = batch.roles.map(|_| 0.0);
    let mut streams = TokenStreams::new(batch.roles.clone(), zeros, vec![0.0; rows.len()])?
        .with_truncated(batch.truncated.clone())?;
    if rows.is_empty() {
        return Ok(streams);
    }
    let scoring = config.scoring(false);
    let corrects_mismatch = loss.importance_sampling_correction.is_some();
    let kl_in_reward = loss.needs_reference() && loss.kl_placement == KlPlacement::Reward;
    let reuses = config.num_iterations * config.steps_per_generation > 1;
    if config.old_is_sampler {
        streams = streams.with_logp_old(batch.logp_sampling.clone())?;
    } else if method.score_context == ScoreContext::OffPolicy {
        // Under the prompts that they were sampled under.
        let sampled = pack(
            rows.iter(groups)
                .map(|m| (&m.rollout.prompt[..], m.rollout)),
        )?;
        let old = logps(learner, &sampled.sequences, WhichPolicy::Current, &scoring)?;
        streams = streams.with_logp_old(old)?;
    } else if reuses || corrects_mismatch || kl_in_reward {
        let old = logps(learner, &batch.sequences, WhichPolicy::Current, &scoring)?;
        streams = streams.with_logp_old(old)?;
    }
    if loss.needs_reference() {
        let reference = logps(learner, &batch.sequences, WhichPolicy::Reference, &scoring)?;
        streams = streams.with_logp_ref(reference)?;
    }
    let compares = corrects_mismatch || loss.off_policy_mask_threshold.is_some();
    if compares || (config.log_mismatch && !config.old_is_sampler) {
        // They are those of the whole distribution: what filters kept is not in them.
        streams = streams.with_logp_sampling(batch.logp_sampling.clone())?;
    }
    if loss.top_entropy_quantile < 1.0 {
        // The quantile is over the whole batch, before any of it is learned from.
        let wanted = config.scoring(true);
        let outputs = learner
            .token_logps(&batch.sequences, WhichPolicy::Current, &wanted)
            .map_err(Error::learner)?;
        if let Some(entropy) = outputs.entropy {
            streams = streams.with_entropy(entropy)?;
        }
    }
    Ok(streams)
}

/// Log-probabilities of sequences without gradient.
pub(crate) fn logps<L: Learner + ?Sized>(
    learner: &mut L,
    sequences: &Sequences,
    policy: WhichPolicy,
    scoring: &Scoring,
) -> Result<Ragged<f64>> {
    let outputs = learner
        .token_logps(sequences, policy, scoring)
        .map_err(Error::learner)?;
    Ok(outputs.logp)
}
