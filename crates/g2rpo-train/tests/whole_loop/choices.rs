//! Which tasks come when, and whose solutions guide them.

use std::sync::Arc;

use g2rpo_guidance::{ControllerConfig, Curriculum, DifficultyConfig, Method, OrderBy, Provenance};
use g2rpo_rollout::Task;
use g2rpo_train::StepReport;
use serde_json::json;

use crate::methods::script;
use crate::probe::{MAX_LEN, Probe, dataset, is_right, run, tasks, writes};

#[test]
fn own_successes_guide_later_steps() {
    let method = Method::preset("pope", 3)
        .and_then(|m| m.set("placement", "assistant_prefix"))
        .and_then(|m| m.set("source.order", json!(["own"])))
        .and_then(|m| m.set("max_completion_length", MAX_LEN))
        .unwrap();
    let bare: Vec<Task> = (tasks().into_iter())
        .map(|t| Task {
            solution: None,
            ..t
        })
        .collect();
    // Members 0 and 4 of the easy tasks succeed alone.
    let probe = Probe::new(Some(Arc::new(script)));
    let run = run(&method, &dataset(bare), &probe, is_right, 3).unwrap();
    let guided = |report: &StepReport| report.rows.guided.iter().filter(|g| **g).count();
    assert_eq!(guided(&run.reports[0]), 0);
    assert_eq!(
        guided(&run.reports[1]),
        8,
        "four members of each of the two tasks"
    );
    let group = run.reports[1].groups.iter().find(|g| g.task == 3).unwrap();
    // A quarter of the four tokens that member 0 wrote.
    assert_eq!(group.rollouts[0].guidance, writes(0, true)[..1]);
    assert_eq!(group.guidance.as_ref().unwrap().provenance, Provenance::Own);
}

#[test]
fn curricula_and_difficulty_choose_the_tasks() {
    let tasks_of = |method: &Method, n| -> Vec<Vec<usize>> {
        let mut config = crate::probe::config();
        config.prompts_per_step = 2;
        let data = dataset(tasks());
        let probe = Probe::new(Some(Arc::new(script)));
        let run =
            crate::probe::run_with(method, &data, &probe, is_right, config, n, |t| t).unwrap();
        (run.reports.iter())
            .map(|r| r.groups.iter().map(|g| g.task).collect())
            .collect()
    };
    let grpo = Method::default();
    let order = |curriculum| Method {
        curriculum,
        ..grpo.clone()
    };
    assert_eq!(tasks_of(&order(Curriculum::Given), 2), [[0, 1], [2, 3]]);
    let easy_first = Curriculum::Continuous(OrderBy::Difficulty);
    assert_eq!(tasks_of(&order(easy_first), 2), [[3, 2], [1, 0]]);
    let solved_first = Curriculum::Continuous(OrderBy::PassRate);
    assert_eq!(tasks_of(&order(solved_first), 2), [[0, 1], [2, 3]]);
    let tiers = Curriculum::Tiers {
        by: OrderBy::Difficulty,
        tiers: 2,
    };
    let mut dealt = tasks_of(&order(tiers), 2);
    dealt.iter_mut().for_each(|step| step.sort_unstable());
    assert_eq!(dealt, [[2, 3], [0, 1]]);
    // From the easiest; a mean reward of 1/4 against a target of 0 makes it harder.
    let difficulty = DifficultyConfig {
        initial: 7.0,
        min: 7.0,
        max: 10.0,
        target: 0.0,
        ..DifficultyConfig::default()
    };
    let follows = Method {
        difficulty: Some(difficulty),
        ..grpo
    };
    assert_eq!(tasks_of(&follows, 2), [[3, 2], [0, 1]]);
    assert!(matches!(follows.controller, ControllerConfig::Fixed { .. }));
}
