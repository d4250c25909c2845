//! The KL term of one token against 60 digits: `testdata/core/kl.json`, written by
//! `testdata/core/make_kl.py`. Differences from the reference of 1e-9 to 100, both ways, under every
//! estimator, gradient, clamp and bias correction.

use g2rpo_core::{
    BatchTotals, ImportanceSamplingLevel, KlEstimator, KlGradient, LossConfig, Ragged, Role,
    TokenStreams, policy_loss,
};
use serde_json::Value;

fn fixture() -> Vec<Value> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata/core/kl.json");
    let text = std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{path}: {e}"));
    serde_json::from_str(&text).unwrap()
}

fn config(case: &Value, importance_sampling_level: ImportanceSamplingLevel) -> LossConfig {
    LossConfig {
        importance_sampling_level,
        beta: 1.0,
        kl_estimator: match case["kl_estimator"].as_str().unwrap() {
            "k1" => KlEstimator::K1,
            "k2" => KlEstimator::K2,
            "k3" => KlEstimator::K3,
            _ => KlEstimator::Abs,
        },
        kl_gradient: match case["kl_gradient"].as_str().unwrap() {
            "value" => KlGradient::Value,
            "k2" => KlGradient::K2,
            _ => KlGradient::ScoreFunction,
        },
        use_bias_correction_kl: case["use_bias_correction_kl"].as_bool(),
        kl_log_ratio_clamp: case["kl_log_ratio_clamp"].as_f64(),
        kl_clamp: case["kl_clamp"].as_f64(),
        ..LossConfig::default()
    }
}

#[test]
fn every_setting_at_every_difference() {
    let (mut n, mut wrong) = (0, Vec::new());
    for case in fixture() {
        for level in [
            ImportanceSamplingLevel::Token,
            ImportanceSamplingLevel::Sequence,
            ImportanceSamplingLevel::SequenceToken,
        ] {
            let config = config(&case, level);
            for token in case["tokens"].as_array().unwrap() {
                let [d, value, slope] = [0, 1, 2].map(|i| token[i].as_f64().unwrap());
                let one = |x: f64| Ragged::from_rows([[x]]);
                let roles = Ragged::from_rows([[Role::Own]]);
                let streams = TokenStreams::new(roles, one(0.0), vec![0.0])
                    .and_then(|s| s.with_logp_ref(one(d)))
                    .and_then(|s| s.with_logp_old(one(-case["log_ratio"].as_f64().unwrap())))
                    .unwrap();
                let totals = BatchTotals::of(&streams.roles, None, &config).unwrap();
                let got = policy_loss(&streams, &config, &totals).unwrap();
                let grad = got.grad_logp.values()[0];
                n += 1;
                let close = |a: f64, b: f64| (a - b).abs() <= 1e-13 * b.abs();
                if !(close(got.loss, value) && close(grad, slope)) {
                    wrong.push(format!(
                        "{config:?}\nd = {d}: value {} gradient {grad}, right is {value} and {slope}",
                        got.loss
                    ));
                }
            }
        }
    }
    let examples = wrong.iter().take(3).cloned().collect::<Vec<_>>().join("\n");
    assert!(wrong.is_empty(), "{} of {n} wrong\n{examples}", wrong.len());
    assert_eq!(n, 4 * 6 * 4 * 34 * 3);
}
