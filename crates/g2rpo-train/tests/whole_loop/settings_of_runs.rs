//! Every setting of a run beside its method, through the loop.

use std::sync::Arc;

use g2rpo_guidance::DifficultyConfig;
use g2rpo_rollout::SamplingParams;
use g2rpo_train::{LrSchedule, LrSchedulerType, TrainerConfig, UpdateConfig};
use serde_json::{Value, json};

use crate::probe::{Probe, dataset, is_right, run_with, tasks};
use crate::settings::{apply, base, busy, lively, outcome};

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
