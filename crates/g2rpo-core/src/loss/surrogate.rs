//! The surrogate objectives. Each fills the row's token losses and their derivatives with respect
//! to the log-probabilities, weights and mask included.

use super::{Ratio, RowPass, Scratch};
use crate::config::EXP_MAX;
use crate::exp::{exp, extremes, map_into, max, min, sum};
use crate::{CispoClip, DppoDivergence, LossConfig, LossMetrics, LossType, Result};

impl RowPass<'_> {
    pub(super) fn surrogate(
        &self,
        scratch: &mut Scratch,
        ratio: Ratio,
        n_policy: f64,
        row_weight: f64,
        metrics: &mut LossMetrics,
    ) -> Result<()> {
        let (config, advantage) = (self.config, self.advantage);
        let n_tokens = scratch.mask.len();
        // Every loss writes every token, so what the row before left need not be cleared.
        scratch.value.resize(n_tokens, 0.0);
        scratch.slope.resize(n_tokens, 0.0);
        match config.loss_type {
            LossType::Grpo
            | LossType::Bnpo
            | LossType::DrGrpo
            | LossType::Dapo
            | LossType::Luspo => {
                let clip = Clip::new(config, advantage);
                of_ratio(scratch, ratio, n_policy, row_weight, |r| clip.term(r));
                clip.count(scratch, ratio, n_policy, metrics);
            }
            LossType::Sapo => {
                let tau = if advantage > 0.0 {
                    config.sapo_temperature_pos
                } else {
                    config.sapo_temperature_neg
                };
                let scale = 4.0 / tau * advantage;
                of_ratio(scratch, ratio, n_policy, row_weight, |r| {
                    let gate = 1.0 / (1.0 + exp(-tau * (r - 1.0)));
                    (-scale * gate, -scale * tau * gate * (1.0 - gate) * r)
                });
            }
            LossType::Cispo => {
                let (low, high) = match config.cispo_clip {
                    CispoClip::Absolute => (0.0, config.epsilon_high()),
                    CispoClip::AroundOne => (1.0 - config.epsilon, 1.0 + config.epsilon_high()),
                };
                count_cispo(scratch, ratio, n_policy, high, advantage, metrics);
                self.of_score(scratch, ratio, row_weight, |r| min(max(r, low), high));
            }
            LossType::Reinforce => self.of_score(scratch, ratio, row_weight, |_| 1.0),
            LossType::Vespo => {
                let phi = self.vespo_phi(scratch);
                metrics.vespo_phi.push(phi);
                self.of_score(scratch, ratio, row_weight, |_| phi);
            }
            LossType::Dppo => {
                let cap = config.delta.unwrap_or(f64::INFINITY);
                self.of_score(scratch, ratio, row_weight, |r| min(r, cap));
                self.drop_outside_trust_region(scratch, ratio, n_policy, metrics);
            }
            LossType::Gmpo => self.gmpo(scratch, n_policy, row_weight, metrics)?,
        }
        Ok(())
    }

    /// `−c(r)·A·logp` with no gradient through `c`.
    fn of_score(
        &self,
        scratch: &mut Scratch,
        ratio: Ratio,
        row_weight: f64,
        coefficient: impl Fn(f64) -> f64,
    ) {
        let factor = -self.advantage * row_weight;
        match ratio {
            Ratio::Token => {
                for ((slope, &r), &m) in
                    (scratch.slope.iter_mut().zip(&scratch.ratio)).zip(&scratch.mask)
                {
                    *slope = factor * coefficient(r) * m;
                }
            }
            Ratio::Sequence { ratio, .. } | Ratio::SequenceToken { ratio, .. } => {
                let factor = factor * coefficient(ratio);
                for (slope, &m) in scratch.slope.iter_mut().zip(&scratch.mask) {
                    *slope = factor * m;
                }
            }
        }
        apply(&mut scratch.slope, &scratch.weight);
        for (((value, &slope), &logp), &m) in (scratch.value.iter_mut().zip(&scratch.slope))
            .zip(self.logp)
            .zip(&scratch.mask)
        {
            *value = slope * if m > 0.0 { logp } else { 0.0 };
        }
    }

    /// VESPO's weight of the row: a function of the sequence ratio, sampling mismatch included.
    fn vespo_phi(&self, scratch: &Scratch) -> f64 {
        let config = self.config;
        let floor = VESPO_FLOOR;
        let drift: f64 = (scratch.log_ratio.iter())
            .map(|d| d.clamp(-VESPO_LIMIT, VESPO_LIMIT))
            .sum();
        let log_w = (drift + self.vespo_mismatch()).clamp(floor, VESPO_LIMIT);
        let (k, lambda) = if self.advantage >= 0.0 {
            (config.vespo_k_pos, config.vespo_lambda_pos)
        } else {
            (config.vespo_k_neg, config.vespo_lambda_neg)
        };
        let lambda = lambda.max(1e-4);
        let phi = (lambda + k * log_w - lambda * log_w.exp()).exp();
        if phi.is_finite() { phi } else { 0.0 }
    }

    fn drop_outside_trust_region(
        &self,
        scratch: &mut Scratch,
        ratio: Ratio,
        n_policy: f64,
        metrics: &mut LossMetrics,
    ) {
        let Some(old) = &self.streams.logp_old else {
            metrics.dppo_masked.push_sum(n_policy as u64, 0.0);
            return;
        };
        let old = old.row(self.row);
        let n_dropped = match self.config.dppo_divergence {
            DppoDivergence::TotalVariation => {
                let (low, high) = if self.advantage > 0.0 {
                    (f64::NEG_INFINITY, self.config.epsilon_high())
                } else {
                    (-self.config.epsilon, f64::INFINITY)
                };
                self.drop_where(scratch, ratio, old, |p, p_old| {
                    let change = p - p_old;
                    (change < low) | (change > high)
                })
            }
            DppoDivergence::BinaryKl => {
                let (rises, bound) = if self.advantage > 0.0 {
                    (true, self.config.epsilon_high())
                } else {
                    (false, self.config.epsilon)
                };
                self.drop_where(scratch, ratio, old, |p, p_old| {
                    let moves_back = if rises { p <= p_old } else { p >= p_old };
                    !moves_back && binary_kl(p_old, p) > bound
                })
            }
        };
        (metrics.dppo_masked).push_sum(n_policy as u64, n_dropped);
    }

    /// Zeroes the tokens of the policy term whose probabilities, current and old, leave the trust
    /// region, and counts them.
    #[inline(always)]
    fn drop_where(
        &self,
        scratch: &mut Scratch,
        ratio: Ratio,
        old: &[f64],
        leaves: impl Fn(f64, f64) -> bool,
    ) -> f64 {
        let Scratch {
            mask,
            log_ratio,
            flow,
            ratio: ratios,
            value,
            slope,
            kl: kept,
            ..
        } = scratch;
        kept.resize(mask.len(), 0.0);
        let (least, most) = extremes(log_ratio, mask);
        // Where no exponential left its range, the ratio gives the old probability for a division.
        let has_ratio = matches!(ratio, Ratio::Token) && flow.is_empty();
        if has_ratio && least >= -300.0 && most <= 300.0 {
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
        apply(value, kept);
        apply(slope, kept);
        kept.len() as f64 - sum(kept)
    }

    /// The geometric mean of one-sidedly clipped ratios. The top-entropy mask acts inside the mean.
    fn gmpo(
        &self,
        scratch: &mut Scratch,
        n_policy: f64,
        row_weight: f64,
        metrics: &mut LossMetrics,
    ) -> Result<()> {
        let (low, high) = (-self.config.epsilon, self.config.epsilon_high());
        let (mut n_low, mut n_high) = (0, 0);
        if self.advantage < 0.0 {
            n_low = count_where(&scratch.log_ratio, &scratch.mask, |d| d < low);
        } else if self.advantage > 0.0 {
            n_high = count_where(&scratch.log_ratio, &scratch.mask, |d| d > high);
        }
        record_clips(metrics, n_policy as u64, n_low, n_high);
        let Scratch {
            mask,
            log_ratio,
            weight,
            value: clipped,
            slope,
            kl: kept,
            ..
        } = scratch;
        map_into(kept, mask, |m| m);
        for (kept, &weight) in kept.iter_mut().zip(weight.iter()) {
            *kept = if weight > 0.0 { *kept } else { 0.0 };
        }
        let (from, to) = if self.advantage > 0.0 {
            (f64::NEG_INFINITY, high)
        } else {
            (low, f64::INFINITY)
        };
        for (((clipped, slope), &d), &kept) in (clipped.iter_mut().zip(slope.iter_mut()))
            .zip(log_ratio.iter())
            .zip(kept.iter())
        {
            *clipped = min(max(d, from), to) * kept;
            *slope = if (d >= from) & (d <= to) { kept } else { 0.0 };
        }
        let (total, n_kept) = (sum(clipped), sum(kept));
        let mean = total / f64::max(n_kept, 1.0);
        if mean > EXP_MAX {
            return Err(self.overflow("mean of clipped logp - logp_old", 0, mean));
        }
        let value = -mean.exp() * self.advantage * row_weight;
        let per_token = value * n_policy / f64::max(n_kept, 1.0);
        for ((into, slope), &m) in
            (scratch.value.iter_mut().zip(&mut scratch.slope)).zip(&scratch.mask)
        {
            *into = value * m;
            *slope *= per_token;
        }
        apply(&mut scratch.slope, &scratch.flow);
        Ok(())
    }
}

/// Bounds of the sequence log ratio in VESPO's published code.
const VESPO_LIMIT: f64 = 20.0;
/// ln 1e-8.
pub(super) const VESPO_FLOOR: f64 = -18.420_680_743_952_367;

/// `−min(rA, clip(r)A)` and its variants for one row.
///
/// Within a row the sign of `A` is known, and the smaller of the two branches is `A` times the ratio
/// moved into one interval: `(−∞, min(δ, 1+ε_high)]` where `A > 0`, else `[1−ε, max(δ, 1+ε_high)]`,
/// which dual clip ends at its constant.
#[derive(Debug, Clone, Copy)]
struct Clip {
    low: f64,
    high: f64,
    delta: f64,
    /// Largest loss under dual clip.
    ceiling: f64,
    advantage: f64,
    /// The interval outside of which the loss is constant.
    from: f64,
    to: f64,
}

impl Clip {
    fn new(config: &LossConfig, advantage: f64) -> Self {
        let (low, high) = (1.0 - config.epsilon, 1.0 + config.epsilon_high());
        let delta = config.delta.unwrap_or(f64::INFINITY);
        let (from, mut to) = if advantage > 0.0 {
            (f64::NEG_INFINITY, min(delta, high))
        } else {
            (low, max(delta, high))
        };
        let mut ceiling = f64::INFINITY;
        if let Some(dual) = config.dual_clip
            && advantage < 0.0
        {
            ceiling = -advantage * dual;
            to = min(to, dual);
        }
        Self {
            low,
            high,
            delta,
            ceiling,
            advantage,
            from,
            to,
        }
    }

    /// Value and derivative with respect to `ln r`. A ratio exactly at a bound is not clipped, as in
    /// torch.
    #[inline(always)]
    fn term(self, r: f64) -> (f64, f64) {
        let value = -self.advantage * min(max(r, self.from), self.to);
        let inside = (r >= self.from) & (r <= self.to);
        (value, if inside { value } else { 0.0 })
    }

    /// TRL's clip ratios: of the ratio after `delta`, by the sign of the advantage.
    fn count(self, scratch: &Scratch, ratio: Ratio, n_policy: f64, metrics: &mut LossMetrics) {
        let is_low = |r: f64| r.min(self.delta) < self.low;
        let is_high = |r: f64| r.min(self.delta) > self.high;
        let is_dual = |r: f64| -r.min(self.delta) * self.advantage > self.ceiling;
        let n = n_policy as u64;
        let tally = |is: &dyn Fn(f64) -> bool| match ratio {
            Ratio::Token => 0,
            Ratio::Sequence { ratio, .. } => u64::from(is(ratio)),
            Ratio::SequenceToken { ratio, .. } => n * u64::from(is(ratio)),
        };
        let per_token = matches!(ratio, Ratio::Token);
        let n = if matches!(ratio, Ratio::Sequence { .. }) {
            1
        } else {
            n
        };
        let (mut low, mut high) = (0, 0);
        if self.advantage < 0.0 {
            low = if per_token {
                count_tokens(scratch, is_low)
            } else {
                tally(&is_low)
            };
        } else if self.advantage > 0.0 {
            high = if per_token {
                count_tokens(scratch, is_high)
            } else {
                tally(&is_high)
            };
        }
        record_clips(metrics, n, low, high);
        if self.ceiling.is_finite() {
            let bounded = if per_token {
                count_tokens(scratch, is_dual)
            } else {
                tally(&is_dual)
            };
            metrics.dual_clip.push_sum(n, bounded as f64);
        }
    }
}

/// A loss that is a function of the ratio: `term` gives value and derivative with respect to its
/// logarithm.
#[inline(always)]
fn of_ratio(
    scratch: &mut Scratch,
    ratio: Ratio,
    n_policy: f64,
    row_weight: f64,
    term: impl Fn(f64) -> (f64, f64),
) {
    let Scratch {
        mask,
        flow,
        ratio: ratios,
        weight,
        value,
        slope,
        ..
    } = scratch;
    match ratio {
        Ratio::Token => {
            for (((value, slope), &r), &m) in (value.iter_mut().zip(slope.iter_mut()))
                .zip(ratios.iter())
                .zip(mask.iter())
            {
                let (v, g) = term(r);
                let weight = m * row_weight;
                *value = v * weight;
                *slope = g * weight;
            }
            apply(slope, flow);
            apply(value, weight);
            apply(slope, weight);
        }
        Ratio::Sequence { ratio, flow } => {
            let (v, g) = term(ratio);
            for (value, &m) in value.iter_mut().zip(mask.iter()) {
                *value = row_weight * m;
            }
            apply(value, weight);
            let per_token = g * flow * sum(value) / n_policy;
            for ((value, slope), &m) in value.iter_mut().zip(slope).zip(mask.iter()) {
                *value *= v;
                *slope = per_token * m;
            }
        }
        Ratio::SequenceToken { ratio, flow } => {
            let (v, g) = term(ratio);
            for ((value, slope), &m) in (value.iter_mut().zip(slope.iter_mut())).zip(mask.iter()) {
                *value = v * row_weight * m;
                *slope = g * flow * row_weight * m;
            }
            apply(value, weight);
            apply(slope, weight);
        }
    }
}

/// Multiplies by factors; an empty slice stands for ones.
fn apply(values: &mut [f64], factors: &[f64]) {
    for (value, factor) in values.iter_mut().zip(factors) {
        *value *= factor;
    }
}

/// Records how many of the row's `n` ratios are clipped on each side.
fn record_clips(metrics: &mut LossMetrics, n: u64, low: u64, high: u64) {
    metrics.clip_low.push_sum(n, low as f64);
    metrics.clip_high.push_sum(n, high as f64);
    metrics.clip_low_rows.push(low as f64 / n as f64);
    metrics.clip_high_rows.push(high as f64 / n as f64);
}

fn count_tokens(scratch: &Scratch, is: impl Fn(f64) -> bool) -> u64 {
    count_where(&scratch.ratio, &scratch.mask, is)
}

fn count_where(values: &[f64], mask: &[f64], is: impl Fn(f64) -> bool) -> u64 {
    (values.iter().zip(mask))
        .map(|(&x, &m)| u64::from((m > 0.0) & is(x)))
        .sum()
}

fn count_cispo(
    scratch: &Scratch,
    ratio: Ratio,
    n_policy: f64,
    cap: f64,
    advantage: f64,
    metrics: &mut LossMetrics,
) {
    let is_capped = |r: f64| r > cap && advantage > 0.0;
    let n = n_policy as u64;
    let (n, capped) = match ratio {
        Ratio::Token => (n, count_tokens(scratch, is_capped)),
        Ratio::Sequence { ratio, .. } => (1, u64::from(is_capped(ratio))),
        Ratio::SequenceToken { ratio, .. } => (n, n * u64::from(is_capped(ratio))),
    };
    metrics.cispo_clip.push_sum(n, capped as f64);
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

    #[test]
    fn binary_kl_by_hand() {
        // p = 1/2, q = 1/4: ½ ln 2 + ½ ln(2/3).
        let expected = 0.5 * 2f64.ln() + 0.5 * (2.0f64 / 3.0).ln();
        assert_relative_eq!(binary_kl(0.5, 0.25), expected, max_relative = 1e-14);
        assert_eq!(binary_kl(1.0, 1.0), 0.0);
        assert_eq!(binary_kl(0.5, 1.0), f64::INFINITY);
    }
}
