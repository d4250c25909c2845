//! Advantages of groups of completions.

use super::estimator::{AdvantageEstimator, Baseline, Scale};
use super::grouping::Grouping;
use super::report::Advantages;
use super::rewards::{check_finite, checked_rewards, remove_noise, rounding_noise};
use super::statistics::{is_constant, mean, std};
use crate::error::{Error, Result, check_len};

impl AdvantageEstimator {
    /// Advantage of every completion.
    ///
    /// - `rewards`: one per completion; `None` or NaN means "not scored": left out of every mean
    ///   and standard deviation, advantage 0.
    /// - `groups`: id of each completion's group; ids are arbitrary, order does not matter.
    /// - `guided`: whether the completion began with guidance; empty means none did.
    /// - `lengths`: completion lengths in tokens, read by [`Baseline::LengthWeighted`] only.
    ///
    /// Members of a group whose scored rewards are all equal get exactly 0.
    ///
    /// # Errors
    /// [`Error::Length`] for misaligned slices, [`Error::Config`] or [`Error::Conflict`] for
    /// settings, [`Error::Missing`] without lengths that the baseline needs, [`Error::Reward`] for
    /// a reward that is infinite or beyond 1e150, or negative under [`Scale::GroupMean`].
    ///
    /// ```
    /// use g2rpo_core::{AdvantageEstimator, Scale};
    /// let rewards = [Some(1.0), Some(0.0), Some(0.5), None];
    /// let estimator = AdvantageEstimator { scale: Scale::None, ..Default::default() };
    /// let report = estimator.advantages(&rewards, &[7, 7, 7, 7], &[], None)?;
    /// assert_eq!(report.advantages, [0.5, -0.5, 0.0, 0.0]);
    /// assert_eq!(report.groups[0].mean, Some(0.5));
    /// assert_eq!(report.groups[0].std, Some(0.5)); // √((¼ + ¼)/(3 − 1))
    /// # Ok::<(), g2rpo_core::Error>(())
    /// ```
    pub fn advantages(
        &self,
        rewards: &[Option<f64>],
        groups: &[usize],
        guided: &[bool],
        lengths: Option<&[usize]>,
    ) -> Result<Advantages> {
        self.check()?;
        let rewards = checked_rewards(rewards)?;
        let grouping = Grouping::new(rewards.len(), groups, guided)?;
        self.check_lengths(lengths, rewards.len())?;
        let noise: Vec<f64> = (rewards.iter())
            .map(|r| r.unwrap_or(0.0).abs() * rounding_noise(1))
            .collect();
        self.estimate(rewards, &noise, &grouping, lengths)
    }

    /// The advantages of checked rewards, each known up to its `noise`.
    pub(super) fn estimate(
        &self,
        mut rewards: Vec<Option<f64>>,
        noise: &[f64],
        grouping: &Grouping<'_>,
        lengths: Option<&[usize]>,
    ) -> Result<Advantages> {
        for rows in &grouping.rows {
            remove_noise(rows, noise, &mut rewards);
        }
        if self.scale == Scale::GroupMean
            && let Some(row) = rewards.iter().position(|r| r.is_some_and(|r| r < 0.0))
        {
            return Err(Error::Reward {
                row,
                value: rewards[row].unwrap_or_default(),
                expected: "at least 0, as it is divided by the group mean",
            });
        }
        let mut advantages = vec![0.0; rewards.len()];
        let scored: Vec<f64> = rewards.iter().copied().flatten().collect();
        let batch_std = std(&scored, self.ddof);
        for members in grouping.strata(self.strata) {
            self.of_stratum(&members, &rewards, lengths, batch_std, &mut advantages);
        }
        if self.scale == Scale::Whiten {
            self.whiten(&rewards, &mut advantages);
        }
        check_finite(&advantages, &rewards)?;
        Ok(Advantages {
            advantages,
            groups: grouping.stats(&rewards, self.ddof),
        })
    }

    /// Checks lengths where the baseline needs them or they are given.
    pub(super) fn check_lengths(&self, lengths: Option<&[usize]>, n: usize) -> Result<()> {
        match lengths {
            Some(lengths) => check_len("lengths", lengths.len(), n),
            None if self.baseline == Baseline::LengthWeighted => Err(Error::Missing {
                what: "lengths",
                why: "baseline = length_weighted uses them",
            }),
            None => Ok(()),
        }
    }

    /// Minus the mean of the batch, over its standard deviation.
    pub(super) fn whiten(&self, rewards: &[Option<f64>], advantages: &mut [f64]) {
        let rows: Vec<usize> = (0..rewards.len())
            .filter(|&i| rewards[i].is_some())
            .collect();
        let values: Vec<f64> = rows.iter().map(|&i| advantages[i]).collect();
        if is_constant(&values) {
            rows.iter().for_each(|&i| advantages[i] = 0.0);
            return;
        }
        let (mean, std) = (mean(&values), std(&values, self.ddof));
        for i in rows {
            advantages[i] = self.scaled(advantages[i] - mean, std);
        }
    }
}
