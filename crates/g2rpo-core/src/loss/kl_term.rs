//! The KL term of one row, added to the token losses that the surrogate left.

use super::row::{Ratio, RowPass, Scratch};
use crate::error::Result;
use crate::exp::{EXP_MAX, differences, dot, exp_minus, sum};
use crate::kl::{KlEstimator, KlGradient, KlPlacement};
use crate::kl_penalty::estimate;
use crate::metrics::LossMetrics;

impl RowPass<'_> {
    pub(super) fn kl_term(&self, scratch: &mut Scratch, metrics: &mut LossMetrics) -> Result<()> {
        let (config, n) = (self.config, scratch.n_policy as u64);
        let Some(reference) = &self.streams.logp_ref else {
            return Ok(());
        };
        if config.beta == 0.0 {
            return Ok(());
        }
        let reference = reference.row(self.row);
        if let Some(total) = self.usual_term(scratch, reference) {
            metrics.kl.push_sum(n, total);
            return Ok(());
        }
        self.fill_differences(scratch, reference)?;
        let in_loss = config.kl_placement == KlPlacement::Loss;
        let is_corrected = config.bias_corrects_kl() && in_loss;
        self.estimate(scratch, is_corrected);
        if is_corrected {
            self.weigh_by_ratio(scratch);
        }
        let total = dot(&scratch.kl, &scratch.mask);
        metrics.kl.push_sum(n, total);
        if in_loss {
            for (value, kl) in scratch.value.iter_mut().zip(&scratch.kl) {
                *value += config.beta * kl;
            }
            for (into, slope) in scratch.slope.iter_mut().zip(&scratch.kl_slope) {
                *into += config.beta * slope;
            }
        }
        Ok(())
    }

    /// k3 in the loss with its own gradient, at token level, with or without bias correction: one
    /// pass over the row. `None` for other settings, and where a token is not usable.
    fn usual_term(&self, scratch: &mut Scratch, reference: &[f64]) -> Option<f64> {
        let config = self.config;
        let is_usual = config.kl_estimator == KlEstimator::K3
            && config.kl_gradient == KlGradient::Value
            && config.kl_placement == KlPlacement::Loss
            && config.kl_log_ratio_clamp.is_none()
            && config.kl_clamp.is_none()
            && matches!(scratch.level, Ratio::Token)
            && scratch.flow.is_empty();
        if !is_usual {
            return None;
        }
        let Scratch {
            mask,
            ratio: ratios,
            value,
            slope,
            kl,
            ..
        } = scratch;
        kl.resize(mask.len(), 0.0);
        let tokens = Tokens {
            mask,
            logp: self.logp,
            reference,
            ratio: ratios,
        };
        let add = if config.bias_corrects_kl() {
            add_k3::<true>
        } else {
            add_k3::<false>
        };
        is_k3_usable(mask, self.logp, reference).then(|| {
            add(config.beta, kl, value, slope, tokens);
            sum(kl)
        })
    }

    /// Masked `logp_ref − logp` into [`Scratch::kl`].
    fn fill_differences(&self, scratch: &mut Scratch, reference: &[f64]) -> Result<()> {
        let config = self.config;
        let limit = match (config.kl_estimator, config.kl_log_ratio_clamp) {
            (KlEstimator::K3, None) => EXP_MAX,
            _ => f64::MAX,
        };
        let Scratch { mask, kl, .. } = scratch;
        let all_usable = differences(kl, mask, reference, self.logp, limit);
        if all_usable {
            return Ok(());
        }
        for (t, _) in mask.iter().enumerate().filter(|(_, m)| **m > 0.0) {
            if !reference[t].is_finite() {
                return Err(self.not_finite("logp_ref", t, reference[t]));
            }
            let d = reference[t] - self.logp[t];
            if !(d <= limit && d >= -f64::MAX) {
                return Err(self.overflow("logp_ref - logp", t, d));
            }
        }
        Ok(())
    }

    /// Differences become values and derivatives; 0 outside the mask. Where a ratio is still to come,
    /// [`Scratch::kl_score`] holds the derivatives with its score.
    fn estimate(&self, scratch: &mut Scratch, is_corrected: bool) {
        let config = self.config;
        let Scratch {
            mask,
            kl,
            kl_slope: slope,
            kl_score: score,
            ..
        } = scratch;
        slope.resize(kl.len(), 0.0);
        score.resize(kl.len(), 0.0);
        let takes_score = !is_corrected && config.kl_gradient == KlGradient::ScoreFunction;
        for (((kl, slope), score), &m) in (kl.iter_mut().zip(slope.iter_mut()))
            .zip(score.iter_mut())
            .zip(mask.iter())
        {
            let term = estimate(config, *kl);
            *kl = term.value * m;
            *score = term.with_score * m;
            *slope = if takes_score { *score } else { term.grad * m };
        }
    }

    /// `kl · r`, with the gradient through `r` (DeepSeek-V3.2).
    fn weigh_by_ratio(&self, scratch: &mut Scratch) {
        let (level, n_policy) = (scratch.level, scratch.n_policy);
        let Scratch {
            mask,
            flow,
            ratio: ratios,
            kl,
            kl_slope: slope,
            kl_score: score,
            ..
        } = scratch;
        match level {
            Ratio::Token => {
                for (t, slope) in slope.iter_mut().enumerate() {
                    let flows = flow.get(t).is_none_or(|&f| f > 0.0);
                    *slope = ratios[t] * if flows { score[t] } else { *slope };
                    kl[t] *= ratios[t];
                }
            }
            Ratio::SequenceToken { ratio, flow } => {
                scale(kl, ratio);
                let from = if flow > 0.0 { &*score } else { &*slope };
                *slope = from.iter().map(|s| s * ratio).collect();
            }
            Ratio::Sequence { ratio, flow } => {
                scale(kl, ratio);
                // The k2 gradient has no value that the sequence's ratio could carry to other tokens.
                if flow > 0.0 && self.config.kl_gradient != KlGradient::K2 {
                    // Every token moves the ratio of all: slope + mean(score − slope). Slopes are
                    // measured from one of them, so that large equal ones leave no residue.
                    let first = mask.iter().position(|&m| m > 0.0);
                    let origin = first.map_or(0.0, |t| slope[t]);
                    let from_origin = |(s, m): (&f64, &f64)| (s - origin) * m;
                    let apart: f64 = slope.iter().zip(mask.iter()).map(from_origin).sum();
                    let shared = (sum(score) - apart) / n_policy;
                    for (slope, &m) in slope.iter_mut().zip(mask.iter()) {
                        *slope = ((*slope - origin) + shared) * m;
                    }
                }
                scale(slope, ratio);
            }
        }
    }
}

/// What the usual term reads of each token.
#[derive(Clone, Copy)]
struct Tokens<'a> {
    mask: &'a [f64],
    logp: &'a [f64],
    reference: &'a [f64],
    ratio: &'a [f64],
}

fn is_k3_usable(mask: &[f64], logp: &[f64], reference: &[f64]) -> bool {
    let mut all_usable = true;
    for ((&m, &logp), &reference) in mask.iter().zip(logp).zip(reference) {
        let d = reference - logp;
        all_usable &= (m == 0.0) | ((d <= EXP_MAX) & d.is_finite());
    }
    all_usable
}

/// Adds `beta · kl` and its derivative, and leaves `kl`. A function of its own, never inlined, so
/// that the compiler knows from the signature that the slices do not overlap, and vectorises.
#[inline(never)]
fn add_k3<const BIAS_CORRECTED: bool>(
    beta: f64,
    kl: &mut [f64],
    value: &mut [f64],
    slope: &mut [f64],
    tokens: Tokens<'_>,
) {
    let n = kl.len();
    let (value, slope) = (&mut value[..n], &mut slope[..n]);
    let (mask, logp) = (&tokens.mask[..n], &tokens.logp[..n]);
    let (reference, ratio) = (&tokens.reference[..n], &tokens.ratio[..n]);
    for t in 0..n {
        // Outside the mask d is 0, and so are k3 and its derivative.
        let difference = reference[t] - logp[t];
        let d = if mask[t] > 0.0 { difference } else { 0.0 };
        let (mut k, e) = exp_minus(d);
        let mut g = -e;
        if BIAS_CORRECTED {
            // (1 − eᵈ)·r + k3·r, of which only this is left.
            k *= ratio[t];
            g = -d * ratio[t];
        }
        kl[t] = k;
        value[t] += beta * k;
        slope[t] += beta * g;
    }
}

fn scale(values: &mut [f64], factor: f64) {
    for value in values {
        *value *= factor;
    }
}
