//! Detached weights of the policy term: off-policy mask, top-entropy mask, mismatch correction, and
//! the weights of single tokens.

use super::row::{RowPass, Scratch};
use crate::choices::LossType;
use crate::error::{Error, Result};
use crate::exp::EXP_MAX;
use crate::metrics::LossMetrics;
use crate::mismatch::{MismatchCorrection, MismatchLevel, OutOfRange};

impl RowPass<'_> {
    /// Fills [`Scratch::weight`] and returns [`Scratch::row_weight`].
    pub(super) fn fill_weights(
        &self,
        scratch: &mut Scratch,
        metrics: &mut LossMetrics,
    ) -> Result<f64> {
        let Scratch { mask, weight, .. } = scratch;
        weight.clear();
        let mut row_weight = 1.0;
        if let Some(threshold) = self.config.off_policy_mask_threshold {
            // The mask is of sequences, so it asks for the sign of the sequence's advantage.
            let kept = self.advantage >= 0.0 || self.mean_drift()? <= threshold;
            row_weight *= f64::from(u8::from(kept));
            if self.in_loss().next().is_some() {
                metrics.off_policy_kept.push(row_weight);
            }
        }
        self.entropy_weights(mask, weight, metrics);
        self.difference_metrics(metrics);
        row_weight *= self.mismatch_weights(mask, weight, metrics)?;
        if let Some(factors) = &self.streams.token_weights {
            weight.resize(mask.len(), 1.0);
            let factors = factors.row(self.row);
            for ((weight, &factor), &m) in weight.iter_mut().zip(factors).zip(mask.iter()) {
                *weight *= if m > 0.0 { factor } else { 1.0 };
            }
        }
        Ok(row_weight)
    }

    /// Multiplies the weights of tokens by a token-level mismatch correction, or returns that of the
    /// row.
    fn mismatch_weights(
        &self,
        mask: &[f64],
        weight: &mut Vec<f64>,
        metrics: &mut LossMetrics,
    ) -> Result<f64> {
        let Some(correction) = self.config.importance_sampling_correction else {
            return Ok(1.0);
        };
        let in_policy_term = self.config.loss_type != LossType::Vespo;
        match correction.level {
            MismatchLevel::Token => {
                if in_policy_term && weight.is_empty() {
                    weight.resize(mask.len(), 1.0);
                }
                for t in self.in_loss() {
                    let ratio = self.limited(correction, self.sampling_difference(t)?, t)?;
                    metrics.importance_sampling_ratio.push(ratio);
                    if in_policy_term {
                        weight[t] *= ratio;
                    }
                }
                Ok(1.0)
            }
            MismatchLevel::SequenceSum | MismatchLevel::SequenceMean => {
                let ratio = self.sequence_mismatch(correction)?;
                metrics.importance_sampling_ratio.push(ratio);
                Ok(if in_policy_term { ratio } else { 1.0 })
            }
        }
    }

    /// The weight of a whole sequence.
    pub(super) fn sequence_mismatch(&self, correction: MismatchCorrection) -> Result<f64> {
        let (mut total, mut n) = (0.0, 0.0);
        for t in self.in_loss() {
            total += self.sampling_difference(t)?;
            n += 1.0;
        }
        if correction.level == MismatchLevel::SequenceMean {
            total /= f64::max(n, 1.0);
        }
        self.limited(correction, total, 0)
    }

    /// `exp(difference)`, truncated or masked.
    pub(super) fn limited(
        &self,
        correction: MismatchCorrection,
        difference: f64,
        position: usize,
    ) -> Result<f64> {
        let min = correction.clip_min.unwrap_or(0.0);
        let max = correction.clip_max.unwrap_or(f64::INFINITY);
        if difference > EXP_MAX && max.is_infinite() {
            return Err(self.overflow("logp_old - logp_sampling", position, difference));
        }
        let ratio = difference.exp();
        Ok(match correction.out_of_range {
            OutOfRange::Truncate => ratio.clamp(min, max),
            OutOfRange::Mask if ratio < min || ratio > max => 0.0,
            OutOfRange::Mask => ratio,
        })
    }

    /// `logp_old − logp_sampling` with the sampler's kept mass added back; 0 where not reported.
    pub(super) fn sampling_difference(&self, t: usize) -> Result<f64> {
        let sampling = self.sampling_logp(t)?;
        if sampling.is_nan() {
            return Ok(0.0);
        }
        let (what, old) = match &self.streams.logp_old {
            Some(old) => ("logp_old", old.row(self.row)[t]),
            None => ("logp", self.logp[t]),
        };
        if !old.is_finite() {
            return Err(self.not_finite(what, t, old));
        }
        Ok(old - sampling)
    }

    /// The sampler's log-probability on the scale of the full softmax, NaN where not reported.
    fn sampling_logp(&self, t: usize) -> Result<f64> {
        let Some(sampling) = &self.streams.logp_sampling else {
            return Ok(f64::NAN);
        };
        let sampling = sampling.row(self.row)[t];
        if sampling.is_infinite() {
            return Err(self.not_finite("logp_sampling", t, sampling));
        }
        let Some(kept) = &self.streams.log_kept else {
            return Ok(sampling);
        };
        let kept = kept.row(self.row)[t];
        if sampling.is_nan() {
            return Ok(sampling);
        }
        if !kept.is_finite() {
            return Err(self.not_finite("log_kept", t, kept));
        }
        if kept > 1e-6 {
            // A rounding error above 0 is a mass of 1; more is a probability, not a logarithm.
            return Err(Error::NotLogProbability {
                what: "log_kept",
                row: self.row,
                position: t,
                value: kept,
            });
        }
        Ok(sampling + kept)
    }

    /// Mean over own tokens of the behaviour's log-probability minus the current one, for the
    /// off-policy sequence mask.
    fn mean_drift(&self) -> Result<f64> {
        let (mut total, mut n) = (0.0, 0.0);
        for t in self.in_loss() {
            let behaviour = match (&self.streams.logp_sampling, &self.streams.logp_old) {
                (Some(_), _) => self.sampling_logp(t)?,
                (None, Some(old)) => old.row(self.row)[t],
                (None, None) => self.logp[t],
            };
            let drift = behaviour - self.logp[t];
            total += if drift.is_nan() { 0.0 } else { drift };
            n += 1.0;
        }
        Ok(total / f64::max(n, 1.0))
    }

    fn difference_metrics(&self, metrics: &mut LossMetrics) {
        if self.streams.logp_sampling.is_none() {
            return;
        }
        for t in self.in_loss() {
            let is_reported = self.sampling_logp(t).is_ok_and(|logp| !logp.is_nan());
            if let (true, Ok(difference)) = (is_reported, self.sampling_difference(t)) {
                metrics.logp_difference.push(difference.abs());
            }
        }
    }

    /// Entropy statistics, and zero weights below the batch's entropy threshold.
    fn entropy_weights(&self, mask: &[f64], weight: &mut Vec<f64>, metrics: &mut LossMetrics) {
        let Some(entropy) = &self.streams.entropy else {
            return;
        };
        let entropy = entropy.row(self.row);
        self.in_loss()
            .for_each(|t| metrics.entropy.push(entropy[t]));
        if let Some(threshold) = self.totals.entropy_threshold
            && self.config.top_entropy_quantile < 1.0
        {
            weight.extend(
                (mask.iter().zip(entropy))
                    .map(|(&m, &h)| f64::from(u8::from(m > 0.0 && h >= threshold))),
            );
        }
    }
}
