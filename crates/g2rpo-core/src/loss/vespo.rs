//! VESPO's weight of a sequence.

use super::row::{RowPass, Scratch};
use crate::error::Result;
use crate::mismatch::MismatchLevel;

/// Bounds of the sequence log ratio in VESPO's published code.
const VESPO_LIMIT: f64 = 20.0;
/// ln 1e-8.
const VESPO_FLOOR: f64 = -18.420_680_743_952_367;

impl RowPass<'_> {
    /// VESPO's weight of the row: a function of the sequence ratio, sampling mismatch included.
    pub(super) fn vespo_phi(&self, scratch: &Scratch) -> f64 {
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

    /// Logarithm of the mismatch correction as VESPO takes it into its sequence ratio. Errors were
    /// raised when the weights were filled.
    fn vespo_mismatch(&self) -> f64 {
        let Some(correction) = self.config.importance_sampling_correction else {
            return 0.0;
        };
        let log = |ratio: Result<f64>| ratio.unwrap_or(1.0).ln().clamp(VESPO_FLOOR, 20.0);
        match correction.level {
            MismatchLevel::Token => (self.in_loss())
                .map(|t| {
                    let difference = self.sampling_difference(t);
                    log(difference.and_then(|d| self.limited(correction, d, t)))
                })
                .sum(),
            MismatchLevel::SequenceSum | MismatchLevel::SequenceMean => {
                log(self.sequence_mismatch(correction))
            }
        }
    }
}
