//! RLSD and RLCSD against their formulas and autograd: `testdata/core/token_advantages.json`, written
//! by `testdata/core/make_token_advantages.py`.

use g2rpo_core::{
    BatchTotals, LossConfig, Ragged, Rlcsd, Rlsd, Role, TokenAdvantage, TokenStreams, policy_loss,
};
use serde_json::Value;

fn fixture() -> Vec<Value> {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../testdata/core/token_advantages.json"
    );
    let text = std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{path}: {e}"));
    serde_json::from_str(&text).unwrap()
}

fn numbers(value: &Value) -> Vec<f64> {
    let of = |x: &Value| x.as_f64().unwrap();
    value.as_array().unwrap().iter().map(of).collect()
}

fn ragged(value: &Value) -> Ragged<f64> {
    Ragged::from_rows(value.as_array().unwrap().iter().map(numbers))
}

fn assert_close(got: &Ragged<f64>, expected: &Ragged<f64>, what: &str) {
    got.check_shape("fixture", expected).unwrap();
    for (got, want) in got.values().iter().zip(expected.values()) {
        assert!(
            (got - want).abs() <= 1e-13,
            "{what}: {got}, expected {want}"
        );
    }
}

/// The loss over all rows, and its gradient row by row, as micro-batches would compute it.
fn loss_of(streams: &TokenStreams) -> (f64, Ragged<f64>) {
    let config = LossConfig::default();
    let totals = BatchTotals::of(&streams.roles, None, &config).unwrap();
    let whole = policy_loss(streams, &config, &totals).unwrap();
    let mut loss = 0.0;
    for row in 0..streams.n_rows() {
        let part = policy_loss(&streams.select(&[row]), &config, &totals).unwrap();
        assert_eq!(part.grad_logp.row(0), whole.grad_logp.row(row));
        loss += part.loss;
    }
    assert!((loss - whole.loss).abs() < 1e-14);
    (whole.loss, whole.grad_logp)
}

#[test]
fn the_papers_formulas() {
    let mut n_selected = Vec::new();
    for case in fixture() {
        let number = |name: &str| case[name].as_f64().unwrap();
        let (logp, right) = (ragged(&case["logp"]), ragged(&case["right"]));
        let wrong: Vec<_> = case["wrong"]
            .as_array()
            .unwrap()
            .iter()
            .map(ragged)
            .collect();
        let roles = logp.map(|_| Role::Own);
        let advantages = numbers(&case["row_advantages"]);
        let streams = TokenStreams::new(roles.clone(), logp.clone(), advantages.clone())
            .and_then(|s| s.with_logp_old(ragged(&case["old"])))
            .unwrap();

        let rlsd = Rlsd {
            lambda: number("lam"),
            ..Rlsd::default()
        };
        let got = (rlsd.token_advantages(&roles, &advantages, &logp, &right)).unwrap();
        assert_close(&got, &ragged(&case["rlsd"]["advantages"]), "rlsd");
        let (loss, grad) = loss_of(&streams.clone().with_token_advantages(got).unwrap());
        assert!((loss - case["rlsd"]["loss"].as_f64().unwrap()).abs() < 1e-13);
        assert_close(&grad, &ragged(&case["rlsd"]["grad"]), "rlsd gradient");

        let rlcsd = Rlcsd {
            lambda: number("lam"),
            tau: number("tau"),
            delta: number("delta"),
            eta: number("eta"),
            ..Rlcsd::default()
        };
        let got = (rlcsd.token_advantages(&roles, &advantages, &right, &wrong, None)).unwrap();
        assert_close(
            &got.advantages,
            &ragged(&case["rlcsd"]["advantages"]),
            "rlcsd",
        );
        let expected = case["rlcsd"]["n_selected"].as_u64().unwrap() as usize;
        assert_eq!(got.n_selected, expected);
        assert_eq!(got.n_selected + got.n_unselected, logp.values().len());
        n_selected.push(got.n_selected);
        let streams = (streams.with_token_advantages(got.advantages))
            .and_then(|s| s.with_token_weights(got.weights))
            .unwrap();
        let (loss, grad) = loss_of(&streams);
        assert!((loss - case["rlcsd"]["loss"].as_f64().unwrap()).abs() < 1e-13);
        assert_close(&grad, &ragged(&case["rlcsd"]["grad"]), "rlcsd gradient");
    }
    // All, some and none of the tokens are selected.
    assert!(n_selected[0] > 10 && n_selected[3] == 0, "{n_selected:?}");
}

#[test]
fn without_a_hint_or_a_share_it_is_plain_grpo() {
    let roles = Ragged::from_rows([
        vec![Role::Guidance, Role::Own, Role::Prompt],
        vec![Role::Own],
    ]);
    let logp = roles.map(|_| -1.0);
    let (advantages, nowhere) = ([1.0, -2.0], roles.map(|_| f64::NAN));
    let hinted = roles.map(|_| -0.5);
    let plain = Ragged::from_rows([vec![1.0; 3], vec![-2.0]]);
    let rlsd = Rlsd::default();
    let of = |rlsd: &Rlsd, hinted| rlsd.token_advantages(&roles, &advantages, &logp, hinted);
    assert_eq!(of(&rlsd, &nowhere).unwrap(), plain);
    let none = Rlsd {
        lambda: 0.0,
        ..rlsd
    };
    assert_eq!(of(&none, &hinted).unwrap(), plain);
    // Guidance and holes keep the row's advantage.
    assert_eq!(of(&rlsd, &hinted).unwrap().row(0), [1.0, 1.1, 1.0]);

    let rlcsd = Rlcsd::default();
    let of = |right, wrong: &[Ragged<f64>], truncated| {
        (rlcsd.token_advantages(&roles, &advantages, right, wrong, truncated)).unwrap()
    };
    for got in [
        of(&nowhere, std::slice::from_ref(&logp), None),
        of(&hinted, &[], None),
        of(&hinted, &[nowhere.clone(), nowhere.clone()], None),
    ] {
        assert_eq!(got.advantages, plain);
        assert_eq!(got.weights, roles.map(|_| 1.0));
        assert_eq!((got.n_selected, got.n_unselected), (0, 2));
    }
    // One of two wrong hints is missing: the mean is over the other. A truncated row does not count.
    let got = of(
        &hinted,
        &[nowhere.clone(), logp.clone()],
        Some(&[false, true]),
    );
    assert_eq!((got.n_selected, got.n_unselected), (1, 0));
    assert_eq!(got.advantages.row(0), [1.0, 1.5, 1.0]);
}

#[test]
fn settings_and_streams_are_checked() {
    let roles = Ragged::from_rows([[Role::Own; 2]]);
    let logp = roles.map(|_| -1.0);
    let infinite = Ragged::from_rows([[-1.0, f64::NEG_INFINITY]]);
    let rlsd = |rlsd: Rlsd, hinted: &Ragged<f64>| {
        let got = rlsd.token_advantages(&roles, &[1.0], &logp, hinted);
        got.unwrap_err().to_string()
    };
    let default = Rlsd::default();
    assert_eq!(
        rlsd(
            Rlsd {
                lambda: 1.5,
                ..default
            },
            &logp
        ),
        "rlsd.lambda = 1.5 is outside its domain [0, 1]"
    );
    assert_eq!(
        rlsd(
            Rlsd {
                epsilon_w: -0.1,
                ..default
            },
            &logp
        ),
        "rlsd.epsilon_w = -0.1 is outside its domain [0, 1]"
    );
    let expected = "row 0, token 1 is -inf, expected a finite number";
    assert_eq!(rlsd(default, &infinite), format!("logp_hinted: {expected}"));
    let rlcsd = |rlcsd: Rlcsd, right: &Ragged<f64>, wrong: &[Ragged<f64>]| {
        let got = rlcsd.token_advantages(&roles, &[1.0], right, wrong, None);
        got.unwrap_err().to_string()
    };
    let default = Rlcsd::default();
    let one = [logp.clone()];
    let of = |setting: Rlcsd| rlcsd(setting, &logp, &one);
    for (setting, expected) in [
        (
            Rlcsd {
                beta: -1.0,
                ..default
            },
            "rlcsd.beta = -1 is outside its domain [0, inf)",
        ),
        (
            Rlcsd {
                lambda: f64::NAN,
                ..default
            },
            "rlcsd.lambda = NaN is outside its domain [0, inf)",
        ),
        (
            Rlcsd {
                tau: 0.0,
                ..default
            },
            "rlcsd.tau = 0 is outside its domain (0, inf)",
        ),
        (
            Rlcsd {
                residual_clip: -2.0,
                ..default
            },
            "rlcsd.residual_clip = -2 is outside its domain [0, inf)",
        ),
        (
            Rlcsd {
                delta: -0.1,
                ..default
            },
            "rlcsd.delta = -0.1 is outside its domain [0, inf)",
        ),
        (
            Rlcsd {
                eta: -0.1,
                ..default
            },
            "rlcsd.eta = -0.1 is outside its domain [0, inf)",
        ),
        (
            Rlcsd {
                k_max: 0,
                ..default
            },
            "rlcsd.k_max = 0 is outside its domain [1, inf)",
        ),
    ] {
        assert_eq!(of(setting), expected);
    }
    let five = vec![logp.clone(); 5];
    assert_eq!(
        rlcsd(default, &logp, &five),
        "number of wrong hints = 5 is outside its domain [0, rlcsd.k_max]"
    );
    assert_eq!(
        rlcsd(default, &infinite, &one),
        format!("logp_right: {expected}")
    );
    assert_eq!(
        rlcsd(default, &logp, &[infinite]),
        format!("logp_wrong: {expected}")
    );
    let gmpo = LossConfig {
        loss_type: g2rpo_core::LossType::Gmpo,
        ..LossConfig::default()
    };
    assert!(TokenAdvantage::Rlsd(Rlsd::default()).check(&gmpo).is_err());
}
