//! What goes wrong around a loop is reported or refused in one sentence; nothing panics.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use g2rpo_guidance::{CutReason, Guidance, GuidanceSource, Method, Provenance, Query, Trace};
use g2rpo_rollout::{ByteTokenizer, Completion, Request, RolloutEngine, SamplingParams, Task};
use g2rpo_train::{Dataset, StepReport, Trainer};
use g2rpo_verify::{Bounded, Sample, ThinkFormat, Unverifiable, Verdict, Verifier, WeightedReward};
use rand::Rng;

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
    let bounded = Bounded::new(stuck, limit, 2);
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
