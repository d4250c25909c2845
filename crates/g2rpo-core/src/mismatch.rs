//! Settings of the correction for the mismatch between sampler and trainer.

use crate::names::named;
use crate::settings::settings;

settings! {
    /// Correction for the difference between the policy that sampled and the policy as the trainer
    /// computes it: the policy term is multiplied by `exp(logp_old − logp_sampling)`, limited.
    ///
    /// No gradient flows through the weight. Guidance tokens were not sampled, so they take no part in
    /// the ratio; a sequence-level weight applies to them as to the rest of their sequence. A NaN in
    /// `logp_sampling` means "not reported" and counts as no difference (TRL).
    ///
    /// [`Default`] is TRL's: sequence sum, mask, at most 3.0 (arXiv 2510.26788 discusses the choices).
    ///
    /// ```
    /// use g2rpo_core::{MismatchCorrection, MismatchLevel, OutOfRange};
    /// let trl = MismatchCorrection::default();
    /// assert_eq!((trl.level, trl.out_of_range), (MismatchLevel::SequenceSum, OutOfRange::Mask));
    /// assert_eq!((trl.clip_min, trl.clip_max), (None, Some(3.0)));
    /// ```
    #[derive(Copy)]
    pub struct MismatchCorrection {
        /// One weight per token or per sequence.
        pub level: MismatchLevel = MismatchLevel::SequenceSum,
        /// What happens to a weight outside the range.
        pub out_of_range: OutOfRange = OutOfRange::Mask,
        /// Lower end of the range, `None` for no bound.
        pub clip_min: Option<f64> = None,
        /// Upper end of the range, `None` for no bound. verl and open-instruct use 2.0.
        pub clip_max: Option<f64> = Some(3.0),
    }
}

/// Level of [`MismatchCorrection`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MismatchLevel {
    /// `exp(d_t)` per token.
    Token,
    /// `exp(Σ_t d_t)` per sequence (TRL, verl, NeMo-RL). Long completions leave the range sooner.
    SequenceSum,
    /// `exp(mean_t d_t)` per sequence, the geometric mean.
    SequenceMean,
}

named!(MismatchLevel, "level of importance_sampling_correction": Token = "token", SequenceSum = "sequence_sum", SequenceMean = "sequence_mean");

/// What [`MismatchCorrection`] does with a weight outside its range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OutOfRange {
    /// Moved to the nearer end (TIS).
    Truncate,
    /// Set to 0 (MIS, IcePop).
    Mask,
}

named!(OutOfRange, "out_of_range of importance_sampling_correction": Truncate = "truncate", Mask = "mask");
