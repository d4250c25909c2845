//! Terms that are not the surrogate's: guidance tokens with a treatment of their own, the entropy
//! bonus, and what is measured about guidance.

use super::row::{RowPass, Scratch};
use crate::error::{Error, Result};
use crate::exp::sum_of;
use crate::guidance::GuidanceTokenLoss;
use crate::metrics::LossMetrics;
use crate::sequences::Role;

impl RowPass<'_> {
    /// Guidance tokens that are neither masked nor treated like own tokens: adds their gradient,
    /// returns their share of the loss. `policy_weight` is the row's weight in the policy term.
    pub(super) fn guidance_terms(&self, policy_weight: f64, grad: &mut [f64]) -> Result<f64> {
        let treatment = self.config.guidance_token_loss;
        let weight = match treatment {
            GuidanceTokenLoss::Shaped { .. } => policy_weight,
            GuidanceTokenLoss::Supervised { .. } | GuidanceTokenLoss::Trust { .. } => {
                1.0 / self.totals.n_guidance.max(1.0)
            }
            GuidanceTokenLoss::Masked
            | GuidanceTokenLoss::SameAdvantage
            | GuidanceTokenLoss::PositiveOnly
            | GuidanceTokenLoss::TopEntropy { .. } => return Ok(0.0),
        };
        let is_policy_term = matches!(treatment, GuidanceTokenLoss::Shaped { .. });
        let mut loss = 0.0;
        for (position, &role) in self.roles.iter().enumerate() {
            if role != Role::Guidance {
                continue;
            }
            let logp = self.logp[position];
            if !logp.is_finite() {
                return Err(self.not_finite("logp", position, logp));
            }
            let Some((value, slope)) = treatment.token_term(logp, self.advantage_at(position))
            else {
                continue;
            };
            if !(value.is_finite() && slope.is_finite()) {
                return Err(Error::Overflow {
                    what: "logp of guidance",
                    row: self.row,
                    position,
                    value: logp,
                });
            }
            let weight = match &self.streams.token_weights {
                Some(factors) if is_policy_term => weight * factors.row(self.row)[position],
                _ => weight,
            };
            loss += weight * value;
            grad[position] = weight * slope;
        }
        Ok(loss)
    }

    /// Adds ∂loss/∂entropy, returns the bonus's share of the loss.
    pub(super) fn entropy_bonus(&self, grad: &mut [f64]) -> f64 {
        let Some(entropy) = &self.streams.entropy else {
            return 0.0;
        };
        if self.is_masked || self.totals.n_entropy == 0.0 {
            return 0.0;
        }
        let per_token = -self.config.entropy_coef / self.totals.n_entropy;
        let threshold = self.totals.entropy_threshold.unwrap_or(f64::NEG_INFINITY);
        let mut sum = 0.0;
        for (t, &value) in entropy.row(self.row).iter().enumerate() {
            if self.roles[t] == Role::Own && value >= threshold {
                grad[t] = per_token;
                sum += value;
            }
        }
        per_token * sum
    }

    /// Log-probabilities and shares of the gradient, own and guidance apart.
    pub(super) fn guidance_metrics(
        &self,
        scratch: &Scratch,
        grad: &[f64],
        metrics: &mut LossMetrics,
    ) {
        let total = sum_of(grad, f64::abs);
        let mut guidance = 0.0;
        for (t, &role) in self.roles.iter().enumerate() {
            match role {
                Role::Own => metrics.own_logp.push(self.logp[t]),
                Role::Guidance if grad[t] != 0.0 || scratch.mask[t] > 0.0 => {
                    guidance += grad[t].abs();
                    metrics.guidance_logp.push(self.logp[t]);
                    let negative = scratch.mask[t] > 0.0 && self.advantage_at(t) < 0.0;
                    (metrics.guidance_negative).push(f64::from(u8::from(negative)));
                }
                Role::Guidance | Role::Prompt => {}
            }
        }
        metrics.guidance_gradient += guidance;
        metrics.own_gradient += total - guidance;
    }
}
