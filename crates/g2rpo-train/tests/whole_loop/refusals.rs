//! What cannot be done as it is set is refused before the first step, by the trainer and by the pieces alike.

use std::sync::Arc;

use g2rpo_guidance::Method;
use g2rpo_rollout::Task;
use g2rpo_train::{Planner, Rows, StepKey, TrainerConfig, UpdateConfig, rescore, update};
use g2rpo_verify::{Sample, WeightedReward};
use serde_json::{Value, json};

use crate::probe::{
    Asked, MAX_LEN, Probe, config, dataset, is_right, run, run_with, tasks, writes,
};

fn probe() -> Probe {
    Probe::new(Some(Arc::new(|asked: &Asked| {
        writes(asked.member, asked.member.is_multiple_of(2))
    })))
}

fn with(name: &str, settings: Value) -> Method {
    let method = Method::preset(name, 10).unwrap();
    let method = method.set("max_completion_length", MAX_LEN).unwrap();
    let settings = settings.as_object().unwrap().clone();
    (settings.into_iter()).fold(method, |m, (key, value)| m.set(&key, value).unwrap())
}

/// Settings of a method that the others leave without effect or contradict.
fn contradictions() -> Vec<(Method, &'static str)> {
    let levels = |levels: Value| json!({"kind": "zero_reward_retry", "levels": levels});
    let tokens = json!(["controlled", {"exactly": {"tokens": 5.0}}]);
    let units = json!(["controlled", {"exactly": {"units": 1.0}}]);
    let hints = json!(["controlled", {"hint": 0}]);
    vec![
        (
            with(
                "grpo",
                json!({"loss_type": "reinforce", "log_ratio_clamp": [-0.1, 0.1]}),
            ),
            "loss.log_ratio_clamp would be read by nothing",
        ),
        (
            with("guide", json!({"beta": 0.1, "kl_placement": "reward"})),
            "score_context = off_policy does not go with loss.kl_placement = reward",
        ),
        (
            with("scaf", json!({"loss.importance_sampling_correction": {}})),
            "score_context does not go with importance_sampling_correction",
        ),
        (
            with("scaf", json!({"loss.off_policy_mask_threshold": 0.1})),
            "score_context does not go with off_policy_mask_threshold",
        ),
        (
            with(
                "uft",
                json!({"min_own_tokens": 0, "length_normalizer": "own"}),
            ),
            "min_own_tokens = 0 is outside its domain",
        ),
        (
            with(
                "guide",
                json!({"placement": "assistant_prefix", "score_context": "as_sampled"}),
            ),
            "placement = assistant_prefix does not go with levels that are hints",
        ),
        (
            with("adaback", json!({"selector": levels(tokens.clone())})),
            "controller = bisection does not go with",
        ),
        (
            with(
                "adaback",
                json!({"selector": levels(hints), "controller": {"kind": "irt"}}),
            ),
            "controller = irt does not go with",
        ),
        (
            with(
                "adaback",
                json!({"selector": levels(units), "controller": {"kind": "irt"}}),
            ),
            "controller = irt does not go with",
        ),
        (
            with("pope", json!({"num_generations": 3})),
            "a group of 3: 2 guided and 1 unguided members",
        ),
        (
            with("trapo", json!({"controller": {"kind": "irt"}})),
            "controller would be read by nothing",
        ),
        (
            with("nurl", json!({"cutter.unit": "line"})),
            "cutter would be read by nothing",
        ),
        (
            with("seele", json!({"counts_guidance": false})),
            "limits.budget.counts_guidance would be read by nothing",
        ),
        (
            with("questa", json!({"strata": "unguided_mean"})),
            "advantages.strata would be read by nothing",
        ),
        (
            with("ghpo", json!({"threshold": 1.5})),
            "threshold = 1.5 is outside its domain (0, 1]",
        ),
    ]
}

#[test]
fn what_contradicts_itself_is_refused_by_the_trainer_and_by_every_piece() {
    let data = dataset(tasks());
    let plain = Method::default();
    let controller = plain.controller.build().unwrap();
    let source = data.source(&plain.source);
    let planner = Planner {
        data: &data,
        source: &*source,
        parts: plain.parts(&*controller, None).unwrap(),
        num_generations: 2,
        verifier: None,
        key: StepKey::default(),
    };
    let groups = planner.plan(&[0], 0).unwrap();
    let rows = Rows::of(&groups, plain.score_context).unwrap();
    let update_config = UpdateConfig::default();
    let streams = rescore(&mut probe(), &groups, &rows, &plain, &update_config).unwrap();
    for (method, expected) in contradictions() {
        let probe = probe();
        let message = run(&method, &data, &probe, is_right, 1).err();
        let message = message.map(|e| e.to_string()).unwrap_or_default();
        assert!(message.contains(expected), "{expected}: {message}");
        assert!(!message.contains('\n'), "{message}");
        assert!(
            probe.take_log().calls.is_empty(),
            "{expected}: nothing is asked of the engine"
        );

        let mut learner = probe.clone();
        let controller = method.controller.build().unwrap();
        let planned = method.parts(&*controller, None).map(drop);
        let scored = rescore(&mut learner, &groups, &rows, &method, &update_config).map(drop);
        let updated = update(
            &mut learner,
            &rows,
            &streams,
            &method,
            &update_config,
            |_| 1.0,
        );
        for told in [
            planned.unwrap_err().to_string(),
            scored.unwrap_err().to_string(),
            updated.map(drop).unwrap_err().to_string(),
            TrainerConfig::default()
                .check(&method)
                .unwrap_err()
                .to_string(),
        ] {
            assert_eq!(told, message);
        }
    }
}

#[test]
fn a_run_that_does_not_fit_its_method_or_its_tasks_is_refused() {
    type Change = fn(&mut TrainerConfig);
    let plain = || with("grpo", json!({}));
    let by_rate = json!({"curriculum": {"continuous": "pass_rate"}});
    let cases: [(Method, Change, &str); 5] = [
        (
            plain(),
            |c| c.update.steps_per_generation = 5,
            "steps_per_generation = 5: is more than prompts_per_step = 4",
        ),
        (
            with("rlcsd", json!({})),
            |c| c.update.steps_per_generation = 2,
            "token_advantages = rlcsd: the two means",
        ),
        (
            with("grpo", json!({"difficulty.initial": 7.0})),
            |c| c.prompts_per_step = 5,
            "prompts_per_step = 5: difficulty chooses tasks, each once in a step, and there are 4",
        ),
        (plain(), |c| c.prompts_per_step = 0, "prompts_per_step = 0"),
        (
            with("grpo", by_rate),
            |_| {},
            "task 2 has no pass_rate to be ordered by",
        ),
    ];
    let unknown = |task: Task| Task {
        pass_rate: task.pass_rate.filter(|_| task.id != 2),
        ..task
    };
    let data = dataset(tasks().into_iter().map(unknown).collect());
    for (method, change, expected) in cases {
        let mut config = config();
        change(&mut config);
        let probe = probe();
        let message = run_with(&method, &data, &probe, is_right, config, 1, |t| t).err();
        let message = message.map(|e| e.to_string()).unwrap_or_default();
        assert!(message.starts_with(expected), "{expected}: {message}");
        assert!(probe.take_log().calls.is_empty(), "{expected}");
    }
}

#[test]
fn two_rewards_of_one_name_are_refused() {
    let paid = |x: f64| move |_: &Sample<'_>| Some(x);
    let twice = WeightedReward::default()
        .with_fn("mood", 1.0, paid(1.0))
        .with_fn("form", 1.0, paid(1.0))
        .with_fn("mood", 0.5, paid(2.0));
    let data = dataset(tasks());
    let method = with("grpo", json!({}));
    let refused = run_with(&method, &data, &probe(), is_right, config(), 1, |trainer| {
        trainer.with_rewards(twice)
    });
    let message = refused.err().map(|e| e.to_string()).unwrap_or_default();
    assert!(
        message.starts_with("two reward functions are called mood"),
        "{message}"
    );
}
