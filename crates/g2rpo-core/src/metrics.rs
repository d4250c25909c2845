//! Statistics of a loss that merge exactly over micro-batches and workers.

/// Sufficient statistics of a loss, to be merged over micro-batches and workers into exact values
/// of the whole step.
///
/// [`Self::entries`] gives the values under TRL's metric names. A quantity that the configuration
/// does not produce (KL without reference, clip ratios of a loss that does not clip) is empty and
/// has no entry.
///
/// Where TRL averages a sequence-level quantity over sequences, so do we; where it averages
/// micro-batch means (`sampling/…/mean`), we give the mean over all tokens.
///
/// ```
/// use g2rpo_core::LossMetrics;
/// let mut a = LossMetrics::default();
/// a.kl.push(0.25);
/// let mut b = LossMetrics::default();
/// b.kl.push(0.75);
/// a.merge(&b);
/// assert!(a.entries().contains(&("kl", 0.5)));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct LossMetrics {
    /// The loss, all terms.
    pub loss: f64,
    /// The loss without entropy bonus (TRL's `policy_loss`).
    pub policy_loss: f64,
    /// KL estimate per token of the loss, bias correction and clamps included.
    pub kl: Mean,
    /// Entropy per own token in the loss.
    pub entropy: Mean,
    /// 1 where a ratio is below the range and the advantage negative, else 0; per token, or per
    /// sequence at sequence level.
    pub clip_low: Mean,
    /// 1 where a ratio is above the range and the advantage positive, else 0.
    pub clip_high: Mean,
    /// Row means of `clip_low`.
    pub clip_low_rows: Summary,
    /// Row means of `clip_high`.
    pub clip_high_rows: Summary,
    /// 1 where `cispo` capped the ratio and the advantage is positive, else 0.
    pub cispo_clip: Mean,
    /// `vespo`'s φ per sequence.
    pub vespo_phi: Mean,
    /// 1 where dual clip bounds the loss, else 0.
    pub dual_clip: Mean,
    /// 1 where `dppo` drops the token, else 0.
    pub dppo_masked: Mean,
    /// Importance ratio per token, or per sequence at sequence level.
    pub ratio: Summary,
    /// `logp_old − logp` per token: k1 of the update's own KL (verl's `ppo_kl`).
    pub approx_kl: Mean,
    /// `|logp_old − logp_sampling|` per token where reported.
    pub logp_difference: Summary,
    /// Weight of the mismatch correction, after its limits, per token or per sequence.
    pub importance_sampling_ratio: Summary,
    /// 1 where the off-policy mask keeps the sequence, else 0.
    pub off_policy_kept: Mean,
    /// Log-probability of own tokens; gathered in batches that hold guidance.
    pub own_logp: Mean,
    /// Log-probability of guidance tokens in the loss.
    pub guidance_logp: Mean,
    /// 1 where a guidance token in the policy term carries a negative advantage, else 0.
    pub guidance_negative: Mean,
    /// Sum of |∂loss/∂logp| over own tokens; gathered in batches that hold guidance.
    pub own_gradient: f64,
    /// Sum of |∂loss/∂logp| over guidance tokens.
    pub guidance_gradient: f64,
}

/// Count and sum of some values.
///
/// ```
/// use g2rpo_core::Mean;
/// let mut m = Mean::default();
/// m.push(1.0);
/// m.push(3.0);
/// assert_eq!((m.mean(), m.count(), m.sum()), (Some(2.0), 2, 4.0));
/// assert_eq!(Mean::default().mean(), None);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Mean {
    count: u64,
    sum: f64,
}

impl Mean {
    /// Adds one value.
    pub fn push(&mut self, value: f64) {
        self.push_sum(1, value);
    }

    /// Adds `count` values given by their sum, for instance of flags.
    pub(crate) fn push_sum(&mut self, count: u64, sum: f64) {
        self.count += count;
        self.sum += sum;
    }

    /// Adds the values of another mean.
    pub fn merge(&mut self, other: &Self) {
        self.push_sum(other.count, other.sum);
    }

    /// Number of values.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Sum of the values, 0 of none.
    pub fn sum(&self) -> f64 {
        self.sum
    }

    /// Mean of the values.
    pub fn mean(&self) -> Option<f64> {
        (self.count > 0).then(|| self.sum / self.count as f64)
    }
}

/// Count, sum, minimum and maximum of some values.
///
/// ```
/// use g2rpo_core::Summary;
/// let mut s = Summary::default();
/// s.push(1.0);
/// s.push(3.0);
/// assert_eq!((s.mean(), s.min(), s.max(), s.count()), (Some(2.0), Some(1.0), Some(3.0), 2));
/// assert_eq!(Summary::default().mean(), None);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Summary {
    count: u64,
    sum: f64,
    min: f64,
    max: f64,
}

impl Summary {
    /// Adds one value.
    pub fn push(&mut self, value: f64) {
        self.merge(&Self::of_parts(1, value, value, value));
    }

    /// Adds `count` values given by their sum and extremes.
    pub(crate) fn of_parts(count: u64, sum: f64, min: f64, max: f64) -> Self {
        Self {
            count,
            sum,
            min,
            max,
        }
    }

    /// Adds the values of another summary.
    pub fn merge(&mut self, other: &Self) {
        if other.count == 0 {
            return;
        }
        if self.count == 0 {
            *self = *other;
            return;
        }
        self.count += other.count;
        self.sum += other.sum;
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
    }

    /// Number of values.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Sum of the values, 0 of none.
    pub fn sum(&self) -> f64 {
        self.sum
    }

    /// Mean of the values.
    pub fn mean(&self) -> Option<f64> {
        (self.count > 0).then(|| self.sum / self.count as f64)
    }

    /// Smallest value.
    pub fn min(&self) -> Option<f64> {
        (self.count > 0).then_some(self.min)
    }

    /// Largest value.
    pub fn max(&self) -> Option<f64> {
        (self.count > 0).then_some(self.max)
    }
}

impl LossMetrics {
    /// Adds the statistics of other rows of the same step.
    pub fn merge(&mut self, other: &Self) {
        self.loss += other.loss;
        self.policy_loss += other.policy_loss;
        self.own_gradient += other.own_gradient;
        self.guidance_gradient += other.guidance_gradient;
        let mut other = *other;
        for (mine, theirs) in self.means().into_iter().zip(other.means()) {
            mine.merge(theirs);
        }
        for (mine, theirs) in self.summaries().into_iter().zip(other.summaries()) {
            mine.merge(theirs);
        }
    }

    /// Share of the gradient's absolute sum that falls on guidance tokens: near 1 the step is
    /// supervised learning in disguise. `None` without guidance or gradient.
    pub fn guidance_gradient_share(&self) -> Option<f64> {
        let total = self.own_gradient + self.guidance_gradient;
        (self.guidance_logp.count() > 0 && total > 0.0).then(|| self.guidance_gradient / total)
    }

    /// The values under TRL's names, and ours (`ratio/…`, `guidance/…`, …) where TRL has none.
    pub fn entries(&self) -> Vec<(&'static str, f64)> {
        let mut entries = vec![("loss", self.loss), ("policy_loss", self.policy_loss)];
        let region = self.clip_low.mean().zip(self.clip_high.mean());
        let (difference, weight) = (&self.logp_difference, &self.importance_sampling_ratio);
        let negative = self.guidance_negative.mean();
        let optional = [
            ("kl", self.kl.mean()),
            ("entropy", self.entropy.mean()),
            ("clip_ratio/low_mean", self.clip_low.mean()),
            ("clip_ratio/low_min", self.clip_low_rows.min()),
            ("clip_ratio/high_mean", self.clip_high.mean()),
            ("clip_ratio/high_max", self.clip_high_rows.max()),
            // A token cannot be clipped on both sides: its advantage has one sign.
            ("clip_ratio/region_mean", region.map(|(a, b)| a + b)),
            ("cispo_clip_ratio", self.cispo_clip.mean()),
            ("vespo/phi_seq_mean", self.vespo_phi.mean()),
            ("clip_ratio/dual_mean", self.dual_clip.mean()),
            ("dppo/masked_ratio", self.dppo_masked.mean()),
            ("ratio", self.ratio.mean()),
            ("ratio/min", self.ratio.min()),
            ("ratio/max", self.ratio.max()),
            ("approx_kl", self.approx_kl.mean()),
            ("sampling/sampling_logp_difference/mean", difference.mean()),
            ("sampling/sampling_logp_difference/max", difference.max()),
            ("sampling/importance_sampling_ratio/min", weight.min()),
            ("sampling/importance_sampling_ratio/mean", weight.mean()),
            ("sampling/importance_sampling_ratio/max", weight.max()),
            ("off_policy_mask/kept_ratio", self.off_policy_kept.mean()),
            ("own/logp", self.own_logp.mean()),
            ("guidance/logp", self.guidance_logp.mean()),
            ("guidance/negative_advantage_ratio", negative),
            ("guidance/gradient_share", self.guidance_gradient_share()),
        ];
        entries.extend(optional.into_iter().filter_map(|(n, v)| Some((n, v?))));
        entries
    }

    /// One of [`Self::entries`]; `None` where the configuration does not produce it or there is no
    /// such name.
    ///
    /// ```
    /// use g2rpo_core::LossMetrics;
    /// let mut metrics = LossMetrics::default();
    /// metrics.clip_high.push(1.0);
    /// assert_eq!(metrics.get("clip_ratio/high_mean"), Some(1.0));
    /// assert_eq!(metrics.get("kl"), None);
    /// ```
    pub fn get(&self, name: &str) -> Option<f64> {
        let entries = self.entries().into_iter();
        entries.filter(|(n, _)| *n == name).map(|(_, v)| v).next()
    }

    fn means(&mut self) -> [&mut Mean; 13] {
        [
            &mut self.kl,
            &mut self.entropy,
            &mut self.clip_low,
            &mut self.clip_high,
            &mut self.cispo_clip,
            &mut self.vespo_phi,
            &mut self.dual_clip,
            &mut self.dppo_masked,
            &mut self.approx_kl,
            &mut self.off_policy_kept,
            &mut self.own_logp,
            &mut self.guidance_logp,
            &mut self.guidance_negative,
        ]
    }

    fn summaries(&mut self) -> [&mut Summary; 5] {
        [
            &mut self.clip_low_rows,
            &mut self.clip_high_rows,
            &mut self.ratio,
            &mut self.logp_difference,
            &mut self.importance_sampling_ratio,
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merging_in_any_order_gives_the_same_extremes_and_counts() {
        let values = [0.5, -2.0, 7.0, 0.25];
        let mut all = Summary::default();
        values.iter().for_each(|&v| all.push(v));
        let (mut left, mut right) = (Summary::default(), Summary::default());
        values[..1].iter().for_each(|&v| left.push(v));
        values[1..].iter().for_each(|&v| right.push(v));
        left.merge(&right);
        assert_eq!(left, all);
        left.merge(&Summary::default());
        assert_eq!(left, all);
        assert_eq!(
            (all.min(), all.max(), all.mean()),
            (Some(-2.0), Some(7.0), Some(1.4375))
        );
    }

    #[test]
    fn every_statistic_is_merged() {
        let mut a = LossMetrics::default();
        let mut b = LossMetrics::default();
        b.means().into_iter().for_each(|mean| mean.push(2.0));
        b.summaries().into_iter().for_each(|s| s.push(2.0));
        b.loss = 1.0;
        b.policy_loss = 3.0;
        b.own_gradient = 5.0;
        b.guidance_gradient = 15.0;
        a.merge(&b);
        assert_eq!(a, b);
        assert_eq!(a.guidance_gradient_share(), Some(0.75));
        assert_eq!(LossMetrics::default().entries().len(), 2);
        assert_eq!(a.entries().len(), 27);
    }
}
