//! Every setting of cutters, limits, sources, selectors and controllers, through the loop.

use std::collections::BTreeSet;
use std::sync::Arc;

use g2rpo_guidance::Method;
use serde_json::{Value, json};

use crate::probe::{Probe, config, dataset, is_right, run_with, tasks};
use crate::settings::{apply, base, check_section, lively, none};

#[test]
fn limits() {
    let whole = json!({"controller": {"kind": "fixed", "amount": {"fraction": 1.0}}});
    check_section(
        "limits.budget",
        &whole,
        &[
            (
                "counts_guidance",
                json!({"selector.alpha": 1.0}),
                json!(false),
            ),
            ("min_own_tokens", none(), json!(15)),
            ("max_guidance", none(), json!(4)),
        ],
    );
}

/// Tokens given to the guided members of the first step, from a solution of one's own.
fn given(method: &Method, solution: &str) -> Vec<usize> {
    let with = |task| g2rpo_rollout::Task {
        solution: Some(solution.into()),
        ..task
    };
    let data = dataset(tasks().into_iter().map(with).collect());
    let probe = Probe::new(Some(Arc::new(lively)));
    let run = run_with(method, &data, &probe, is_right, config(), 1, |t| t).unwrap();
    let members = run.reports[0].groups.iter().flat_map(|g| &g.plan.members);
    members.map(|m| m.cut.len).collect()
}

#[test]
fn what_cuts_keep_clear_of() {
    let start = apply(base(), &json!({"max_completion_length": 60}));
    let amount =
        |tokens: f64| json!({"controller": {"kind": "fixed", "amount": {"tokens": tokens}}});
    let cases = [
        (
            "answer",
            "hashes",
            "ab\n#### 7\nand so on",
            9.0,
            json!(false),
        ),
        (
            "answer",
            "boxed",
            "ab \\boxed{7} and so on",
            9.0,
            json!(false),
        ),
        (
            "answer",
            "tags",
            "ab <answer> and so on",
            15.0,
            json!(false),
        ),
        (
            "answer",
            "sentence",
            "ab\nThe answer is 7\nand so on",
            15.0,
            json!(false),
        ),
        (
            "answer",
            "phrases",
            "ab\nin short, 7\nand so on",
            15.0,
            json!(["in short"]),
        ),
        (
            "protected",
            "calculator_marks",
            "ab <<1+1=2>> and so on",
            6.0,
            json!(false),
        ),
        (
            "protected",
            "tags",
            "ab <think> and so on",
            6.0,
            json!(false),
        ),
        (
            "protected",
            "code_fences",
            "ab\n```\nx = 1\n```\nand so on",
            9.0,
            json!(false),
        ),
    ];
    for section in ["answer", "protected"] {
        let json = serde_json::to_value(&start.limits).unwrap();
        let known: BTreeSet<&str> = json[section]
            .as_object()
            .unwrap()
            .keys()
            .map(String::as_str)
            .collect();
        let listed = cases.iter().filter(|c| c.0 == section).map(|c| c.1);
        assert_eq!(listed.collect::<BTreeSet<_>>(), known);
    }
    for (section, field, solution, tokens, value) in cases {
        let before = apply(start.clone(), &amount(tokens));
        let after = before
            .clone()
            .set(&format!("limits.{section}.{field}"), value)
            .unwrap();
        assert_ne!(
            given(&before, solution),
            given(&after, solution),
            "{section}.{field}"
        );
    }
}

#[test]
fn sources_and_tasks() {
    check_section(
        "source",
        &json!({"source.order": ["own", "gold"]}),
        &[
            ("order", none(), json!(["gold"])),
            ("pick", none(), json!("longest")),
            ("capacity", json!({"source.pick": "random"}), json!(1)),
        ],
    );
    check_section(
        "dynamic_sampling",
        &json!({"dynamic_sampling": {}}),
        &[(
            "max_num_gen_batches",
            json!({"beta": 0.0, "controller": {"kind": "fixed", "amount": {"tokens": 0.0}}, "num_generations": 2}),
            json!(1),
        )],
    );
    check_section(
        "overlong",
        &json!({"overlong": {"cache": 10}}),
        &[
            ("cache", none(), json!(20)),
            ("penalty_factor", none(), json!(0.5)),
        ],
    );
    check_section(
        "cutter",
        &none(),
        &[
            ("unit", none(), json!("line")),
            (
                "snap",
                json!({"cutter.unit": "step"}),
                json!({"forward": {"max_overrun": 0.5}}),
            ),
            (
                "rounding",
                json!({"controller": {"kind": "fixed", "amount": {"tokens": 3.5}}}),
                json!("ceil"),
            ),
        ],
    );
}

#[test]
fn selectors() {
    let of = |selector: Value| json!({"selector": selector});
    check_section(
        "selector",
        &of(json!({"kind": "fixed_fraction", "alpha": 0.3})),
        &[
            ("alpha", none(), json!(0.7)),
            ("rounding", none(), json!("floor")),
        ],
    );
    check_section(
        "selector",
        &of(json!({"kind": "mixed", "alpha": 0.3})),
        &[
            ("alpha", none(), json!(0.7)),
            ("rounding", none(), json!("floor")),
        ],
    );
    let unguided = json!({"kind": "fixed", "amount": {"tokens": 0.0}});
    let impatient = json!({"selector.threshold": 0.9});
    check_section(
        "selector",
        &of(json!({"kind": "zero_reward_retry"})),
        &[
            ("retry", impatient.clone(), json!("one")),
            ("levels", impatient.clone(), json!([])),
            ("threshold", none(), json!(0.9)),
            ("warmup_steps", impatient, json!(2)),
            (
                "discard_constant",
                json!({"selector.levels": [], "num_generations": 2}),
                json!(true),
            ),
        ],
    );
    check_section(
        "selector",
        &of(json!({"kind": "probe_then_decide"})),
        &[
            ("probes", none(), json!(4)),
            ("at_most", none(), json!(1.0)),
            ("level", none(), json!("unguided")),
        ],
    );
    check_section(
        "selector",
        &json!({"selector": {"kind": "curve_rounds"}, "controller": unguided}),
        &[("rounds", none(), json!(2)), ("target", none(), json!(0.9))],
    );
    let rungs = json!([
        {"members": 4, "level": "unguided", "below": 0.0},
        {"members": 4, "level": "controlled", "below": 9.0},
    ]);
    check_section(
        "selector",
        &of(json!({"kind": "ladder", "rungs": rungs})),
        &[(
            "rungs",
            none(),
            json!([
                {"members": 4, "level": "unguided", "below": 0.0},
                {"members": 4, "level": "controlled", "below": 0.5},
            ]),
        )],
    );
    let all = json!({"kind": "fixed_fraction", "alpha": 1.0});
    check_section(
        "selector",
        &of(json!({"kind": "dropout", "p": 0.5, "whole_group": true, "inner": all})),
        &[
            ("p", none(), json!(0.0)),
            ("whole_group", none(), json!(false)),
            (
                "inner",
                none(),
                json!({"kind": "fixed_fraction", "alpha": 0.5}),
            ),
        ],
    );
}

#[test]
fn controllers() {
    let of = |controller: Value| json!({"controller": controller});
    check_section(
        "controller",
        &of(json!({"kind": "fixed", "amount": {"tokens": 4.0}})),
        &[("amount", none(), json!({"tokens": 9.0}))],
    );
    check_section(
        "controller",
        &of(json!({"kind": "schedule", "start": 0.9, "end": 0.1, "steps": 2})),
        &[
            ("shape", none(), json!({"power": {"exponent": 3.0}})),
            ("start", none(), json!(0.5)),
            ("end", none(), json!(0.5)),
            ("steps", none(), json!(9)),
            ("after", none(), json!(0.6)),
            ("unit", none(), json!("tokens")),
        ],
    );
    check_section(
        "controller",
        &of(json!({"kind": "staged", "stages": [[0, 0.5]], "unit": "fraction"})),
        &[
            ("stages", none(), json!([[0, 0.2]])),
            ("unit", none(), json!("tokens")),
        ],
    );
    check_section(
        "controller",
        &of(json!({"kind": "binomial_cosine"})),
        &[
            ("slices", none(), json!(2)),
            ("p_high", none(), json!(0.5)),
            ("p_low", json!({"controller.steps": 4}), json!(0.5)),
            ("steps", none(), json!(2)),
        ],
    );
    check_section(
        "controller",
        &of(json!({"kind": "random"})),
        &[
            ("low", none(), json!(0.6)),
            ("high", none(), json!(0.3)),
            ("unit", none(), json!("units")),
        ],
    );
    check_section(
        "controller",
        &of(json!({"kind": "ratio", "initial": 8.0, "max": 12.0})),
        &[
            ("unit", none(), json!("fraction")),
            ("initial", none(), json!(3.0)),
            ("min", none(), json!(7.9)),
            // Refused: it begins above.
            ("max", json!({"controller.initial": 12.0}), json!(8.0)),
            ("window", none(), json!(1)),
            ("every", none(), json!(2)),
            // Only failures, which are skipped otherwise.
            (
                "zero_reward",
                json!({"controller.signal": {"which": "guided", "statistic": "mixed_groups"}, "selector.alpha": 0.125}),
                json!("maximum"),
            ),
            ("rounding", none(), json!("floor")),
            ("gain", none(), json!(0.3)),
            (
                "signal",
                none(),
                json!({"which": "unguided", "statistic": "reward"}),
            ),
            ("smoothing", none(), json!({"ema": {"decay": 0.9}})),
        ],
    );
    for kind in ["target", "target_per_task"] {
        check_section(
            "controller",
            &of(json!({"kind": kind})),
            &[
                ("unit", none(), json!("tokens")),
                ("initial", none(), json!(0.2)),
                ("min", json!({"controller.target": 0.0}), json!(0.5)),
                ("max", none(), json!(0.5)),
                ("target", none(), json!(0.9)),
                ("rate", none(), json!(0.5)),
                ("sharpness", none(), json!(0.1)),
                (
                    "signal",
                    none(),
                    json!({"which": "unguided", "statistic": "success"}),
                ),
                ("smoothing", none(), json!("none")),
            ],
        );
    }
    check_section(
        "controller",
        &of(json!({"kind": "bisection", "unguided": 0.0})),
        &[
            ("threshold", none(), json!(0.1)),
            ("unguided", none(), json!(1.0)),
            ("decay", none(), json!(0.1)),
            ("reopen_below", none(), json!(1.0)),
            (
                "statistic",
                json!({"overlong": {"cache": 20, "penalty_factor": 2.0}}),
                json!("success"),
            ),
        ],
    );
    check_section(
        "controller",
        &of(json!({"kind": "irt"})),
        &[
            ("target", none(), json!(0.9)),
            ("decay", none(), json!(0.1)),
            ("population", none(), json!(0.0)),
        ],
    );
}
