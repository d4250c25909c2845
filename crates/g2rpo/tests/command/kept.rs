//! What a start that is refused or fails leaves as it was.

use std::fs;
use std::path::Path;

use crate::common::{place, run};

/// Every file of a run with its bytes, but for the lock and logs of TensorBoard.
fn files(run: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files = Vec::new();
    for name in ["recipe.toml", "metrics.jsonl", "samples.jsonl"] {
        files.push((name.to_owned(), fs::read(run.join(name)).unwrap()));
    }
    let mut steps: Vec<String> = (fs::read_dir(run.join("checkpoints")).unwrap())
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    steps.sort();
    files.extend(steps.into_iter().map(|step| (step, Vec::new())));
    files
}

#[test]
fn a_start_that_fails_leaves_the_run_as_it_was() {
    let place = place();
    let at = place.path();
    let begun = [
        "train",
        "recipe.toml",
        "--set",
        "max_steps=2",
        "--set",
        "use_peft=true",
    ];
    let (code, out, err) = run(at, &begun);
    assert_eq!(code, 0, "{err}");
    // What was trained lies there in PEFT's layout, beside the merged model.
    assert!(out.contains("adapter"), "{out}");
    for file in ["adapter_config.json", "adapter_model.safetensors"] {
        assert!(at.join("run/adapter").join(file).exists(), "{file}");
    }
    let before = files(&at.join("run"));
    for (args, code, words) in [
        (
            &[
                "train",
                "recipe.toml",
                "--overwrite",
                "--set",
                "dataset_name=nix.jsonl",
            ][..],
            3,
            "nix.jsonl",
        ),
        (
            &[
                "train",
                "recipe.toml",
                "--overwrite",
                "--set",
                "model_name_or_path=run/model",
            ],
            2,
            "model_name_or_path: it is in model, which the run in",
        ),
        (
            &[
                "train",
                "recipe.toml",
                "--overwrite",
                "--set",
                "eval_datasets={ \"../out\" = \"test.jsonl\" }",
            ],
            2,
            "the name \"../out\" becomes that of a file",
        ),
        (
            &["resume", "run", "--yes", "--set", "dataset_name=nix.jsonl"],
            3,
            "nix.jsonl",
        ),
        (
            &["resume", "run", "--yes", "--set", "num_generations=6"],
            2,
            "the run to go on with learned by another",
        ),
        (
            &["resume", "run", "--yes", "--set", "output_dir=elsewhere"],
            2,
            "output_dir: a run goes on in its folder",
        ),
        (
            &[
                "train",
                "recipe.toml",
                "--dry-run",
                "--set",
                "max_steps=9223372036854775807",
            ],
            2,
            "max_steps = 9223372036854775807: must be at most",
        ),
        (
            &[
                "train",
                "recipe.toml",
                "--dry-run",
                "--set",
                "num_generations=1000000000000",
            ],
            2,
            "num_generations: is 1000000000000, must be at most 100000",
        ),
    ] {
        let (got, _, err) = run(at, args);
        assert!(got == code && err.contains(words), "{args:?}: {got}: {err}");
        assert!(files(&at.join("run")) == before, "{args:?}");
    }
    // What was written into the recipe is shown like a setting, and asked for.
    let path = at.join("run/recipe.toml");
    let recipe = fs::read_to_string(&path).unwrap();
    fs::write(
        &path,
        recipe.replace("learning_rate = 0.001", "learning_rate = 0.5"),
    )
    .unwrap();
    let (code, _, err) = run(at, &["resume", "run"]);
    assert!(
        code == 2 && err.contains("learning_rate: 0.001 → 0.5"),
        "{code}: {err}"
    );
    fs::write(&path, recipe).unwrap();
    // Other questions, or the same in another order, are another run.
    let rows = fs::read_to_string(at.join("train.jsonl")).unwrap();
    let turned: Vec<&str> = rows.lines().rev().collect();
    fs::write(at.join("train.jsonl"), turned.join("\n")).unwrap();
    let more = ["resume", "run", "--yes", "--set", "max_steps=3"];
    let (code, _, err) = run(at, &more);
    assert!(
        code == 2 && err.contains("drew from other questions"),
        "{code}: {err}"
    );
    fs::write(at.join("train.jsonl"), rows).unwrap();
    let (code, _, err) = run(at, &more);
    assert_eq!(code, 0, "{err}");
    let recipe = fs::read_to_string(at.join("run/recipe.toml")).unwrap();
    assert!(recipe.contains("max_steps = 3"), "{recipe}");
}

#[test]
fn folders_that_are_no_runs_are_left_alone() {
    let place = place();
    let at = place.path();
    fs::create_dir_all(at.join("run/checkpoints")).unwrap();
    fs::write(at.join("run/checkpoints/mine"), "mine").unwrap();
    let (code, _, err) = run(at, &["train", "recipe.toml", "--overwrite"]);
    assert!(
        code == 4 && err.contains("not the folder of a run"),
        "{code}: {err}"
    );
    assert!(at.join("run/checkpoints/mine").exists());
    // The recipe lies here, and no run does.
    let (code, _, err) = run(at, &["resume", "."]);
    assert!(
        code == 4 && err.contains("nothing of a run"),
        "{code}: {err}"
    );
}
