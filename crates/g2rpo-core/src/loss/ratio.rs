//! Importance ratios of one row, per token or per sequence.

use super::count::record_clips;
use super::row::{Ratio, RowPass, Scratch};
use crate::choices::{ImportanceSamplingLevel, LossType};
use crate::error::{Error, Result};
use crate::exp::{EXP_MAX, differences, exp, extremes, map_into, sum};
use crate::metrics::{LossMetrics, Summary};

impl RowPass<'_> {
    /// What the row's ratios are taken over; fills [`Scratch::ratio`] where that is tokens.
    pub(super) fn level(&self, scratch: &mut Scratch) -> Result<Ratio> {
        let n_policy = scratch.n_policy;
        let level = self.config.importance_sampling_level;
        if level == ImportanceSamplingLevel::Token {
            if n_policy > 0.0 {
                map_into(&mut scratch.ratio, &scratch.log_ratio, exp);
            }
            return Ok(Ratio::Token);
        }
        if n_policy == 0.0 {
            return Ok(Ratio::Sequence {
                ratio: 1.0,
                flow: 0.0,
            });
        }
        let mean = sum(&scratch.log_ratio) / n_policy;
        let [low, high] = (self.config.log_ratio_clamp).unwrap_or([f64::NEG_INFINITY, EXP_MAX]);
        if self.config.log_ratio_clamp.is_none() && mean > EXP_MAX {
            return Err(self.overflow("mean of logp - logp_old", 0, mean));
        }
        let flow = f64::from(u8::from((low..=high).contains(&mean)));
        let ratio = exp(mean.clamp(low, high));
        Ok(match level {
            ImportanceSamplingLevel::SequenceToken => Ratio::SequenceToken { ratio, flow },
            ImportanceSamplingLevel::Token | ImportanceSamplingLevel::Sequence => {
                Ratio::Sequence { ratio, flow }
            }
        })
    }

    /// Masked log ratios, masked before anything is computed from them; at token level clamped.
    pub(super) fn fill_log_ratio(&self, scratch: &mut Scratch) -> Result<()> {
        let Scratch {
            mask,
            log_ratio,
            flow,
            ..
        } = scratch;
        flow.clear();
        // The clamp of a sequence level acts on the mean.
        let token_level = self.config.importance_sampling_level == ImportanceSamplingLevel::Token;
        let clamp = self.config.log_ratio_clamp;
        let limit = if token_level && clamp.is_none() {
            EXP_MAX
        } else {
            f64::MAX
        };
        let all_usable = match &self.streams.logp_old {
            None => {
                log_ratio.clear();
                log_ratio.resize(mask.len(), 0.0);
                let usable = |(&m, &logp): (&f64, &f64)| (m == 0.0) | (logp.abs() <= f64::MAX);
                mask.iter()
                    .zip(self.logp)
                    .fold(true, |all, token| all & usable(token))
            }
            Some(old) => differences(log_ratio, mask, self.logp, old.row(self.row), limit),
        };
        if !all_usable {
            return Err(self.find_unusable(&scratch.mask, limit));
        }
        if let (true, Some([low, high])) = (token_level, clamp) {
            flow.extend((log_ratio.iter()).map(|d| f64::from(u8::from((low..=high).contains(d)))));
            for d in log_ratio {
                *d = d.clamp(low, high);
            }
        }
        Ok(())
    }

    /// Names the token that made [`Self::fill_log_ratio`] give up.
    fn find_unusable(&self, mask: &[f64], limit: f64) -> Error {
        for (position, _) in mask.iter().enumerate().filter(|(_, m)| **m > 0.0) {
            let logp = self.logp[position];
            if !logp.is_finite() {
                return self.not_finite("logp", position, logp);
            }
            let Some(old) = &self.streams.logp_old else {
                continue;
            };
            let old = old.row(self.row)[position];
            if !old.is_finite() {
                return self.not_finite("logp_old", position, old);
            }
            let difference = logp - old;
            if !(difference <= limit && difference >= -f64::MAX) {
                return self.overflow("logp - logp_old", position, difference);
            }
        }
        self.overflow("logp - logp_old", 0, f64::NAN)
    }

    pub(super) fn ratio_metrics(&self, scratch: &Scratch, metrics: &mut LossMetrics) {
        let n = scratch.n_policy as u64;
        metrics.approx_kl.push_sum(n, -sum(&scratch.log_ratio));
        match scratch.level {
            Ratio::Token => {
                let outside = (scratch.mask.len() as f64) - scratch.n_policy;
                let sum = sum(&scratch.ratio) - outside; // masked tokens have ratio 1
                let (low, high) = extremes(&scratch.ratio, &scratch.mask);
                (metrics.ratio).merge(&Summary::of_parts(n, sum, low, high));
            }
            Ratio::Sequence { ratio, .. } | Ratio::SequenceToken { ratio, .. } => {
                metrics.ratio.push(ratio);
            }
        }
    }

    /// What TRL counts for a sequence without tokens in the loss: its ratio is 1, so at sequence
    /// level it is one unclipped sequence, and φ(1) = 1.
    pub(super) fn empty_row_metrics(&self, metrics: &mut LossMetrics) {
        let config = self.config;
        let sequence_level = config.importance_sampling_level == ImportanceSamplingLevel::Sequence;
        if sequence_level && config.loss_type.is_clipped_surrogate() {
            record_clips(metrics, 1, 0, 0);
        }
        if config.loss_type == LossType::Vespo {
            metrics.vespo_phi.push(1.0);
        }
        if sequence_level && config.loss_type == LossType::Cispo {
            metrics.cispo_clip.push(0.0);
        }
    }
}
