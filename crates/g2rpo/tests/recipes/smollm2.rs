//! SmolLM2-135M on GSM8K by its recipe, in small; the result as transformers reads it.

use std::path::PathBuf;
use std::process::Command;

use g2rpo::train::run::step_log::read_rows;
use serde_json::Value;

use crate::shipped::{run_through, said};

/// Settings that make it a matter of minutes on a CPU.
const SMALL: [&str; 9] = [
    "max_steps=10",
    "prompts_per_step=1",
    "num_generations=4",
    "max_completion_length=96",
    "max_prompt_length=110",
    "controller.initial=96",
    "controller.max=128",
    "max_train_samples=200",
    "max_eval_samples=2",
];

#[test]
fn ten_steps_of_smollm2_open_in_transformers() {
    let folder = |name: &str| std::env::var_os(name).map(PathBuf::from);
    let (Some(models), Some(data)) = (folder("G2RPO_MODELS"), folder("G2RPO_DATA")) else {
        eprintln!("skipped: G2RPO_MODELS names no folder of models, or G2RPO_DATA none of data");
        return;
    };
    let model = models.join("smollm2-135m");
    if !model.is_dir() {
        eprintln!("skipped: there is no {}", model.display());
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let at = place.path();
    let recipe = "smollm2-135m-gsm8k.toml";
    said(at, &["init", recipe, "--from", "smollm2-135m-gsm8k"]);
    let mut sets = SMALL.map(str::to_owned).to_vec();
    sets.push(format!("model_name_or_path={}", model.display()));
    sets.push(format!(
        "dataset_name={}",
        data.join("gsm8k/train.jsonl").display()
    ));
    sets.push(format!(
        "eval_datasets.gsm8k={}",
        data.join("gsm8k/test.jsonl").display()
    ));
    let (_, told) = run_through(at, recipe, &sets);
    eprintln!("report --check: {told}");
    let metrics = at.join("runs/smollm2-135m-gsm8k/metrics.jsonl");
    let metrics: Vec<Value> = read_rows(&metrics).unwrap();
    let learned = |row: &&Value| row["grad_norm"].as_f64().is_some_and(|norm| norm > 0.0);
    assert!(
        metrics.iter().filter(learned).count() > 0,
        "nothing was learned"
    );

    let trained = "runs/smollm2-135m-gsm8k/model";
    let question = "What is 12 plus 30?";
    let ours = said(
        at,
        &[
            "generate",
            trained,
            question,
            "--max-completion-length",
            "24",
        ],
    );
    let Some(python) = folder("G2RPO_PYTHON") else {
        eprintln!("not compared with transformers: G2RPO_PYTHON names no python that has it");
        return;
    };
    let script = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../testdata/train/greedy.py"
    );
    let output = Command::new(python)
        .args([script, trained, question, "24"])
        .current_dir(at)
        .output()
        .unwrap();
    let theirs = String::from_utf8_lossy(&output.stdout).into_owned();
    let err = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{err}");
    eprintln!("both say: {}", ours.trim());
    assert_eq!(
        ours.trim().trim_end_matches("<|im_end|>"),
        theirs.trim(),
        "{err}"
    );
}
