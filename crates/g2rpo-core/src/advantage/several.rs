//! Several reward functions: weighted sums, and GDPO's normalise-then-sum.

use super::estimator::AdvantageEstimator;
use super::grouping::Grouping;
use super::report::Advantages;
use super::rewards::{
    check_finite, checked_rewards, remove_noise, rounding_noise, weighted_rewards,
};
use crate::error::Result;
use crate::names::named;

named! {
    /// In which order several rewards are combined and normalised (TRL's
    /// `multi_objective_aggregation`).
    pub enum MultiObjectiveAggregation: "multi_objective_aggregation" {
        /// Weighted sum of the rewards, then the estimator.
        SumThenNormalize = "sum_then_normalize",
        /// The estimator on every reward function by itself, weighted sum, then whitening over the
        /// batch with the estimator's `eps` and `ddof` (GDPO, arXiv 2601.05242).
        NormalizeThenSum = "normalize_then_sum",
    }
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
    /// As [`Self::advantages`]; [`crate::Error::Length`] if weights and functions differ in number or
    /// functions in length; [`crate::Error::Config`] for a weight that is not finite.
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
        let total = checked_rewards(&weighted_rewards(rewards, weights)?)?;
        let grouping = Grouping::new(total.len(), groups, guided)?;
        self.check_lengths(lengths, total.len())?;
        // What a sum of magnitudes can be off by.
        let noise_of = |magnitude: &dyn Fn(usize, usize) -> f64| -> Vec<f64> {
            let terms = |i| (0..rewards.len()).map(move |f| (f, i));
            let sum = |i| {
                terms(i)
                    .map(|(f, i)| weights[f].abs() * magnitude(f, i))
                    .sum()
            };
            let sums: Vec<f64> = (0..total.len()).map(sum).collect();
            sums.iter()
                .map(|s| s * rounding_noise(rewards.len()))
                .collect()
        };
        let reward = |f: usize, i: usize| rewards[f][i].filter(|r| !r.is_nan()).unwrap_or(0.0);
        let noise = noise_of(&|f, i| reward(f, i).abs());
        let joint = self.estimate(total.clone(), &noise, &grouping, lengths)?;
        match aggregation {
            MultiObjectiveAggregation::SumThenNormalize => Ok(joint),
            MultiObjectiveAggregation::NormalizeThenSum => {
                let mut normalized = Vec::with_capacity(rewards.len());
                for rewards in rewards {
                    let report = self.advantages(rewards, groups, guided, lengths)?;
                    normalized.push(report.advantages);
                }
                let some = |a: &Vec<f64>| a.iter().copied().map(Some).collect();
                let normalized_some: Vec<Vec<_>> = normalized.iter().map(some).collect();
                let mut sums = weighted_rewards(&normalized_some, weights)?;
                let amplified: Vec<Vec<f64>> = (rewards.iter().zip(&normalized))
                    .map(|(rewards, advantages)| amplification(rewards, advantages, &grouping))
                    .collect();
                let noise = noise_of(&|f, i| amplified[f][i]);
                let all: Vec<usize> = (0..sums.len()).filter(|&i| total[i].is_some()).collect();
                remove_noise(&all, &noise, &mut sums);
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

/// The magnitude of the numbers that each row's advantage is a difference of: rewards, over what
/// divided them in their group.
fn amplification(rewards: &[Option<f64>], advantages: &[f64], grouping: &Grouping<'_>) -> Vec<f64> {
    let mut amplified = vec![0.0; rewards.len()];
    for rows in &grouping.rows {
        let scored = rows.iter().filter_map(|&i| rewards[i]);
        let (low, high) = scored.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), r| {
            (low.min(r), high.max(r))
        });
        let largest = (rows.iter().map(|&i| advantages[i].abs())).fold(0.0, f64::max);
        let span = if high > low {
            2.0 * low.abs().max(high.abs()) / (high - low)
        } else {
            0.0
        };
        rows.iter()
            .for_each(|&i| amplified[i] = largest * (1.0 + span));
    }
    amplified
}
