//! Several processes of the command: equal to one, and what happens when one of them dies.

mod common;

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use common::{command, place, rows, run};
use tch::{Kind, Tensor};

/// Starts the command once for each rank.
fn start(place: &Path, args: &[&str], size: usize) -> Vec<Child> {
    start_each(place, &vec![args.to_vec(); size])
}

/// Starts one process for each list of arguments, with the variables of torchrun.
fn start_each(place: &Path, args: &[Vec<&str>]) -> Vec<Child> {
    // Nobody takes a port in the moment between this and rank 0.
    let port = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = port.local_addr().unwrap().port();
    let one = |rank: usize| {
        let mut command = command(place, &args[rank]);
        command
            .env("RANK", rank.to_string())
            .env("LOCAL_RANK", rank.to_string())
            .env("WORLD_SIZE", args.len().to_string())
            .env("MASTER_ADDR", "127.0.0.1")
            .env("MASTER_PORT", port.to_string())
            .env("GLOO_SOCKET_IFNAME", "lo")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command.spawn().unwrap()
    };
    (0..args.len()).map(one).collect()
}

fn wait(ranks: Vec<Child>) -> Vec<Output> {
    ranks
        .into_iter()
        .map(|rank| rank.wait_with_output().unwrap())
        .collect()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Largest difference of the parameters of two runs, relative to the largest parameter.
fn distance(place: &Path, one: &str, other: &str) -> f64 {
    let read = |run: &str| {
        let file = place.join(run).join("model/model.safetensors");
        let mut tensors = Tensor::read_safetensors(file).unwrap();
        tensors.sort_by(|a, b| a.0.cmp(&b.0));
        let flat: Vec<Tensor> = (tensors.iter())
            .map(|(_, t)| t.to_kind(Kind::Double).flatten(0, -1))
            .collect();
        Tensor::cat(&flat, 0)
    };
    let (one, other) = (read(one), read(other));
    let largest = one.abs().max().double_value(&[]);
    (one - other).abs().max().double_value(&[]) / largest
}

/// What is compared of the rows of two runs: what was planned and earned, without sums of floats.
fn rewards(run: &Path) -> Vec<String> {
    let kept = |cell: &&str| {
        [
            "reward=",
            "guidance/length=",
            "completions/own_length=",
            "eval/test/accuracy=",
        ]
        .iter()
        .any(|name| cell.starts_with(name))
    };
    let rows = rows(run);
    rows.iter()
        .map(|row| row.split(' ').filter(kept).collect::<Vec<_>>().join(" "))
        .collect()
}

const SHORT: [&str; 5] = [
    "--set",
    "max_steps=3",
    "--set",
    "learning_rate=1e-4",
    "--set",
];

#[test]
fn two_processes_are_one_and_rank_0_writes() {
    let place = place();
    let at = place.path();
    let train = |folder: &'static str| [&["train", "recipe.toml"], &SHORT[..], &[folder]].concat();
    let (code, _, err) = run(at, &train("output_dir=one"));
    assert_eq!(code, 0, "{err}");
    let outputs = wait(start(at, &train("output_dir=two"), 2));
    for output in &outputs {
        assert!(output.status.success(), "{}", text(&output.stderr));
    }
    let first = text(&outputs[0].stdout);
    assert!(
        first.contains("2 processes share every step")
            && first.contains("the model is in two/model"),
        "{first}"
    );
    assert_eq!(text(&outputs[1].stdout), "");
    assert_eq!(rewards(&at.join("two")), rewards(&at.join("one")));
    let apart = distance(at, "one", "two");
    println!("1 and 2 processes, three steps in f32: parameters {apart:e} apart");
    assert!(apart < 1e-5, "{apart:e}");

    // A folder that holds a run is refused on all ranks, by rank 0's word.
    let outputs = wait(start(at, &train("output_dir=two"), 2));
    for (rank, output) in outputs.iter().enumerate() {
        assert!(!output.status.success());
        let err = text(&output.stderr);
        assert!(
            err.contains("it holds a run already") && err.starts_with(&format!("rank {rank}: ")),
            "{err}"
        );
    }
}

/// Torchrun itself, where `G2RPO_TORCHRUN` names it.
#[test]
fn torchrun_starts_it() {
    let Some(torchrun) = std::env::var_os("G2RPO_TORCHRUN") else {
        eprintln!("skipped: G2RPO_TORCHRUN names no torchrun");
        return;
    };
    let place = place();
    let args = [
        "--standalone",
        "--nproc-per-node",
        "2",
        "--no-python",
        env!("CARGO_BIN_EXE_g2rpo"),
        "train",
        "recipe.toml",
    ];
    let output = Command::new(torchrun)
        .args(args)
        .current_dir(place.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    let out = text(&output.stdout);
    assert!(
        out.contains("2 processes share every step") && out.contains("the model is in run/model"),
        "{out}"
    );
    assert_eq!(rows(&place.path().join("run")).len(), 6);
}

/// Kills one of two ranks in the middle; the other stops with its name, and one process goes on.
fn killed(victim: usize) {
    let place = place();
    let at = place.path();
    let long = [
        "train",
        "recipe.toml",
        "--set",
        "max_steps=10000",
        "--set",
        "save_steps=2",
        "--unset",
        "eval_steps",
    ];
    let mut ranks = start(at, &long, 2);
    let begin = Instant::now();
    while !at
        .join("run/checkpoints/step_000002/manifest.json")
        .exists()
    {
        assert!(begin.elapsed() < Duration::from_secs(240), "no checkpoint");
        std::thread::sleep(Duration::from_millis(20));
    }
    ranks[victim].kill().unwrap();
    let clock = Instant::now();
    let mut outputs = wait(ranks);
    let waited = clock.elapsed();
    let other = outputs.remove(1 - victim);
    let err = text(&other.stderr);
    println!("rank {victim} killed: the other stopped after {waited:.1?}: {err}");
    assert!(waited < Duration::from_secs(30), "{waited:?}");
    assert_eq!(other.status.code(), Some(1), "{err}");
    assert!(
        err.contains(&format!("rank {victim} did not take part in")),
        "{err}"
    );

    let (code, out, err) = run(at, &["resume", "run", "--set", "max_steps=40", "--yes"]);
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("going on after"), "{out}");
    let steps: Vec<String> = rows(&at.join("run"));
    assert_eq!(steps.len(), 40);
    for (i, row) in steps.iter().enumerate() {
        assert!(row.starts_with(&format!("{i} ")), "{row}");
    }
}

#[test]
fn a_killed_rank_stops_the_run_and_one_process_resumes_it() {
    killed(1);
}

#[test]
fn a_killed_rank_0_stops_the_run_as_well() {
    killed(0);
}

#[test]
fn a_run_of_one_process_goes_on_with_two() {
    let place = place();
    let at = place.path();
    let (code, _, err) = run(at, &["train", "recipe.toml", "--set", "max_steps=2"]);
    assert_eq!(code, 0, "{err}");
    fs::remove_dir_all(at.join("run/model")).unwrap();
    for output in wait(start(
        at,
        &["resume", "run", "--set", "max_steps=4", "--yes"],
        2,
    )) {
        assert!(output.status.success(), "{}", text(&output.stderr));
    }
    assert_eq!(rows(&at.join("run")).len(), 4);
    assert!(at.join("run/model/model.safetensors").exists());
}

#[test]
fn a_rank_with_another_seed_is_named() {
    let place = place();
    let seeds = ["seed=1", "seed=2"];
    for output in wait(start_each(
        place.path(),
        &seeds.map(|seed| vec!["train", "recipe.toml", "--set", seed]),
    )) {
        let err = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{err}");
        assert!(err.contains("rank 1 differs from the others"), "{err}");
    }
}
