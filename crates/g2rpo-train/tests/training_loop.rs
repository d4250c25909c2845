//! The whole loop on test doubles: combination locks, a table as policy, no tensor library.

mod common;

use common::{LENGTH, Letters, config, data, method, opens, policy, tasks, trainer};
use g2rpo_guidance::{
    Amount, AmountUnit, ControllerConfig, CutReason, Method, StepStats, TargetConfig,
};
use g2rpo_rollout::{SamplingParams, Task};
use g2rpo_train::{
    Dataset, EvalConfig, Judge, Planner, Rows, RunState, StepKey, StepReport, Trainer,
    UpdateConfig, advantages, evaluate, feedback, generate, grade, rescore, update,
};
use g2rpo_verify::{Unverifiable, Verdict, WeightedReward};

/// Half of each group starts from a prefix that follows the success of the guided half.
fn guided() -> Method {
    Method {
        controller: ControllerConfig::Target(TargetConfig {
            initial: 5.0,
            max: 5.0,
            unit: AmountUnit::Tokens,
            ..TargetConfig::default()
        }),
        ..method("g2rpo-a").set("alpha", 0.5).unwrap()
    }
    .set("guidance_token_loss", "masked")
    .unwrap()
}

fn accuracy(trainer: &mut common::Locks<'_>) -> f64 {
    let greedy = EvalConfig {
        max_completion_length: LENGTH,
        sampling: SamplingParams::greedy(),
        ..EvalConfig::default()
    };
    evaluate(trainer.engine(), &data(), &opens, &greedy)
        .unwrap()
        .accuracy()
}

#[test]
fn guidance_opens_locks_that_plain_grpo_does_not() {
    let data = data();
    let mut plain = trainer(&data, method("grpo"));
    plain.steps(250).for_each(|report| drop(report.unwrap()));
    let mut guided = trainer(&data, guided());
    let reports: Vec<StepReport> = guided.steps(250).map(Result::unwrap).collect();
    assert_eq!(accuracy(&mut plain), 0.0);
    let learned = accuracy(&mut guided);
    assert!(learned >= 0.75, "{learned}");
    assert_ne!(reports[0].length, reports[249].length, "the length follows");
    // Four of eight members had a prefix, and the rows say so.
    assert_eq!(reports[0].row().get("guidance/frac_guided"), Some(0.5));
    assert_eq!(reports[0].row().get("guidance/tokens"), Some(5.0));
}

#[test]
fn without_guidance_it_is_plain_grpo_to_the_bit() {
    let data = data();
    let table = |method: Method| {
        let mut run = trainer(&data, method);
        run.steps(5).for_each(|report| drop(report.unwrap()));
        run.learner().get().clone()
    };
    let plain = table(method("grpo"));
    let alpha_zero = guided().set("alpha", 0.0).unwrap();
    assert_eq!(table(alpha_zero), plain);
    let length_zero = Method {
        controller: ControllerConfig::Fixed {
            amount: Amount::Tokens(0.0),
        },
        ..guided()
    };
    assert_eq!(table(length_zero), plain);
}

#[test]
fn a_loop_by_hand_is_the_trainer_to_the_bit() {
    let data = data();
    let method = guided().set("beta", 0.1).unwrap();
    let mut whole = trainer(&data, method.clone());
    let rows: Vec<_> = (whole.steps(6)).map(|r| r.unwrap().rows).collect();

    let mut policy = policy();
    let mut controller = method.controller.build().unwrap();
    let source = data.source(&method.source);
    let facts = data.facts(method.curriculum).unwrap();
    let mut order =
        g2rpo_train::TaskOrder::new(facts, method.curriculum, None, config().seed).unwrap();
    let rewards = WeightedReward::default();
    let judge = Judge {
        verifier: &opens,
        rewards: &rewards,
    };
    for (step, expected) in (0..6).zip(rows) {
        let key = StepKey {
            run: config().seed,
            step,
        };
        let planner = Planner {
            data: &data,
            source: &*source,
            parts: method.parts(&*controller, None).unwrap(),
            num_generations: method.num_generations,
            verifier: None,
            key,
        };
        let mut groups = planner.plan(&order.take(4, &[]).unwrap(), 0).unwrap();
        loop {
            let sampling = SamplingParams::default();
            generate(&mut policy, &mut groups, &data, &method, &sampling, key).unwrap();
            grade(&mut groups, &data, &judge, &method).unwrap();
            if !planner.revise(&mut groups).unwrap() {
                break;
            }
        }
        let rows = Rows::of(&groups, method.score_context).unwrap();
        let config = UpdateConfig::default();
        let mut streams = rescore(&mut policy, &groups, &rows, &method, &config).unwrap();
        streams.advantages = advantages(&rows, &streams, &method).unwrap().advantages;
        update(&mut policy, &rows, &streams, &method, &config, |_| 20.0).unwrap();
        controller.observe(&feedback(&groups, step));
        assert_eq!(rows, expected, "step {step}");
    }
    assert_eq!(*policy.get(), whole.learner().get().clone());
}

#[test]
fn a_resumed_run_repeats_the_uninterrupted_one() {
    let data = data();
    let mut whole = trainer(&data, guided());
    let rows = |run: &mut common::Locks<'_>, n| -> Vec<Rows> {
        run.steps(n).map(|report| report.unwrap().rows).collect()
    };
    let expected = rows(&mut whole, 8);

    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.json");
    let mut first = trainer(&data, guided());
    rows(&mut first, 3);
    first.state().save(&path).unwrap();
    let table = first.learner().get().clone();
    drop(first);
    let mut second = trainer(&data, guided());
    *second.learner().get() = table;
    second.restore(RunState::load(&path).unwrap()).unwrap();
    assert_eq!(rows(&mut second, 5), expected[3..]);
    assert_eq!(second.state(), whole.state());

    let mut other = TrainerOfSeed::make(&data, 12);
    let error = other.restore(RunState::load(&path).unwrap()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "seed = 12: the run to go on with has the seed 11"
    );
}

struct TrainerOfSeed;

impl TrainerOfSeed {
    fn make<'a>(data: &'a Dataset<'a>, seed: u64) -> common::Locks<'a> {
        let policy = policy();
        let config = g2rpo_train::TrainerConfig { seed, ..config() };
        Trainer::new(guided(), data, policy.clone(), policy, opens, config).unwrap()
    }
}

#[test]
fn a_step_in_which_nothing_can_be_learned_is_a_step() {
    let data = data();
    let masked = method("grpo")
        .set("mask_truncated_completions", true)
        .unwrap();
    let mut all_masked = trainer(&data, masked);
    let report = all_masked.step().unwrap();
    assert!(report.update.stats.is_none());
    assert!(
        report.line().contains("nothing learned"),
        "{}",
        report.line()
    );

    let undecided = |_: &str, _: &str| Verdict::from(Unverifiable::EmptyReference);
    let policy = policy();
    let mut blind = Trainer::new(
        method("grpo").set("beta", 0.0).unwrap(),
        &data,
        policy.clone(),
        policy,
        undecided,
        config(),
    )
    .unwrap();
    let report = blind.step().unwrap();
    assert_eq!(report.row().get("masked"), Some(1.0));
    assert!(report.line().contains("no verdict could be reached"));
}

#[test]
fn groups_without_variance_are_replaced_up_to_a_cap() {
    let data = data();
    // Everybody is right about the tasks 2 and 3, nobody about the others: all groups are equal.
    let never = |_: &str, _: &str| false;
    let dapo = method("grpo");
    let dapo = Method {
        dynamic_sampling: Some(g2rpo_guidance::DynamicSampling {
            max_num_gen_batches: 3,
        }),
        ..dapo
    };
    let policy = policy();
    let mut run = Trainer::new(dapo, &data, policy.clone(), policy, never, config()).unwrap();
    let report = run.step().unwrap();
    assert_eq!(report.gen_batches, 3);
    assert_eq!((report.groups.len(), report.replaced.len()), (0, 12));
    let row = report.row();
    assert_eq!(row.get("dynamic_sampling/frac_replaced"), Some(1.0));
    assert!(report.update.stats.is_none());
    // Members of replaced groups have draws of their own.
    let indices: Vec<u32> = report.replaced.iter().map(|g| g.index).collect();
    assert_eq!(indices, (0..12).collect::<Vec<_>>());
}

#[test]
fn what_cannot_be_done_is_refused_before_the_first_step() {
    let data = data();
    let policy = policy();
    let refused = |method: Method, config: g2rpo_train::TrainerConfig| {
        Trainer::new(method, &data, policy.clone(), policy.clone(), opens, config)
            .map(drop)
            .unwrap_err()
            .to_string()
    };
    let sampling = |change: fn(&mut SamplingParams)| {
        let mut config = config();
        change(&mut config.sampling);
        config
    };
    let message = refused(method("grpo"), sampling(|s| s.temperature = 0.0));
    assert!(
        message.starts_with("temperature = 0: must be above 0"),
        "{message}"
    );
    let message = refused(method("grpo"), sampling(|s| s.top_p = 0.9));
    assert!(
        message.contains("by temperature and stop_token_ids alone"),
        "{message}"
    );
    let message = refused(method("grpo"), sampling(|s| s.top_p = f64::NAN));
    assert!(
        message.starts_with("top_p: expected a number in (0, 1]"),
        "{message}"
    );
    let mut two = config();
    (two.sampling.temperature, two.update.temperature) = (0.7, 0.3);
    let message = refused(method("grpo"), two);
    assert!(
        message.starts_with("update.temperature = 0.3: rollouts are sampled at 0.7"),
        "{message}"
    );
    let mut stale = config();
    stale.update.old_is_sampler = true;
    let message = refused(method("rlsd"), stale);
    assert!(
        message.starts_with("old_is_sampler = true: token_advantages compare"),
        "{message}"
    );
    let none = g2rpo_train::TrainerConfig {
        prompts_per_step: 0,
        ..config()
    };
    assert!(refused(method("grpo"), none).starts_with("prompts_per_step = 0"));

    let bare: Vec<Task> = tasks()
        .into_iter()
        .map(|t| Task {
            solution: None,
            ..t
        })
        .collect();
    let bare = Dataset::with_template(bare, &Letters, "{question}").unwrap();
    let first = |name| {
        let policy = common::policy();
        let mut run =
            Trainer::new(method(name), &bare, policy.clone(), policy, opens, config()).unwrap();
        run.step().map(drop)
    };
    assert!(first("grpo").is_ok(), "plain GRPO needs no solutions");
    let message = first("g2rpo-a").unwrap_err().to_string();
    assert!(message.contains("no task has one"), "{message}");
    let message = first("guide").unwrap_err().to_string();
    assert!(message.contains("puts hints"), "{message}");
}

#[test]
fn detectors_are_fed_by_the_loop() {
    let data = data();
    let mut run = trainer(&data, guided());
    let report = run.step().unwrap();
    let stats: StepStats = report.stats(run.method().placement);
    assert_eq!((stats.guided_min, stats.guided_max), (Some(4), Some(4)));
    assert_eq!(stats.guided_expected, Some(4));
    assert_eq!(stats.cuts[&CutReason::Exact], 16);
    assert!(stats.steered && stats.length_max == Some(5.0));
    assert_eq!(stats.own_tokens_guided, Some(1.0));
    assert_eq!(stats.own_tokens_unguided, Some(6.0));
}
