//! The KL term of one row, added to the token losses that the surrogate left.

use super::{Ratio, RowPass, Scratch};
use crate::config::EXP_MAX;
use crate::exp::{dot, exp};
use crate::kl::clamped;
use crate::{KlEstimator, KlGradient, KlPlacement, LossMetrics, Result, Summary};

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
        self.check_reference(&scratch.mask, reference)?;
        // With the default settings everything below is one vectorised loop over slices.
        let mut kl = vec![0.0; self.logp.len()];
        let mut slope = vec![0.0; self.logp.len()];
        for ((((kl, slope), &logp), &reference), &m) in (kl.iter_mut().zip(slope.iter_mut()))
            .zip(self.logp)
            .zip(reference)
            .zip(&scratch.mask)
        {
            let d = if m > 0.0 { reference - logp } else { 0.0 };
            (*kl, *slope) = clamped(config, d, exp);
            *slope *= m;
        }
        let in_loss = config.kl_placement == KlPlacement::Loss;
        if config.kl_gradient == KlGradient::ScoreFunction {
            add(&mut slope, &kl);
        } else if config.use_bias_correction_kl && in_loss {
            weigh_by_ratio(&mut kl, &mut slope, scratch, ratio, n_policy);
        }
        let total = dot(&kl, &scratch.mask);
        let extreme = kl.iter().zip(&scratch.mask).filter(|(_, m)| **m > 0.0);
        let (low, high) = extreme.fold(
            (f64::INFINITY, f64::NEG_INFINITY),
            |(low, high), (&kl, _)| (low.min(kl), high.max(kl)),
        );
        (metrics.kl).merge(&Summary::of_parts(n_policy as u64, total, low, high));
        if in_loss {
            for (value, kl) in scratch.value.iter_mut().zip(&kl) {
                *value += config.beta * kl;
            }
            for (into, slope) in scratch.slope.iter_mut().zip(&slope) {
                *into += config.beta * slope;
            }
        }
        Ok(())
    }

    fn check_reference(&self, mask: &[f64], reference: &[f64]) -> Result<()> {
        let config = self.config;
        let limit = match (config.kl_estimator, config.kl_log_ratio_clamp) {
            (KlEstimator::K3, None) => EXP_MAX,
            _ => f64::MAX,
        };
        let mut all_usable = true;
        for ((&m, &logp), &reference) in mask.iter().zip(self.logp).zip(reference) {
            let d = if m > 0.0 { reference - logp } else { 0.0 };
            all_usable &= d <= limit && d >= -f64::MAX;
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
}

/// `kl · r`, with the gradient through `r` (DeepSeek-V3.2).
fn weigh_by_ratio(
    kl: &mut [f64],
    slope: &mut [f64],
    scratch: &Scratch,
    ratio: Ratio,
    n_policy: f64,
) {
    match ratio {
        Ratio::Token => {
            for (((kl, slope), &r), &m) in (kl.iter_mut().zip(slope.iter_mut()))
                .zip(&scratch.ratio)
                .zip(&scratch.mask)
            {
                *kl *= r * m;
                *slope *= r;
            }
            if scratch.flow.is_empty() {
                add(slope, kl);
            } else {
                for ((slope, kl), flow) in slope.iter_mut().zip(kl).zip(&scratch.flow) {
                    *slope += *kl * flow;
                }
            }
        }
        Ratio::Sequence { ratio, flow } => {
            scale(kl, ratio);
            scale(slope, ratio);
            let shared = flow * dot(kl, &scratch.mask) / n_policy;
            for (slope, m) in slope.iter_mut().zip(&scratch.mask) {
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
