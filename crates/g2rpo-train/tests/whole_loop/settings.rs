//! Every setting, set through the loop to something else, changes what comes out or is refused.

use std::collections::BTreeSet;
use std::sync::Arc;

use g2rpo_guidance::{ControllerConfig, DifficultyConfig, Method};
use g2rpo_rollout::SamplingParams;
use g2rpo_train::{LrSchedule, LrSchedulerType, TrainerConfig, UpdateConfig};
use serde_json::{Value, json};

use crate::probe::{Asked, MAX_LEN, Probe, config, dataset, is_right, run_with, tasks, writes};

/// Lengths, successes and truncations of every kind.
fn lively(asked: &Asked) -> Vec<u32> {
    let (member, step) = (u64::from(asked.member), asked.step);
    // More of them in every second step, for controllers to see.
    let of_four = 1 + u64::from(asked.help > 3) + step % 2;
    let right = (member * 7 + asked.task as u64 * 3 + step * 5) % 4 < of_four;
    let mut answer = writes(asked.member, right);
    let more = if member == 5 { 30 } else { member % 3 + step };
    answer.extend((0..more).map(|i| u32::from(b'a' + (i % 7) as u8)));
    answer
}

/// Rows, parameters and numbers of a run, or what it was refused with.
fn outcome(method: &Method, config: TrainerConfig) -> Result<String, String> {
    let easy_first = |mut task: g2rpo_rollout::Task| {
        task.solution = (task.id != 1).then_some(task.solution).flatten();
        task
    };
    let data = dataset(tasks().into_iter().map(easy_first).collect());
    let mut probe = Probe::new(Some(Arc::new(lively))).warmed();
    probe.rounding = 0.03;
    let run =
        run_with(method, &data, &probe, is_right, config, 4, |t| t).map_err(|e| e.to_string())?;
    let mut seen = format!("{:?}\n", run.table);
    for report in &run.reports {
        let row = report.row();
        let numbers = row
            .iter()
            .filter(|(name, _)| !name.contains("time") && !name.contains("per_second"));
        seen += &format!("{:?}\n{:?}\n", report.rows, numbers.collect::<Vec<_>>());
    }
    Ok(seen)
}

/// Several updates of each batch, at a rate that moves ratios out of every clip range.
fn busy() -> TrainerConfig {
    let mut config = config();
    config.update.num_iterations = 2;
    config.update.steps_per_generation = 2;
    config.schedule = LrSchedule::constant(30.0);
    config
}

fn apply(method: Method, settings: &Value) -> Method {
    let settings = settings.as_object().unwrap();
    // Sections first, so that what is in them is not lost again.
    settings.iter().fold(method, |m, (key, value)| {
        m.set(key, value.clone())
            .unwrap_or_else(|e| panic!("{key}: {e}"))
    })
}

fn base() -> Method {
    let target = Method::preset("target", 4).unwrap();
    apply(
        target,
        &json!({"max_completion_length": MAX_LEN, "cutter.unit": "token"}),
    )
}

/// Sets `field` of the section at `path`, on top of `base`, and wants to see a difference.
fn check_section(path: &str, base_settings: &Value, fields: &[(&str, Value, Value)]) {
    let start = apply(base(), base_settings);
    let json = serde_json::to_value(&start).unwrap();
    let section = json
        .pointer(&format!("/{}", path.replace('.', "/")))
        .unwrap();
    let known: BTreeSet<&str> = (section.as_object().unwrap().keys())
        .map(String::as_str)
        .filter(|name| *name != "kind")
        .collect();
    let listed: BTreeSet<&str> = fields.iter().map(|f| f.0).collect();
    assert_eq!(listed, known, "{path}: each setting has an entry");
    let mut idle = Vec::new();
    for (field, on_top, value) in fields {
        let before = apply(start.clone(), on_top);
        let key = format!("{path}.{field}");
        let after = before.clone().set(&key, value.clone()).unwrap();
        assert_ne!(before, after, "{key} = {value} is what it was");
        let mut config = busy();
        if key == "controller.decay" && matches!(before.controller, ControllerConfig::Bisection(_))
        {
            // What a task starts from shows where others were met before it.
            config.prompts_per_step = 2;
        }
        let expected = outcome(&before, config.clone()).unwrap_or_else(|e| panic!("{key}: {e}"));
        match outcome(&after, config.clone()) {
            Ok(got) if got == expected => idle.push(format!("{key} = {value}")),
            Ok(_) => {}
            Err(e) => assert!(!e.contains('\n'), "{key}: {e}"),
        }
    }
    assert!(idle.is_empty(), "without effect: {idle:?}");
}

fn none() -> Value {
    json!({})
}

#[test]
fn loss() {
    let of = |loss_type: &str| json!({"loss.loss_type": loss_type});
    let kl = json!({"loss.beta": 0.5});
    check_section(
        "loss",
        &json!({"guidance_token_loss": "same_advantage"}),
        &[
            ("loss_type", none(), json!("grpo")),
            ("aggregation", none(), json!("sequence_sum")),
            ("importance_sampling_level", none(), json!("sequence")),
            ("epsilon", none(), json!(0.01)),
            ("epsilon_high", none(), json!(0.01)),
            ("delta", none(), json!(1.01)),
            ("dual_clip", none(), json!(1.01)),
            ("cispo_clip", of("cispo"), json!("around_one")),
            ("log_ratio_clamp", none(), json!([-0.01, 0.01])),
            ("sapo_temperature_pos", of("sapo"), json!(0.5)),
            ("sapo_temperature_neg", of("sapo"), json!(0.5)),
            ("vespo_k_pos", of("vespo"), json!(1.0)),
            ("vespo_lambda_pos", of("vespo"), json!(1.0)),
            ("vespo_k_neg", of("vespo"), json!(1.0)),
            ("vespo_lambda_neg", of("vespo"), json!(1.0)),
            (
                "dppo_divergence",
                json!({"loss.loss_type": "dppo", "loss.epsilon": 0.02}),
                json!("binary_kl"),
            ),
            ("beta", none(), json!(0.5)),
            ("kl_estimator", kl.clone(), json!("k1")),
            (
                "kl_gradient",
                json!({"loss.beta": 0.5, "loss.use_bias_correction_kl": false}),
                json!("k2"),
            ),
            ("kl_placement", kl.clone(), json!("reward")),
            ("use_bias_correction_kl", kl.clone(), json!(false)),
            ("kl_log_ratio_clamp", kl.clone(), json!(0.01)),
            ("kl_clamp", kl, json!(0.001)),
            ("guidance_token_loss", none(), json!("masked")),
            ("length_normalizer", none(), json!("own")),
            ("max_completion_length", none(), json!(12)),
            ("mask_truncated_completions", none(), json!(true)),
            ("off_policy_mask_threshold", none(), json!(-100.0)),
            ("top_entropy_quantile", none(), json!(0.5)),
            ("entropy_coef", none(), json!(0.1)),
            ("importance_sampling_correction", none(), json!({})),
        ],
    );
}

#[test]
fn advantages() {
    check_section(
        "advantages",
        &none(),
        &[
            ("baseline", none(), json!("leave_one_out")),
            ("scale", none(), json!("none")),
            ("eps", none(), json!(0.5)),
            ("ddof", none(), json!(0)),
            ("strata", none(), json!("split")),
            // The only guided member of its group.
            (
                "singleton",
                json!({"advantages.strata": "split", "selector.alpha": 0.125}),
                json!("reward"),
            ),
        ],
    );
}

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

#[test]
fn the_order_of_tasks() {
    // A setting without an entry does not compile.
    let DifficultyConfig {
        initial: _,
        min: _,
        max: _,
        rate: _,
        sharpness: _,
        target: _,
    } = DifficultyConfig::default();
    let some = json!({"initial": 8.5, "min": 7.0, "max": 10.0, "rate": 1.0});
    let mut config = busy();
    config.prompts_per_step = 2;
    let of = |difficulty: &Value| {
        outcome(
            &apply(base(), &json!({"difficulty": difficulty})),
            config.clone(),
        )
        .unwrap()
    };
    for (field, value) in [
        ("initial", 7.0),
        ("min", 8.5),
        ("max", 8.5),
        ("rate", 0.1),
        ("sharpness", 0.1),
        ("target", 0.05),
    ] {
        let mut before = some.clone();
        if field == "max" {
            // Upwards, where the bound is.
            before["target"] = json!(0.05);
        }
        let mut after = before.clone();
        after[field] = json!(value);
        assert!(of(&after) != of(&before), "difficulty.{field}");
    }
}

#[test]
fn the_trainer() {
    let start = TrainerConfig {
        verify_prefixes: false,
        ..busy()
    };
    // A setting without an entry does not compile.
    let TrainerConfig {
        seed: _,
        prompts_per_step: _,
        sampling: _,
        update: _,
        ahead: _,
        schedule: _,
        verify_prefixes: _,
    } = &start;
    let UpdateConfig {
        num_iterations: _,
        steps_per_generation: _,
        temperature: _,
        log_entropy: _,
        old_is_sampler: _,
        log_mismatch: _,
    } = &start.update;
    let SamplingParams {
        temperature: _,
        top_k: _,
        top_p: _,
        min_p: _,
        repetition_penalty: _,
        stop_token_ids: _,
        stop: _,
    } = &start.sampling;
    let LrSchedule {
        learning_rate: _,
        lr_scheduler_type: _,
        warmup_steps: _,
        num_training_steps: _,
    } = &start.schedule;
    type Change = fn(&mut TrainerConfig);
    let changes: [(&str, Change); 12] = [
        ("seed", |c| c.seed += 1),
        ("prompts_per_step", |c| c.prompts_per_step = 3),
        ("num_iterations", |c| c.update.num_iterations = 3),
        ("steps_per_generation", |c| {
            c.update.steps_per_generation = 1;
        }),
        ("log_entropy", |c| c.update.log_entropy = false),
        ("old_is_sampler", |c| c.update.old_is_sampler = true),
        ("log_mismatch", |c| c.update.log_mismatch = true),
        // Refused here, where engine and learner share their weights.
        ("ahead", |c| c.ahead.max_staleness = 1),
        // The update's is the sampler's, whatever was written there.
        ("temperature", |c| c.sampling.temperature = 0.5),
        ("learning_rate", |c| c.schedule.learning_rate = 1.0),
        ("lr_scheduler_type", |c| {
            c.schedule.lr_scheduler_type = LrSchedulerType::Linear;
        }),
        ("warmup_steps", |c| c.schedule.warmup_steps = 3.0),
    ];
    let method = apply(base(), &json!({"controller": {"kind": "random"}}));
    let expected = outcome(&method, start.clone()).unwrap();
    for (name, change) in changes {
        let mut config = start.clone();
        change(&mut config);
        assert!(outcome(&method, config) != Ok(expected.clone()), "{name}");
    }
    let mut warm = start.clone();
    warm.schedule.lr_scheduler_type = LrSchedulerType::Linear;
    let mut longer = warm.clone();
    longer.schedule.num_training_steps = 100;
    assert!(outcome(&method, warm) != outcome(&method, longer));
    // Whether prefixes are shown to the verifier: one passes by itself.
    let passes = |verify_prefixes| {
        let data = dataset(tasks());
        let probe = Probe::new(Some(Arc::new(lively)));
        let config = TrainerConfig {
            verify_prefixes,
            ..busy()
        };
        let verifier = |answer: &str, _: &str| answer.contains("gh");
        let run = run_with(&method, &data, &probe, verifier, config, 4, |t| t).unwrap();
        let groups = run.reports.iter().flat_map(|r| &r.groups);
        groups
            .flat_map(|g| &g.plan.members)
            .filter(|m| m.cut.len > 11)
            .count()
    };
    assert!(passes(false) > 0 && passes(true) == 0);
}

#[test]
fn what_an_engine_cannot_sample_by_is_refused() {
    type Change = fn(&mut SamplingParams);
    let changes: [(&str, Change); 5] = [
        ("top_k", |s| s.top_k = 5),
        ("top_p", |s| s.top_p = 0.5),
        ("min_p", |s| s.min_p = 0.5),
        ("repetition_penalty", |s| s.repetition_penalty = 1.5),
        ("stop", |s| s.stop = vec!["x".into()]),
    ];
    let data = dataset(tasks());
    for (name, change) in changes {
        let mut config = busy();
        change(&mut config.sampling);
        let run = run_with(
            &base(),
            &data,
            &Probe::new(None),
            is_right,
            config,
            1,
            |t| t,
        );
        let message = run.err().map(|e| e.to_string()).unwrap_or_default();
        assert!(
            message.contains("temperature and stop_token_ids alone"),
            "{name}: {message}"
        );
    }
    let lengths = |ids: Vec<u32>| {
        let mut config = busy();
        config.sampling.stop_token_ids = ids;
        let run = run_with(
            &base(),
            &data,
            &Probe::new(None),
            is_right,
            config,
            1,
            |t| t,
        )
        .unwrap();
        run.reports[0].sampled_tokens()
    };
    assert!(lengths((0..64).collect()) < lengths(Vec::new()));
}
