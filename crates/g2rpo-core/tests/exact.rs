//! Advantages with eps = 0 against exact rationals: `testdata/core/advantages.json`, written by
//! `testdata/core/make_advantages.py`. Rewards are decimals and their weighted sums round, so groups
//! that are constant in mathematics differ in their last digits; their advantages are exactly 0.

use g2rpo_core::{AdvantageEstimator, Baseline, MultiObjectiveAggregation, Scale, Strata};
use serde_json::Value;

fn fixture() -> Vec<Value> {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../testdata/core/advantages.json"
    );
    let text = std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{path}: {e}"));
    serde_json::from_str(&text).unwrap()
}

fn list<T>(value: &Value, of: impl Fn(&Value) -> T) -> Vec<T> {
    value.as_array().unwrap().iter().map(of).collect()
}

fn decimal(value: &Value) -> f64 {
    value.as_str().unwrap().parse().unwrap()
}

fn estimator(case: &Value) -> AdvantageEstimator {
    AdvantageEstimator {
        baseline: match case["baseline"].as_str().unwrap() {
            "mean" => Baseline::Mean,
            "leave_one_out" => Baseline::LeaveOneOut,
            "second_best" => Baseline::SecondBest,
            other => Baseline::PassAtK {
                k: other.strip_prefix("pass_at_k ").unwrap().parse().unwrap(),
            },
        },
        scale: match case["scale"].as_str().unwrap() {
            "none" => Scale::None,
            "group_std" => Scale::GroupStd,
            "batch_std" => Scale::BatchStd,
            "leave_one_out_std" => Scale::LeaveOneOutStd,
            "group_mean" => Scale::GroupMean,
            _ => Scale::Whiten,
        },
        eps: 0.0,
        ddof: case["ddof"].as_u64().unwrap() as usize,
        strata: match case["strata"].as_str().unwrap() {
            "joint" => Strata::Joint,
            _ => Strata::UnguidedMean,
        },
        ..AdvantageEstimator::default()
    }
}

#[test]
fn rounding_noise_is_no_advantage() {
    let (mut n, mut n_constant, mut wrong) = (0, 0, Vec::new());
    for case in fixture() {
        let rewards: Vec<Vec<Option<f64>>> =
            list(&case["rewards"], |f| list(f, |r| Some(decimal(r))));
        let aggregation = match case["aggregation"].as_str().unwrap() {
            "sum_then_normalize" => MultiObjectiveAggregation::SumThenNormalize,
            _ => MultiObjectiveAggregation::NormalizeThenSum,
        };
        let got = estimator(&case)
            .advantages_of_several(
                &rewards,
                &list(&case["weights"], decimal),
                aggregation,
                &list(&case["groups"], |g| g.as_u64().unwrap() as usize),
                &list(&case["guided"], |g| g.as_bool().unwrap()),
                None,
            )
            .unwrap()
            .advantages;
        let expected = list(&case["advantages"], |a| a.as_f64().unwrap());
        let is_constant = case["constant"].as_bool().unwrap();
        let tolerance = if is_constant { 0.0 } else { 1e-11 };
        let is_right = (got.iter().zip(&expected))
            .all(|(got, want)| (got - want).abs() <= tolerance * want.abs().max(1.0));
        if !is_right {
            wrong.push(format!("{case}\ngot {got:?}"));
        }
        n += 1;
        n_constant += usize::from(is_constant);
    }
    let examples = wrong.iter().take(3).cloned().collect::<Vec<_>>().join("\n");
    assert!(wrong.is_empty(), "{} of {n} wrong\n{examples}", wrong.len());
    assert!(
        n > 300 && n_constant > 100 && n - n_constant > 100,
        "{n} {n_constant}"
    );
}
