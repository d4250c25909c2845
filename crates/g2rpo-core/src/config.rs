//! Everything that turns log-probabilities and advantages into a loss, by field and by name.

use crate::choices::{
    Aggregation, CispoClip, DppoDivergence, ImportanceSamplingLevel, LengthNormalizer, LossType,
};
use crate::error::{Error, Result};
use crate::exp::EXP_MAX;
use crate::guidance::GuidanceTokenLoss;
use crate::kl::{KlEstimator, KlGradient, KlPlacement};
use crate::mismatch::{MismatchCorrection, MismatchLevel};
use crate::settings::{
    ABOVE_0, ANY, AT_LEAST_1, Domain, NON_NEGATIVE, POSITIVE, POSITIVE_SHARE, SHARE, settings,
};

settings! {
    /// Everything that turns log-probabilities and advantages into a loss.
    ///
    /// Names and defaults are those of TRL 1.16's `GRPOConfig` where TRL has the setting; the others
    /// are named after the framework or paper given at the field. [`Default`] is TRL's default: the
    /// DAPO loss, token-level ratios, clip range 0.2, no KL, and (ours) guidance tokens masked.
    ///
    /// Presets that reproduce another framework's arithmetic are in [`crate::Preset`].
    ///
    /// ```
    /// use g2rpo_core::{LossConfig, LossType};
    /// let config = LossConfig { loss_type: LossType::Grpo, beta: 0.04, ..LossConfig::default() };
    /// assert_eq!(config.epsilon_high(), 0.2); // None follows epsilon
    /// assert!(config.check().is_ok());
    /// ```
    pub struct LossConfig {
        /// The surrogate and, with it, the aggregation. Default `dapo` (TRL).
        pub loss_type: LossType = LossType::Dapo,
        /// Aggregation in place of the loss type's own; default `None`.
        pub aggregation: Option<Aggregation> = None,
        /// Ratio per token or per sequence. Default `token` (TRL).
        pub importance_sampling_level: ImportanceSamplingLevel = ImportanceSamplingLevel::Token,
        /// Lower clip range: ratios below `1 − epsilon` are clipped when the advantage is negative.
        /// Default 0.2 (TRL; PPO, arXiv 1707.06347). For `gmpo` the range is of log ratios, for `dppo`
        /// of the divergence.
        pub epsilon: f64 = 0.2,
        /// Upper clip range, `None` for `epsilon`. DAPO (arXiv 2503.14476) recommends 0.28. For
        /// `cispo` with [`CispoClip::Absolute`] it is the cap itself; ScaleRL (arXiv 2510.13786)
        /// recommends 5.0.
        pub epsilon_high: Option<f64> = None,
        /// Two-sided clipping: the unclipped branch is capped at this ratio (INTELLECT-2, TRL).
        /// Default `None`.
        pub delta: Option<f64> = None,
        /// Dual clip: with a negative advantage the loss never exceeds `−dual_clip · advantage`
        /// (arXiv 1912.09729; verl's `clip_ratio_c` = 3.0). Default `None`.
        pub dual_clip: Option<f64> = None,
        /// What `cispo` clips to. Default `absolute` (TRL).
        pub cispo_clip: CispoClip = CispoClip::Absolute,
        /// Log ratios are clamped to this closed interval before `exp`, with no gradient outside.
        /// verl: `[-20, 20]`, and `[-inf, 10]` for GSPO. Default `None` (TRL): overflow is an error.
        pub log_ratio_clamp: Option<[f64; 2]> = None,
        /// Temperature of `sapo` where the advantage is positive. Default 1.0 (arXiv 2511.20347).
        pub sapo_temperature_pos: f64 = 1.0,
        /// Temperature of `sapo` elsewhere. Default 1.05 (arXiv 2511.20347).
        pub sapo_temperature_neg: f64 = 1.05,
        /// Exponent k of `vespo`'s weight for advantages ≥ 0. Default 2.0 (TRL).
        pub vespo_k_pos: f64 = 2.0,
        /// Rate λ of `vespo`'s weight for advantages ≥ 0. Default 3.0 (TRL).
        pub vespo_lambda_pos: f64 = 3.0,
        /// Exponent k of `vespo`'s weight for negative advantages. Default 3.0 (TRL).
        pub vespo_k_neg: f64 = 3.0,
        /// Rate λ of `vespo`'s weight for negative advantages. Default 2.0 (TRL).
        pub vespo_lambda_neg: f64 = 2.0,
        /// Which divergence bounds `dppo`. Default total variation (verl's `dppo_tv`).
        pub dppo_divergence: DppoDivergence = DppoDivergence::TotalVariation,
        /// Coefficient of the KL term. Default 0.0 (TRL): no reference is needed.
        pub beta: f64 = 0.0,
        /// Value of the KL term. Default `k3` (TRL).
        pub kl_estimator: KlEstimator = KlEstimator::K3,
        /// Gradient of the KL term. Default: that of its value (TRL).
        pub kl_gradient: KlGradient = KlGradient::Value,
        /// Where KL acts. Default: in the loss (TRL).
        pub kl_placement: KlPlacement = KlPlacement::Loss,
        /// Multiplies the KL term by the importance ratio (DeepSeek-V3.2). Default `None`: as in TRL,
        /// whose `GRPOTrainer` does so and whose `GMPOTrainer` does not; nor where `kl_gradient` is
        /// `score_function`, which has the ratio's gradient itself, or KL is in the reward.
        pub use_bias_correction_kl: Option<bool> = None,
        /// Clamps `logp_ref − logp` to ± this before the estimator; verl: 20. Default `None` (TRL).
        pub kl_log_ratio_clamp: Option<f64> = None,
        /// Clamps the value of the KL term to ± this; verl: 10. Default `None` (TRL).
        pub kl_clamp: Option<f64> = None,
        /// What guidance tokens contribute. Default: nothing; the paper's choice is
        /// [`GuidanceTokenLoss::SameAdvantage`].
        pub guidance_token_loss: GuidanceTokenLoss = GuidanceTokenLoss::Masked,
        /// Which tokens the denominators count. Default: those in the loss.
        pub length_normalizer: LengthNormalizer = LengthNormalizer::InLoss,
        /// Denominator of `dr_grpo`, in tokens. Default 512 (TRL).
        pub max_completion_length: usize = 512,
        /// Leaves completions cut by the length limit out of the loss (DAPO's overlong filtering).
        /// Their rows still count in batch means, as in TRL. Default `false` (TRL).
        pub mask_truncated_completions: bool = false,
        /// Off-policy sequence mask (DeepSeek-V3.2): drops sequences of negative advantage whose mean
        /// `logp_sampling − logp` exceeds this. Default `None` (TRL).
        pub off_policy_mask_threshold: Option<f64> = None,
        /// Share of the tokens, those of highest entropy, that the policy term keeps
        /// (arXiv 2506.01939). Default 1.0: all (TRL).
        pub top_entropy_quantile: f64 = 1.0,
        /// Coefficient of the entropy bonus, which is a mean over tokens. Default 0.0 (TRL).
        pub entropy_coef: f64 = 0.0,
        /// Correction for the mismatch between sampler and trainer. Default `None`; TRL switches it on
        /// with vLLM, as [`MismatchCorrection::default`].
        pub importance_sampling_correction: Option<MismatchCorrection> = None,
    }
}

impl LossConfig {
    /// `epsilon_high`, or `epsilon` where that is `None`.
    pub fn epsilon_high(&self) -> f64 {
        self.epsilon_high.unwrap_or(self.epsilon)
    }

    /// The aggregation in force.
    ///
    /// ```
    /// use g2rpo_core::{Aggregation, LossConfig};
    /// let config = LossConfig { aggregation: Some(Aggregation::SequenceSum), ..Default::default() };
    /// assert_eq!(config.aggregation(), Aggregation::SequenceSum);
    /// ```
    pub fn aggregation(&self) -> Aggregation {
        self.aggregation
            .unwrap_or_else(|| self.loss_type.aggregation())
    }

    /// Whether the KL term is multiplied by the importance ratio.
    ///
    /// ```
    /// use g2rpo_core::{LossConfig, LossType};
    /// assert!(LossConfig::default().bias_corrects_kl());
    /// let gmpo = LossConfig { loss_type: LossType::Gmpo, ..LossConfig::default() };
    /// assert!(!gmpo.bias_corrects_kl());
    /// ```
    pub fn bias_corrects_kl(&self) -> bool {
        self.use_bias_correction_kl.unwrap_or(
            self.loss_type != LossType::Gmpo
                && self.kl_gradient != KlGradient::ScoreFunction
                && self.kl_placement == KlPlacement::Loss,
        )
    }

    /// Whether the loss needs `logp_ref`: `beta` is not 0.
    pub fn needs_reference(&self) -> bool {
        self.beta != 0.0
    }

    /// Whether the loss needs entropies: a bonus, the top-entropy mask of the policy term or of
    /// guidance tokens.
    pub fn needs_entropy(&self) -> bool {
        self.entropy_coef != 0.0
            || self.top_entropy_quantile < 1.0
            || matches!(
                self.guidance_token_loss,
                GuidanceTokenLoss::TopEntropy { .. }
            )
    }

    /// Checks every field's domain and that the fields agree with each other. [`crate::policy_loss`]
    /// does this first.
    ///
    /// # Errors
    /// [`Error::Config`] names the field, its value and its domain; [`Error::Conflict`] names two
    /// settings that exclude each other.
    ///
    /// ```
    /// use g2rpo_core::LossConfig;
    /// let config = LossConfig { epsilon: -0.1, ..LossConfig::default() };
    /// assert_eq!(
    ///     config.check().unwrap_err().to_string(),
    ///     "epsilon = -0.1 is outside its domain [0, inf)"
    /// );
    /// ```
    pub fn check(&self) -> Result<()> {
        const DUAL_CLIP: Domain = Domain(1f64.next_up(), f64::MAX, "(1, inf)");
        const CLAMP_FROM: Domain = Domain(f64::NEG_INFINITY, 0.0, "[-inf, 0]");
        const CLAMP_TO: Domain = Domain(0.0, EXP_MAX, "[0, 709]");
        const KL_CLAMP: Domain = Domain(ABOVE_0, EXP_MAX, "(0, 709]");
        let clips_around_one = self.loss_type.is_clipped_surrogate()
            || (self.loss_type == LossType::Cispo && self.cispo_clip == CispoClip::AroundOne);
        let [clamp_from, clamp_to] = self.log_ratio_clamp.unwrap_or([0.0; 2]);
        let (quantile, threshold) = (self.top_entropy_quantile, self.off_policy_mask_threshold);
        let max_length = self.max_completion_length as f64;
        for (name, value, domain) in [
            ("epsilon", self.epsilon, NON_NEGATIVE),
            ("epsilon_high", self.epsilon_high(), NON_NEGATIVE),
            ("beta", self.beta, NON_NEGATIVE),
            ("log_ratio_clamp[0]", clamp_from, CLAMP_FROM),
            ("log_ratio_clamp[1]", clamp_to, CLAMP_TO),
            ("sapo_temperature_pos", self.sapo_temperature_pos, POSITIVE),
            ("sapo_temperature_neg", self.sapo_temperature_neg, POSITIVE),
            ("vespo_k_pos", self.vespo_k_pos, NON_NEGATIVE),
            ("vespo_lambda_pos", self.vespo_lambda_pos, NON_NEGATIVE),
            ("vespo_k_neg", self.vespo_k_neg, NON_NEGATIVE),
            ("vespo_lambda_neg", self.vespo_lambda_neg, NON_NEGATIVE),
            ("max_completion_length", max_length, AT_LEAST_1),
            ("top_entropy_quantile", quantile, POSITIVE_SHARE),
            ("entropy_coef", self.entropy_coef, ANY),
        ] {
            domain.check(name, value)?;
        }
        if clips_around_one {
            SHARE.check("epsilon", self.epsilon)?;
        }
        for (name, value, domain) in [
            ("delta", self.delta, POSITIVE),
            ("dual_clip", self.dual_clip, DUAL_CLIP),
            ("kl_log_ratio_clamp", self.kl_log_ratio_clamp, KL_CLAMP),
            ("kl_clamp", self.kl_clamp, POSITIVE),
            ("off_policy_mask_threshold", threshold, ANY),
        ] {
            value.map_or(Ok(()), |value| domain.check(name, value))?;
        }
        if let Some(correction) = &self.importance_sampling_correction {
            let min = correction.clip_min.unwrap_or(0.0);
            NON_NEGATIVE.check("importance_sampling_correction.clip_min", min)?;
            let above = Domain(min.max(ABOVE_0), f64::MAX, "(0, inf), at least clip_min");
            let max = correction.clip_max.unwrap_or(f64::MAX);
            above.check("importance_sampling_correction.clip_max", max)?;
        }
        self.guidance_token_loss.check()?;
        self.check_conflicts()
    }

    /// Refuses advantages of single tokens where there is one value per sequence.
    pub(crate) fn check_token_advantages(&self) -> Result<()> {
        let (second, why) = match (self.loss_type, self.importance_sampling_level) {
            (LossType::Vespo, _) => (
                "loss_type = vespo",
                "the sign of one advantage chooses the weight of the whole sequence; use another loss",
            ),
            (LossType::Gmpo, _) => (
                "loss_type = gmpo",
                "the loss has one value per sequence; use another loss",
            ),
            (_, ImportanceSamplingLevel::Sequence) => (
                "importance_sampling_level = sequence",
                "one clipped ratio cannot follow several advantages; use sequence_token",
            ),
            _ => return Ok(()),
        };
        Err(Error::Conflict {
            first: "token_advantages",
            second,
            why,
        })
    }

    fn check_conflicts(&self) -> Result<()> {
        let conflict = |first, second, why| Err(Error::Conflict { first, second, why });
        let token_level = self.importance_sampling_level == ImportanceSamplingLevel::Token;
        if self.beta != 0.0
            && self.bias_corrects_kl()
            && self.kl_gradient == KlGradient::ScoreFunction
        {
            return conflict(
                "use_bias_correction_kl = true",
                "kl_gradient = score_function",
                "both add the score-function term; choose one",
            );
        }
        if self.beta != 0.0
            && self.kl_placement == KlPlacement::Reward
            && self.kl_gradient != KlGradient::Value
        {
            return conflict(
                "kl_placement = reward",
                "a kl_gradient other than value",
                "KL in the reward sends no gradient of its own; remove kl_gradient or put KL into the loss",
            );
        }
        if self.beta != 0.0 && self.kl_placement == KlPlacement::Reward && self.bias_corrects_kl() {
            return conflict(
                "kl_placement = reward",
                "use_bias_correction_kl = true",
                "the reward is of what the policy itself sampled; remove use_bias_correction_kl",
            );
        }
        if self.loss_type == LossType::Dppo && !token_level {
            return conflict(
                "loss_type = dppo",
                "a sequence-level importance_sampling_level",
                "its trust region is of single tokens; use the token level",
            );
        }
        if self.dual_clip.is_some() && !self.loss_type.is_clipped_surrogate() {
            return conflict(
                "dual_clip",
                "a loss_type without clipped surrogate",
                "dual clip bounds -min(rA, clip(r)A); remove it or choose grpo, bnpo, dr_grpo, dapo or luspo",
            );
        }
        if self.loss_type == LossType::Gmpo
            && (self.importance_sampling_correction)
                .is_some_and(|c| c.level == MismatchLevel::Token)
        {
            return conflict(
                "loss_type = gmpo",
                "a token-level importance_sampling_correction",
                "the loss has one weight per sequence; use a sequence level",
            );
        }
        Ok(())
    }
}
