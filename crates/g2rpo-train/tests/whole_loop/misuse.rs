//! What goes wrong around a loop is reported or refused in one sentence; nothing panics.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use g2rpo_guidance::{
    CutReason, ExampleId, Guidance, GuidanceSource, Method, Provenance, Query, Trace,
};
use g2rpo_rollout::{ByteTokenizer, Completion, Request, RolloutEngine, SamplingParams, Task};
use g2rpo_train::{Dataset, StepReport, Trainer};
use g2rpo_verify::{Bounded, Sample, ThinkFormat, Unverifiable, Verdict, Verifier, WeightedReward};
use rand::Rng;
use serde_json::json;

use crate::probe::{
    Asked, Log, MAX_LEN, Probe, config, dataset, is_right, run, run_with, tasks, writes,
};

fn every_second(asked: &Asked) -> Vec<u32> {
    writes(asked.member, asked.member.is_multiple_of(2))
}

fn probe() -> Probe {
    Probe::new(Some(Arc::new(every_second)))
}

fn preset(name: &str) -> Method {
    let method = Method::preset(name, 10).unwrap();
    method.set("max_completion_length", MAX_LEN).unwrap()
}

fn step(
    method: &Method,
    verifier: impl Verifier,
    rewards: WeightedReward,
) -> Result<StepReport, String> {
    let data = dataset(tasks());
    let run = run_with(method, &data, &probe(), verifier, config(), 1, |trainer| {
        trainer.with_rewards(rewards)
    });
    let mut run = run.map_err(|e| e.to_string())?;
    Ok(run.reports.remove(0))
}

#[test]
fn a_verifier_that_panics_masks_what_it_panicked_at() {
    let delicate = |answer: &str, _: &str| {
        assert!(!answer.starts_with('A'), "no answer begins so");
        answer.contains('!')
    };
    let report = step(&preset("grpo"), delicate, WeightedReward::default()).unwrap();
    assert_eq!(report.row().get("masked"), Some(1.0 / 8.0));
    let data = dataset(tasks());
    let samples = report.samples(&data, preset("grpo").placement).unwrap();
    assert_eq!(samples[0].reward, None);
    assert!(
        samples[0].verdict.contains("no answer begins so"),
        "{}",
        samples[0].verdict
    );
    assert!(report.update.stats.is_some(), "the others teach");
    // A prefix at which it panics does not pass, and neither does the run end.
    let at_prefixes = |answer: &str, _: &str| {
        assert!(answer.len() != 10, "ten letters");
        answer.contains('!')
    };
    assert!(step(&preset("target"), at_prefixes, WeightedReward::default()).is_ok());
}

#[test]
fn a_verifier_that_hangs_masks_what_it_hangs_at() {
    let stuck = |answer: &str, _: &str| {
        if answer.starts_with('A') {
            std::thread::sleep(Duration::from_secs(600));
        }
        answer.contains('!')
    };
    let limit = Duration::from_secs(2);
    // One answer of each of four groups takes a thread for good.
    let bounded = Bounded::new(stuck, limit, 8);
    let start = Instant::now();
    let report = step(&preset("grpo"), bounded, WeightedReward::default()).unwrap();
    assert!(start.elapsed() < Duration::from_secs(60));
    assert_eq!(report.row().get("masked"), Some(1.0 / 8.0));
    assert!(report.update.stats.is_some(), "the others teach");
}

#[test]
fn rewards_that_are_no_numbers_are_refused_by_name() {
    let rewards = |value: f64, weight: f64| {
        WeightedReward::default().with_fn("mood", weight, move |_: &Sample<'_>| Some(value))
    };
    let nan = step(&preset("grpo"), is_right, rewards(f64::NAN, 1.0)).unwrap_err();
    let expected =
        "reward function mood returned NaN for sample 0, expected a finite number or none";
    assert_eq!(nan, expected);
    let overflow = step(&preset("grpo"), is_right, rewards(f64::MAX, 2.0)).unwrap_err();
    assert!(
        overflow.contains("inf") && !overflow.contains('\n'),
        "{overflow}"
    );
}

#[test]
fn masked_rows_teach_nothing_and_count_nowhere() {
    // Names A to C, among them a success.
    let undecided = |answer: &str, _: &str| {
        if answer.starts_with(['A', 'B', 'C']) {
            Verdict::from(Unverifiable::Undecidable)
        } else {
            Verdict::from(answer.contains('!'))
        }
    };
    let report = step(&preset("grpo"), undecided, WeightedReward::default()).unwrap();
    assert_eq!(report.row().get("masked"), Some(3.0 / 8.0));
    // Members 4 and 6 of 3 to 7.
    assert_eq!(report.row().get("reward"), Some(0.4));
    for (row, reward) in report.rows.rewards.iter().enumerate() {
        let advantage = report.advantages.advantages[row];
        assert_eq!(reward.is_none(), advantage == 0.0);
    }
}

#[test]
fn groups_of_one_are_refused() {
    let one = preset("grpo").set("num_generations", 1).unwrap();
    let message = step(&one, is_right, WeightedReward::default()).unwrap_err();
    assert!(
        message.contains('2') && !message.contains('\n'),
        "{message}"
    );
}

#[test]
fn tasks_without_a_solution_are_rolled_out_unguided() {
    let bare = |t: Task| Task {
        solution: t.solution.filter(|_| t.id != 2),
        ..t
    };
    let data = dataset(tasks().into_iter().map(bare).collect());
    let run = run(&preset("target"), &data, &probe(), is_right, 1).unwrap();
    for group in &run.reports[0].groups {
        let chosen: Vec<_> = group.members().filter(|m| m.plan.is_chosen()).collect();
        assert_eq!(chosen.len(), 4);
        for member in chosen {
            assert_eq!(member.rollout.guidance.is_empty(), group.task == 2);
            assert_eq!(
                member.plan.cut.reason == CutReason::NoTrace,
                group.task == 2
            );
        }
    }
}

/// The same trace for every task.
struct Mine;

impl GuidanceSource for Mine {
    fn guidance(&self, _: &Query, _: &mut dyn Rng) -> Option<Guidance> {
        let trace = Trace::from_tokens((b'p'..=b'z').map(u32::from).collect());
        Some(Guidance::trace(Arc::new(trace), Provenance::User))
    }
}

#[test]
fn a_source_of_ones_own_takes_the_place_of_the_data_set() {
    let bare = |t| Task {
        solution: None,
        ..t
    };
    let data = dataset(tasks().into_iter().map(bare).collect());
    let method = preset("random").set("low", 1.0).unwrap();
    let run = run_with(&method, &data, &probe(), is_right, config(), 1, |trainer| {
        trainer.with_source(Mine)
    });
    let run = run.unwrap();
    let guided = run.reports[0].groups.iter().flat_map(|g| &g.rollouts[..2]);
    for rollout in guided {
        // The whole trace but its last token.
        assert_eq!(
            rollout.guidance,
            (b'p'..b'z').map(u32::from).collect::<Vec<_>>()
        );
    }
}

/// Forgets the last request of a call that has several.
#[derive(Debug)]
struct Forgetful;

impl RolloutEngine for Forgetful {
    type Error = Infallible;

    fn generate(
        &mut self,
        requests: &[Request],
        _: &SamplingParams,
    ) -> Result<Vec<Completion>, Infallible> {
        let one = Completion {
            tokens: vec![65],
            logps: vec![0.0],
            log_kept: vec![0.0],
            weight_versions: None,
            stop: g2rpo_rollout::Stop::Eos,
        };
        Ok(vec![one; requests.len().saturating_sub(1).max(1)])
    }
}

#[test]
fn those_who_miscount_are_named() {
    let data = dataset(tasks());
    let learner = probe();
    let mut trainer = Trainer::new(
        preset("grpo"),
        &data,
        Forgetful,
        learner.clone(),
        is_right,
        config(),
    )
    .unwrap();
    let message = trainer.step().unwrap_err().to_string();
    assert!(
        message.contains("completions") && message.contains("31"),
        "{message}"
    );
    let Log { taught, .. } = learner.take_log();
    assert!(taught.is_empty(), "nothing was learned");

    struct Short;
    impl Verifier for Short {
        fn verify(&self, _: &str, _: &str) -> Verdict {
            Verdict::correct()
        }
        fn verify_batch(&self, pairs: &[(&str, &str)]) -> Vec<Verdict> {
            vec![Verdict::correct(); pairs.len() - 1]
        }
    }
    let message = step(&preset("grpo"), Short, WeightedReward::default()).unwrap_err();
    assert_eq!(message, "verifier: expected 32 verdicts, got 31");
}

#[test]
fn reward_functions_see_the_prompt_as_the_model_did() {
    let data = Dataset::with_template(tasks(), &ByteTokenizer, "{question}<think>\n").unwrap();
    let thinks = Probe::new(Some(Arc::new(|asked: &Asked| {
        let closes = asked.member.is_multiple_of(2);
        let text: &[u8] = if closes { b"x</think>7" } else { b"7" };
        text.iter().map(|&byte| u32::from(byte)).collect()
    })));
    let rewards = || WeightedReward::default().with(ThinkFormat, 1.0);
    let method = preset("grpo");
    let run = run_with(&method, &data, &thinks, is_right, config(), 1, |trainer| {
        trainer.with_rewards(rewards())
    });
    let row = run.unwrap().reports[0].row();
    assert_eq!(row.get("rewards/think_format_reward/mean"), Some(0.5));
}

fn set(method: Method, key: &str, value: serde_json::Value) -> Method {
    method.set(key, value).unwrap()
}

fn without_solutions() -> Dataset<'static> {
    let bare = |t| Task {
        solution: None,
        ..t
    };
    dataset(tasks().into_iter().map(bare).collect())
}

#[test]
fn a_refusal_holds_however_often_one_asks() {
    let data = without_solutions();
    let (engine, learner) = (probe(), probe());
    let mut trainer =
        Trainer::new(preset("target"), &data, engine, learner, is_right, config()).unwrap();
    for _ in 0..3 {
        let message = trainer.step().unwrap_err().to_string();
        assert!(message.contains("source.order"), "{message}");
    }
}

#[test]
fn a_step_of_which_nothing_is_left_is_reported_with_kl_in_the_reward() {
    let method = set(preset("grpo"), "loss.kl_placement", json!("reward"));
    let method = set(
        method,
        "dynamic_sampling",
        json!({"max_num_gen_batches": 1}),
    );
    let never = |_: &str, _: &str| false;
    let report = step(&method, never, WeightedReward::default()).unwrap();
    assert!(report.rows.is_empty() && report.replaced.len() == 4);
    let line = report.line();
    assert!(
        line.contains("dynamic sampling replaced them all"),
        "{line}"
    );
}

#[test]
fn a_baseline_that_leaves_nothing_is_named() {
    // Four of eight succeed: the best has no lead over the second best.
    let method = set(preset("grpo"), "advantages.baseline", json!("second_best"));
    let method = set(method, "loss.beta", json!(0.0));
    let report = step(&method, is_right, WeightedReward::default()).unwrap();
    let line = report.line();
    assert!(line.contains("every advantage is 0"), "{line}");
}

#[test]
fn estimators_that_do_not_fit_the_group_or_the_rewards_are_refused() {
    let grpo = || preset("grpo");
    let pass_at = |k: u64| {
        let method = set(grpo(), "advantages.scale", json!("none"));
        set(
            method,
            "advantages.baseline",
            json!({"pass_at_k": {"k": k}}),
        )
    };
    let ddof = |n: u64| set(grpo(), "advantages.ddof", json!(n));
    let by_mean = || set(grpo(), "advantages.scale", json!("group_mean"));
    let run = |method: &Method| step(method, is_right, WeightedReward::default());
    for (method, what) in [
        (ddof(8), "advantages.ddof = 8"),
        (pass_at(9), "advantages.baseline.pass_at_k.k = 9"),
        (
            set(by_mean(), "loss.kl_placement", json!("reward")),
            "advantages.scale = group_mean",
        ),
        (
            set(by_mean(), "overlong", json!({"cache": 4})),
            "advantages.scale = group_mean",
        ),
    ] {
        let message = run(&method).unwrap_err();
        assert!(message.starts_with(what), "{message}");
    }
    for fits in [ddof(7), pass_at(8), by_mean()] {
        run(&fits).unwrap();
    }
}

#[test]
fn weights_that_are_no_numbers_are_refused_before_the_first_step() {
    for weight in [f64::NAN, f64::INFINITY] {
        let rewards = WeightedReward::default().with_fn("mood", weight, |_: &Sample<'_>| Some(1.0));
        let message = step(&preset("grpo"), is_right, rewards).unwrap_err();
        assert!(
            message.starts_with("reward function mood has the weight"),
            "{message}"
        );
    }
}

#[test]
fn guidance_that_can_never_be_given_is_refused_or_named() {
    let idle = set(preset("grpo"), "alpha", json!(0.5));
    let line = |method: &Method| {
        let report = step(method, is_right, WeightedReward::default());
        report.unwrap().line()
    };
    let said = "given nothing: the amount is 0";
    assert!(line(&idle).contains(said));
    assert!(!line(&preset("grpo")).contains(said) && !line(&preset("target")).contains(said));
    let selector = json!({"kind": "zero_reward_retry", "levels": [{"hint": 99}]});
    let too_strong = set(preset("grpo"), "placement", json!("prompt_hint"));
    let too_strong = set(too_strong, "selector", selector);
    let message = step(&too_strong, is_right, WeightedReward::default()).unwrap_err();
    assert!(
        message.contains("index 99") && message.contains("12"),
        "{message}"
    );
}

#[test]
fn of_a_selector_of_ones_own_nothing_is_asked_beforehand() {
    let data = without_solutions();
    let method = preset("target");
    let run = run_with(&method, &data, &probe(), is_right, config(), 1, |trainer| {
        trainer.with_selector(method.selector.clone())
    });
    let run = run.unwrap();
    let chosen = run.reports[0].groups[0].members();
    let cuts: Vec<_> = (chosen.filter(|m| m.plan.is_chosen()))
        .map(|m| m.plan.cut.reason)
        .collect();
    assert_eq!(cuts, [CutReason::NoTrace; 4]);
}

/// Notes what it is offered.
#[derive(Clone, Default)]
struct Notes(Arc<Mutex<Vec<ExampleId>>>);

impl GuidanceSource for Notes {
    fn guidance(&self, _: &Query, _: &mut dyn Rng) -> Option<Guidance> {
        None
    }
    fn offer(&mut self, task: ExampleId, _: Trace) {
        self.0.lock().unwrap().push(task);
    }
}

#[test]
fn a_source_of_ones_own_is_offered_the_successes() {
    let data = dataset(tasks());
    let notes = Notes::default();
    run_with(
        &preset("grpo"),
        &data,
        &probe(),
        is_right,
        config(),
        1,
        |trainer| trainer.with_source(notes.clone()),
    )
    .unwrap();
    // Four of each of four groups.
    assert_eq!(notes.0.lock().unwrap().len(), 16);
}

/// Fails once, when it is asked for a batch.
struct Stumbling(Probe, bool);

impl RolloutEngine for Stumbling {
    type Error = g2rpo_rollout::Error;

    fn generate(
        &mut self,
        requests: &[Request],
        params: &SamplingParams,
    ) -> Result<Vec<Completion>, Self::Error> {
        if requests.len() > 1 && std::mem::take(&mut self.1) {
            return Err(g2rpo_rollout::Error::Tokenizer("stumbled".into()));
        }
        self.0.generate(requests, params)
    }
}

#[test]
fn a_step_after_an_error_of_the_engine_has_the_same_tasks() {
    let data = dataset(tasks());
    let mut config = config();
    config.prompts_per_step = 2;
    let tasks = |stumbles| {
        let engine = Stumbling(probe(), stumbles);
        let learner = probe();
        let config = config.clone();
        let mut trainer =
            Trainer::new(preset("grpo"), &data, engine, learner, is_right, config).unwrap();
        assert_eq!(trainer.step().is_err(), stumbles);
        let report = trainer.step().unwrap();
        let second = report.groups.iter().map(|g| g.task).collect::<Vec<_>>();
        (second, report.epoch)
    };
    let ((first, at), (second, later)) = (tasks(true), tasks(false));
    assert_eq!((at, later), (0.5, 1.0));
    assert!(first.iter().all(|task| !second.contains(task)));
}

#[test]
fn a_state_of_another_run_is_refused_and_changes_nothing() {
    let (data, fewer) = (dataset(tasks()), dataset(tasks().split_off(1)));
    fn trainer<'a>(name: &str, size: u64, data: &'a Dataset<'a>) -> Trainer<'a, Probe, Probe> {
        let method = set(preset(name), "num_generations", json!(size));
        Trainer::new(method, data, probe(), probe(), is_right, config()).unwrap()
    }
    let mut first = trainer("target", 8, &data);
    first.step().unwrap();
    let state = first.state();
    for (mut other, what) in [
        (trainer("target", 8, &fewer), "tasks = 3"),
        (trainer("target", 4, &data), "num_generations is 8 there"),
        (trainer("grpo", 8, &data), "method = another"),
    ] {
        let before = other.state();
        let message = other.restore(state.clone()).unwrap_err().to_string();
        assert!(message.contains(what), "{message}");
        assert_eq!(other.state(), before);
    }
    let mut broken = state.clone();
    broken.order.difficulty = json!("?");
    broken.source = json!("?");
    let mut same = trainer("target", 8, &data);
    let before = same.state();
    same.restore(broken).unwrap_err();
    assert_eq!(same.state(), before);
    same.restore(state.clone()).unwrap();
    assert_eq!(same.state(), state);
}
