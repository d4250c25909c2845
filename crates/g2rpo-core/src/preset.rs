//! Frameworks' and papers' settings by name.

use crate::advantage::{AdvantageEstimator, Baseline, Scale, Singleton};
use crate::choices::{Aggregation, CispoClip, ImportanceSamplingLevel, LossType};
use crate::config::LossConfig;
use crate::guidance::GuidanceTokenLoss;
use crate::kl::KlGradient;
use crate::mismatch::{MismatchCorrection, MismatchLevel, OutOfRange};
use crate::names::named;

named! {
    /// A framework's or paper's arithmetic by name: the same word means different numbers elsewhere.
    ///
    /// A preset is where to start; every field can be changed afterwards.
    pub enum Preset: "preset" {
        /// TRL 1.16's `GRPOConfig` defaults: DAPO loss, no KL, group standard deviation with `ddof` 1
        /// and `eps` 1e-4.
        Trl = "trl",
        /// As `Trl` with vLLM generation: adds the sequence-sum mask correction, at most 3.0.
        TrlVllm = "trl-vllm",
        /// verl's `vanilla` policy loss with the GRPO estimator: token mean, dual clip 3.0, log ratios
        /// clamped to ±20, KL input to ±20 and output to ±10 (`low_var_kl`), `eps` 1e-6, and a group of
        /// one keeps its reward.
        Verl = "verl",
        /// verl's `gspo`: GSPO-token ratios with log ratio at most 10, mean per sequence.
        VerlGspo = "verl-gspo",
        /// verl's `cispo`: clip to `[1 − 0.2, 1 + 0.2]`.
        VerlCispo = "verl-cispo",
        /// open-instruct's GRPO: clip range 0.2/0.272, centred advantages, k3 KL with coefficient 0.05
        /// in the loss, sampler correction truncated at 2.0 per token.
        OpenInstruct = "open-instruct",
        /// The Dr. GRPO paper (arXiv 2503.20783): no standard deviation, constant length.
        DrGrpo = "dr-grpo",
        /// DeepSeekMath's GRPO (arXiv 2402.03300): mean per sequence, `beta` 0.04, population-free
        /// group normalisation as TRL computes it.
        DeepSeekMath = "deep-seek-math",
        /// NeMo-RL's default: token mean, k3 KL 0.01 with the score-function gradient, leave-one-out
        /// baseline and standard deviation.
        NemoRl = "nemo-rl",
        /// G²RPO-A as released (arXiv 2508.13023, on TRL 0.15.2): DeepSeekMath's loss with guidance
        /// tokens in it, at the rollout's own advantage, mean over guidance and own tokens.
        G2rpoA = "g2rpo-a",
    }
}

impl Preset {
    /// The preset's loss.
    ///
    /// ```
    /// use g2rpo_core::Preset;
    /// assert_eq!(Preset::Trl.loss(), g2rpo_core::LossConfig::default());
    /// assert_eq!(Preset::Verl.loss().dual_clip, Some(3.0));
    /// ```
    pub fn loss(self) -> LossConfig {
        let trl = LossConfig::default();
        let verl = LossConfig {
            dual_clip: Some(3.0),
            log_ratio_clamp: Some([-20.0, 20.0]),
            use_bias_correction_kl: Some(false),
            kl_log_ratio_clamp: Some(20.0),
            kl_clamp: Some(10.0),
            ..LossConfig::default()
        };
        let deepseek_math = LossConfig {
            loss_type: LossType::Grpo,
            beta: 0.04,
            use_bias_correction_kl: Some(false),
            ..LossConfig::default()
        };
        match self {
            Self::Trl => trl,
            Self::TrlVllm => LossConfig {
                importance_sampling_correction: Some(MismatchCorrection::default()),
                ..trl
            },
            Self::Verl => verl,
            Self::VerlGspo => LossConfig {
                aggregation: Some(Aggregation::SequenceMean),
                importance_sampling_level: ImportanceSamplingLevel::SequenceToken,
                log_ratio_clamp: Some([f64::NEG_INFINITY, 10.0]),
                dual_clip: None,
                ..verl
            },
            Self::VerlCispo => LossConfig {
                loss_type: LossType::Cispo,
                cispo_clip: CispoClip::AroundOne,
                dual_clip: None,
                ..verl
            },
            Self::OpenInstruct => LossConfig {
                epsilon_high: Some(0.272),
                beta: 0.05,
                use_bias_correction_kl: Some(false),
                importance_sampling_correction: Some(MismatchCorrection {
                    level: MismatchLevel::Token,
                    out_of_range: OutOfRange::Truncate,
                    clip_min: None,
                    clip_max: Some(2.0),
                }),
                ..trl
            },
            Self::DrGrpo => LossConfig {
                loss_type: LossType::DrGrpo,
                ..trl
            },
            Self::DeepSeekMath => deepseek_math,
            Self::NemoRl => LossConfig {
                beta: 0.01,
                kl_gradient: KlGradient::ScoreFunction,
                use_bias_correction_kl: Some(false),
                log_ratio_clamp: Some([-20.0, 20.0]),
                kl_log_ratio_clamp: Some(20.0),
                kl_clamp: Some(10.0),
                ..trl
            },
            Self::G2rpoA => LossConfig {
                guidance_token_loss: GuidanceTokenLoss::SameAdvantage,
                ..deepseek_math
            },
        }
    }

    /// The preset's advantages.
    ///
    /// ```
    /// use g2rpo_core::{Preset, Scale};
    /// assert_eq!(Preset::Verl.advantages().eps, 1e-6);
    /// assert_eq!(Preset::DrGrpo.advantages().scale, Scale::None);
    /// ```
    pub fn advantages(self) -> AdvantageEstimator {
        let trl = AdvantageEstimator::default();
        match self {
            Self::Trl | Self::TrlVllm | Self::DeepSeekMath | Self::G2rpoA => trl,
            Self::Verl | Self::VerlGspo | Self::VerlCispo => AdvantageEstimator {
                eps: 1e-6,
                singleton: Singleton::Reward,
                ..trl
            },
            Self::OpenInstruct | Self::DrGrpo => AdvantageEstimator {
                scale: Scale::None,
                ..trl
            },
            Self::NemoRl => AdvantageEstimator {
                baseline: Baseline::LeaveOneOut,
                scale: Scale::LeaveOneOutStd,
                eps: 1e-6,
                ..trl
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_preset_is_valid() {
        for &preset in Preset::ALL {
            preset.loss().check().unwrap();
            preset.advantages().check().unwrap();
        }
    }
}
