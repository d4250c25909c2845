//! DPPO's trust region of probabilities.

use super::row::{Ratio, RowPass, Scratch};
use crate::choices::DppoDivergence;
use crate::exp::{exp, extremes, scale_by, sum};
use crate::metrics::LossMetrics;

impl RowPass<'_> {
    /// Zeroes and counts the tokens that leave the trust region.
    pub(super) fn drop_outside_trust_region(
        &self,
        scratch: &mut Scratch,
        metrics: &mut LossMetrics,
    ) {
        let n = scratch.n_policy as u64;
        let Some(old) = &self.streams.logp_old else {
            metrics.dppo_masked.push_sum(n, 0.0);
            return;
        };
        let old = old.row(self.row);
        let config = self.config;
        let n_dropped = match config.dppo_divergence {
            DppoDivergence::TotalVariation => self.drop_where(scratch, old, |a| {
                let (low, high) = if a > 0.0 {
                    (f64::NEG_INFINITY, config.epsilon_high())
                } else {
                    (-config.epsilon, f64::INFINITY)
                };
                move |p: f64, p_old: f64| {
                    let change = p - p_old;
                    (change < low) | (change > high)
                }
            }),
            DppoDivergence::BinaryKl => self.drop_where(scratch, old, |a| {
                let rises = a > 0.0;
                let bound = if rises {
                    config.epsilon_high()
                } else {
                    config.epsilon
                };
                move |p: f64, p_old: f64| {
                    let moves_back = if rises { p <= p_old } else { p >= p_old };
                    !moves_back && binary_kl(p_old, p) > bound
                }
            }),
        };
        metrics.dppo_masked.push_sum(n, n_dropped);
    }

    /// Zeroes the tokens of the policy term whose probabilities, current and old, leave the trust
    /// region of their advantage, and counts them.
    #[inline(always)]
    fn drop_where<F: Fn(f64, f64) -> bool>(
        &self,
        scratch: &mut Scratch,
        old: &[f64],
        region: impl Fn(f64) -> F,
    ) -> f64 {
        let level = scratch.level;
        let Scratch {
            mask,
            advantage,
            log_ratio,
            flow,
            ratio: ratios,
            value,
            slope,
            kl: kept,
            ..
        } = scratch;
        kept.resize(mask.len(), 0.0);
        let leaves = region(self.advantage);
        let (least, most) = extremes(log_ratio, mask);
        // Where no exponential left its range, the ratio gives the old probability for a division.
        let has_ratio = matches!(level, Ratio::Token) && flow.is_empty();
        if !advantage.is_empty() {
            for (t, kept) in kept.iter_mut().enumerate() {
                let (p, p_old) = if mask[t] > 0.0 {
                    (self.logp[t], old[t])
                } else {
                    (0.0, 0.0)
                };
                let leaves = region(advantage[t])(exp(p), exp(p_old));
                *kept = f64::from(u8::from(!leaves));
            }
        } else if has_ratio && least >= -300.0 && most <= 300.0 {
            for (((kept, &m), &logp), &r) in (kept.iter_mut().zip(mask.iter()))
                .zip(self.logp)
                .zip(ratios.iter())
            {
                let p = exp(if m > 0.0 { logp } else { 0.0 });
                *kept = f64::from(u8::from(!leaves(p, p / r)));
            }
        } else {
            for (((kept, &m), &logp), &old) in
                (kept.iter_mut().zip(mask.iter())).zip(self.logp).zip(old)
            {
                let (p, p_old) = if m > 0.0 { (logp, old) } else { (0.0, 0.0) };
                *kept = f64::from(u8::from(!leaves(exp(p), exp(p_old))));
            }
        }
        scale_by(value, kept);
        scale_by(slope, kept);
        kept.len() as f64 - sum(kept)
    }
}

/// `KL(Bernoulli(p) ‖ Bernoulli(q))`, with `0 ln 0 = 0`.
fn binary_kl(p: f64, q: f64) -> f64 {
    let part = |p: f64, q: f64| if p <= 0.0 { 0.0 } else { p * (p / q).ln() };
    part(p, q) + part(1.0 - p, 1.0 - q)
}

#[cfg(test)]
mod tests {
    use super::*;
    use approx::assert_relative_eq;

    #[test]
    fn binary_kl_by_hand() {
        // p = 1/2, q = 1/4: ½ ln 2 + ½ ln(2/3).
        let expected = 0.5 * 2f64.ln() + 0.5 * (2.0f64 / 3.0).ln();
        assert_relative_eq!(binary_kl(0.5, 0.25), expected, max_relative = 1e-14);
        assert_eq!(binary_kl(1.0, 1.0), 0.0);
        assert_eq!(binary_kl(0.5, 1.0), f64::INFINITY);
    }
}
