//! The KL term of one row, added to the token losses that the surrogate left.

use super::ratio::Ratio;
use super::row::{RowPass, Scratch};
use crate::error::Result;
use crate::exp::{EXP_MAX, dot, exp, sum};
use crate::kl::{KlEstimator, KlGradient, KlPlacement, clamped};
use crate::metrics::LossMetrics;

impl RowPass<'_> {
    pub(super) fn kl_term(
        &self,
        scratch: &mut Scratch,
        ratio: Ratio,
        n_policy: f64,
        metrics: &mut LossMetrics,
    ) -> Result<()> {
        let config = self.config;
        let Some(reference) = &self.streams.logp_ref else {
            return Ok(());
        };
        if config.beta == 0.0 {
            return Ok(());
        }
        let reference = reference.row(self.row);
        if let Some(total) = self.usual_term(scratch, ratio, reference) {
            metrics.kl.push_sum(n_policy as u64, total);
            return Ok(());
        }
        self.fill_differences(scratch, reference)?;
        self.estimate(scratch);
        let in_loss = config.kl_placement == KlPlacement::Loss;
        if config.kl_gradient == KlGradient::ScoreFunction {
            add(&mut scratch.kl_slope, &scratch.kl);
        } else if config.use_bias_correction_kl && in_loss {
            weigh_by_ratio(scratch, ratio, n_policy);
        }
        let total = dot(&scratch.kl, &scratch.mask);
        metrics.kl.push_sum(n_policy as u64, total);
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
    fn usual_term(&self, scratch: &mut Scratch, ratio: Ratio, reference: &[f64]) -> Option<f64> {
        let config = self.config;
        let is_usual = config.kl_estimator == KlEstimator::K3
            && config.kl_gradient == KlGradient::Value
            && config.kl_placement == KlPlacement::Loss
            && config.kl_log_ratio_clamp.is_none()
            && config.kl_clamp.is_none()
            && matches!(ratio, Ratio::Token)
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
        let add = if config.use_bias_correction_kl {
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
        kl.clear();
        kl.resize(mask.len(), 0.0);
        let mut all_usable = true;
        for (((d, &m), &logp), &reference) in (kl.iter_mut().zip(mask.iter()))
            .zip(self.logp)
            .zip(reference)
        {
            let difference = if m > 0.0 { reference - logp } else { 0.0 };
            all_usable &= (difference <= limit) & (difference >= -f64::MAX);
            *d = difference;
        }
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

    /// Differences become values and derivatives; 0 outside the mask, where the difference is 0.
    fn estimate(&self, scratch: &mut Scratch) {
        let config = self.config;
        let Scratch {
            mask, kl, kl_slope, ..
        } = scratch;
        kl_slope.clear();
        kl_slope.resize(kl.len(), 0.0);
        let is_plain = config.kl_log_ratio_clamp.is_none()
            && config.kl_clamp.is_none()
            && config.kl_gradient != KlGradient::K2;
        if is_plain && config.kl_estimator == KlEstimator::K3 {
            // The usual case, with nothing left to decide inside the loop.
            each(kl, kl_slope, mask, |d| KlEstimator::K3.of(d, exp));
        } else {
            each(kl, kl_slope, mask, |d| clamped(config, d, exp));
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
        let e = exp(d);
        let (mut k, mut g) = (e - d - 1.0, 1.0 - e);
        if BIAS_CORRECTED {
            k *= ratio[t];
            g = g * ratio[t] + k;
        }
        kl[t] = k;
        value[t] += beta * k;
        slope[t] += beta * g;
    }
}

#[inline(always)]
fn each(kl: &mut [f64], slope: &mut [f64], mask: &[f64], estimate: impl Fn(f64) -> (f64, f64)) {
    for ((kl, slope), &m) in kl.iter_mut().zip(slope).zip(mask) {
        let (value, grad) = estimate(*kl);
        *kl = value;
        *slope = grad * m;
    }
}

/// `kl · r`, with the gradient through `r` (DeepSeek-V3.2).
fn weigh_by_ratio(scratch: &mut Scratch, ratio: Ratio, n_policy: f64) {
    let Scratch {
        mask,
        flow,
        ratio: ratios,
        kl,
        kl_slope: slope,
        ..
    } = scratch;
    match ratio {
        Ratio::Token if flow.is_empty() => {
            for ((kl, slope), &r) in kl.iter_mut().zip(slope).zip(ratios.iter()) {
                *kl *= r;
                *slope = *slope * r + *kl;
            }
        }
        Ratio::Token => {
            for (((kl, slope), &r), &flow) in (kl.iter_mut().zip(slope))
                .zip(ratios.iter())
                .zip(flow.iter())
            {
                *kl *= r;
                *slope = *slope * r + *kl * flow;
            }
        }
        Ratio::Sequence { ratio, flow } => {
            scale(kl, ratio);
            scale(slope, ratio);
            let shared = flow * dot(kl, mask) / n_policy;
            for (slope, m) in slope.iter_mut().zip(mask.iter()) {
                *slope += shared * m;
            }
        }
        Ratio::SequenceToken { ratio, flow } => {
            scale(kl, ratio);
            scale(slope, ratio);
            for (slope, kl) in slope.iter_mut().zip(kl) {
                *slope += *kl * flow;
            }
        }
    }
}

fn add(into: &mut [f64], values: &[f64]) {
    for (into, value) in into.iter_mut().zip(values) {
        *into += value;
    }
}

fn scale(values: &mut [f64], factor: f64) {
    for value in values {
        *value *= factor;
    }
}
