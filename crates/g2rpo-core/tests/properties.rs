//! Properties that hold for any streams and settings.

mod common;

use common::{Draw, TREATMENTS, add_token_streams, config, streams, totals};
use g2rpo_core::{
    AdvantageEstimator, Baseline, BatchTotals, CispoClip, Error, GuidanceTokenLoss,
    ImportanceSamplingLevel, LossConfig, LossMetrics, LossType, Ragged, Role, Scale, Strata,
    TokenOutputs, TokenStreams, policy_loss, supervised_loss,
};
use proptest::prelude::*;

fn close(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-11 * a.abs().max(b.abs()).max(1.0)
}

fn assert_metrics_close(a: &LossMetrics, b: &LossMetrics) {
    let (a, b) = (a.entries(), b.entries());
    assert_eq!(a.len(), b.len());
    for ((name, a), (other, b)) in a.iter().zip(&b) {
        assert_eq!(name, other);
        assert!(close(*a, *b), "{name}: {a} and {b}");
    }
}

/// Whether anything is in the loss; an all-masked batch is refused.
fn has_loss(streams: &TokenStreams, config: &LossConfig, totals: &BatchTotals) -> bool {
    match policy_loss(streams, config, totals) {
        Ok(_) => true,
        Err(Error::NoTokens { .. }) => false,
        Err(error) => panic!("{error}: {config:?} {streams:?}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, ..ProptestConfig::default() })]

    #[test]
    fn any_partition_adds_up(seed: u64) {
        let draw = &mut Draw(seed);
        let (mut streams, config) = (streams(draw), config(draw));
        add_token_streams(draw, &mut streams, &config);
        let totals = totals(&streams, &config);
        prop_assume!(has_loss(&streams, &config, &totals));
        let whole = policy_loss(&streams, &config, &totals).unwrap();
        let n_parts = 1 + draw.below(3);
        let part_of: Vec<usize> = (0..streams.n_rows()).map(|_| draw.below(n_parts)).collect();
        let (mut loss, mut metrics) = (0.0, LossMetrics::default());
        let mut counted = BatchTotals { entropy_threshold: totals.entropy_threshold, ..Default::default() };
        for part in 0..n_parts {
            let rows: Vec<usize> = (0..streams.n_rows()).filter(|&i| part_of[i] == part).collect();
            let micro = streams.select(&rows);
            let got = policy_loss(&micro, &config, &totals).unwrap();
            loss += got.loss;
            metrics.merge(&got.metrics);
            // A row's gradient does not depend on its company, to the bit.
            for (place, &row) in rows.iter().enumerate() {
                prop_assert_eq!(got.grad_logp.row(place), whole.grad_logp.row(row));
            }
            if let (Some(part), Some(whole)) = (&got.grad_entropy, &whole.grad_entropy) {
                for (place, &row) in rows.iter().enumerate() {
                    prop_assert_eq!(part.row(place), whole.row(row));
                }
            }
            let mut part = BatchTotals::of(&micro.roles, micro.truncated.as_deref(), &config).unwrap();
            part.entropy_threshold = totals.entropy_threshold;
            counted += part;
        }
        prop_assert!(close(loss, whole.loss), "{loss} {}", whole.loss);
        assert_metrics_close(&metrics, &whole.metrics);
        counted.n_entropy = totals.n_entropy;
        prop_assert_eq!(counted, totals);
    }

    #[test]
    fn tokens_outside_the_loss_are_not_read(seed: u64) {
        let draw = &mut Draw(seed);
        let (mut streams, config) = (streams(draw), config(draw));
        add_token_streams(draw, &mut streams, &config);
        let totals = totals(&streams, &config);
        prop_assume!(has_loss(&streams, &config, &totals));
        let clean = policy_loss(&streams, &config, &totals).unwrap();
        let mut poisoned = streams.clone();
        let is_masked_row = |row: usize| config.mask_truncated_completions && streams.truncated.as_ref().unwrap()[row];
        let mut flat = 0;
        for row in 0..streams.n_rows() {
            for &role in streams.roles.row(row) {
                let outside = is_masked_row(row) || role == Role::Prompt
                    || (role == Role::Guidance && config.guidance_token_loss == GuidanceTokenLoss::Masked);
                if outside {
                    prop_assert_eq!(clean.grad_logp.values()[flat], 0.0);
                    let poison = draw.one_of(&[f64::NAN, f64::INFINITY, f64::NEG_INFINITY]);
                    poisoned.logp.values_mut()[flat] = poison;
                    for stream in [&mut poisoned.token_advantages, &mut poisoned.token_weights, &mut poisoned.logp_old, &mut poisoned.logp_ref, &mut poisoned.logp_sampling, &mut poisoned.log_kept, &mut poisoned.entropy].into_iter().flatten() {
                        stream.values_mut()[flat] = poison;
                    }
                }
                flat += 1;
            }
        }
        let got = policy_loss(&poisoned, &config, &totals).unwrap();
        prop_assert_eq!(got.loss, clean.loss);
        prop_assert_eq!(got.grad_logp, clean.grad_logp);
        assert_metrics_close(&got.metrics, &clean.metrics);
    }

    #[test]
    fn holes_behind_a_row_change_nothing(seed: u64) {
        let draw = &mut Draw(seed);
        let (mut streams, config) = (streams(draw), config(draw));
        add_token_streams(draw, &mut streams, &config);
        let totals = totals(&streams, &config);
        prop_assume!(has_loss(&streams, &config, &totals));
        let clean = policy_loss(&streams, &config, &totals).unwrap();
        let n_extra = 1 + draw.below(5);
        let pad = |stream: &Ragged<f64>| Ragged::from_rows(stream.rows().map(|row| {
            row.iter().copied().chain(std::iter::repeat_n(f64::NAN, n_extra)).collect::<Vec<_>>()
        }));
        let mut padded = streams.clone();
        padded.roles = Ragged::from_rows(streams.roles.rows().map(|row| {
            row.iter().copied().chain(std::iter::repeat_n(Role::Prompt, n_extra)).collect::<Vec<_>>()
        }));
        padded.logp = pad(&streams.logp);
        padded.token_advantages = streams.token_advantages.as_ref().map(pad);
        padded.token_weights = streams.token_weights.as_ref().map(pad);
        padded.logp_old = streams.logp_old.as_ref().map(pad);
        padded.logp_ref = streams.logp_ref.as_ref().map(pad);
        padded.logp_sampling = streams.logp_sampling.as_ref().map(pad);
        padded.log_kept = streams.log_kept.as_ref().map(pad);
        padded.entropy = streams.entropy.as_ref().map(pad);
        prop_assert_eq!(self::totals(&padded, &config), totals);
        let got = policy_loss(&padded, &config, &totals).unwrap();
        prop_assert!(close(got.loss, clean.loss));
        for row in 0..streams.n_rows() {
            let n = streams.roles.row(row).len();
            for (a, b) in got.grad_logp.row(row)[..n].iter().zip(clean.grad_logp.row(row)) {
                prop_assert!(close(*a, *b), "{a} {b}");
            }
            prop_assert!(got.grad_logp.row(row)[n..].iter().all(|&g| g == 0.0));
        }
        assert_metrics_close(&got.metrics, &clean.metrics);
    }

    #[test]
    fn equal_tokens_are_the_rows_own(seed: u64) {
        let draw = &mut Draw(seed);
        let (mut streams, config) = (streams(draw), config(draw));
        let totals = totals(&streams, &config);
        prop_assume!(has_loss(&streams, &config, &totals));
        let plain = policy_loss(&streams, &config, &totals).unwrap();
        // Ones change nothing, to the bit.
        streams.token_weights = Some(streams.roles.map(|_| 1.0));
        match policy_loss(&streams, &config, &totals) {
            Ok(got) => prop_assert_eq!(&got, &plain),
            Err(error) => prop_assert!(config.loss_type == LossType::Gmpo, "{}", error),
        }
        streams.token_weights = None;
        // The row's advantage for every token is another order of the same products.
        let rows = streams.roles.rows().zip(&streams.advantages);
        let rows: Vec<Vec<f64>> = rows.map(|(r, &a)| vec![a; r.len()]).collect();
        streams.token_advantages = Some(Ragged::from_rows(rows));
        let Ok(got) = policy_loss(&streams, &config, &totals) else { return Ok(()) };
        prop_assert!(close(got.loss, plain.loss));
        for (a, b) in got.grad_logp.values().iter().zip(plain.grad_logp.values()) {
            prop_assert!(close(*a, *b), "{a} {b}");
        }
        assert_metrics_close(&got.metrics, &plain.metrics);
    }

    #[test]
    fn without_logp_old_the_policy_is_its_own_old(seed: u64) {
        let draw = &mut Draw(seed);
        let (mut streams, config) = (streams(draw), config(draw));
        let totals = totals(&streams, &config);
        prop_assume!(has_loss(&streams, &config, &totals));
        streams.logp_old = None;
        let implicit = policy_loss(&streams, &config, &totals).unwrap();
        streams.logp_old = Some(streams.logp.clone());
        let explicit = policy_loss(&streams, &config, &totals).unwrap();
        prop_assert_eq!(implicit, explicit);
    }

    #[test]
    fn without_guidance_every_treatment_is_plain_grpo_to_the_bit(seed: u64) {
        let draw = &mut Draw(seed);
        let (mut streams, config) = (streams(draw), config(draw));
        for role in streams.roles.values_mut() {
            if *role == Role::Guidance {
                *role = Role::Own;
            }
        }
        let totals = totals(&streams, &config);
        prop_assume!(has_loss(&streams, &config, &totals));
        let masked = LossConfig { guidance_token_loss: GuidanceTokenLoss::Masked, ..config.clone() };
        let plain = policy_loss(&streams, &masked, &self::totals(&streams, &masked)).unwrap();
        for guidance_token_loss in TREATMENTS {
            let config = LossConfig { guidance_token_loss, ..config.clone() };
            let got = policy_loss(&streams, &config, &self::totals(&streams, &config)).unwrap();
            prop_assert_eq!(&got, &plain);
        }
    }

    #[test]
    fn a_forward_pass_selects_its_rows(seed: u64) {
        let draw = &mut Draw(seed);
        let mut streams = streams(draw);
        add_token_streams(draw, &mut streams, &LossConfig::default());
        let rows: Vec<usize> = (0..draw.below(8)).map(|_| draw.below(streams.n_rows())).collect();
        let expected = streams.select(&rows);
        let outputs = TokenOutputs { rows, logp: expected.logp.clone(), entropy: expected.entropy.clone() };
        prop_assert_eq!(streams.with_outputs(&outputs).unwrap(), expected);
    }

    #[test]
    fn supervised_parts_add_up(seed: u64) {
        let streams = streams(&mut Draw(seed));
        let trained = [Role::Own, Role::Guidance];
        let n = g2rpo_core::count_roles(&streams.roles, &trained);
        prop_assume!(n > 0);
        let whole = supervised_loss(&streams.roles, &streams.logp, &trained, n).unwrap();
        let mut loss = 0.0;
        for row in 0..streams.n_rows() {
            let part = streams.select(&[row]);
            loss += supervised_loss(&part.roles, &part.logp, &trained, n).unwrap().loss;
        }
        prop_assert!(close(loss, whole.loss));
        prop_assert_eq!(whole.n_tokens, n);
        let total: f64 = whole.grad_logp.values().iter().sum();
        prop_assert!(close(total, -1.0));
    }

    #[test]
    fn advantages_of_a_mean_baseline_vanish_in_sum(seed: u64) {
        let draw = &mut Draw(seed);
        let (rewards, groups, guided) = groups(draw);
        let estimator = AdvantageEstimator {
            baseline: draw.one_of(&[Baseline::Mean, Baseline::LeaveOneOut]),
            scale: draw.one_of(&[Scale::None, Scale::GroupStd, Scale::BatchStd, Scale::Whiten]),
            strata: draw.one_of(&[Strata::Joint, Strata::Split]),
            ..Default::default()
        };
        let report = estimator.advantages(&rewards, &groups, &guided, None).unwrap();
        for id in 0..4 {
            let sum: f64 = (0..rewards.len()).filter(|&i| groups[i] == id).map(|i| report.advantages[i]).sum();
            let scale = report.advantages.iter().map(|a| a.abs()).sum::<f64>().max(1.0);
            // Whitening subtracts the mean of the batch, which is 0 already.
            prop_assert!(sum.abs() <= 1e-12 * scale, "{sum}");
        }
        for (reward, advantage) in rewards.iter().zip(&report.advantages) {
            prop_assert!(advantage.is_finite());
            prop_assert!(reward.is_some() || *advantage == 0.0);
        }
    }

    #[test]
    fn equal_rewards_give_exact_zeros(seed: u64, reward in -10.0f64..10.0) {
        let draw = &mut Draw(seed);
        let (rewards, groups, guided) = groups(draw);
        let positive = reward.abs();
        let rewards: Vec<_> = rewards.iter().map(|r| r.map(|_| positive)).collect();
        let lengths: Vec<usize> = rewards.iter().map(|_| draw.below(100)).collect();
        for baseline in [Baseline::Mean, Baseline::LeaveOneOut, Baseline::LengthWeighted, Baseline::SecondBest, Baseline::PassAtK { k: 2 }] {
            for scale in [Scale::None, Scale::GroupStd, Scale::BatchStd, Scale::LeaveOneOutStd, Scale::GroupMean, Scale::Whiten] {
                for strata in [Strata::Joint, Strata::Split, Strata::UnguidedMean] {
                    for eps in [0.0, 1e-4] {
                        let estimator = AdvantageEstimator { baseline, scale, strata, eps, ..Default::default() };
                        if estimator.check().is_ok() {
                            let report = estimator.advantages(&rewards, &groups, &guided, Some(&lengths)).unwrap();
                            prop_assert!(report.advantages.iter().all(|&a| a == 0.0), "{estimator:?} {:?}", report.advantages);
                            prop_assert_eq!(report.frac_reward_zero_std(), if rewards.is_empty() { 0.0 } else { 1.0 });
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn a_scaled_and_shifted_reward_changes_nothing(seed: u64, scale in 0.1f64..50.0, shift in -20.0f64..20.0) {
        let draw = &mut Draw(seed);
        let (rewards, groups, guided) = groups(draw);
        let moved: Vec<_> = rewards.iter().map(|r| r.map(|r| scale * r + shift)).collect();
        let estimator = AdvantageEstimator {
            baseline: draw.one_of(&[Baseline::Mean, Baseline::LeaveOneOut, Baseline::SecondBest]),
            scale: draw.one_of(&[Scale::GroupStd, Scale::BatchStd]),
            eps: 0.0,
            ..Default::default()
        };
        let a = estimator.advantages(&rewards, &groups, &guided, None).unwrap();
        let b = estimator.advantages(&moved, &groups, &guided, None).unwrap();
        for (a, b) in a.advantages.iter().zip(&b.advantages) {
            prop_assert!((a - b).abs() < 1e-8, "{a} {b}");
        }
    }

    #[test]
    fn advantages_depend_on_ids_not_on_order(seed: u64) {
        let draw = &mut Draw(seed);
        let (rewards, groups, guided) = groups(draw);
        let mut order: Vec<usize> = (0..rewards.len()).collect();
        for i in (1..order.len()).rev() {
            order.swap(i, draw.below(i + 1));
        }
        let estimator = AdvantageEstimator {
            strata: draw.one_of(&[Strata::Joint, Strata::Split, Strata::UnguidedMean]),
            ..Default::default()
        };
        let sorted = estimator.advantages(&rewards, &groups, &guided, None).unwrap();
        let pick = |i: &usize| (rewards[*i], groups[*i] * 31 + 5, guided[*i]);
        let shuffled: Vec<_> = order.iter().map(pick).collect();
        let rewards: Vec<_> = shuffled.iter().map(|x| x.0).collect();
        let groups: Vec<_> = shuffled.iter().map(|x| x.1).collect();
        let guided: Vec<_> = shuffled.iter().map(|x| x.2).collect();
        let got = estimator.advantages(&rewards, &groups, &guided, None).unwrap();
        for (place, &row) in order.iter().enumerate() {
            prop_assert!((got.advantages[place] - sorted.advantages[row]).abs() < 1e-12);
        }
    }
}

/// Rewards of up to four groups with unscored members, repeated values and guided members.
fn groups(draw: &mut Draw) -> (Vec<Option<f64>>, Vec<usize>, Vec<bool>) {
    let n = draw.below(20);
    let rewards = (0..n)
        .map(|_| match draw.below(6) {
            0 => None,
            1 => Some(0.0),
            2 => Some(1.0),
            _ => Some(draw.uniform(-1.0, 1.0)),
        })
        .collect();
    let groups = (0..n).map(|_| draw.below(4)).collect();
    let guided = (0..n).map(|_| draw.flag()).collect();
    (rewards, groups, guided)
}

/// At ratio 1 every loss has the gradient of REINFORCE with the same aggregation.
#[test]
fn on_policy_every_loss_is_reinforce() {
    for seed in 0..200 {
        let draw = &mut Draw(seed);
        let mut streams = streams(draw);
        streams.logp_old = Some(streams.logp.clone());
        for &loss_type in LossType::ALL {
            for &importance_sampling_level in ImportanceSamplingLevel::ALL {
                let aggregation = Some(loss_type.aggregation());
                let config = LossConfig {
                    loss_type,
                    importance_sampling_level,
                    aggregation,
                    // An absolute cap below 1 would act at ratio 1.
                    cispo_clip: CispoClip::AroundOne,
                    guidance_token_loss: GuidanceTokenLoss::SameAdvantage,
                    ..LossConfig::default()
                };
                let reinforce = LossConfig {
                    loss_type: LossType::Reinforce,
                    ..config.clone()
                };
                if config.check().is_err() {
                    continue; // dppo at sequence level
                }
                let totals = totals(&streams, &config);
                if !has_loss(&streams, &config, &totals) {
                    continue;
                }
                let got = policy_loss(&streams, &config, &totals).unwrap().grad_logp;
                let want = policy_loss(&streams, &reinforce, &totals)
                    .unwrap()
                    .grad_logp;
                for (got, want) in got.values().iter().zip(want.values()) {
                    assert!((got - want).abs() < 1e-14, "{config:?}: {got} {want}");
                }
            }
        }
    }
}

/// The textbook case of frameworks' std conventions: G = 8, one success.
#[test]
fn ddof_matters_with_binary_rewards() {
    let mut rewards = [Some(0.0); 8];
    rewards[3] = Some(1.0);
    for (ddof, expected) in [(1, 2.4748737341529163), (0, 2.6457513110645907)] {
        let estimator = AdvantageEstimator {
            ddof,
            eps: 0.0,
            ..Default::default()
        };
        let report = estimator.advantages(&rewards, &[0; 8], &[], None).unwrap();
        assert!((report.advantages[3] - expected).abs() < 1e-12);
    }
}

/// Strata by hand: guided 1, 1 and unguided 0, 1 in one group.
#[test]
fn strata_by_hand() {
    let rewards = [1.0, 1.0, 0.0, 1.0].map(Some);
    let guided = [true, true, false, false];
    let run = |strata| {
        let estimator = AdvantageEstimator {
            strata,
            scale: Scale::None,
            ..Default::default()
        };
        estimator
            .advantages(&rewards, &[9; 4], &guided, None)
            .unwrap()
    };
    assert_eq!(run(Strata::Joint).advantages, [0.25, 0.25, -0.75, 0.25]);
    assert_eq!(run(Strata::Split).advantages, [0.0, 0.0, -0.5, 0.5]);
    assert_eq!(run(Strata::UnguidedMean).advantages, [0.5, 0.5, -0.5, 0.5]);
    // Unguided members that all fail have no scale of their own: σ of 1, 1, 0, 0 is √(1/3), the mean 1/2.
    for (scale, expected) in [(Scale::GroupStd, 3.0_f64.sqrt()), (Scale::GroupMean, 2.0)] {
        let estimator = AdvantageEstimator {
            strata: Strata::UnguidedMean,
            scale,
            eps: 0.0,
            ..Default::default()
        };
        let rewards = [1.0, 1.0, 0.0, 0.0].map(Some);
        let got = (estimator.advantages(&rewards, &[9; 4], &guided, None)).unwrap();
        for (got, expected) in got.advantages.iter().zip([expected, expected, 0.0, 0.0]) {
            assert!((got - expected).abs() < 1e-12, "{scale} {got}");
        }
    }
    let stats = &run(Strata::Joint).groups[0];
    assert_eq!((stats.id, stats.n, stats.n_guided), (9, 4, 2));
    assert_eq!(
        (stats.mean_guided, stats.mean_unguided),
        (Some(1.0), Some(0.5))
    );
    assert!(!stats.zero_variance && !stats.identity_only_variance);
}
