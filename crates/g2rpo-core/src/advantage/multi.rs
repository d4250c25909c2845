//! Several reward functions: weighted sums, and GDPO's normalise-then-sum.

use super::{AdvantageEstimator, Advantages, check_finite};
use crate::error::check_len;
use crate::error::{Error, Result};

/// In which order several rewards are combined and normalised (TRL's
/// `multi_objective_aggregation`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "snake_case")
)]
pub enum MultiObjectiveAggregation {
    /// Weighted sum of the rewards, then the estimator.
    SumThenNormalize,
    /// The estimator on every reward function by itself, weighted sum, then whitening over the
    /// batch with the estimator's `eps` and `ddof` (GDPO, arXiv 2601.05242).
    NormalizeThenSum,
}

impl AdvantageEstimator {
    /// Advantages from several reward functions.
    ///
    /// `rewards[f][i]` is what function `f` gave completion `i`, `None` or NaN where it does not
    /// apply: such a function adds nothing to that completion; a completion without any reward gets
    /// advantage 0 and takes no part in means. The group statistics of the report are those of the
    /// weighted sum.
    ///
    /// # Errors
    /// As [`Self::advantages`]; [`Error::Length`] if weights and functions differ in number or
    /// functions in length; [`Error::Config`] for a weight that is not finite.
    ///
    /// ```
    /// use g2rpo_core::{AdvantageEstimator, MultiObjectiveAggregation::*, Scale};
    /// let accuracy = vec![Some(1.0), Some(0.0)];
    /// let format = vec![Some(0.0), None];
    /// let estimator = AdvantageEstimator { scale: Scale::None, ..Default::default() };
    /// let report = estimator.advantages_of_several(
    ///     &[accuracy, format], &[1.0, 0.1], SumThenNormalize, &[0, 0], &[], None,
    /// )?;
    /// assert_eq!(report.advantages, [0.5, -0.5]);
    /// # Ok::<(), g2rpo_core::Error>(())
    /// ```
    pub fn advantages_of_several(
        &self,
        rewards: &[Vec<Option<f64>>],
        weights: &[f64],
        aggregation: MultiObjectiveAggregation,
        groups: &[usize],
        guided: &[bool],
        lengths: Option<&[usize]>,
    ) -> Result<Advantages> {
        let total = weighted_rewards(rewards, weights)?;
        let joint = self.advantages(&total, groups, guided, lengths)?;
        match aggregation {
            MultiObjectiveAggregation::SumThenNormalize => Ok(joint),
            MultiObjectiveAggregation::NormalizeThenSum => {
                let mut normalized = Vec::with_capacity(rewards.len());
                for rewards in rewards {
                    let report = self.advantages(rewards, groups, guided, lengths)?;
                    normalized.push(report.advantages.into_iter().map(Some).collect());
                }
                let sums = weighted_rewards(&normalized, weights)?;
                let mut advantages: Vec<f64> =
                    sums.into_iter().map(Option::unwrap_or_default).collect();
                self.whiten(&total, &mut advantages);
                for (advantage, total) in advantages.iter_mut().zip(&total) {
                    if total.is_none() {
                        *advantage = 0.0;
                    }
                }
                check_finite(&advantages, &total)?;
                Ok(Advantages {
                    advantages,
                    groups: joint.groups,
                })
            }
        }
    }
}

/// Weighted sum over reward functions per completion; functions that gave `None` or NaN are left
/// out, and a completion that all left out is `None`, not 0.
///
/// # Errors
/// [`Error::Length`] if weights and functions differ in number or functions in length;
/// [`Error::Config`] for a weight that is not finite.
///
/// ```
/// use g2rpo_core::weighted_rewards;
/// let rewards = [vec![Some(1.0), None], vec![Some(0.5), None]];
/// assert_eq!(weighted_rewards(&rewards, &[1.0, 2.0])?, [Some(2.0), None]);
/// # Ok::<(), g2rpo_core::Error>(())
/// ```
pub fn weighted_rewards(rewards: &[Vec<Option<f64>>], weights: &[f64]) -> Result<Vec<Option<f64>>> {
    check_len("reward weights", weights.len(), rewards.len())?;
    let n = rewards.first().map_or(0, Vec::len);
    for (rewards, &weight) in rewards.iter().zip(weights) {
        check_len("rewards of one function", rewards.len(), n)?;
        if !weight.is_finite() {
            return Err(Error::Config {
                name: "reward weight",
                value: weight,
                domain: "(-inf, inf)",
            });
        }
    }
    Ok((0..n)
        .map(|i| {
            let terms = (rewards.iter().zip(weights))
                .filter_map(|(rewards, weight)| Some(rewards[i].filter(|r| !r.is_nan())? * weight));
            terms.reduce(|a, b| a + b)
        })
        .collect())
}
