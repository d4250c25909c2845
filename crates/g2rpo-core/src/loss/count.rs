//! Counting of clipped, capped and dropped tokens.

use super::row::{Ratio, RowPass, Scratch};
use crate::metrics::LossMetrics;

impl RowPass<'_> {
    /// Number of ratios of the policy term: one per token, or one for the sequence.
    pub(super) fn n_ratios(scratch: &Scratch) -> u64 {
        match scratch.level {
            Ratio::Sequence { .. } => 1,
            Ratio::Token | Ratio::SequenceToken { .. } => scratch.n_policy as u64,
        }
    }

    /// How many ratios of the policy term are as `is` says of (advantage, ratio).
    pub(super) fn count_ratios(&self, scratch: &Scratch, is: impl Fn(f64, f64) -> bool) -> u64 {
        let (mask, advantage, ratios) = (&scratch.mask, &scratch.advantage, &scratch.ratio);
        let a = self.advantage;
        match (scratch.level, advantage.is_empty()) {
            (Ratio::Token, true) => count_where(ratios, mask, |r| is(a, r)),
            (Ratio::Token, false) => (ratios.iter().zip(advantage))
                .zip(mask)
                .map(|((&r, &a), &m)| u64::from((m > 0.0) & is(a, r)))
                .sum(),
            (Ratio::Sequence { ratio, .. }, _) => u64::from(is(a, ratio)),
            (Ratio::SequenceToken { ratio, .. }, true) => count_where(mask, mask, |_| is(a, ratio)),
            (Ratio::SequenceToken { ratio, .. }, false) => {
                count_where(advantage, mask, |a| is(a, ratio))
            }
        }
    }

    /// Whether any token of the policy term has an advantage as `is` says.
    pub(super) fn any_advantage(&self, scratch: &Scratch, is: impl Fn(f64) -> bool) -> bool {
        if scratch.advantage.is_empty() {
            is(self.advantage)
        } else {
            scratch.advantage.iter().any(|&a| is(a))
        }
    }
}

/// How many values whose mask is not 0 are as `is` says.
pub(super) fn count_where(values: &[f64], mask: &[f64], is: impl Fn(f64) -> bool) -> u64 {
    (values.iter().zip(mask))
        .map(|(&x, &m)| u64::from((m > 0.0) & is(x)))
        .sum()
}

/// Records how many of the row's `n` ratios are clipped on each side.
pub(super) fn record_clips(metrics: &mut LossMetrics, n: u64, low: u64, high: u64) {
    metrics.clip_low.push_sum(n, low as f64);
    metrics.clip_high.push_sum(n, high as f64);
    metrics.clip_low_rows.push(low as f64 / n as f64);
    metrics.clip_high_rows.push(high as f64 / n as f64);
}
