//! Success is the verifier's word, whatever else is paid; and what teaches nothing is what the estimator says.

use std::sync::Arc;

use g2rpo_guidance::{Guidance, GuidanceSource, Method, Provenance, Query, Trace};
use g2rpo_rollout::Task;
use g2rpo_train::Group;
use g2rpo_verify::{Sample, WeightedReward};
use rand::Rng;
use serde_json::{Value, json};

use crate::methods::{data, script};
use crate::probe::{
    Asked, GIVEABLE, MAX_LEN, Probe, Run, config, dataset, is_right, run, run_with, tasks, writes,
};

fn set(method: Method, settings: Value) -> Method {
    let settings = settings.as_object().unwrap().clone();
    (settings.into_iter()).fold(method, |m, (key, value)| m.set(&key, value).unwrap())
}

fn preset(name: &str) -> Method {
    let method = Method::preset(name, 3).unwrap();
    method.set("max_completion_length", MAX_LEN).unwrap()
}

/// Who was guided how, and who was trained on, in every group of a run.
fn plans(run: &Run) -> Vec<String> {
    let groups = run.reports.iter().flat_map(|r| &r.groups);
    let told = |g: &Group| {
        let levels: Vec<_> = g.plan.members.iter().map(|m| m.member.level).collect();
        format!("{}: {levels:?} {:?}", g.task, g.trained)
    };
    groups.map(told).collect()
}

#[test]
fn whoever_looks_twice_asks_whether_something_was_solved() {
    let data = data();
    for name in [
        "ghpo",
        "guide",
        "scaf",
        "hint-grpo",
        "sage",
        "trapo",
        "nurl",
        "seele",
    ] {
        let mut method = preset(name);
        if name == "scaf" {
            method = method.set("warmup_steps", 1).unwrap();
        }
        let planned = |method: &Method, paid: f64| {
            let rewards =
                WeightedReward::default().with_fn("form", 1.0, move |_: &Sample<'_>| Some(paid));
            let probe = Probe::new(Some(Arc::new(script))).warmed();
            let run = run_with(method, &data, &probe, is_right, config(), 3, |trainer| {
                trainer.with_rewards(rewards)
            });
            plans(&run.unwrap_or_else(|e| panic!("{name}: {e}")))
        };
        let expected = planned(&method, 0.0);
        assert_eq!(
            planned(&method, 0.75),
            expected,
            "{name}: paid for its form"
        );
        assert_eq!(planned(&method, -2.0), expected, "{name}: fined");
        // All of them are as long, and pay more for it than a success is worth.
        let long = json!({"overlong": {"cache": MAX_LEN, "penalty_factor": 50.0}});
        let short = set(method.clone(), json!({"placement": "prompt_hint"}));
        if short.check().is_ok() {
            let expected = planned(&short, 0.0);
            assert_eq!(
                planned(&set(short, long), 0.0),
                expected,
                "{name}: too long"
            );
        }
    }
}

/// Guided members succeed and the others fail, as far as `among` lets them.
fn identity(among: u32) -> Probe {
    Probe::new(Some(Arc::new(move |asked: &Asked| {
        let right = asked.help > 0 || asked.member < 4 + among && asked.member >= 4;
        writes(asked.member, right)
    })))
}

#[test]
fn groups_that_the_estimator_gives_nothing_are_replaced() {
    let data = dataset(tasks());
    let dynamic = json!({"dynamic_sampling": {"max_num_gen_batches": 2}, "beta": 0.0});
    let split =
        json!({"strata": "split", "controller": {"kind": "fixed", "amount": {"tokens": 4.0}}});
    let target = set(preset("target"), dynamic.clone());
    let alone = set(
        target.clone(),
        json!({"baseline": "second_best", "scale": "none"}),
    );
    for (method, name) in [
        (set(preset("pope"), dynamic), "a baseline for each part"),
        (set(target.clone(), split), "a baseline for each stratum"),
        (alone, "several of the best"),
    ] {
        let nothing = run(&method, &data, &identity(0), is_right, 1).unwrap();
        let report = &nothing.reports[0];
        assert!(report.groups.is_empty(), "{name}");
        assert_eq!(
            (report.replaced.len(), report.gen_batches),
            (8, 2),
            "{name}"
        );
        assert!(report.update.stats.is_none(), "{name}");
    }
    // The whole group's rewards differ, and so do advantages behind one baseline.
    let joint = run(&target, &data, &identity(0), is_right, 1).unwrap();
    assert_eq!(joint.reports[0].groups.len(), 4);
    let pope = set(preset("pope"), json!({"dynamic_sampling": {}}));
    let some = run(&pope, &data, &identity(1), is_right, 1).unwrap();
    assert_eq!(
        some.reports[0].groups.len(),
        4,
        "an unguided member succeeds"
    );
}

#[test]
fn what_does_not_count_is_not_fined() {
    let long = Probe::new(Some(Arc::new(|asked: &Asked| {
        vec![u32::from(b'x'); MAX_LEN + asked.member as usize]
    })));
    let fines = |counts: bool| {
        let settings =
            json!({"overlong": {"cache": 10, "penalty_factor": 0.5}, "counts_guidance": counts});
        let run = run(
            &set(preset("luffy"), settings),
            &dataset(tasks()),
            &long,
            is_right,
            1,
        );
        let report = run.unwrap().reports.remove(0);
        let members = report.groups[0].members();
        let of = |m: g2rpo_train::Member<'_>| {
            (
                m.rollout.guidance.len(),
                m.rollout.completion.tokens.len(),
                m.grade.reward,
            )
        };
        members.map(of).take(2).collect::<Vec<_>>()
    };
    let all = Some(-0.5);
    assert_eq!(fines(false), [(GIVEABLE, MAX_LEN, all), (0, MAX_LEN, all)]);
    assert_eq!(
        fines(true),
        [(GIVEABLE, MAX_LEN - GIVEABLE, all), (0, MAX_LEN, all)]
    );
}

/// The same solution for every task.
struct Mine;

impl GuidanceSource for Mine {
    fn guidance(&self, _: &Query, _: &mut dyn Rng) -> Option<Guidance> {
        let trace = Trace::from_tokens(b"mine".map(u32::from).to_vec());
        Some(Guidance::trace(Arc::new(trace), Provenance::User))
    }
}

#[test]
fn advantages_of_tokens_rest_on_the_solution_of_the_source() {
    let data = data();
    let hints = |method: &Method, mine: bool| {
        let probe = Probe::new(Some(Arc::new(script)));
        let run = run_with(
            method,
            &data,
            &probe,
            is_right,
            config(),
            1,
            |trainer| match mine {
                true => trainer.with_source(Mine),
                false => trainer,
            },
        );
        let run = run.unwrap();
        let mut hints: Vec<String> = (run.logs[0].scored.iter())
            .flat_map(|pass| {
                pass.sequences
                    .tokens()
                    .rows()
                    .zip(pass.sequences.prompt_lens())
            })
            .map(|(ids, &n)| {
                ids[..n]
                    .iter()
                    .map(|&id| char::from(id as u8))
                    .collect::<String>()
            })
            .filter_map(|prompt| Some(prompt.split_once("begins like this:\n")?.1.to_owned()))
            .collect();
        hints.sort();
        hints.dedup();
        hints
    };
    let rlsd = preset("rlsd");
    let solution = crate::probe::SOLUTION;
    assert_eq!(hints(&rlsd, false), [solution]);
    assert_eq!(hints(&rlsd, true), ["mine"]);
    // The teacher solved the last task alone; of another, a sibling that was right is the hint.
    let teacher = hints(&set(rlsd, json!({"source.order": ["teacher"]})), false);
    assert!(teacher.contains(&solution.to_uppercase()) && !teacher.contains(&solution.to_owned()));
}

#[test]
fn a_step_makes_as_many_updates_as_it_says() {
    // Of the four groups, two are left out.
    let method = set(preset("guide"), json!({"levels": []}));
    let mut config = config();
    (
        config.update.steps_per_generation,
        config.update.num_iterations,
    ) = (4, 2);
    let bare = |task: Task| Task {
        hints: Vec::new(),
        ..task
    };
    let data = dataset(tasks().into_iter().map(bare).collect());
    let probe = Probe::new(Some(Arc::new(script))).warmed();
    let run = run_with(&method, &data, &probe, is_right, config, 1, |t| t).unwrap();
    let groups = &run.reports[0].groups;
    let left = groups
        .iter()
        .filter(|g| g.trained.as_ref().is_some_and(|t| !t.is_empty()));
    assert_eq!(left.count(), 2);
    assert_eq!(run.reports[0].update.n_updates, 8);
    assert_eq!(run.state.updates, 8);
}
