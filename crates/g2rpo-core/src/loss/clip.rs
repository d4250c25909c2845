//! The clipped surrogate for one advantage, and how often it clips.

use super::count::record_clips;
use super::row::{RowPass, Scratch};
use crate::config::LossConfig;
use crate::exp::{max, min};
use crate::metrics::LossMetrics;

/// `−min(rA, clip(r)A)` and its variants for one advantage.
///
/// The sign of `A` is known, and the smaller of the two branches is `A` times the ratio
/// moved into one interval: `(−∞, min(δ, 1+ε_high)]` where `A > 0`, else `[1−ε, max(δ, 1+ε_high)]`,
/// which dual clip ends at its constant.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clip {
    advantage: f64,
    /// The interval outside of which the loss is constant.
    from: f64,
    to: f64,
}

impl Clip {
    pub(super) fn new(config: &LossConfig, advantage: f64) -> Self {
        let (low, high) = (1.0 - config.epsilon, 1.0 + config.epsilon_high());
        let delta = config.delta.unwrap_or(f64::INFINITY);
        let (from, mut to) = if advantage > 0.0 {
            (f64::NEG_INFINITY, min(delta, high))
        } else {
            (low, max(delta, high))
        };
        if let Some(dual) = config.dual_clip
            && advantage < 0.0
        {
            to = min(to, dual);
        }
        Self {
            advantage,
            from,
            to,
        }
    }

    /// Value and derivative with respect to `ln r`. A ratio exactly at a bound is not clipped, as in
    /// torch.
    #[inline(always)]
    pub(super) fn term(self, r: f64) -> (f64, f64) {
        let value = -self.advantage * min(max(r, self.from), self.to);
        let inside = (r >= self.from) & (r <= self.to);
        (value, if inside { value } else { 0.0 })
    }
}

impl RowPass<'_> {
    /// TRL's clip ratios: of the ratio after `delta`, by the sign of the advantage.
    pub(super) fn count_clips(&self, scratch: &Scratch, metrics: &mut LossMetrics) {
        let config = self.config;
        let delta = config.delta.unwrap_or(f64::INFINITY);
        let (low, high) = (1.0 - config.epsilon, 1.0 + config.epsilon_high());
        let count = |any: bool, is: &dyn Fn(f64, f64) -> bool| {
            if any {
                self.count_ratios(scratch, is)
            } else {
                0
            }
        };
        let any_negative = self.any_advantage(scratch, |a| a < 0.0);
        let any_positive = self.any_advantage(scratch, |a| a > 0.0);
        let n_low = count(any_negative, &|a, r| a < 0.0 && r.min(delta) < low);
        let n_high = count(any_positive, &|a, r| a > 0.0 && r.min(delta) > high);
        let n = Self::n_ratios(scratch);
        record_clips(metrics, n, n_low, n_high);
        if let (Some(dual), true) = (config.dual_clip, any_negative) {
            let bounded = count(true, &|a, r| a < 0.0 && -r.min(delta) * a > -a * dual);
            metrics.dual_clip.push_sum(n, bounded as f64);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn branches_share_the_gradient_where_they_are_equal() {
        let clip = |a| Clip::new(&LossConfig::default(), a);
        assert_eq!(clip(1.0).term(1.2), (-1.2, -1.2)); // exactly at the bound: not clipped
        assert_eq!(clip(1.0).term(1.3), (-1.2, 0.0));
        assert_eq!(clip(1.0).term(0.5), (-0.5, -0.5)); // pessimistic: never clipped from below
        assert_eq!(clip(-1.0).term(0.5), (0.8, 0.0));
        assert_eq!(clip(-1.0).term(3.0), (3.0, 3.0));
        assert_eq!(clip(0.0).term(3.0).0, 0.0);
    }

    #[test]
    fn dual_clip_and_delta_bound_a_negative_advantage() {
        let config = |delta, dual_clip| LossConfig {
            delta,
            dual_clip,
            ..LossConfig::default()
        };
        for config in [config(Some(3.0), None), config(None, Some(3.0))] {
            let clip = Clip::new(&config, -2.0);
            assert_eq!(clip.term(5.0), (6.0, 0.0));
            assert_eq!(clip.term(2.5), (5.0, 5.0));
        }
    }
}
