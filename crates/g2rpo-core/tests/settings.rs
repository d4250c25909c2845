//! Settings outside their domain, or at odds with each other, are refused with name, value and domain
//! before anything is computed.

use g2rpo_core::{
    BatchTotals, CispoClip, GuidanceTokenLoss, ImportanceSamplingLevel, KlGradient, KlPlacement,
    LossConfig, LossType, MismatchCorrection, MismatchLevel, Ragged, Role, TokenStreams,
    policy_loss,
};

#[test]
fn settings_outside_their_domain_are_named() {
    let default = LossConfig::default;
    let correction = |clip_min, clip_max| {
        Some(MismatchCorrection {
            clip_min,
            clip_max,
            ..MismatchCorrection::default()
        })
    };
    let cases: Vec<(LossConfig, &str)> = vec![
        (
            LossConfig {
                epsilon: -0.1,
                ..default()
            },
            "epsilon = -0.1 is outside its domain [0, inf)",
        ),
        (
            LossConfig {
                epsilon: f64::NAN,
                ..default()
            },
            "epsilon = NaN is outside its domain [0, inf)",
        ),
        (
            LossConfig {
                epsilon: 1.5,
                ..default()
            },
            "epsilon = 1.5 is outside its domain [0, 1]",
        ),
        (
            LossConfig {
                epsilon: 1.5,
                loss_type: LossType::Cispo,
                cispo_clip: CispoClip::AroundOne,
                ..default()
            },
            "epsilon = 1.5 is outside its domain [0, 1]",
        ),
        (
            LossConfig {
                epsilon_high: Some(f64::INFINITY),
                ..default()
            },
            "epsilon_high = inf is outside its domain [0, inf)",
        ),
        (
            LossConfig {
                beta: -1.0,
                ..default()
            },
            "beta = -1 is outside its domain [0, inf)",
        ),
        (
            LossConfig {
                delta: Some(0.0),
                ..default()
            },
            "delta = 0 is outside its domain (0, inf)",
        ),
        (
            LossConfig {
                dual_clip: Some(1.0),
                ..default()
            },
            "dual_clip = 1 is outside its domain (1, inf)",
        ),
        (
            LossConfig {
                log_ratio_clamp: Some([0.1, 20.0]),
                ..default()
            },
            "log_ratio_clamp[0] = 0.1 is outside its domain [-inf, 0]",
        ),
        (
            LossConfig {
                log_ratio_clamp: Some([-20.0, 710.0]),
                ..default()
            },
            "log_ratio_clamp[1] = 710 is outside its domain [0, 709]",
        ),
        (
            LossConfig {
                sapo_temperature_pos: 0.0,
                ..default()
            },
            "sapo_temperature_pos = 0 is outside its domain (0, inf)",
        ),
        (
            LossConfig {
                vespo_k_neg: -1.0,
                ..default()
            },
            "vespo_k_neg = -1 is outside its domain [0, inf)",
        ),
        (
            LossConfig {
                kl_log_ratio_clamp: Some(0.0),
                ..default()
            },
            "kl_log_ratio_clamp = 0 is outside its domain (0, 709]",
        ),
        (
            LossConfig {
                kl_clamp: Some(-1.0),
                ..default()
            },
            "kl_clamp = -1 is outside its domain (0, inf)",
        ),
        (
            LossConfig {
                max_completion_length: 0,
                ..default()
            },
            "max_completion_length = 0 is outside its domain [1, inf)",
        ),
        (
            LossConfig {
                off_policy_mask_threshold: Some(f64::NAN),
                ..default()
            },
            "off_policy_mask_threshold = NaN is outside its domain (-inf, inf)",
        ),
        (
            LossConfig {
                top_entropy_quantile: 0.0,
                ..default()
            },
            "top_entropy_quantile = 0 is outside its domain (0, 1]",
        ),
        (
            LossConfig {
                entropy_coef: f64::NAN,
                ..default()
            },
            "entropy_coef = NaN is outside its domain (-inf, inf)",
        ),
        (
            LossConfig {
                importance_sampling_correction: correction(Some(-1.0), None),
                ..default()
            },
            "importance_sampling_correction.clip_min = -1 is outside its domain [0, inf)",
        ),
        (
            LossConfig {
                importance_sampling_correction: correction(Some(2.0), Some(1.0)),
                ..default()
            },
            "importance_sampling_correction.clip_max = 1 is outside its domain (0, inf), at least clip_min",
        ),
        (
            LossConfig {
                guidance_token_loss: GuidanceTokenLoss::Supervised { coef: f64::NAN },
                ..default()
            },
            "guidance_token_loss.coef = NaN is outside its domain [0, inf)",
        ),
        (
            LossConfig {
                guidance_token_loss: GuidanceTokenLoss::Shaped { gamma: 0.0 },
                ..default()
            },
            "guidance_token_loss.gamma = 0 is outside its domain (0, inf)",
        ),
        (
            LossConfig {
                guidance_token_loss: GuidanceTokenLoss::Trust {
                    alpha: 1.5,
                    coef: 1.0,
                },
                ..default()
            },
            "guidance_token_loss.alpha = 1.5 is outside its domain (0, 1]",
        ),
        (
            LossConfig {
                guidance_token_loss: GuidanceTokenLoss::TopEntropy { fraction: -0.5 },
                ..default()
            },
            "guidance_token_loss.fraction = -0.5 is outside its domain [0, 1]",
        ),
        (
            LossConfig {
                beta: 0.1,
                kl_gradient: KlGradient::ScoreFunction,
                use_bias_correction_kl: Some(true),
                ..default()
            },
            "use_bias_correction_kl = true and kl_gradient = score_function exclude each other: both add the score-function term; choose one",
        ),
        (
            LossConfig {
                beta: 0.1,
                kl_placement: KlPlacement::Reward,
                use_bias_correction_kl: Some(true),
                ..default()
            },
            "kl_placement = reward and use_bias_correction_kl = true exclude each other: the reward is of what the policy itself sampled; remove use_bias_correction_kl",
        ),
        (
            LossConfig {
                beta: 0.1,
                kl_placement: KlPlacement::Reward,
                kl_gradient: KlGradient::K2,
                ..default()
            },
            "kl_placement = reward and a kl_gradient other than value exclude each other: KL in the reward sends no gradient of its own; remove kl_gradient or put KL into the loss",
        ),
        (
            LossConfig {
                loss_type: LossType::Dppo,
                importance_sampling_level: ImportanceSamplingLevel::Sequence,
                ..default()
            },
            "loss_type = dppo and a sequence-level importance_sampling_level exclude each other: its trust region is of single tokens; use the token level",
        ),
        (
            LossConfig {
                loss_type: LossType::Sapo,
                dual_clip: Some(3.0),
                ..default()
            },
            "dual_clip and a loss_type without clipped surrogate exclude each other: dual clip bounds -min(rA, clip(r)A); remove it or choose grpo, bnpo, dr_grpo, dapo or luspo",
        ),
        (
            LossConfig {
                loss_type: LossType::Gmpo,
                importance_sampling_correction: Some(MismatchCorrection {
                    level: MismatchLevel::Token,
                    ..MismatchCorrection::default()
                }),
                ..default()
            },
            "loss_type = gmpo and a token-level importance_sampling_correction exclude each other: the loss has one weight per sequence; use a sequence level",
        ),
    ];
    for (config, expected) in cases {
        let roles = Ragged::from_rows([[Role::Own]]);
        let streams = TokenStreams::new(roles, Ragged::from_rows([[-1.0]]), vec![1.0]).unwrap();
        let totals = BatchTotals::of(&streams.roles, None, &LossConfig::default()).unwrap();
        let of_loss = policy_loss(&streams, &config, &totals).unwrap_err();
        assert_eq!(of_loss.to_string(), expected);
        let of_totals = BatchTotals::of(&streams.roles, None, &config).unwrap_err();
        assert_eq!(of_totals.to_string(), expected);
    }
}
