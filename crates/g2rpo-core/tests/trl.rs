//! Losses, gradients, metrics and advantages against TRL 1.16 itself: `testdata/core/trl.json`,
//! written by `testdata/core/make_trl.py`.

use g2rpo_core::{
    AdvantageEstimator, BatchTotals, ImportanceSamplingLevel, LossConfig, LossType,
    MismatchCorrection, MismatchLevel, MultiObjectiveAggregation, OutOfRange, Ragged, Role, Scale,
    TokenStreams, policy_loss,
};
use serde_json::Value;

/// Both sides compute in f64; what is left is the order of additions.
const TOLERANCE: f64 = 1e-10;

/// TRL averages clip flags in f32.
const FLAG_TOLERANCE: f64 = 1e-7;

fn fixture() -> Value {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata/core/trl.json");
    let text = std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{path}: {e}"));
    serde_json::from_str(&text).unwrap()
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or(f64::NAN)
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(number).collect()
}

fn ragged(value: &Value) -> Ragged<f64> {
    Ragged::from_rows(value.as_array().unwrap().iter().map(numbers))
}

fn assert_close(got: f64, expected: f64, what: &str) {
    assert_within(TOLERANCE, got, expected, what);
}

fn assert_within(tolerance: f64, got: f64, expected: f64, what: &str) {
    let scale = expected.abs().max(1.0);
    assert!(
        (got - expected).abs() <= tolerance * scale,
        "{what}: got {got}, TRL has {expected}"
    );
}

fn streams(batch: &Value, on_policy: bool) -> TokenStreams {
    let roles = ragged(&batch["own"]).map(|&own| if own > 0.0 { Role::Own } else { Role::Prompt });
    let truncated = batch["truncated"].as_array().unwrap();
    let mut streams =
        TokenStreams::new(roles, ragged(&batch["logp"]), numbers(&batch["advantages"])).unwrap();
    streams.logp_old = (!on_policy).then(|| ragged(&batch["old"]));
    streams.logp_ref = Some(ragged(&batch["ref"]));
    streams.logp_sampling = Some(ragged(&batch["sampling"]));
    streams.entropy = Some(ragged(&batch["entropy"]));
    streams.truncated = Some(truncated.iter().map(|t| t.as_bool().unwrap()).collect());
    // What is outside the loss must not be read: poison it.
    let mut poisoned = streams.clone();
    let flat = streams.roles.values().to_vec();
    for (t, role) in flat.iter().enumerate() {
        if *role == Role::Prompt {
            poisoned.logp.values_mut()[t] = f64::NEG_INFINITY;
            let streams = [
                &mut poisoned.logp_old,
                &mut poisoned.logp_ref,
                &mut poisoned.entropy,
            ];
            for stream in streams.into_iter().flatten() {
                stream.values_mut()[t] = f64::NAN;
            }
        }
    }
    poisoned
}

fn config(case: &Value, defaults: &Value) -> LossConfig {
    let get = |name: &str| {
        if case.get(name).is_some() {
            &case[name]
        } else {
            &defaults[name]
        }
    };
    let loss_type = match get("loss_type").as_str().unwrap() {
        "grpo" => LossType::Grpo,
        "bnpo" => LossType::Bnpo,
        "dr_grpo" => LossType::DrGrpo,
        "dapo" => LossType::Dapo,
        "luspo" => LossType::Luspo,
        "cispo" => LossType::Cispo,
        "sapo" => LossType::Sapo,
        "vespo" => LossType::Vespo,
        "gmpo" => LossType::Gmpo,
        other => panic!("{other}"),
    };
    let level = match get("importance_sampling_level").as_str().unwrap() {
        "token" => ImportanceSamplingLevel::Token,
        "sequence" => ImportanceSamplingLevel::Sequence,
        other => panic!("{other}"),
    };
    let correction = get("correction");
    LossConfig {
        loss_type,
        importance_sampling_level: level,
        epsilon: number(get("epsilon")),
        epsilon_high: Some(number(get("epsilon_high"))),
        delta: get("delta").as_f64(),
        beta: number(get("beta")),
        use_bias_correction_kl: get("use_bias_correction_kl").as_bool(),
        off_policy_mask_threshold: get("off_policy_mask_threshold").as_f64(),
        top_entropy_quantile: number(get("top_entropy_quantile")),
        entropy_coef: number(get("entropy_coef")),
        max_completion_length: number(get("max_completion_length")) as usize,
        mask_truncated_completions: true,
        importance_sampling_correction: correction["mode"].as_str().map(|mode| {
            let (level, out_of_range) = mode.split_once('_').unwrap();
            MismatchCorrection {
                level: match level {
                    "token" => MismatchLevel::Token,
                    _ => MismatchLevel::SequenceSum,
                },
                out_of_range: match out_of_range {
                    "mask" => OutOfRange::Mask,
                    _ => OutOfRange::Truncate,
                },
                clip_min: correction["clip_min"].as_f64(),
                clip_max: correction["clip_max"].as_f64(),
            }
        }),
        ..LossConfig::default()
    }
}

/// The stream that TRL's off-policy mask falls back to when there is no sampler: `logp_old`.
fn without_sampler(mut streams: TokenStreams, config: &LossConfig) -> TokenStreams {
    if config.importance_sampling_correction.is_none() {
        streams.logp_sampling = None;
    }
    streams
}

#[test]
fn every_loss_of_the_fixture() {
    let fixture = fixture();
    let cases = fixture["losses"].as_array().unwrap();
    assert!(cases.len() >= 500, "only {} cases", cases.len());
    for (i, case) in cases.iter().enumerate() {
        let config = config(case, &fixture["defaults"]);
        let batch = &fixture["batches"][number(&case["batch"]) as usize];
        let on_policy = case["on_policy"].as_bool().unwrap_or(false);
        let streams = without_sampler(streams(batch, on_policy), &config);
        let what = format!("case {i}, {config:?}");
        let (truncated, entropy) = (streams.truncated.as_deref(), streams.entropy.as_ref());
        let totals = BatchTotals::of(&streams.roles, truncated, &config)
            .and_then(|t| t.with_entropies(&streams.roles, entropy.unwrap(), truncated, &config))
            .unwrap_or_else(|e| panic!("{what}: {e}"));
        let whole =
            policy_loss(&streams, &config, &totals).unwrap_or_else(|e| panic!("{what}: {e}"));
        assert_close(whole.loss, number(&case["loss"]), &what);
        let expected = ragged(&case["grad_logp"]);
        for row in 0..expected.n_rows() {
            for (t, (&got, &want)) in
                (whole.grad_logp.row(row).iter().zip(expected.row(row))).enumerate()
            {
                assert_close(got, want, &format!("{what}: grad_logp row {row} token {t}"));
            }
        }
        if let Some(grad_entropy) = &whole.grad_entropy {
            let expected = ragged(&case["grad_entropy"]);
            for (&got, &want) in grad_entropy.values().iter().zip(expected.values()) {
                assert_close(got, want, &format!("{what}: grad_entropy"));
            }
        }
        let entries = whole.metrics.entries();
        for (name, want) in case["metrics"].as_object().unwrap() {
            if name == "entropy_coef" {
                continue; // a setting, not a result
            }
            let got = entries.iter().find(|(n, _)| n == name);
            let (_, got) = got.unwrap_or_else(|| panic!("{what}: no metric {name}"));
            let tolerance = if name.contains("clip_ratio") {
                FLAG_TOLERANCE
            } else {
                TOLERANCE
            };
            assert_within(
                tolerance,
                *got,
                number(want),
                &format!("{what}: metric {name}"),
            );
        }
        // The same case cut into single rows adds up to the same loss, gradient and metrics.
        let mut loss = 0.0;
        let mut metrics = g2rpo_core::LossMetrics::default();
        for row in (0..streams.n_rows()).rev() {
            let part = policy_loss(&streams.select(&[row]), &config, &totals).unwrap();
            loss += part.loss;
            metrics.merge(&part.metrics);
            assert_eq!(part.grad_logp.values(), whole.grad_logp.row(row), "{what}");
        }
        assert_close(loss, whole.loss, &what);
        for ((name, a), (_, b)) in metrics.entries().iter().zip(&entries) {
            assert_close(*a, *b, &format!("{what}: merged metric {name}"));
        }
    }
}

#[test]
fn every_advantage_of_the_fixture() {
    let fixture = fixture();
    let cases = fixture["advantages"].as_array().unwrap();
    assert!(cases.len() >= 30, "only {} cases", cases.len());
    for (i, case) in cases.iter().enumerate() {
        let table = case["rewards"].as_array().unwrap();
        let weights = numbers(&case["weights"]);
        let rewards: Vec<Vec<Option<f64>>> = (0..weights.len())
            .map(|f| table.iter().map(|row| row[f].as_f64()).collect())
            .collect();
        let size = number(&case["num_generations"]) as usize;
        let groups: Vec<usize> = (0..table.len()).map(|row| row / size).collect();
        let estimator = AdvantageEstimator {
            scale: match case["scale_rewards"].as_str().unwrap() {
                "group" => Scale::GroupStd,
                "batch" => Scale::BatchStd,
                _ => Scale::None,
            },
            ..AdvantageEstimator::default()
        };
        let aggregation = match case["aggregation"].as_str().unwrap() {
            "sum_then_normalize" => MultiObjectiveAggregation::SumThenNormalize,
            _ => MultiObjectiveAggregation::NormalizeThenSum,
        };
        let report = estimator
            .advantages_of_several(&rewards, &weights, aggregation, &groups, &[], None)
            .unwrap();
        for (row, (&got, want)) in
            (report.advantages.iter().zip(numbers(&case["advantages"]))).enumerate()
        {
            assert_close(
                got,
                want,
                &format!("advantages {i}, {estimator:?}, row {row}"),
            );
        }
    }
}
