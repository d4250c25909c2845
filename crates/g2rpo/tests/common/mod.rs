//! A tiny run for the command: a folder with problems and a recipe, and how the program is called.
#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use g2rpo::rollout::{ChainProblems, Split, write_gsm8k};
use g2rpo::train::MetricsRow;
use g2rpo::train::run::step_log::read_rows;

/// A folder with problems, and a model that solves some of them.
pub(crate) fn place() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (file, n, split) in [
        ("train.jsonl", 60, Split::Train),
        ("test.jsonl", 12, Split::HeldOut),
    ] {
        let tasks = ChainProblems::default().generate(2, n, split, 0).unwrap();
        write_gsm8k(dir.path().join(file), &tasks).unwrap();
    }
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/gsm8k_tiny/warm_up");
    let recipe = format!(
        r##"
        model_name_or_path = "{}"
        device = "cpu"
        dataset_name = "train.jsonl"
        eval_datasets = {{ test = "test.jsonl" }}
        prompt_template = "{{question}}\n"
        max_steps = 6
        prompts_per_step = 3
        learning_rate = 1e-3
        lr_scheduler_type = "constant"
        eval_steps = 3
        save_steps = 2
        save_total_limit = 2
        log_completions_steps = 2
        output_dir = "run"
        report_to = "tensorboard"
        verify_threads = 1
        [method]
        num_generations = 4
        max_completion_length = 48
        controller.initial = 16
        controller.max = 48
        "##,
        model.display()
    );
    fs::write(dir.path().join("recipe.toml"), recipe).unwrap();
    dir
}

pub(crate) fn command(place: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_g2rpo"));
    // One thread, so that sums are added in one order.
    command
        .args(args)
        .current_dir(place)
        .env("OMP_NUM_THREADS", "1")
        .env_remove("RUST_LOG");
    command
}

pub(crate) fn run(place: &Path, args: &[&str]) -> (i32, String, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = command(place, args).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code().unwrap_or(-1), text(stdout), text(stderr))
}

/// What a run is compared by: its rows without times.
pub(crate) fn rows(run: &Path) -> Vec<String> {
    let rows: Vec<MetricsRow> = read_rows(&run.join("metrics.jsonl")).unwrap();
    let timed = |name: &str| name.starts_with("step_time") || name.contains("per_second");
    (rows.iter())
        .map(|row| {
            let numbers = row.iter().filter(|(name, _)| !timed(name));
            let numbers: Vec<String> = numbers
                .map(|(name, value)| format!("{name}={value:?}"))
                .collect();
            format!("{} {}", row.step(), numbers.join(" "))
        })
        .collect()
}
