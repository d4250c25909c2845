//! The surrogate objectives. Each fills the row's token losses and their derivatives with respect
//! to the log-probabilities, weights and mask included.

use super::clip::Clip;
use super::row::{Ratio, RowPass, Scratch};
use crate::choices::{CispoClip, LossType};
use crate::error::Result;
use crate::exp::{exp, max, min, scale_by, sum};
use crate::metrics::LossMetrics;

impl RowPass<'_> {
    pub(super) fn surrogate(&self, scratch: &mut Scratch, metrics: &mut LossMetrics) -> Result<()> {
        let config = self.config;
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
                self.of_ratio(scratch, |a| {
                    let clip = Clip::new(config, a);
                    move |r| clip.term(r)
                });
                self.count_clips(scratch, metrics);
            }
            LossType::Sapo => {
                self.of_ratio(scratch, |a| {
                    let tau = if a > 0.0 {
                        config.sapo_temperature_pos
                    } else {
                        config.sapo_temperature_neg
                    };
                    let scale = 4.0 / tau * a;
                    move |r| {
                        let gate = 1.0 / (1.0 + exp(-tau * (r - 1.0)));
                        (-scale * gate, -scale * tau * gate * (1.0 - gate) * r)
                    }
                });
            }
            LossType::Cispo => {
                let (low, high) = match config.cispo_clip {
                    CispoClip::Absolute => (0.0, config.epsilon_high()),
                    CispoClip::AroundOne => (1.0 - config.epsilon, 1.0 + config.epsilon_high()),
                };
                let capped = self.count_ratios(scratch, |a, r| r > high && a > 0.0);
                let n = Self::n_ratios(scratch);
                metrics.cispo_clip.push_sum(n, capped as f64);
                self.of_score(scratch, |r| min(max(r, low), high));
            }
            LossType::Reinforce => self.of_score(scratch, |_| 1.0),
            LossType::Vespo => {
                let phi = self.vespo_phi(scratch);
                metrics.vespo_phi.push(phi);
                self.of_score(scratch, |_| phi);
            }
            LossType::Dppo => {
                let cap = config.delta.unwrap_or(f64::INFINITY);
                self.of_score(scratch, |r| min(r, cap));
                self.drop_outside_trust_region(scratch, metrics);
            }
            LossType::Gmpo => self.gmpo(scratch, metrics)?,
        }
        Ok(())
    }

    /// `−c(r)·A·logp` with no gradient through `c`.
    fn of_score(&self, scratch: &mut Scratch, coefficient: impl Fn(f64) -> f64) {
        let factor = if scratch.advantage.is_empty() {
            -self.advantage * scratch.row_weight
        } else {
            -scratch.row_weight
        };
        match scratch.level {
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
        scale_by(&mut scratch.slope, &scratch.advantage);
        scale_by(&mut scratch.slope, &scratch.weight);
        for (((value, &slope), &logp), &m) in (scratch.value.iter_mut().zip(&scratch.slope))
            .zip(self.logp)
            .zip(&scratch.mask)
        {
            *value = slope * if m > 0.0 { logp } else { 0.0 };
        }
    }

    /// A loss that is a function of the ratio: `of_advantage(A)(r)` gives value and derivative with
    /// respect to `ln r`.
    #[inline(always)]
    fn of_ratio<F: Fn(f64) -> (f64, f64)>(
        &self,
        scratch: &mut Scratch,
        of_advantage: impl Fn(f64) -> F,
    ) {
        let (level, n_policy, row_weight) = (scratch.level, scratch.n_policy, scratch.row_weight);
        let Scratch {
            mask,
            advantage,
            flow,
            ratio: ratios,
            weight,
            value,
            slope,
            ..
        } = scratch;
        let term = of_advantage(self.advantage);
        match level {
            Ratio::Token if advantage.is_empty() => {
                for (((value, slope), &r), &m) in (value.iter_mut().zip(slope.iter_mut()))
                    .zip(ratios.iter())
                    .zip(mask.iter())
                {
                    let (v, g) = term(r);
                    let weight = m * row_weight;
                    *value = v * weight;
                    *slope = g * weight;
                }
            }
            Ratio::Token => {
                for (t, (value, slope)) in value.iter_mut().zip(slope.iter_mut()).enumerate() {
                    let (v, g) = of_advantage(advantage[t])(ratios[t]);
                    let weight = mask[t] * row_weight;
                    *value = v * weight;
                    *slope = g * weight;
                }
            }
            Ratio::Sequence { ratio, flow } => {
                let (v, g) = term(ratio);
                for (value, &m) in value.iter_mut().zip(mask.iter()) {
                    *value = row_weight * m;
                }
                scale_by(value, weight);
                let per_token = g * flow * sum(value) / n_policy;
                for ((value, slope), &m) in value.iter_mut().zip(slope).zip(mask.iter()) {
                    *value *= v;
                    *slope = per_token * m;
                }
                return;
            }
            Ratio::SequenceToken { ratio, flow } => {
                for (t, (value, slope)) in value.iter_mut().zip(slope.iter_mut()).enumerate() {
                    let (v, g) = match advantage.get(t) {
                        None => term(ratio),
                        Some(&a) => of_advantage(a)(ratio),
                    };
                    *value = v * row_weight * mask[t];
                    *slope = g * flow * row_weight * mask[t];
                }
            }
        }
        if matches!(level, Ratio::Token) {
            scale_by(slope, flow);
        }
        scale_by(value, weight);
        scale_by(slope, weight);
    }
}
