//! Files of a run that are gone or damaged when it goes on: told, and no reason to stop.

use std::fs;

use crate::common::{place, rows, run};

/// A place with a run of four steps.
fn trained() -> tempfile::TempDir {
    let place = place();
    let (code, _, err) = run(
        place.path(),
        &["train", "recipe.toml", "--quiet", "--set", "max_steps=4"],
    );
    assert_eq!(code, 0, "{err}");
    place
}

#[test]
fn rows_that_are_gone_are_told_and_the_run_goes_on() {
    let place = trained();
    let at = place.path();
    let metrics = at.join("run/metrics.jsonl");
    let whole = fs::read_to_string(&metrics).unwrap();
    let on = |steps: &str| {
        let steps = format!("max_steps={steps}");
        run(at, &["resume", "run", "--quiet", "--yes", "--set", &steps])
    };
    // A line in the middle that is none, behind which nothing can be kept.
    let lines: Vec<&str> = whole.lines().collect();
    fs::write(&metrics, format!("{}\n?\n{}\n", lines[0], lines[2])).unwrap();
    let (code, _, err) = on("5");
    assert_eq!(code, 0, "{err}");
    let told = "run/metrics.jsonl holds rows of 1 of the 4 steps so far, the others are lost; the run goes on without\n";
    assert!(err.contains(told), "{err}");
    assert_eq!(rows(&at.join("run")).len(), 2);

    fs::remove_file(&metrics).unwrap();
    fs::remove_file(at.join("run/samples.jsonl")).unwrap();
    let (code, _, err) = on("6");
    assert_eq!(code, 0, "{err}");
    for file in ["metrics", "samples"] {
        let told = format!(
            "run/{file}.jsonl is gone, and with it what it held of the 5 steps so far; the run goes on without\n"
        );
        assert!(err.contains(&told), "{err}");
    }
    assert!(!err.contains("warnings.jsonl is gone"), "{err}");
    assert_eq!(rows(&at.join("run")).len(), 1);
}

#[test]
fn a_run_whose_checkpoints_are_lost_is_not_begun_again() {
    let place = trained();
    let at = place.path();
    let kept = |name: &str| fs::read(at.join("run").join(name)).unwrap();
    let whole = ["metrics.jsonl", "model/model.safetensors"].map(kept);
    let checkpoints = at.join("run/checkpoints");
    for entry in fs::read_dir(&checkpoints).unwrap() {
        let state = entry.unwrap().path().join("state.json");
        if state.exists() {
            fs::write(state, "{}").unwrap();
        }
    }
    let resume = || run(at, &["resume", "run", "--yes", "--set", "max_steps=5"]);
    let (code, _, err) = resume();
    let told = "run/checkpoints: all checkpoints there are damaged, and the run was 4 steps on; bring one back, or begin again";
    assert!(code == 4 && err.contains(told), "{code}: {err}");
    fs::remove_dir_all(&checkpoints).unwrap();
    let (code, _, err) = resume();
    let told = "run/checkpoints: its checkpoints are gone, and the run was 4 steps on";
    assert!(code == 4 && err.contains(told), "{code}: {err}");
    assert!(whole == ["metrics.jsonl", "model/model.safetensors"].map(kept));
}

#[test]
fn a_damaged_note_of_the_best_is_told_and_found_again() {
    let place = place();
    let at = place.path();
    let args = [
        "--quiet",
        "--set",
        "load_best_model_at_end=true",
        "--set",
        "eval_steps=2",
    ];
    let begin = [&["train", "recipe.toml", "--set", "max_steps=4"], &args[..]].concat();
    let (code, _, err) = run(at, &begin);
    assert_eq!(code, 0, "{err}");
    let note = at.join("run/checkpoints/best.json");
    let good = fs::read_to_string(&note).unwrap();
    for (damaged, steps, problem) in [
        ("{\"step\": 2", "5", "EOF while parsing"),
        ("{\"step\": \"two\", \"value\": 0.1}", "6", "invalid type"),
        (
            "{\"step\": 77, \"value\": 0.1}",
            "7",
            "of step 77: manifest.json: No such file",
        ),
    ] {
        fs::write(&note, damaged).unwrap();
        let steps = format!("max_steps={steps}");
        let (code, _, err) = run(at, &["resume", "run", "--quiet", "--yes", "--set", &steps]);
        assert_eq!(code, 0, "{err}");
        let told = err.lines().find(|line| line.contains("best.json"));
        let told = told.unwrap_or_else(|| panic!("{err}"));
        assert!(
            told.contains(problem)
                && told.contains("by the evaluations on record it is that after"),
            "{told}"
        );
        assert!(at.join("run/model/model.safetensors").exists());
    }
    // The true best is never removed, and so it is found, unless a later one was better.
    let step =
        |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap()["step"].clone();
    let now = fs::read_to_string(&note).unwrap();
    assert!(step(&now).as_u64() >= step(&good).as_u64(), "{good} {now}");
    // Without an evaluation on record nothing is the best.
    fs::write(&note, "").unwrap();
    fs::remove_dir_all(at.join("run/evaluations")).unwrap();
    let (code, _, err) = run(
        at,
        &["resume", "run", "--quiet", "--yes", "--set", "max_steps=8"],
    );
    assert!(
        code == 0 && err.contains("and none is until the next evaluation"),
        "{code}: {err}"
    );
}
