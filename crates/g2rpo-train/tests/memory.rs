//! Memory of a long run does not grow.

use g2rpo_guidance::Method;
use g2rpo_rollout::{ByteTokenizer, Shared, TabularPolicy, Task};
use g2rpo_train::run::step_log::StepLog;
use g2rpo_train::{Dataset, LrSchedule, Trainer, TrainerConfig};

/// Memory of this process in KiB, as Linux counts it.
fn resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[test]
fn two_thousand_steps_take_the_memory_of_the_first_hundreds() {
    let task = |id: u64| Task {
        id,
        question: format!("{id}?"),
        reference: "xyz".into(),
        solution: Some("xyz".into()),
        ..Task::default()
    };
    let data =
        Dataset::with_template((0..50).map(task).collect(), &ByteTokenizer, "{question}").unwrap();
    let method = Method::preset("g2rpo-a", 2000).unwrap();
    let method = method.set("max_completion_length", 4).unwrap();
    let policy = Shared::new(TabularPolicy::new(128, 1));
    let same = |answer: &str, reference: &str| answer == reference;
    let config = TrainerConfig {
        schedule: LrSchedule::constant(1.0),
        ..TrainerConfig::default()
    };
    let mut trainer = Trainer::new(method, &data, policy.clone(), policy, same, config).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let mut metrics = StepLog::create(dir.path().join("metrics.jsonl")).unwrap();
    let mut at = Vec::new();
    for report in trainer.steps(2000) {
        let report = report.unwrap();
        metrics.write(&report.row()).unwrap();
        if matches!(report.key.step, 400 | 1999) {
            at.extend(resident());
        }
    }
    eprintln!("KiB after 400 and 2000 steps: {at:?}");
    if let [early, late] = at[..] {
        assert!(
            late < early + 2048,
            "{early} KiB after 400 steps, {late} after 2000"
        );
    }
}
