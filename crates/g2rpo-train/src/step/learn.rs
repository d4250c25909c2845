//! Seventh of a step: rewards become advantages.

use g2rpo_core::{Advantages, KlPlacement, TokenStreams, kl_penalties};
use g2rpo_guidance::Method;

use crate::check;
use crate::error::{Error, Result};
use crate::step::rows::Rows;

/// Advantages of the rows, by the method's estimator: within each group, and within each subgroup
/// where a selector divided the group. With the KL term placed in the reward it is taken off
/// before.
///
/// # Errors
/// [`Error::Core`] if the streams lack what the KL term needs, or a reward
/// cannot be used; [`Error::Config`] for an estimator that does not fit the groups.
pub fn advantages(rows: &Rows, streams: &TokenStreams, method: &Method) -> Result<Advantages> {
    check::estimator(method, usize::MAX)?;
    let mut rewards = rows.rewards.clone();
    // Of no rows nothing was scored.
    if !rows.is_empty()
        && method.loss.needs_reference()
        && method.loss.kl_placement == KlPlacement::Reward
    {
        // The policy that sampled; rescore() sees to it that both are there.
        let (old, reference) = (streams.logp_old.as_ref())
            .zip(streams.logp_ref.as_ref())
            .ok_or(Error::Core(g2rpo_core::Error::Missing {
                what: "logp_old and logp_ref",
                why: "kl_placement = reward takes the KL between them off the reward",
            }))?;
        let kl = kl_penalties(&streams.roles, old, reference, &method.loss)?;
        for (reward, kl) in rewards.iter_mut().zip(kl) {
            *reward = reward.map(|r| r - method.loss.beta * kl);
        }
    }
    let lengths: Vec<usize> = rows.own_lengths().collect();
    let estimator = &method.advantages;
    Ok(estimator.advantages(&rewards, &rows.baselines, &rows.guided, Some(&lengths))?)
}
