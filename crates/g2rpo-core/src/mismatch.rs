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

named! {
    /// Level of [`MismatchCorrection`].
    pub enum MismatchLevel: "level of importance_sampling_correction" {
        /// `exp(d_t)` per token.
        Token = "token",
        /// `exp(Σ_t d_t)` per sequence (TRL, verl, NeMo-RL). Long completions leave the range sooner.
        SequenceSum = "sequence_sum",
        /// `exp(mean_t d_t)` per sequence, the geometric mean.
        SequenceMean = "sequence_mean",
    }
}

named! {
    /// What [`MismatchCorrection`] does with a weight outside its range.
    pub enum OutOfRange: "out_of_range of importance_sampling_correction" {
        /// Moved to the nearer end (TIS).
        Truncate = "truncate",
        /// Set to 0 (MIS, IcePop).
        Mask = "mask",
    }
}
