//! Advantages of a batch, and what its groups looked like.

use super::grouping::Grouping;
use super::statistics::{is_constant, mean, std};

/// Advantages and what the groups looked like.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Advantages {
    /// One per completion; 0 for those without reward.
    pub advantages: Vec<f64>,
    /// One per group, in order of first appearance.
    pub groups: Vec<GroupStats>,
}

/// Rewards of one group.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct GroupStats {
    /// The id as given.
    pub id: usize,
    /// Members.
    pub n: usize,
    /// Members with a reward.
    pub n_scored: usize,
    /// Guided members.
    pub n_guided: usize,
    /// Mean reward; `None` without any.
    pub mean: Option<f64>,
    /// Standard deviation of the rewards with the estimator's `ddof`; `None` where that is not
    /// defined.
    pub std: Option<f64>,
    /// Mean reward of the guided members.
    pub mean_guided: Option<f64>,
    /// Mean reward of the unguided members.
    pub mean_unguided: Option<f64>,
    /// All rewards are equal (or there is at most one): the group teaches nothing.
    pub zero_variance: bool,
    /// The rewards differ, but guided members all have one reward and unguided members all have
    /// another: the group looks healthy and only teaches that guidance helps.
    pub identity_only_variance: bool,
}

impl Advantages {
    /// Share of the *completions* that are in groups without variance: TRL's
    /// `frac_reward_zero_std`. 0 without completions.
    ///
    /// ```
    /// use g2rpo_core::AdvantageEstimator;
    /// let rewards = [Some(1.0), Some(1.0), Some(1.0), Some(0.0)];
    /// let report = AdvantageEstimator::default().advantages(&rewards, &[0, 0, 1, 1], &[], None)?;
    /// assert_eq!(report.frac_reward_zero_std(), 0.5);
    /// # Ok::<(), g2rpo_core::Error>(())
    /// ```
    pub fn frac_reward_zero_std(&self) -> f64 {
        self.share(|group| group.zero_variance)
    }

    /// Share of the completions that are in groups whose variance only separates guided from
    /// unguided members.
    ///
    /// ```
    /// use g2rpo_core::AdvantageEstimator;
    /// let rewards = [Some(1.0), Some(1.0), Some(0.0), Some(0.0)];
    /// let guided = [true, true, false, false];
    /// let report = AdvantageEstimator::default().advantages(&rewards, &[0; 4], &guided, None)?;
    /// assert_eq!(report.frac_identity_only_variance(), 1.0);
    /// assert_eq!(report.frac_reward_zero_std(), 0.0);
    /// # Ok::<(), g2rpo_core::Error>(())
    /// ```
    pub fn frac_identity_only_variance(&self) -> f64 {
        self.share(|group| group.identity_only_variance)
    }

    fn share(&self, is: impl Fn(&GroupStats) -> bool) -> f64 {
        if self.advantages.is_empty() {
            return 0.0;
        }
        let members: usize = self.groups.iter().filter(|g| is(g)).map(|g| g.n).sum();
        members as f64 / self.advantages.len() as f64
    }
}

impl Grouping<'_> {
    pub(super) fn stats(&self, rewards: &[Option<f64>], ddof: usize) -> Vec<GroupStats> {
        (self.ids.iter().zip(&self.rows))
            .map(|(&id, rows)| self.group_stats(id, rows, rewards, ddof))
            .collect()
    }

    fn group_stats(
        &self,
        id: usize,
        rows: &[usize],
        rewards: &[Option<f64>],
        ddof: usize,
    ) -> GroupStats {
        let of = |wanted: Option<bool>| -> Vec<f64> {
            (rows.iter())
                .filter(|&&i| wanted.is_none_or(|guided| guided == self.is_guided(i)))
                .filter_map(|&i| rewards[i])
                .collect()
        };
        let (all, guided, unguided) = (of(None), of(Some(true)), of(Some(false)));
        let mean_of = |values: &[f64]| (!values.is_empty()).then(|| mean(values));
        let zero_variance = is_constant(&all);
        GroupStats {
            id,
            n: rows.len(),
            n_scored: all.len(),
            n_guided: rows.iter().filter(|&&i| self.is_guided(i)).count(),
            mean: mean_of(&all),
            std: std(&all, ddof),
            mean_guided: mean_of(&guided),
            mean_unguided: mean_of(&unguided),
            zero_variance,
            identity_only_variance: !zero_variance
                && is_constant(&guided)
                && is_constant(&unguided),
        }
    }
}
