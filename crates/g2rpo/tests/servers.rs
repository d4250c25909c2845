//! The command with servers: weights that arrive, mistakes that are said before the first step.

mod common;
#[path = "common/server.rs"]
mod server;

use std::path::{Path, PathBuf};

use common::{place, run};
use g2rpo::train::MetricsRow;
use g2rpo::train::run::step_log::read_rows;
use server::{ROOM, Server};

fn warm_up() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/gsm8k_tiny/warm_up")
}

/// A call of the command with further settings.
fn with(at: &Path, url: &str, command: &[&str], sets: &[&str]) -> (i32, String, String) {
    let base = [
        "use_vllm=true",
        &format!("vllm_server_base_url={url}"),
        "canary_tolerance=0.001",
        "vllm_server_timeout=2",
        "max_steps=3",
    ]
    .map(|set| format!("--set={set}"));
    let base = base.into_iter().chain(["--unset=eval_steps".to_owned()]);
    let sets = sets.iter().map(|set| format!("--set={set}"));
    let args: Vec<String> = command
        .iter()
        .map(|a| (*a).to_owned())
        .chain(base)
        .chain(sets)
        .collect();
    run(at, &args.iter().map(String::as_str).collect::<Vec<_>>())
}

fn metrics(at: &Path, run: &str) -> Vec<MetricsRow> {
    read_rows(&at.join(run).join("metrics.jsonl")).unwrap()
}

/// The server's log-probabilities are those of the learner as it was when it sampled.
fn agree(rows: &[MetricsRow]) {
    for row in rows {
        let distance = row.get("mismatch/logp_difference").unwrap();
        assert!(distance < 1e-4, "{distance:e}");
    }
}

/// Number of the steps that learned something.
fn updates(rows: &[MetricsRow]) -> usize {
    let learned = rows.iter().filter(|row| row.get("grad_norm").is_some());
    let updates = learned.count();
    assert!(updates > 0);
    updates
}

#[test]
fn every_step_is_sampled_by_the_weights_of_the_step_before() {
    let server = Server::start(&warm_up());
    let place = place();
    let at = place.path();
    let (code, out, err) = with(at, &server.url, &["train", "recipe.toml", "--dry-run"], &[]);
    assert_eq!(code, 0, "{err}");
    assert!(
        out.contains(&format!("vLLM 0 at {} serves policy", server.url)),
        "{out}"
    );
    assert!(server.loaded().is_empty());

    let (code, _, err) = with(at, &server.url, &["train", "recipe.toml"], &[]);
    assert_eq!(code, 0, "{err}");
    let rows = metrics(at, "run");
    assert_eq!(rows.len(), 3);
    agree(&rows);
    // Before the first step and after every update; the newest two folders stay.
    assert_eq!(server.loaded().len(), updates(&rows) + 1);
    let kept = std::fs::read_dir(at.join("run/weights")).unwrap().count();
    assert_eq!(kept, 2);

    // A server that was started anew gets the weights of the checkpoint before the first step.
    let server = Server::start(&warm_up());
    let (code, _, err) = with(
        at,
        &server.url,
        &["resume", "run", "--yes"],
        &["max_steps=5"],
    );
    assert_eq!(code, 0, "{err}");
    let rows = metrics(at, "run");
    assert_eq!(rows.len(), 5);
    agree(&rows[3..]);
}

#[test]
fn an_adapter_is_brought_before_every_step() {
    let server = Server::start_with_adapters(&warm_up());
    let place = place();
    let at = place.path();
    let sets = ["use_peft=true", "learning_rate=1e-2"];
    let (code, _, err) = with(at, &server.url, &["train", "recipe.toml"], &sets);
    assert_eq!(code, 0, "{err}");
    let rows = metrics(at, "run");
    assert_eq!(rows.len(), 3);
    agree(&rows);
    let updates = updates(&rows);
    let loaded = server.loaded();
    assert_eq!(loaded.len(), updates + 1);
    for folder in loaded.iter().rev().take(2) {
        // Two stay, and they hold adapters alone.
        assert!(folder.join("adapter_model.safetensors").exists());
        assert!(!folder.join("model.safetensors").exists());
    }
    // The server keeps the last one.
    let [kept] = &server.adapters()[..] else {
        panic!("{:?}", server.adapters());
    };
    assert!(
        kept.starts_with("g2rpo-") && kept.ends_with(&format!("-{updates}")),
        "{kept}"
    );

    // One that was started anew gets the adapter of the checkpoint; one that takes it for the base model ends the run.
    let resume = ["resume", "run", "--yes"];
    let server = Server::start_with_adapters(&warm_up());
    let (code, _, err) = with(at, &server.url, &resume, &["max_steps=4"]);
    assert_eq!(code, 0, "{err}");
    agree(&metrics(at, "run")[3..]);
    let server = Server::start_with_adapters(&warm_up());
    server.ignore_weights();
    let (code, _, err) = with(at, &server.url, &resume, &["max_steps=5"]);
    assert_eq!(code, 1, "{err}");
    assert!(
        err.contains("weights to the engine: after the sync of weights"),
        "{err}"
    );
}

/// A vLLM of `examples/gsm8k_tiny/warm_up`, where `G2RPO_VLLM` names one.
#[test]
fn a_real_vllm_gets_an_adapter_before_every_step() {
    let Ok(url) = std::env::var("G2RPO_VLLM") else {
        eprintln!("skipped: G2RPO_VLLM names no server, see docs/remote.md");
        return;
    };
    let place = place();
    let at = place.path();
    let sets = [
        "use_peft=true",
        "lora_r=8",
        "learning_rate=1e-2",
        "max_steps=10",
        "vllm_server_timeout=60",
    ];
    let (code, out, err) = with(at, &url, &["train", "recipe.toml"], &sets);
    assert_eq!(code, 0, "{err}");
    let rows = metrics(at, "run");
    agree(&rows);
    let distances = rows.iter().map(|row| row.get("mismatch/logp_difference"));
    println!(
        "{out}{} updates, mean distances of log-probabilities {:?}",
        updates(&rows),
        distances.collect::<Vec<_>>()
    );
}

#[test]
fn one_step_ahead_the_weights_are_one_step_older() {
    let server = Server::start(&warm_up());
    let place = place();
    let at = place.path();
    let sets = ["max_staleness=1", "max_steps=4", "learning_rate=1e-3"];
    let (code, _, err) = with(at, &server.url, &["train", "recipe.toml"], &sets);
    assert_eq!(code, 0, "{err}");
    let rows = metrics(at, "run");
    let distance = |row: &MetricsRow| row.get("mismatch/logp_difference").unwrap();
    assert!(distance(&rows[0]) < 1e-4);
    assert!(rows[1..].iter().any(|row| distance(row) > 1e-3), "{rows:?}");
    assert_eq!(rows[3].get("staleness"), Some(1.0));
}

#[test]
fn a_server_that_keeps_its_old_weights_ends_the_run() {
    let server = Server::start(&warm_up());
    server.ignore_weights();
    let place = place();
    let (code, _, err) = with(place.path(), &server.url, &["train", "recipe.toml"], &[]);
    assert_eq!(code, 1, "{err}");
    assert!(
        err.contains("weights to the engine: after the sync of weights"),
        "{err}"
    );
    assert!(
        err.contains("training on its rollouts would be wrong"),
        "{err}"
    );
}

#[test]
fn what_servers_cannot_do_is_said_before_the_first_step() {
    let server = Server::start(&warm_up());
    let place = place();
    let at = place.path();
    let room = format!("max_completion_length={ROOM}");
    for (set, code, words) in [
        ("top_p=0.9", 1, "top_p 0.9 cannot be used with the server"),
        (&*room, 2, "has room for 512"),
        ("weight_sync=adapter", 2, "there is no adapter to send"),
        (
            "use_peft=true",
            1,
            "it has no /v1/load_lora_adapter, which weight_sync needs",
        ),
        ("server_backend=sglang", 1, "is it another kind of server"),
        (
            "vllm_server_base_url=http://127.0.0.1:9",
            1,
            "does not answer for 2 s",
        ),
    ] {
        let (got, _, err) = with(
            at,
            &server.url,
            &["train", "recipe.toml"],
            &[set, "output_dir=none"],
        );
        assert!(got == code && err.contains(words), "{set}: {got}, {err}");
        let waits = code == 1 && words.starts_with("does not answer");
        assert_eq!(
            err.contains("waiting for http://127.0.0.1:9, at most 2 s"),
            waits,
            "{err}"
        );
        assert!(!at.join("none/metrics.jsonl").exists(), "{set}");
        let _ = std::fs::remove_dir_all(at.join("none"));
    }
    assert!(server.loaded().is_empty());
}
