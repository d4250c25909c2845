//! Settings read from and written to text: TRL's names, defaults for what is left out, an error for
//! what is misspelt.
#![cfg(feature = "serde")]

use g2rpo_core::{
    AdvantageEstimator, Baseline, GuidanceTokenLoss, ImportanceSamplingLevel, LossConfig,
    LossMetrics, LossType, MismatchCorrection, MismatchLevel, Preset,
};

#[test]
fn a_recipe_names_only_what_it_changes() {
    let config: LossConfig = serde_json::from_str(
        r#"{"loss_type": "dr_grpo", "importance_sampling_level": "sequence", "beta": 0.04,
            "guidance_token_loss": {"shaped": {"gamma": 0.1}},
            "importance_sampling_correction": {"level": "sequence_mean"}}"#,
    )
    .unwrap();
    let expected = LossConfig {
        loss_type: LossType::DrGrpo,
        importance_sampling_level: ImportanceSamplingLevel::Sequence,
        beta: 0.04,
        guidance_token_loss: GuidanceTokenLoss::Shaped { gamma: 0.1 },
        importance_sampling_correction: Some(MismatchCorrection {
            level: MismatchLevel::SequenceMean,
            ..MismatchCorrection::default()
        }),
        ..LossConfig::default()
    };
    assert_eq!(config, expected);
    let estimator: AdvantageEstimator =
        serde_json::from_str(r#"{"baseline": {"pass_at_k": {"k": 4}}, "scale": "none"}"#).unwrap();
    assert_eq!(estimator.baseline, Baseline::PassAtK { k: 4 });
    assert_eq!(estimator.eps, 1e-4);
}

#[test]
fn a_misspelt_name_is_an_error() {
    for text in [r#"{"epsilon_hihg": 0.28}"#, r#"{"loss_type": "gpro"}"#] {
        assert!(serde_json::from_str::<LossConfig>(text).is_err());
    }
    let err = serde_json::from_str::<AdvantageEstimator>(r#"{"baselin": "mean"}"#).unwrap_err();
    assert!(err.to_string().contains("baselin"), "{err}");
}

#[test]
fn what_is_written_reads_back() {
    for &preset in Preset::ALL {
        // JSON has no infinities, and the GSPO preset's clamp has one; TOML does.
        let (loss, advantages) = (preset.loss(), preset.advantages());
        let text = serde_json::to_string(&advantages).unwrap();
        assert_eq!(
            serde_json::from_str::<AdvantageEstimator>(&text).unwrap(),
            advantages
        );
        if loss
            .log_ratio_clamp
            .is_none_or(|clamp| clamp[0].is_finite())
        {
            let text = serde_json::to_string(&loss).unwrap();
            assert_eq!(serde_json::from_str::<LossConfig>(&text).unwrap(), loss);
        }
        let text = serde_json::to_string(&preset).unwrap();
        assert_eq!(serde_json::from_str::<Preset>(&text).unwrap(), preset);
    }
    let mut metrics = LossMetrics::default();
    metrics.kl.push(0.1);
    let text = serde_json::to_string(&metrics).unwrap();
    assert_eq!(serde_json::from_str::<LossMetrics>(&text).unwrap(), metrics);
}
