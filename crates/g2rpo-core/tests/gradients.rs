//! Every loss's derivative against finite differences in f64, over the grid of advantage sign ×
//! ratio region × reference, and at the kinks.

mod common;

use common::{TREATMENTS, totals};
use g2rpo_core::{
    BatchTotals, CispoClip, DppoDivergence, Error, GuidanceTokenLoss, ImportanceSamplingLevel,
    KlEstimator, KlGradient, LossConfig, LossType, MismatchCorrection, MismatchLevel, OutOfRange,
    Ragged, Role, TokenStreams, policy_loss,
};

const STEP: f64 = 1e-6;
/// A central difference with step 1e-6 is wrong by rounding: 2⁻⁵³ of a loss of up to 30, over 1e-6.
const TOLERANCE: f64 = 5e-9;

/// Ratios far below, just below, inside, at 1, inside, just above, far above the range [0.8, 1.2].
const RATIOS: [f64; 7] = [0.3, 0.799, 0.95, 1.0, 1.1, 1.201, 3.5];

/// One row per advantage sign; three guidance tokens, a hole that must not be read, then a token for
/// every ratio region.
fn grid(scale: f64) -> TokenStreams {
    let n = 4 + RATIOS.len();
    let mut roles = vec![Role::Guidance; 3];
    roles.push(Role::Prompt);
    roles.resize(n, Role::Own);
    let logp = |t: usize| -3.0 + 0.27 * t as f64;
    let old = |t: usize| match t {
        0..3 => logp(t) - 0.1 * t as f64 + 0.15,
        3 => f64::NAN,
        _ => logp(t) - scale * RATIOS[t - 4].ln(),
    };
    let row = |f: &dyn Fn(usize) -> f64| (0..n).map(f).collect::<Vec<_>>();
    let three = |f: &dyn Fn(usize) -> f64| Ragged::from_rows([row(f), row(f), row(f)]);
    let mut streams = TokenStreams::new(
        Ragged::from_rows([roles.clone(), roles.clone(), roles]),
        three(&|t| if t == 3 { f64::NEG_INFINITY } else { logp(t) }),
        vec![1.3, 0.0, -0.9],
    )
    .unwrap();
    streams.logp_old = Some(three(&old));
    streams.logp_ref = Some(three(&|t| logp(t) + 0.9 * (1.7 * t as f64 + 0.3).sin()));
    streams.logp_sampling = Some(three(&|t| old(t) + 0.2 * (0.9 * t as f64).cos()));
    streams.entropy = Some(three(&|t| 0.5 + (2.3 * t as f64).sin().abs()));
    streams
}

/// Losses that multiply a detached function of the ratio by logp: their derivative holds the ratio.
fn detaches_the_ratio(loss_type: LossType) -> bool {
    match loss_type {
        LossType::Cispo | LossType::Vespo | LossType::Reinforce | LossType::Dppo => true,
        LossType::Grpo
        | LossType::Bnpo
        | LossType::DrGrpo
        | LossType::Dapo
        | LossType::Luspo
        | LossType::Sapo
        | LossType::Gmpo => false,
    }
}

fn moved(streams: &TokenStreams, flat: usize, by: f64, config: &LossConfig) -> TokenStreams {
    let mut streams = streams.clone();
    streams.logp.values_mut()[flat] += by;
    if detaches_the_ratio(config.loss_type)
        && let Some(old) = &mut streams.logp_old
    {
        old.values_mut()[flat] += by;
        // The mismatch weight is detached as well.
        if let Some(sampling) = &mut streams.logp_sampling {
            sampling.values_mut()[flat] += by;
        }
    }
    streams
}

fn check(streams: &TokenStreams, config: &LossConfig) {
    let totals = totals(streams, config);
    let loss = |s: &TokenStreams| policy_loss(s, config, &totals).unwrap().loss;
    let got = policy_loss(streams, config, &totals).unwrap();
    for flat in 0..streams.logp.values().len() {
        let grad = got.grad_logp.values()[flat];
        if streams.roles.values()[flat] == Role::Prompt {
            assert_eq!(grad, 0.0, "{config:?}: a hole has a gradient");
            continue;
        }
        let up = loss(&moved(streams, flat, STEP, config));
        let down = loss(&moved(streams, flat, -STEP, config));
        let difference = (up - down) / (2.0 * STEP);
        assert!(
            (grad - difference).abs() <= TOLERANCE * grad.abs().max(1.0),
            "{config:?}\nflat token {flat}: derivative {grad}, finite difference {difference}"
        );
    }
    if let Some(grad_entropy) = &got.grad_entropy {
        for flat in 0..streams.logp.values().len() {
            let mut up = streams.clone();
            up.entropy.as_mut().unwrap().values_mut()[flat] += STEP;
            let difference = (loss(&up) - got.loss) / STEP;
            let grad = grad_entropy.values()[flat];
            assert!((grad - difference).abs() < 1e-8, "{grad} {difference}");
        }
    }
}

#[test]
fn every_loss_level_and_bound() {
    for &loss_type in LossType::ALL {
        for &importance_sampling_level in ImportanceSamplingLevel::ALL {
            for delta in [None, Some(2.0)] {
                for dual_clip in [None, Some(3.0)] {
                    for guidance_token_loss in TREATMENTS {
                        let config = LossConfig {
                            loss_type,
                            importance_sampling_level,
                            delta,
                            dual_clip,
                            guidance_token_loss,
                            entropy_coef: 0.02,
                            ..LossConfig::default()
                        };
                        // A sequence ratio is the mean; scaled rows put it into other regions.
                        for scale in [1.0, 3.0, -2.0] {
                            let streams = grid(scale);
                            if config.check().is_ok() {
                                check(&streams, &config);
                            }
                        }
                    }
                }
            }
        }
    }
}

/// GSPO-token moves token `t` as if the sequence's ratio were its own: the token-level loss where
/// every token has that ratio. (Its value moves with all tokens, so differences of it say nothing.)
fn check_against_token_level(streams: &TokenStreams, config: &LossConfig) {
    let totals = totals(streams, config);
    for row in 0..streams.n_rows() {
        let mut row = streams.select(&[row]);
        let got = policy_loss(&row, config, &totals).unwrap();
        let ratio = got.metrics.ratio.mean().unwrap();
        row.logp_old = Some(row.logp.map(|logp| logp - ratio.ln()));
        let by_token = LossConfig {
            importance_sampling_level: ImportanceSamplingLevel::Token,
            ..config.clone()
        };
        let want = policy_loss(&row, &by_token, &totals).unwrap();
        let grads = got.grad_logp.values().iter().zip(want.grad_logp.values());
        for (got, want) in grads {
            assert!((got - want).abs() < 1e-14, "{config:?}: {got} {want}");
        }
    }
}

/// Advantages of both signs and zero, weights 0 and above, of single tokens.
#[test]
fn every_loss_with_advantages_and_weights_of_tokens() {
    let mut n_checked = 0;
    for &loss_type in LossType::ALL {
        for &importance_sampling_level in ImportanceSamplingLevel::ALL {
            for guidance_token_loss in TREATMENTS {
                for (with_advantages, with_weights) in [(true, false), (false, true), (true, true)]
                {
                    let config = LossConfig {
                        loss_type,
                        importance_sampling_level,
                        guidance_token_loss,
                        dual_clip: (loss_type == LossType::Grpo).then_some(3.0),
                        beta: 0.3,
                        use_bias_correction_kl: Some(!detaches_the_ratio(loss_type)),
                        top_entropy_quantile: 0.7,
                        ..LossConfig::default()
                    };
                    if config.check().is_err() {
                        continue;
                    }
                    let mut streams = grid(1.0);
                    let place = |t: usize| [1.3, -0.9, 0.0, -1.7, 0.4][t % 5];
                    let hole = |value, t: usize| {
                        let is_hole = streams.roles.values()[t] == Role::Prompt;
                        if is_hole { f64::NAN } else { value }
                    };
                    let flat = |f: &dyn Fn(usize) -> f64| {
                        let n = streams.roles.values().len();
                        let lengths: Vec<_> = streams.roles.lengths().collect();
                        let values = (0..n).map(|t| hole(f(t), t)).collect();
                        Ragged::from_parts(values, &lengths).unwrap()
                    };
                    let advantages = flat(&place);
                    let weights = flat(&|t| [1.0, 0.25, 0.0, 2.5][t % 4]);
                    streams.token_advantages = with_advantages.then_some(advantages);
                    streams.token_weights = with_weights.then_some(weights);
                    match policy_loss(&streams, &config, &totals(&streams, &config)) {
                        Ok(_) => {
                            match importance_sampling_level {
                                ImportanceSamplingLevel::SequenceToken => {
                                    check_against_token_level(&streams, &config);
                                }
                                _ => check(&streams, &config),
                            }
                            n_checked += 1;
                        }
                        Err(error) => {
                            assert!(matches!(error, Error::Conflict { .. }), "{error}");
                        }
                    }
                }
            }
        }
    }
    // Eight losses take both at two levels and weights at the third, vespo weights at three, dppo both
    // at one, gmpo none.
    assert_eq!(n_checked, TREATMENTS.len() * (8 * 7 + 3 + 3));
}

#[test]
fn every_kl_term() {
    for &loss_type in LossType::ALL {
        for &importance_sampling_level in ImportanceSamplingLevel::ALL {
            for &kl_estimator in KlEstimator::ALL {
                for use_bias_correction_kl in [false, true] {
                    for clamps in [None, Some(0.5)] {
                        // Where a clamp acts, the corrected term sends no gradient: tests/kl.rs.
                        if use_bias_correction_kl
                            && (clamps.is_some()
                                || detaches_the_ratio(loss_type)
                                || importance_sampling_level
                                    == ImportanceSamplingLevel::SequenceToken)
                        {
                            continue; // the ratio is held by `moved`, or its gradient is by token
                        }
                        let config = LossConfig {
                            loss_type,
                            importance_sampling_level,
                            beta: 0.3,
                            kl_estimator,
                            use_bias_correction_kl: Some(use_bias_correction_kl),
                            kl_log_ratio_clamp: clamps,
                            guidance_token_loss: GuidanceTokenLoss::SameAdvantage,
                            ..LossConfig::default()
                        };
                        if config.check().is_ok() {
                            check(&grid(1.0), &config);
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn every_weight_and_mask() {
    let token = MismatchCorrection {
        level: MismatchLevel::Token,
        out_of_range: OutOfRange::Truncate,
        clip_min: Some(0.9),
        clip_max: Some(1.1),
    };
    let corrections = [
        None,
        Some(token),
        Some(MismatchCorrection::default()),
        Some(MismatchCorrection {
            level: MismatchLevel::SequenceMean,
            out_of_range: OutOfRange::Mask,
            clip_min: None,
            clip_max: None,
        }),
    ];
    for &loss_type in LossType::ALL {
        for importance_sampling_level in [
            ImportanceSamplingLevel::Token,
            ImportanceSamplingLevel::Sequence,
        ] {
            for importance_sampling_correction in corrections {
                for top_entropy_quantile in [1.0, 0.6] {
                    let config = LossConfig {
                        loss_type,
                        importance_sampling_level,
                        importance_sampling_correction,
                        top_entropy_quantile,
                        off_policy_mask_threshold: Some(10.0),
                        dppo_divergence: DppoDivergence::BinaryKl,
                        cispo_clip: CispoClip::AroundOne,
                        log_ratio_clamp: Some([-1.0, 1.0]),
                        beta: 0.1,
                        use_bias_correction_kl: Some(!detaches_the_ratio(loss_type)),
                        guidance_token_loss: GuidanceTokenLoss::SameAdvantage,
                        ..LossConfig::default()
                    };
                    if config.check().is_ok() {
                        check(&grid(1.0), &config);
                    }
                }
            }
        }
    }
}

/// Where a bound is met exactly the loss has a kink: the derivative is one of the one-sided ones,
/// that of the unclipped side as in torch.
#[test]
fn ties_at_the_bounds() {
    let tie = |ratio: f64, advantage: f64| {
        let mut streams = TokenStreams::new(
            Ragged::from_rows([[Role::Own]]),
            Ragged::from_rows([[ratio.ln()]]),
            vec![advantage],
        )
        .unwrap();
        streams.logp_old = Some(Ragged::from_rows([[0.0]]));
        streams
    };
    // Ratios 1 and 2 are exact: exp(0) and exp(ln 2) round to them.
    for (ratio, epsilon, epsilon_high, delta) in [
        (1.0, 0.0, 0.0, None),
        (2.0, 0.2, 1.0, None),
        (2.0, 0.2, 0.28, Some(2.0)),
        (0.5, 0.5, 0.28, None),
    ] {
        for advantage in [-1.5, 1.5] {
            for loss_type in [LossType::Grpo, LossType::Dapo, LossType::Luspo] {
                for &importance_sampling_level in ImportanceSamplingLevel::ALL {
                    let config = LossConfig {
                        loss_type,
                        importance_sampling_level,
                        epsilon,
                        epsilon_high: Some(epsilon_high),
                        delta,
                        ..LossConfig::default()
                    };
                    let streams = tie(ratio, advantage);
                    let totals = totals(&streams, &config);
                    let at = |by: f64| {
                        let streams = moved(&streams, 0, by, &config);
                        policy_loss(&streams, &config, &totals).unwrap().loss
                    };
                    let got = policy_loss(&streams, &config, &totals).unwrap();
                    let grad = got.grad_logp.values()[0];
                    let sides = [(at(STEP) - at(0.0)) / STEP, (at(0.0) - at(-STEP)) / STEP];
                    assert!(
                        sides.iter().any(|side| (grad - side).abs() < 1e-5),
                        "{config:?}: {grad} is neither of {sides:?}"
                    );
                    let clipped_outwards = delta == Some(2.0) && advantage > 0.0;
                    let unclipped = if clipped_outwards {
                        0.0
                    } else {
                        -ratio * advantage
                    };
                    assert!((grad - unclipped).abs() < 1e-12, "{config:?}: {grad}");
                    assert_eq!(
                        got.metrics.clip_low.sum() + got.metrics.clip_high.sum(),
                        0.0 + f64::from(u8::from(clipped_outwards))
                    );
                }
            }
        }
    }
}

/// Gradients that are deliberately not those of the value.
#[test]
fn straight_through_and_score_function() {
    let streams = {
        let mut streams = grid(0.0);
        streams.advantages = vec![0.0; 3];
        streams.logp_old = None;
        streams
    };
    let config = |kl_gradient, kl_estimator| LossConfig {
        beta: 0.5,
        kl_gradient,
        kl_estimator,
        use_bias_correction_kl: Some(false),
        ..LossConfig::default()
    };
    let grads = |config: &LossConfig| {
        let totals = totals(&streams, config);
        policy_loss(&streams, config, &totals).unwrap().grad_logp
    };
    let k2 = grads(&config(KlGradient::Value, KlEstimator::K2));
    for &estimator in KlEstimator::ALL {
        // The k2 gradient whatever the value.
        assert_eq!(grads(&config(KlGradient::K2, estimator)), k2);
        // On policy the bias correction is the score-function term.
        let corrected = LossConfig {
            use_bias_correction_kl: Some(true),
            ..config(KlGradient::Value, estimator)
        };
        assert_eq!(
            grads(&config(KlGradient::ScoreFunction, estimator)),
            grads(&corrected)
        );
    }
}

/// GSPO-token equals GSPO where all tokens share an advantage (section 4.3 of the paper).
#[test]
fn gspo_token_has_the_gradient_of_gspo() {
    for scale in [1.0, 0.1, -0.5] {
        let streams = grid(scale);
        let grads = |importance_sampling_level| {
            let config = LossConfig {
                loss_type: LossType::Grpo,
                importance_sampling_level,
                ..LossConfig::default()
            };
            let totals = totals(&streams, &config);
            policy_loss(&streams, &config, &totals).unwrap().grad_logp
        };
        let by_token = grads(ImportanceSamplingLevel::SequenceToken);
        let by_sequence = grads(ImportanceSamplingLevel::Sequence);
        for (a, b) in by_token.values().iter().zip(by_sequence.values()) {
            assert!((a - b).abs() < 1e-15, "{a} {b}");
        }
    }
}

/// The reward placement leaves the loss alone and still reports KL.
#[test]
fn kl_in_the_reward_is_not_in_the_loss() {
    let streams = grid(1.0);
    let loss = |beta, kl_placement| {
        let config = LossConfig {
            beta,
            kl_placement,
            ..LossConfig::default()
        };
        policy_loss(&streams, &config, &totals(&streams, &config)).unwrap()
    };
    let without = loss(0.0, g2rpo_core::KlPlacement::Loss);
    let in_reward = loss(0.3, g2rpo_core::KlPlacement::Reward);
    assert_eq!(without.grad_logp, in_reward.grad_logp);
    assert_eq!(without.loss, in_reward.loss);
    assert!(in_reward.metrics.kl.mean().unwrap() > 0.0);
    assert_eq!(without.metrics.kl.mean(), None);
}

/// By hand: the two supervised treatments average over the batch's guidance tokens.
#[test]
fn supervised_guidance_by_hand() {
    use Role::{Guidance, Own};
    let streams = TokenStreams::new(
        Ragged::from_rows([vec![Guidance, Own], vec![Guidance, Own]]),
        Ragged::from_rows([vec![-1.0, -0.5], vec![-3.0, -0.5]]),
        vec![1.0, -1.0],
    )
    .unwrap();
    let run = |guidance_token_loss| {
        let config = LossConfig {
            guidance_token_loss,
            ..LossConfig::default()
        };
        let totals = BatchTotals::of(&streams.roles, None, &config).unwrap();
        policy_loss(&streams, &config, &totals).unwrap()
    };
    // Own tokens: −(1 − 1)/2 = 0. Guidance: 0.1 · (1 + 3)/2.
    let uft = run(GuidanceTokenLoss::Supervised { coef: 0.1 });
    assert!((uft.loss - 0.2).abs() < 1e-15);
    assert_eq!(uft.grad_logp.values(), [-0.05, -0.5, -0.05, 0.5]);
    // e⁻³ < 0.1: the tangent 1 − 10 e⁻³ + ln 10; e⁻¹ ≥ 0.1: 1.
    let trust = run(GuidanceTokenLoss::Trust {
        alpha: 0.1,
        coef: 1.0,
    });
    let p = (-3f64).exp();
    let expected = (1.0 + (1.0 - 10.0 * p + 10f64.ln())) / 2.0;
    assert!((trust.loss - expected).abs() < 1e-14);
    assert!((trust.grad_logp.row(1)[0] + 10.0 * p / 2.0).abs() < 1e-15);
    assert!(
        (trust.metrics.guidance_gradient_share().unwrap() - (0.5 + 5.0 * p) / (1.5 + 5.0 * p))
            .abs()
            < 1e-14
    );
}
