//! Losses, KL terms and advantages against verl's own functions: `testdata/core/verl.json`, written
//! by `testdata/core/make_verl.py`. What TRL has as well is in `trl.rs`.

use g2rpo_core::{
    AdvantageEstimator, Aggregation, Baseline, BatchTotals, DppoDivergence, KlEstimator,
    KlGradient, LossConfig, LossType, MismatchCorrection, MismatchLevel, OutOfRange, Preset,
    Ragged, Role, Scale, Singleton, TokenStreams, policy_loss,
};
use serde_json::Value;

/// verl divides by `n + 1e-8` where sequences are averaged, and by `n` elsewhere.
const SEQUENCE_MEAN_TOLERANCE: f64 = 3e-8;
const TOLERANCE: f64 = 1e-10;

fn fixture() -> Value {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata/core/verl.json");
    let text = std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{path}: {e}"));
    serde_json::from_str(&text).unwrap()
}

fn numbers(value: &Value) -> Vec<f64> {
    (value.as_array().unwrap().iter())
        .map(|v| v.as_f64().unwrap())
        .collect()
}

fn ragged(value: &Value) -> Ragged<f64> {
    Ragged::from_rows(value.as_array().unwrap().iter().map(numbers))
}

fn assert_close(got: f64, expected: f64, tolerance: f64, what: &str) {
    let scale = expected.abs().max(1.0);
    assert!(
        (got - expected).abs() <= tolerance * scale,
        "{what}: got {got}, verl has {expected}"
    );
}

fn assert_rows_close(got: &Ragged<f64>, expected: &Value, tolerance: f64, what: &str) {
    let expected = ragged(expected);
    assert_eq!(got.offsets(), expected.offsets());
    for (t, (&got, &want)) in got.values().iter().zip(expected.values()).enumerate() {
        assert_close(got, want, tolerance, &format!("{what}, flat token {t}"));
    }
}

fn streams(batch: &Value) -> TokenStreams {
    let roles = ragged(&batch["mask"]).map(|&m| if m > 0.0 { Role::Own } else { Role::Prompt });
    let mut streams =
        TokenStreams::new(roles, ragged(&batch["logp"]), numbers(&batch["advantages"])).unwrap();
    streams.logp_old = Some(ragged(&batch["old"]));
    streams.logp_ref = Some(ragged(&batch["ref"]));
    streams.logp_sampling = Some(ragged(&batch["sampling"]));
    streams
}

fn config(case: &Value) -> LossConfig {
    let setting = |name: &str, default| case[name].as_f64().unwrap_or(default);
    let cap = setting("c", 3.0);
    let aggregation = match case["agg"].as_str().unwrap_or("token-mean") {
        "token-mean" => Aggregation::TokenMean,
        "seq-mean-token-sum" => Aggregation::SequenceSum,
        "seq-mean-token-mean" => Aggregation::SequenceMean,
        "seq-mean-token-sum-norm" => Aggregation::ConstantLength,
        other => panic!("{other}"),
    };
    let no_dual_clip = LossConfig {
        dual_clip: None,
        ..Preset::Verl.loss()
    };
    let dppo = |dppo_divergence| LossConfig {
        loss_type: LossType::Dppo,
        delta: Some(cap),
        dppo_divergence,
        ..no_dual_clip.clone()
    };
    let (base, aggregation) = match case["mode"].as_str().unwrap() {
        "vanilla" => (
            LossConfig {
                dual_clip: Some(cap),
                ..Preset::Verl.loss()
            },
            Some(aggregation),
        ),
        "gpg" => (
            LossConfig {
                loss_type: LossType::Reinforce,
                ..no_dual_clip
            },
            Some(aggregation),
        ),
        "cispo" => (Preset::VerlCispo.loss(), Some(aggregation)),
        "dppo_tv" => (dppo(DppoDivergence::TotalVariation), Some(aggregation)),
        "dppo_kl" => (dppo(DppoDivergence::BinaryKl), Some(aggregation)),
        "gspo" => (Preset::VerlGspo.loss(), Some(aggregation)),
        "sapo" => (
            LossConfig {
                loss_type: LossType::Sapo,
                ..no_dual_clip
            },
            None,
        ),
        "geo_mean" => (
            LossConfig {
                loss_type: LossType::Gmpo,
                log_ratio_clamp: None,
                ..no_dual_clip
            },
            None,
        ),
        other => panic!("{other}"),
    };
    LossConfig {
        aggregation,
        epsilon: setting("low", 0.2),
        epsilon_high: Some(setting("high", 0.2)),
        max_completion_length: 16,
        importance_sampling_correction: case["rollout_is"].as_str().map(|level| {
            let threshold = case["rollout_is_threshold"].as_str().unwrap();
            let (min, max) = match threshold.split_once('_') {
                Some((min, max)) => (Some(min.parse().unwrap()), max),
                None => (None, threshold),
            };
            MismatchCorrection {
                level: match level {
                    "token" => MismatchLevel::Token,
                    _ => MismatchLevel::SequenceSum,
                },
                out_of_range: match min {
                    Some(_) => OutOfRange::Mask,
                    None => OutOfRange::Truncate,
                },
                clip_min: min,
                clip_max: Some(max.parse().unwrap()),
            }
        }),
        ..base
    }
}

#[test]
fn policy_losses() {
    let fixture = fixture();
    let cases = fixture["losses"].as_array().unwrap();
    assert_eq!(cases.len(), 70);
    for (i, case) in cases.iter().enumerate() {
        let config = config(case);
        let streams = streams(&fixture["batches"][case["batch"].as_u64().unwrap() as usize]);
        let what = format!("case {i}: {} {}", case["mode"], case["agg"]);
        let totals = BatchTotals::of(&streams.roles, None, &config).unwrap();
        let got = policy_loss(&streams, &config, &totals).unwrap();
        let tolerance = if config.aggregation() == Aggregation::SequenceMean {
            SEQUENCE_MEAN_TOLERANCE
        } else {
            TOLERANCE
        };
        assert_close(got.loss, case["loss"].as_f64().unwrap(), tolerance, &what);
        assert_rows_close(&got.grad_logp, &case["grad_logp"], tolerance, &what);
        let metrics = got.metrics.entries();
        let metric = |name| metrics.iter().find(|(n, _)| *n == name).map(|(_, v)| *v);
        if let Some(want) = case["metrics"]["actor/ppo_kl"].as_f64() {
            // verl averages the clamped or unclamped log ratio with 1e-8 added to the count.
            let got = metric("approx_kl").unwrap();
            assert_close(
                got,
                want,
                SEQUENCE_MEAN_TOLERANCE,
                &format!("{what}: approx_kl"),
            );
        }
        if config.dual_clip.is_some() {
            let want = case["metrics"]["actor/pg_clipfrac_lower"].as_f64().unwrap();
            let got = metric("clip_ratio/dual_mean").unwrap_or(0.0);
            let n_negative: f64 = (streams.roles.rows().zip(&streams.advantages))
                .filter(|(_, a)| **a < 0.0)
                .map(|(roles, _)| roles.iter().filter(|r| **r == Role::Own).count() as f64)
                .sum();
            // Ours is a share of the tokens that dual clip looks at, verl's of all tokens.
            let got = got * n_negative / totals.n_own;
            assert_close(got, want, 1e-6, &format!("{what}: dual clip"));
        }
    }
}

#[test]
fn kl_estimators_and_gradients() {
    let fixture = fixture();
    let streams = streams(&fixture["batches"][0]);
    let mut zero_advantage = streams.clone();
    zero_advantage.advantages.fill(0.0);
    for case in fixture["kl"].as_array().unwrap() {
        let name = case["estimator"].as_str().unwrap();
        let config = LossConfig {
            beta: 1.0,
            kl_estimator: match name.trim_end_matches('+') {
                "k1" => KlEstimator::K1,
                "k2" => KlEstimator::K2,
                "k3" => KlEstimator::K3,
                "abs" => KlEstimator::Abs,
                other => panic!("{other}"),
            },
            kl_gradient: if name.ends_with('+') {
                KlGradient::K2
            } else {
                KlGradient::Value
            },
            aggregation: Some(Aggregation::SequenceSum),
            ..Preset::Verl.loss()
        };
        let totals = BatchTotals {
            n_rows: 1.0,
            ..BatchTotals::of(&streams.roles, None, &config).unwrap()
        };
        let got = policy_loss(&zero_advantage, &config, &totals).unwrap();
        let value: f64 = ragged(&case["value"]).values().iter().sum();
        assert_close(got.loss, value, TOLERANCE, name);
        assert_rows_close(&got.grad_logp, &case["grad"], TOLERANCE, name);
    }
}

#[test]
fn advantages() {
    let fixture = fixture();
    let cases = fixture["advantages"].as_array().unwrap();
    assert_eq!(cases.len(), 9);
    let verl = Preset::Verl.advantages();
    let unscaled = AdvantageEstimator {
        scale: Scale::None,
        ..verl
    };
    assert_eq!(verl.singleton, Singleton::Reward);
    for case in cases {
        let name = case["estimator"].as_str().unwrap();
        let estimator = match name {
            "grpo" => verl,
            "grpo_no_std" => unscaled,
            "rloo" => AdvantageEstimator {
                baseline: Baseline::LeaveOneOut,
                ..unscaled
            },
            "opo" => AdvantageEstimator {
                baseline: Baseline::LengthWeighted,
                ..unscaled
            },
            "grpo_passk" => AdvantageEstimator {
                baseline: Baseline::SecondBest,
                ..verl
            },
            other => panic!("{other}"),
        };
        let integers = |name: &str| -> Vec<usize> {
            numbers(&case[name])
                .into_iter()
                .map(|x| x as usize)
                .collect()
        };
        let rewards: Vec<_> = numbers(&case["rewards"]).into_iter().map(Some).collect();
        let report = estimator
            .advantages(
                &rewards,
                &integers("groups"),
                &[],
                Some(&integers("lengths")),
            )
            .unwrap();
        for (row, (&got, want)) in
            (report.advantages.iter().zip(numbers(&case["advantages"]))).enumerate()
        {
            assert_close(got, want, TOLERANCE, &format!("{name}, row {row}"));
        }
    }
}
