//! Wrong input is an error that says what, where and how much: never a panic, never a silent NaN.

use g2rpo_core::{
    AdvantageEstimator, Baseline, BatchTotals, GuidanceTokenLoss, ImportanceSamplingLevel,
    LossConfig, LossType, MismatchCorrection, MismatchLevel, MultiObjectiveAggregation, OutOfRange,
    Ragged, Role, Scale, Strata, TokenStreams, kl_penalties, policy_loss,
};

/// Two rows: guidance, own, hole, own; and own, own.
fn streams() -> TokenStreams {
    use Role::{Guidance, Own, Prompt};
    let rows = |a: [f64; 4], b: [f64; 2]| Ragged::from_rows([a.to_vec(), b.to_vec()]);
    let mut streams = TokenStreams::new(
        Ragged::from_rows([vec![Guidance, Own, Prompt, Own], vec![Own, Own]]),
        rows([-1.0, -2.0, f64::NAN, -0.5], [-0.25, -1.5]),
        vec![1.0, -1.0],
    )
    .unwrap();
    streams.logp_old = Some(rows([-1.1, -2.1, f64::NAN, -0.6], [-0.2, -1.4]));
    streams.logp_ref = Some(rows([-1.2, -2.2, f64::NAN, -0.7], [-0.3, -1.3]));
    streams.logp_sampling = Some(rows([f64::NAN, -2.0, f64::NAN, -0.5], [-0.3, f64::NAN]));
    streams.entropy = Some(rows([0.1, 0.2, f64::NAN, 0.4], [0.5, 0.6]));
    streams
}

fn totals() -> BatchTotals {
    BatchTotals::of(&streams().roles, None, &LossConfig::default()).unwrap()
}

fn message(streams: &TokenStreams, config: &LossConfig) -> String {
    match policy_loss(streams, config, &totals()) {
        Err(error) => error.to_string(),
        Ok(got) => panic!("{config:?} was accepted: {got:?}"),
    }
}

#[test]
fn misaligned_streams_are_named() {
    let short = || Ragged::from_rows([vec![0.0; 4], vec![0.0; 1]]);
    let fewer = || Ragged::from_rows([vec![0.0; 4]]);
    let named = |what: &str| {
        [
            format!("{what}: row 1 has 1 tokens, expected 2"),
            format!("{what}: expected length 2, got 1"),
        ]
    };
    type Field = fn(&mut TokenStreams) -> &mut Option<Ragged<f64>>;
    let fields: [(&str, Field); 7] = [
        ("token_advantages", |s| &mut s.token_advantages),
        ("token_weights", |s| &mut s.token_weights),
        ("logp_old", |s| &mut s.logp_old),
        ("logp_ref", |s| &mut s.logp_ref),
        ("logp_sampling", |s| &mut s.logp_sampling),
        ("log_kept", |s| &mut s.log_kept),
        ("entropy", |s| &mut s.entropy),
    ];
    for (what, field) in fields {
        for (bad, expected) in [short(), fewer()].into_iter().zip(named(what)) {
            let mut streams = streams();
            *field(&mut streams) = Some(bad);
            assert_eq!(message(&streams, &LossConfig::default()), expected);
        }
    }
    let ok = streams();
    let err = TokenStreams::new(ok.roles.clone(), short(), vec![0.0; 2]).unwrap_err();
    assert_eq!(err.to_string(), named("logp")[0]);
    let err = TokenStreams::new(ok.roles.clone(), ok.logp.clone(), vec![0.0; 3]).unwrap_err();
    assert_eq!(err.to_string(), "advantages: expected length 2, got 3");
    let mut streams = ok;
    streams.truncated = Some(vec![true]);
    let expected = "truncated: expected length 2, got 1";
    assert_eq!(message(&streams, &LossConfig::default()), expected);
}

#[test]
fn advantages_and_weights_of_tokens_are_checked_where_they_are_read() {
    type Field = fn(&mut TokenStreams) -> &mut Option<Ragged<f64>>;
    let fields: [(&str, Field, f64, &str); 4] = [
        (
            "token_advantages",
            |s| &mut s.token_advantages,
            f64::NAN,
            "NaN, expected a finite number",
        ),
        (
            "token_advantages",
            |s| &mut s.token_advantages,
            f64::INFINITY,
            "inf, expected a finite number",
        ),
        (
            "token_weights",
            |s| &mut s.token_weights,
            f64::NAN,
            "NaN, expected a finite number",
        ),
        (
            "token_weights",
            |s| &mut s.token_weights,
            -0.5,
            "-0.5, expected a number of at least 0",
        ),
    ];
    for (what, field, bad, expected) in fields {
        for (guidance_token_loss, is_read) in [
            (GuidanceTokenLoss::Masked, false),
            (GuidanceTokenLoss::Supervised { coef: 0.1 }, false),
            (GuidanceTokenLoss::SameAdvantage, true),
            (GuidanceTokenLoss::PositiveOnly, true),
            (GuidanceTokenLoss::Shaped { gamma: 0.1 }, true),
        ] {
            let config = LossConfig {
                guidance_token_loss,
                ..LossConfig::default()
            };
            // Token 0 is guidance, 1 own, 2 a hole.
            for (position, is_read) in [(0, is_read), (1, true), (2, false)] {
                let mut streams = streams();
                let mut stream = streams.roles.map(|_| 1.0);
                stream.row_mut(0)[position] = bad;
                *field(&mut streams) = Some(stream);
                let got = policy_loss(&streams, &config, &totals()).map_err(|e| e.to_string());
                let message = format!("{what}: row 0, token {position} is {expected}");
                assert_eq!(got.is_err(), is_read, "{config:?} {position}");
                assert!(got.is_ok() || got == Err(message));
            }
        }
    }
}

#[test]
fn losses_with_one_value_per_sequence_refuse_what_belongs_to_tokens() {
    let mut advantages = streams();
    advantages.token_advantages = Some(advantages.roles.map(|_| 1.0));
    let mut weights = streams();
    weights.token_weights = Some(weights.roles.map(|_| 1.0));
    let of = |loss_type, importance_sampling_level| LossConfig {
        loss_type,
        importance_sampling_level,
        ..LossConfig::default()
    };
    let (token, sequence) = (
        ImportanceSamplingLevel::Token,
        ImportanceSamplingLevel::Sequence,
    );
    for (streams, config, expected) in [
        (
            &advantages,
            of(LossType::Vespo, token),
            "token_advantages and loss_type = vespo exclude each other: the sign of one advantage chooses the weight of the whole sequence; use another loss",
        ),
        (
            &advantages,
            of(LossType::Gmpo, token),
            "token_advantages and loss_type = gmpo exclude each other: the loss has one value per sequence; use another loss",
        ),
        (
            &advantages,
            of(LossType::Grpo, sequence),
            "token_advantages and importance_sampling_level = sequence exclude each other: one clipped ratio cannot follow several advantages; use sequence_token",
        ),
        (
            &weights,
            of(LossType::Gmpo, token),
            "token_weights and loss_type = gmpo exclude each other: the loss has one value per sequence; use another loss",
        ),
    ] {
        assert_eq!(message(streams, &config), expected);
    }
}

#[test]
fn missing_streams_are_named_with_the_setting_that_needs_them() {
    let default = LossConfig::default;
    let mut bare = streams();
    (bare.logp_ref, bare.logp_sampling, bare.entropy) = (None, None, None);
    for (config, expected) in [
        (
            LossConfig {
                beta: 0.1,
                ..default()
            },
            "logp_ref is missing: beta is not 0",
        ),
        (
            LossConfig {
                entropy_coef: 0.1,
                ..default()
            },
            "entropy is missing: entropy_coef, top_entropy_quantile or guidance_token_loss = top_entropy uses it",
        ),
        (
            LossConfig {
                importance_sampling_correction: Some(MismatchCorrection::default()),
                ..default()
            },
            "logp_sampling is missing: importance_sampling_correction uses it",
        ),
    ] {
        assert_eq!(message(&bare, &config), expected);
    }
    let config = LossConfig {
        top_entropy_quantile: 0.5,
        ..default()
    };
    assert_eq!(
        message(&streams(), &config),
        "BatchTotals::entropy_threshold is missing: top_entropy_quantile is below 1; \
         call BatchTotals::with_entropies on the whole batch"
    );
}

#[test]
fn numbers_that_are_not_finite_are_named_by_row_and_token() {
    let full = LossConfig {
        beta: 0.1,
        entropy_coef: 0.1,
        off_policy_mask_threshold: Some(0.1),
        importance_sampling_correction: Some(MismatchCorrection::default()),
        ..LossConfig::default()
    };
    type Values = fn(&mut TokenStreams) -> &mut [f64];
    let fields: [(&str, Values, &[f64]); 5] = [
        (
            "logp",
            |s| s.logp.values_mut(),
            &[f64::NAN, f64::INFINITY, f64::NEG_INFINITY],
        ),
        (
            "logp_old",
            |s| s.logp_old.as_mut().unwrap().values_mut(),
            &[f64::NAN, f64::INFINITY, f64::NEG_INFINITY],
        ),
        (
            "logp_ref",
            |s| s.logp_ref.as_mut().unwrap().values_mut(),
            &[f64::NAN, f64::INFINITY, f64::NEG_INFINITY],
        ),
        (
            "logp_sampling",
            |s| s.logp_sampling.as_mut().unwrap().values_mut(),
            &[f64::INFINITY, f64::NEG_INFINITY],
        ),
        (
            "entropy",
            |s| s.entropy.as_mut().unwrap().values_mut(),
            &[f64::NAN, f64::INFINITY],
        ),
    ];
    for (what, values, bad) in fields {
        for &bad in bad {
            // Flat token 4 is row 1, token 0: an own token.
            let mut streams = streams();
            values(&mut streams)[4] = bad;
            let shown = if bad.is_nan() {
                "NaN".into()
            } else {
                bad.to_string()
            };
            assert_eq!(
                message(&streams, &full),
                format!("{what}: row 1, token 0 is {shown}, expected a finite number")
            );
        }
    }
    let mut bad = streams();
    bad.advantages[1] = f64::NAN;
    assert_eq!(
        message(&bad, &full),
        "advantages: row 1, token 0 is NaN, expected a finite number"
    );
    let mut bad = streams();
    bad.log_kept = Some(bad.roles.map(|_| 0.9));
    assert_eq!(
        message(&bad, &full),
        "log_kept: row 0, token 1 is 0.9, expected a log-probability, at most 0"
    );
    // Guidance that is in the loss is checked like own tokens, masked guidance is not read.
    let mut bad = streams();
    bad.logp.values_mut()[0] = f64::NEG_INFINITY;
    assert!(policy_loss(&bad, &LossConfig::default(), &totals()).is_ok());
    for guidance_token_loss in [
        GuidanceTokenLoss::SameAdvantage,
        GuidanceTokenLoss::PositiveOnly,
        GuidanceTokenLoss::Supervised { coef: 0.1 },
        GuidanceTokenLoss::Shaped { gamma: 0.1 },
        GuidanceTokenLoss::Trust {
            alpha: 0.1,
            coef: 0.1,
        },
        GuidanceTokenLoss::TopEntropy { fraction: 1.0 },
    ] {
        let config = LossConfig {
            guidance_token_loss,
            ..LossConfig::default()
        };
        assert_eq!(
            message(&bad, &config),
            "logp: row 0, token 0 is -inf, expected a finite number"
        );
    }
}

#[test]
fn overflow_is_named() {
    let overflow = |what: &str, position: usize, value: f64| {
        format!(
            "{what}: row 1, token {position} is {value}, whose exponential overflows (limit 709); \
             the streams disagree wildly or a clamp is missing"
        )
    };
    let mut far = streams();
    far.logp_old.as_mut().unwrap().values_mut()[4] = -1000.25;
    let token = LossConfig::default();
    assert_eq!(
        message(&far, &token),
        overflow("logp - logp_old", 0, 1000.0)
    );
    let sequence = LossConfig {
        importance_sampling_level: ImportanceSamplingLevel::Sequence,
        ..LossConfig::default()
    };
    // Spread over two tokens the mean is below the limit.
    assert!(policy_loss(&far, &sequence, &totals()).is_ok());
    far.logp_old.as_mut().unwrap().values_mut()[5] = -1001.5;
    assert_eq!(
        message(&far, &sequence),
        overflow("mean of logp - logp_old", 0, 1000.0)
    );
    let clamped = LossConfig {
        log_ratio_clamp: Some([-20.0, 20.0]),
        ..LossConfig::default()
    };
    assert!(policy_loss(&far, &clamped, &totals()).is_ok());
    let gmpo = LossConfig {
        loss_type: LossType::Gmpo,
        ..LossConfig::default()
    };
    assert!(message(&far, &gmpo).starts_with("logp - logp_old: row 1, token 0 is 1000"));

    let mut far = streams();
    far.logp_ref.as_mut().unwrap().values_mut()[5] = 1000.0;
    let kl = LossConfig {
        beta: 0.1,
        ..LossConfig::default()
    };
    assert_eq!(message(&far, &kl), overflow("logp_ref - logp", 1, 1001.5));
    let clamped = LossConfig {
        kl_log_ratio_clamp: Some(20.0),
        ..kl.clone()
    };
    assert!(policy_loss(&far, &clamped, &totals()).is_ok());
    let s = streams();
    let err = kl_penalties(&s.roles, &s.logp, far.logp_ref.as_ref().unwrap(), &kl).unwrap_err();
    assert_eq!(err.to_string(), overflow("logp_ref - logp", 1, 1001.5));

    let mut far = streams();
    far.logp_sampling.as_mut().unwrap().values_mut()[4] = -1000.25;
    let unbounded = LossConfig {
        importance_sampling_correction: Some(MismatchCorrection {
            level: MismatchLevel::Token,
            out_of_range: OutOfRange::Truncate,
            clip_min: None,
            clip_max: None,
        }),
        ..LossConfig::default()
    };
    let got = message(&far, &unbounded);
    assert!(
        got.starts_with("logp_old - logp_sampling: row 1, token 0 is 1000.05"),
        "{got}"
    );

    // Finite inputs whose product is not: the loss itself is named.
    let mut huge = streams();
    huge.advantages = vec![1e308, -1e308];
    huge.logp_old.as_mut().unwrap().values_mut()[4] = -40.0;
    let got = message(&huge, &token);
    assert_eq!(
        got,
        "loss or gradient of the row: row 0, token 0 is -inf, expected a finite number"
    );
}

#[test]
fn a_batch_without_tokens_is_an_error_and_a_micro_batch_is_not() {
    let streams = streams();
    let config = LossConfig {
        mask_truncated_completions: true,
        ..LossConfig::default()
    };
    let masked = streams.clone().with_truncated(vec![true, true]).unwrap();
    let totals = BatchTotals::of(&masked.roles, Some(&[true, true]), &config).unwrap();
    assert_eq!(
        policy_loss(&masked, &config, &totals)
            .unwrap_err()
            .to_string(),
        "no token takes part in the loss: all tokens of 2 rows are masked; skip the step"
    );
    let half = streams.with_truncated(vec![true, false]).unwrap();
    let totals = BatchTotals::of(&half.roles, Some(&[true, false]), &config).unwrap();
    let empty = policy_loss(&half.select(&[0]), &config, &totals).unwrap();
    assert_eq!(
        (empty.loss, empty.grad_logp.values()),
        (0.0, [0.0; 4].as_slice())
    );
    let nothing = policy_loss(&half.select(&[]), &config, &totals).unwrap();
    assert_eq!(nothing.loss, 0.0);
    let negative = BatchTotals {
        n_tokens: -1.0,
        ..totals
    };
    assert_eq!(
        policy_loss(&half, &config, &negative)
            .unwrap_err()
            .to_string(),
        "BatchTotals::n_tokens = -1 is outside its domain [0, inf)"
    );
}

#[test]
fn a_row_that_does_not_exist_is_named() {
    let outputs = g2rpo_core::TokenOutputs {
        rows: vec![0, 2],
        logp: Ragged::from_rows([vec![0.0; 4], vec![]]),
        entropy: None,
    };
    assert_eq!(
        streams().with_outputs(&outputs).unwrap_err().to_string(),
        "rows of the forward pass: index 2 is out of range for length 2"
    );
}

#[test]
fn advantages_name_what_is_wrong() {
    let rewards = [Some(1.0), Some(-0.5)];
    let run = |estimator: AdvantageEstimator,
               rewards: &[Option<f64>],
               groups: &[usize],
               guided: &[bool]| {
        estimator
            .advantages(rewards, groups, guided, None)
            .unwrap_err()
            .to_string()
    };
    let trl = AdvantageEstimator::default();
    assert_eq!(
        run(trl, &rewards, &[0], &[]),
        "groups: expected length 2, got 1"
    );
    assert_eq!(
        run(trl, &rewards, &[0, 0], &[true]),
        "guided: expected length 2, got 1"
    );
    assert_eq!(
        run(trl, &[Some(1.0), Some(f64::INFINITY)], &[0, 0], &[]),
        "reward of row 1 is inf, expected at most 1e150 in magnitude, or None for a completion without score"
    );
    let max_rl = AdvantageEstimator {
        scale: Scale::GroupMean,
        ..trl
    };
    assert_eq!(
        run(max_rl, &rewards, &[0, 0], &[]),
        "reward of row 1 is -0.5, expected at least 0, as it is divided by the group mean"
    );
    let opo = AdvantageEstimator {
        baseline: Baseline::LengthWeighted,
        ..trl
    };
    assert_eq!(
        run(opo, &rewards, &[0, 0], &[]),
        "lengths is missing: baseline = length_weighted uses them"
    );
    let err = opo
        .advantages(&rewards, &[0, 0], &[], Some(&[1]))
        .unwrap_err();
    assert_eq!(err.to_string(), "lengths: expected length 2, got 1");
    for (estimator, expected) in [
        (
            AdvantageEstimator { eps: -1.0, ..trl },
            "eps = -1 is outside its domain [0, inf)",
        ),
        (
            AdvantageEstimator {
                baseline: Baseline::PassAtK { k: 0 },
                scale: Scale::None,
                ..trl
            },
            "k = 0 is outside its domain [1, inf)",
        ),
        (
            AdvantageEstimator {
                baseline: Baseline::PassAtK { k: 2 },
                ..trl
            },
            "baseline = pass_at_k and a scale exclude each other: it divides by its own standard deviation; set scale = none",
        ),
        (
            AdvantageEstimator {
                baseline: Baseline::LeaveOneOut,
                strata: Strata::UnguidedMean,
                ..trl
            },
            "strata = unguided_mean and a baseline other than mean or length_weighted exclude each other: only a mean can be taken over other members",
        ),
        (
            AdvantageEstimator {
                scale: Scale::LeaveOneOutStd,
                strata: Strata::UnguidedMean,
                ..trl
            },
            "strata = unguided_mean and scale = leave_one_out_std exclude each other: guided members are not among those the baseline is taken from",
        ),
    ] {
        assert_eq!(run(estimator, &rewards, &[0, 0], &[]), expected);
    }
    let several = |rewards: &[Vec<Option<f64>>], weights: &[f64]| {
        trl.advantages_of_several(
            rewards,
            weights,
            MultiObjectiveAggregation::NormalizeThenSum,
            &[0, 0],
            &[],
            None,
        )
        .unwrap_err()
        .to_string()
    };
    let rewards = rewards.to_vec();
    assert_eq!(
        several(std::slice::from_ref(&rewards), &[1.0, 2.0]),
        "reward weights: expected length 1, got 2"
    );
    assert_eq!(
        several(&[rewards.clone(), vec![None]], &[1.0, 2.0]),
        "rewards of one function: expected length 2, got 1"
    );
    assert_eq!(
        several(&[rewards], &[f64::NAN]),
        "reward weight = NaN is outside its domain (-inf, inf)"
    );
    assert!(matches!(
        trl.advantages(&[Some(f64::NAN)], &[0], &[], None),
        Ok(report) if report.advantages == [0.0] && report.groups[0].n_scored == 0
    ));
}
