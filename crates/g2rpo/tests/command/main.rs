//! The command from outside: a tiny model trained, killed, resumed, evaluated and reported.

mod arguments;
#[path = "../common/mod.rs"]
mod common;
mod faults;
mod kept;
mod lost;
mod outputs;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::{command, place, rows, run};

#[test]
fn a_run_from_its_recipe_to_its_report() {
    let place = place();
    let at = place.path();
    let (code, out, err) = run(at, &["train", "recipe.toml", "--dry-run"]);
    assert_eq!(code, 0, "{err}");
    for expected in [
        "method g2rpo-a on 60 problems, 6 steps",
        "a step: 3 prompts × 4 completions = 12 of at most 48 tokens",
        "3 checkpoints, of which 2 and the best are kept",
        "evaluation on test: 12 problems × 1",
        "memory: program and data",
        "not as by default: model_name_or_path",
        "not as in the preset: controller.initial = 16",
        "--- problem of line 1, 1 of 4 guided",
        "⟦",
    ] {
        assert!(out.contains(expected), "{expected}\n{out}");
    }
    assert!(!at.join("run").exists());

    let (code, out, err) = run(at, &["train", "recipe.toml"]);
    assert_eq!(code, 0, "{err}\n{out}");
    assert!(
        out.contains("after 6 steps, test: 0.") && out.contains("the model is in run/model"),
        "{out}"
    );
    let rows = rows(&at.join("run"));
    assert_eq!(rows.len(), 6);
    assert!(rows[2].contains("eval/test/accuracy") && rows[5].contains("eval/test/accuracy"));
    for file in [
        "recipe.toml",
        "samples.jsonl",
        "evaluations/test_step_000006.jsonl",
        "checkpoints/step_000006/manifest.json",
        "checkpoints/step_000006/learner.safetensors",
        "model/model.safetensors",
        "model/tokenizer.json",
    ] {
        assert!(at.join("run").join(file).exists(), "{file}");
    }
    assert_eq!(fs::read_dir(at.join("run/tensorboard")).unwrap().count(), 1);

    let (code, _, err) = run(at, &["train", "recipe.toml"]);
    assert_eq!(code, 4);
    assert!(
        err.contains("it holds a run already") && !err.contains("panicked"),
        "{err}"
    );

    let (code, out, err) = run(
        at,
        &[
            "eval",
            "recipe.toml",
            "--model",
            "run/model",
            "--out",
            "graded",
        ],
    );
    assert_eq!(code, 0, "{err}");
    let last = rows[5]
        .split(' ')
        .find_map(|cell| cell.strip_prefix("eval/test/accuracy="))
        .unwrap();
    let accuracy: f64 = last.parse().unwrap();
    assert!(
        out.contains(&format!("test: {accuracy:.3} ")),
        "{out} {accuracy}"
    );

    let (code, out, err) = run(
        at,
        &[
            "compare",
            "graded/test.jsonl",
            "run/evaluations/test_step_000006.jsonl",
        ],
    );
    assert_eq!(code, 0, "{err}");
    assert!(
        out.contains("difference +0.000") && out.contains("on 12 problems"),
        "{out}"
    );

    let (code, _, err) = run(at, &["report", "run"]);
    assert_eq!(code, 0, "{err}");
    assert!(
        fs::read_to_string(at.join("run/report.html"))
            .unwrap()
            .contains("guidance length")
    );
    let (code, out, err) = run(at, &["report", "run", "--check"]);
    assert!(matches!(code, 0 | 5), "{out}{err}");
    let (code, out, err) = run(
        at,
        &[
            "generate",
            "run/model",
            "2 and 3?",
            "--max-completion-length",
            "8",
        ],
    );
    assert_eq!(code, 0, "{err}");
    assert!(!out.is_empty());
}

/// Tensors of a file by name, bit for bit: their order in it is not always the same.
fn tensors(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let read = tch::Tensor::read_safetensors(path).unwrap();
    let bytes = |tensor: &tch::Tensor| {
        let flat = tensor.reshape([-1]).view_dtype(tch::Kind::Uint8);
        Vec::<u8>::try_from(&flat).unwrap()
    };
    (read.iter())
        .map(|(name, tensor)| (name.clone(), bytes(tensor)))
        .collect()
}

/// What a run was at when it was killed, from the last line that it told with `RUST_LOG`.
const PHASES: [&str; 4] = ["generation", "update", "checkpoint", "evaluation"];

fn phase(log: &Path) -> Option<usize> {
    let text = fs::read_to_string(log).ok()?;
    let line = text.lines().next_back()?;
    [
        line.contains("step{") && line.contains("generating") && !line.contains("evaluation{"),
        line.contains("step{") && line.contains("judged") && !line.contains("evaluation{"),
        line.contains("checkpoint"),
        line.contains("evaluation{"),
    ]
    .iter()
    .position(|at| *at)
}

/// Starts a run, or goes on with it, and kills it `after` a while, once it is at `wanted`. Returns what
/// it was at, where its last line tells that, or nothing if it ended before.
fn interrupted(
    place: &Path,
    args: &[&str],
    after: Duration,
    wanted: usize,
) -> Option<Option<usize>> {
    let log = place.join("stderr");
    let mut child = command(place, args)
        .env("RUST_LOG", "g2rpo=debug")
        .stdout(Stdio::null())
        .stderr(fs::File::create(&log).unwrap())
        .spawn()
        .unwrap();
    std::thread::sleep(after);
    while child.try_wait().unwrap().is_none() && phase(&log) != Some(wanted) {
        std::thread::sleep(Duration::from_micros(200));
    }
    // At another instant of the phase each time.
    std::thread::sleep(Duration::from_micros(
        u64::from(after.subsec_nanos()) % 3000,
    ));
    child.kill().unwrap();
    let status = child.wait().unwrap();
    (!status.success()).then(|| phase(&log))
}

#[test]
fn a_run_that_is_killed_and_resumed_is_the_run_that_was_not() {
    let place = place();
    let at = place.path();
    // More of them, at other instants, in a longer run: G2RPO_KILLS=100.
    let wanted = std::env::var("G2RPO_KILLS").map_or(4, |n| n.parse().unwrap());
    let steps = if wanted > 4 { 20 } else { 8 };
    let max_steps = format!("max_steps={steps}");
    let begin = |folder: &str| {
        let output = format!("output_dir={folder}");
        let args = [
            "train",
            "recipe.toml",
            "--set",
            &output,
            "--set",
            &max_steps,
            "--quiet",
        ];
        args.map(str::to_owned)
    };
    let whole = begin("whole");
    let start = Instant::now();
    assert_eq!(run(at, &whole.each_ref().map(String::as_str)).0, 0);
    let needed = start.elapsed();

    let (mut kills, mut runs, mut random) = ([0; PHASES.len()], 0, 1_u64);
    while kills.iter().sum::<usize>() < wanted {
        runs += 1;
        let folder = format!("parts-{runs}");
        let first = begin(&folder);
        let mut args = first.each_ref().map(String::as_str).to_vec();
        // Of each run a few kills, so that it also gets to its end.
        for _ in 0..8 {
            let killed: usize = kills.iter().sum();
            if killed >= wanted {
                break;
            }
            // The generator of MMIX; its upper bits are the good ones.
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let share = 0.9 * (random >> 40) as f64 / f64::from(1 << 24);
            let Some(at_phase) =
                interrupted(at, &args, needed.mul_f64(share), killed % PHASES.len())
            else {
                break;
            };
            if let Some(at_phase) = at_phase {
                kills[at_phase] += 1;
            }
            if at.join(&folder).join("recipe.toml").exists() {
                args = vec!["resume", &folder, "--quiet"];
            } else {
                fs::remove_dir_all(at.join(&folder)).unwrap_or_default();
            }
        }
        let (code, _, err) = run(at, &args);
        // A run that came to its end before it was killed is there already.
        assert!(code == 0 || args[0] == "train" && code == 4, "{err}");
        assert_eq!(rows(&at.join(&folder)), rows(&at.join("whole")));
        let last = format!("checkpoints/step_{steps:06}/learner.safetensors");
        assert!(
            tensors(&at.join(&folder).join(&last)) == tensors(&at.join("whole").join(&last)),
            "{last} of {folder}"
        );
        let evaluation = format!("evaluations/test_step_{steps:06}.jsonl");
        for file in ["model/model.safetensors", "samples.jsonl", &evaluation] {
            let read = |run: &str| fs::read(at.join(run).join(file)).unwrap();
            assert!(read(&folder) == read("whole"), "{file} of {folder}");
        }
        fs::remove_dir_all(at.join(&folder)).unwrap();
    }
    eprintln!("kills in {PHASES:?}: {kills:?}, of {runs} runs of {steps} steps");
}

#[test]
fn a_signal_ends_the_step_and_saves() {
    let place = place();
    let at = place.path();
    let args = [
        "train",
        "recipe.toml",
        "--set",
        "max_steps=10000",
        "--set",
        "save_steps=10000",
        "--unset",
        "eval_steps",
    ];
    let child = command(at, &args)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let metrics = at.join("run/metrics.jsonl");
    // Until the first step is done.
    while fs::metadata(&metrics).map_or(0, |m| m.len()) == 0 {
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(
        Command::new("kill")
            .arg(child.id().to_string())
            .status()
            .unwrap()
            .success()
    );
    let output = child.wait_with_output().unwrap();
    let err = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(130), "{err}");
    assert!(
        err.contains("stopped by a signal after step")
            && err.contains("`g2rpo resume run` goes on"),
        "{err}"
    );
    assert_eq!(fs::read_dir(at.join("run/checkpoints")).unwrap().count(), 1);
    // A changed recipe is shown and asked for; a damaged checkpoint is told and not used.
    let (code, _, err) = run(at, &["resume", "run", "--set", "learning_rate=1e-4"]);
    assert_eq!(code, 2, "{err}");
    assert!(err.contains("learning_rate: 0.001 → 0.0001"), "{err}");
    let checkpoint: PathBuf = fs::read_dir(at.join("run/checkpoints"))
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    fs::write(checkpoint.join("state.json"), "{}").unwrap();
    let (code, _, err) = run(at, &["resume", "run", "--set", "max_steps=1", "--yes"]);
    assert_eq!(code, 4, "{err}");
    assert!(
        err.contains("is damaged and not used: state.json: 2 bytes where"),
        "{err}"
    );
}

#[test]
fn what_cannot_be_done_is_said_in_a_sentence_with_its_exit_code() {
    let place = place();
    let at = place.path();
    for (args, code, message) in [
        (&["train"][..], 2, "which recipe?"),
        (&["train", "none.toml"], 2, "none.toml: No such file"),
        (
            &["train", "recipe.toml", "--set", "sed=1"],
            2,
            "unknown key: did you mean seed?",
        ),
        (
            &["train", "recipe.toml", "--set", "dataset_name=none.jsonl"],
            3,
            "none.jsonl: No such file",
        ),
        (
            &["train", "recipe.toml", "--set", "dataset_name=recipe.toml"],
            3,
            "rows cannot be used",
        ),
        (
            &["train", "recipe.toml", "--set", "model_name_or_path=none"],
            2,
            "none",
        ),
        (&["resume", "none"], 4, "there is no such run to resume"),
        (&["report", "none"], 4, "it holds no metrics.jsonl"),
        (&["compare", "a"], 2, "required"),
        (&["verify", "none.jsonl"], 3, "none.jsonl: No such file"),
    ] {
        let (got, _, err) = run(at, args);
        assert!(
            got == code && err.contains(message),
            "{args:?}: {got}, {err}"
        );
        assert!(!err.contains("panicked"), "{err}");
    }
    fs::write(
        at.join("answers.jsonl"),
        "{\"response\": \"\\\\boxed{5}\", \"reference\": \"5\"}\n",
    )
    .unwrap();
    let (code, out, _) = run(at, &["verify", "answers.jsonl"]);
    assert!(code == 0 && out.contains("right: 1.000"), "{out}");
    let (code, _, _) = run(at, &["init", "new.toml"]);
    assert_eq!(code, 0);
    let (code, _, err) = run(at, &["init", "new.toml"]);
    assert!(code == 2 && err.contains("it is there already"), "{err}");
}
