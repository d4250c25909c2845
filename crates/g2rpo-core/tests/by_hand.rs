//! What no framework's fixture covers, against numbers worked by hand.

use approx::assert_relative_eq;
use g2rpo_core::{
    AdvantageEstimator, Baseline, BatchTotals, LossConfig, LossType, MismatchCorrection,
    MismatchLevel, MultiObjectiveAggregation, OutOfRange, Ragged, Role, Scale, Singleton,
    TokenStreams, policy_loss,
};

fn estimator(baseline: Baseline, scale: Scale) -> AdvantageEstimator {
    AdvantageEstimator {
        baseline,
        scale,
        eps: 0.0,
        ..AdvantageEstimator::default()
    }
}

fn assert_all_close(got: &[f64], expected: &[f64], what: &str) {
    assert_eq!(got.len(), expected.len(), "{what}");
    for (i, (got, expected)) in got.iter().zip(expected).enumerate() {
        assert!(
            (got - expected).abs() < 1e-12,
            "{what}, {i}: expected {expected}, got {got}"
        );
    }
}

/// One group of scored completions.
fn of_one_group(estimator: &AdvantageEstimator, rewards: &[f64]) -> Vec<f64> {
    let rewards: Vec<Option<f64>> = rewards.iter().copied().map(Some).collect();
    let groups = vec![0; rewards.len()];
    let report = estimator.advantages(&rewards, &groups, &[], None).unwrap();
    report.advantages
}

const MAX_RL: AdvantageEstimator = AdvantageEstimator {
    baseline: Baseline::Mean,
    scale: Scale::GroupMean,
    eps: 0.0,
    ddof: 1,
    strata: g2rpo_core::Strata::Joint,
    singleton: Singleton::Zero,
};

#[test]
fn max_rl() {
    // (r - mean)/mean: means 1/4, 1, 3/4.
    assert_all_close(
        &of_one_group(&MAX_RL, &[1.0, 0.0, 0.0, 0.0]),
        &[3.0, -1.0, -1.0, -1.0],
        "one of four",
    );
    assert_all_close(
        &of_one_group(&MAX_RL, &[2.0, 1.0, 0.0, 1.0]),
        &[1.0, 0.0, -1.0, 0.0],
        "graded",
    );
    let third = 1.0 / 3.0;
    assert_all_close(
        &of_one_group(&MAX_RL, &[1.0, 1.0, 0.0, 1.0]),
        &[third, third, -1.0, third],
        "three of four",
    );
    assert_eq!(of_one_group(&MAX_RL, &[0.0; 4]), [0.0; 4]);
    assert_eq!(of_one_group(&MAX_RL, &[0.3; 4]), [0.0; 4]);
    assert_eq!(of_one_group(&MAX_RL, &[1.0]), [0.0]);
    // Groups 7 and 3, interleaved, with completions that nobody scored: means 1/2 and 1/3.
    let rewards = [
        Some(1.0),
        Some(0.0),
        None,
        Some(0.0),
        Some(f64::NAN),
        Some(1.0),
        Some(0.0),
    ];
    let report = MAX_RL
        .advantages(&rewards, &[7, 3, 7, 7, 3, 3, 3], &[], None)
        .unwrap();
    assert_all_close(
        &report.advantages,
        &[1.0, -1.0, 0.0, -1.0, 0.0, 2.0, -1.0],
        "two groups",
    );
}

/// Outside truth for the form: over all outcomes of n draws that succeed with probability p, the mean
/// of advantage times score is the gradient of Σ_{k<n} -(1-p)^k/k, the first n-1 terms of ln p: the
/// maximum-likelihood objective that the method is named after.
#[test]
fn max_rl_follows_the_series_of_the_logarithm() {
    let score = |success: bool, p: f64| if success { 1.0 / p } else { -1.0 / (1.0 - p) };
    for (n, p) in [(2, 0.3), (4, 0.1), (6, 0.45), (8, 0.02)] {
        let mut expectation = 0.0;
        for outcome in 0u32..1 << n {
            let successes: Vec<bool> = (0..n).map(|i| outcome >> i & 1 == 1).collect();
            let rewards: Vec<f64> = successes.iter().map(|&s| f64::from(u8::from(s))).collect();
            let probability: f64 = successes
                .iter()
                .map(|&s| if s { p } else { 1.0 - p })
                .product();
            let advantages = of_one_group(&MAX_RL, &rewards);
            let step: f64 = (advantages.iter().zip(&successes))
                .map(|(a, &s)| a * score(s, p))
                .sum();
            expectation += probability * step / f64::from(n);
        }
        let series: f64 = (1..n).map(|k| (1.0 - p).powi(k - 1)).sum();
        assert_relative_eq!(expectation, series, max_relative = 1e-10);
    }
}

#[test]
fn leave_one_out() {
    let rloo = estimator(Baseline::LeaveOneOut, Scale::None);
    let third = 1.0 / 3.0;
    assert_all_close(
        &of_one_group(&rloo, &[1.0, 0.0, 0.0, 0.0]),
        &[1.0, -third, -third, -third],
        "RLOO",
    );
    // Others of a success: 0, 0, 1, mean 1/3, standard deviation √(1/3); of a failure: 1, 0, 1.
    let nemo = estimator(Baseline::LeaveOneOut, Scale::LeaveOneOutStd);
    let side = 2.0 / 3.0 * 3.0f64.sqrt();
    assert_all_close(
        &of_one_group(&nemo, &[1.0, 0.0, 0.0, 1.0]),
        &[side, -side, -side, side],
        "with std",
    );
    // The only success has others without spread: its difference is not divided.
    let other = -third * 3.0f64.sqrt();
    assert_all_close(
        &of_one_group(&nemo, &[1.0, 0.0, 0.0, 0.0]),
        &[1.0, other, other, other],
        "equal others",
    );
}

#[test]
fn whitened_over_the_batch() {
    // Differences ±1/2 and ±3/2, population variance 5/4.
    let whiten = AdvantageEstimator {
        ddof: 0,
        ..estimator(Baseline::Mean, Scale::Whiten)
    };
    let rewards = [Some(1.0), Some(3.0), Some(0.0), Some(0.0)];
    let report = whiten
        .advantages(&rewards, &[0, 1, 0, 1], &[], None)
        .unwrap();
    let unit = 1.0 / 5.0f64.sqrt();
    assert_all_close(
        &report.advantages,
        &[unit, 3.0 * unit, -unit, -3.0 * unit],
        "whitened",
    );
}

#[test]
fn length_weighted_and_second_best() {
    // (10 · 1 + 30 · 0)/40.
    let opo = estimator(Baseline::LengthWeighted, Scale::None);
    let rewards = [Some(1.0), Some(0.0)];
    let report = opo
        .advantages(&rewards, &[0, 0], &[], Some(&[10, 30]))
        .unwrap();
    assert_eq!(report.advantages, [0.75, -0.25]);
    let best = estimator(Baseline::SecondBest, Scale::None);
    assert_all_close(
        &of_one_group(&best, &[0.25, 1.0, 0.5]),
        &[0.0, 0.5, 0.0],
        "lead",
    );
}

#[test]
fn gdpo() {
    // Each reward by itself: ±1/√2 in every group. Weighted sums: (1 - 1/2)/√2 = √(1/8) and
    // (1 + 1/2)/√2 = √(9/8), each with both signs. Sample variance (2/8 + 18/8)/3 = 5/6.
    let rewards = [[1.0, 0.0, 1.0, 0.0], [0.0, 2.0, 2.0, 0.0]];
    let rewards = rewards.map(|of_one| of_one.map(Some).to_vec());
    let report = estimator(Baseline::Mean, Scale::GroupStd)
        .advantages_of_several(
            &rewards,
            &[1.0, 0.5],
            MultiObjectiveAggregation::NormalizeThenSum,
            &[0, 0, 1, 1],
            &[],
            None,
        )
        .unwrap();
    let (a, b) = ((6.0f64 / 40.0).sqrt(), (54.0f64 / 40.0).sqrt());
    assert_all_close(&report.advantages, &[a, -a, b, -b], "gdpo");
}

#[test]
fn the_only_scored_member() {
    for (scale, singleton, expected) in [
        (Scale::GroupStd, Singleton::Zero, 0.0),
        (Scale::GroupStd, Singleton::Reward, 3.0 / 1.5),
        (Scale::None, Singleton::Reward, 3.0),
    ] {
        let estimator = AdvantageEstimator {
            eps: 0.5,
            singleton,
            ..estimator(Baseline::Mean, scale)
        };
        let report = estimator
            .advantages(&[Some(3.0), None], &[4, 4], &[], None)
            .unwrap();
        assert_eq!(
            report.advantages,
            [expected, 0.0],
            "{scale:?} {singleton:?}"
        );
    }
}

/// One row of two tokens on policy, sampled as `logp_old - logp_sampling` of 0.1 and -0.3 says, each
/// with `kept` of its mass; loss and gradient at advantage 1.
fn with_mismatch(correction: MismatchCorrection, kept: f64) -> (f64, Vec<f64>) {
    let mut streams = TokenStreams::new(
        Ragged::from_rows([[Role::Own; 2]]),
        Ragged::from_rows([[-1.0, -2.0]]),
        vec![1.0],
    )
    .unwrap();
    let log_kept = f64::ln(kept);
    streams.logp_sampling = Some(Ragged::from_rows([[-1.1 - log_kept, -1.7 - log_kept]]));
    streams.log_kept = Some(Ragged::from_rows([[log_kept; 2]]));
    let config = LossConfig {
        importance_sampling_correction: Some(correction),
        ..LossConfig::default()
    };
    let totals = BatchTotals::of(&streams.roles, None, &config).unwrap();
    let loss = policy_loss(&streams, &config, &totals).unwrap();
    (loss.loss, loss.grad_logp.values().to_vec())
}

#[test]
fn mismatch_corrections() {
    let no_bounds = MismatchCorrection {
        level: MismatchLevel::Token,
        out_of_range: OutOfRange::Truncate,
        clip_min: None,
        clip_max: None,
    };
    let at = |level| MismatchCorrection { level, ..no_bounds };
    // e^0.1, e^-0.3, e^-0.2, e^-0.1.
    let (first, second) = (1.105_170_918_075_647_7, 0.740_818_220_681_717_9);
    let (of_sum, of_mean) = (0.818_730_753_077_981_8, 0.904_837_418_035_959_6);
    let cases = [
        (no_bounds, [first, second]),
        (at(MismatchLevel::SequenceSum), [of_sum; 2]),
        (at(MismatchLevel::SequenceMean), [of_mean; 2]),
        (
            MismatchCorrection {
                clip_max: Some(1.0),
                ..no_bounds
            },
            [1.0, second],
        ),
        (
            MismatchCorrection {
                clip_min: Some(0.8),
                ..no_bounds
            },
            [first, 0.8],
        ),
        (
            MismatchCorrection {
                clip_max: Some(1.0),
                out_of_range: OutOfRange::Mask,
                ..no_bounds
            },
            [0.0, second],
        ),
        (
            MismatchCorrection {
                clip_min: Some(0.9),
                out_of_range: OutOfRange::Mask,
                ..at(MismatchLevel::SequenceSum)
            },
            [0.0; 2],
        ),
        (
            MismatchCorrection {
                clip_min: Some(0.9),
                out_of_range: OutOfRange::Mask,
                ..at(MismatchLevel::SequenceMean)
            },
            [of_mean; 2],
        ),
    ];
    for (correction, [a, b]) in cases {
        // The sampler reports log-probabilities of the mass it kept; adding log_kept undoes that.
        for kept in [1.0, 0.9, 0.25] {
            let (loss, grad) = with_mismatch(correction, kept);
            assert_all_close(
                &[loss],
                &[-0.5 * (a + b)],
                &format!("{correction:?}, {kept}"),
            );
            assert_all_close(
                &grad,
                &[-0.5 * a, -0.5 * b],
                &format!("{correction:?}, {kept}"),
            );
        }
    }
}

/// A token that became impossible (e^-750) was at e^-1 = 0.37 before: it moved by less than 0.5, and
/// its neighbour, from 0.37 to 0.30, by less as well; with 0.2 only the neighbour stays.
#[test]
fn dppo_compares_probabilities_beyond_the_range_of_their_ratio() {
    let masked = |epsilon: f64| {
        let streams = TokenStreams::new(
            Ragged::from_rows([[Role::Own; 2]]),
            Ragged::from_rows([[-750.0, -1.2]]),
            vec![-1.0],
        )
        .and_then(|s| s.with_logp_old(Ragged::from_rows([[-1.0, -1.0]])))
        .unwrap();
        let config = LossConfig {
            loss_type: LossType::Dppo,
            epsilon,
            ..LossConfig::default()
        };
        let totals = BatchTotals::of(&streams.roles, None, &config).unwrap();
        let loss = policy_loss(&streams, &config, &totals).unwrap();
        loss.metrics.dppo_masked.mean()
    };
    assert_eq!(masked(0.5), Some(0.0));
    assert_eq!(masked(0.2), Some(0.5));
}

/// TRL 1.16's `GMPOTrainer`, which does not correct the bias of its KL term: A = 1, ε = 0.4, β = 0.04,
/// logp −1, −2, old −1.5, −2, reference −1.2, −2.4.
#[test]
fn gmpo_takes_kl_as_it_is() {
    let rows = |x: [f64; 2]| Ragged::from_rows([x]);
    let streams = TokenStreams::new(
        Ragged::from_rows([[Role::Own; 2]]),
        rows([-1.0, -2.0]),
        vec![1.0],
    )
    .and_then(|s| s.with_logp_old(rows([-1.5, -2.0])))
    .and_then(|s| s.with_logp_ref(rows([-1.2, -2.4])))
    .unwrap();
    let loss = |use_bias_correction_kl| {
        let config = LossConfig {
            loss_type: LossType::Gmpo,
            epsilon: 0.4,
            beta: 0.04,
            use_bias_correction_kl,
            ..LossConfig::default()
        };
        let totals = BatchTotals::of(&streams.roles, None, &config).unwrap();
        policy_loss(&streams, &config, &totals).unwrap().loss
    };
    assert!((loss(None) + 1.219_621_742_178).abs() < 1e-12);
    assert_eq!(loss(None), loss(Some(false)));
    // With the correction, which may be asked for: e^0.5 and 1 times the tokens' KL.
    assert!((loss(Some(true)) + 1.219_378_721_419).abs() < 1e-12);
}

/// TRL's bnpo: the mean over a micro-batch's own tokens, divided by the number of micro-batches. Its
/// totals are the micro-batch's, times that number.
#[test]
fn bnpo_is_a_mean_of_means() {
    let config = LossConfig {
        loss_type: LossType::Bnpo,
        ..LossConfig::default()
    };
    let streams = TokenStreams::new(
        Ragged::from_rows([vec![Role::Own; 1], vec![Role::Own; 3]]),
        Ragged::from_rows([vec![-1.0], vec![-1.0; 3]]),
        vec![1.0, -2.0],
    )
    .unwrap();
    let mut loss = 0.0;
    for micro_batch in [[0], [1]] {
        let part = streams.select(&micro_batch);
        let mut totals = BatchTotals::of(&part.roles, None, &config).unwrap();
        totals.n_tokens *= 2.0;
        loss += policy_loss(&part, &config, &totals).unwrap().loss;
    }
    // (−1 + 2)/2; as one batch of four tokens it would be (−1 + 3·2)/4.
    assert_eq!(loss, 0.5);
}
