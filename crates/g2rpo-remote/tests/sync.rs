//! Weights to the servers: what is called in which order, and that nothing is served unproved.

mod common;

use std::path::Path;

use common::{Reply, Stub, config, connect, learner, params, recorded, requests, write_weights};
use g2rpo_remote::{Backend, Error, RemoteConfig, RemoteEngine, WeightSync};
use g2rpo_rollout::RolloutEngine;
use serde_json::json;

struct Setting {
    stub: Stub,
    engine: RemoteEngine,
    dir: tempfile::TempDir,
    adapter: bool,
}

fn setting(backend: Backend, weight_sync: WeightSync) -> Setting {
    let stub = Stub::start();
    let engine = connect(RemoteConfig {
        backend,
        weight_sync,
        ..config(&[&stub])
    });
    Setting {
        stub,
        engine,
        dir: tempfile::tempdir().unwrap(),
        adapter: weight_sync == WeightSync::Adapter,
    }
}

impl Setting {
    fn folder(&self, name: &str, weights: f64) -> std::path::PathBuf {
        let folder = self.dir.path().join(name);
        write_weights(&folder, weights, self.adapter);
        folder
    }

    /// Paths that change something, since the last question.
    fn changes(&self) -> Vec<String> {
        let mut state = self.stub.state();
        let seen = std::mem::take(&mut state.seen);
        let reads = [
            "/health",
            "/version",
            "/v1/models",
            "/is_paused",
            "/get_server_info",
        ];
        let is_change = |path: &&String| {
            !reads.contains(&path.as_str())
                && !path.contains("generate")
                && !path.contains("completions")
        };
        seen.iter()
            .map(|s| &s.path)
            .filter(is_change)
            .cloned()
            .collect()
    }
}

#[test]
fn each_adapter_has_a_new_name_and_the_old_one_goes() {
    let mut s = setting(Backend::Vllm, WeightSync::Adapter);
    for (version, weights) in [(3, 0.5), (4, 0.75)] {
        let folder = s.folder(&version.to_string(), weights);
        let report = s
            .engine
            .sync(&folder, version, &mut learner(weights))
            .unwrap();
        assert_eq!((report.version, report.canaries.len()), (version, 1));
        assert!(report.canaries[0].holds() && report.canaries[0].mean < 1e-6);
        assert_eq!(report.canaries[0].tokens, 19 + 11);
        let completions = s.engine.generate(&requests(4, 8), &params()).unwrap();
        for completion in &completions {
            assert_eq!(
                completion.weight_versions,
                Some(vec![version; completion.tokens.len()])
            );
            let logps = completion
                .tokens
                .iter()
                .map(|id| common::logp(weights, (*id).into()) as f32);
            assert_eq!(completion.logps, logps.collect::<Vec<_>>());
        }
        let names: Vec<String> = s.stub.state().adapters.keys().cloned().collect();
        assert_eq!(names, [format!("g2rpo-{version}")]);
    }
    assert_eq!(s.engine.version(), Some(4));
    let progress = s
        .engine
        .sync(s.folder("5", 1.0), 5, &mut learner(1.0))
        .unwrap();
    assert!((progress.canaries[0].progress.unwrap() - 1.0).abs() < 1e-3);
}

#[test]
fn an_adapter_that_an_earlier_run_left_is_replaced() {
    let mut s = setting(Backend::Vllm, WeightSync::Adapter);
    s.stub.state().adapters.insert("g2rpo-3".into(), 9.0);
    s.changes();
    s.engine
        .sync(s.folder("3", 0.5), 3, &mut learner(0.5))
        .unwrap();
    assert_eq!(
        s.changes(),
        ["/v1/load_lora_adapter", "/v1/load_lora_adapter"]
    );
    let mut s = setting(Backend::Sglang, WeightSync::Adapter);
    s.stub.state().adapters.insert("g2rpo-3".into(), 9.0);
    s.changes();
    s.engine
        .sync(s.folder("3", 0.5), 3, &mut learner(0.5))
        .unwrap();
    assert_eq!(
        s.changes(),
        [
            "/load_lora_adapter",
            "/unload_lora_adapter",
            "/load_lora_adapter"
        ]
    );
    s.engine.generate(&requests(4, 8), &params()).unwrap();
}

#[test]
fn a_folder_is_loaded_between_pause_and_resume() {
    let mut s = setting(Backend::Vllm, WeightSync::Folder);
    s.changes();
    s.engine
        .sync(s.folder("7", 0.5), 7, &mut learner(0.5))
        .unwrap();
    let order = [
        "/pause?mode=abort",
        "/collective_rpc",
        "/reset_prefix_cache",
        "/update_weight_version",
        "/resume",
    ];
    assert_eq!(s.changes(), order);
    let completion = &s.engine.generate(&requests(1, 8), &params()).unwrap()[0];
    assert_eq!(
        completion.weight_versions,
        Some(vec![7; completion.tokens.len()])
    );

    let mut s = setting(Backend::Sglang, WeightSync::Folder);
    s.changes();
    s.engine
        .sync(s.folder("7", 0.5), 7, &mut learner(0.5))
        .unwrap();
    assert_eq!(s.changes(), ["/update_weights_from_disk"]);
    let completion = &s.engine.generate(&requests(1, 8), &params()).unwrap()[0];
    assert_eq!(
        completion.weight_versions,
        Some(vec![7; completion.tokens.len()])
    );
}

#[test]
fn weights_that_did_not_arrive_stop_the_engine_until_they_do() {
    for (weight_sync, lost) in [
        // The server says yes, and goes on with the weights it has.
        (WeightSync::Folder, ("/collective_rpc", "reload_weights")),
        (
            WeightSync::Adapter,
            ("/v1/load_lora_adapter", "load_lora_adapter"),
        ),
    ] {
        let mut s = setting(Backend::Vllm, weight_sync);
        s.engine
            .sync(s.folder("1", 0.5), 1, &mut learner(0.5))
            .unwrap();
        s.stub.state().adapters.insert("g2rpo-2".into(), 0.5);
        s.stub
            .fault(move |seen, _| (seen.path == lost.0).then(|| recorded(lost.1)));
        // The learner moved so little that the tolerance does not see it.
        let moved = 0.5 + 1e-3;
        let error = s
            .engine
            .sync(s.folder("2", moved), 2, &mut learner(moved))
            .unwrap_err();
        let Error::Canary { version: 2, report } = &error else {
            panic!("{error}");
        };
        assert!(
            report.mean < 1e-3 && report.progress.unwrap().abs() < 0.1,
            "{report}"
        );
        assert!(
            error
                .to_string()
                .contains("it still serves the previous weights"),
            "{error}"
        );

        let refused = s
            .engine
            .generate(&requests(1, 8), &params())
            .unwrap_err()
            .to_string();
        assert!(
            refused.contains("the sync of weights 2 failed, sync again"),
            "{refused}"
        );
        s.stub.fault(|_, _| None);
        s.stub.state().adapters.clear();
        s.engine
            .sync(s.folder("3", moved), 3, &mut learner(moved))
            .unwrap();
        s.engine.generate(&requests(1, 8), &params()).unwrap();
    }
}

#[test]
fn weights_far_away_are_told_by_how_much() {
    let mut s = setting(Backend::Vllm, WeightSync::Folder);
    let error = s
        .engine
        .sync(s.folder("1", 0.5), 1, &mut learner(1.5))
        .unwrap_err()
        .to_string();
    // The mean of id % 3 over the canary's scored ids is 1, each 0.1 · (1.5 − 0.5) nats apart.
    assert!(
        error.contains("nats from the learner's in the mean and 2.00e-1 at most"),
        "{error}"
    );
}

#[test]
fn every_failure_of_a_sync_is_named() {
    type Break = fn(&Stub);
    let table: &[(WeightSync, Break, &str)] = &[
        (
            WeightSync::Folder,
            |s| {
                s.fault(|seen, _| {
                    (seen.path == "/collective_rpc").then(|| recorded("reload_weights_bad_path"))
                });
            },
            "bringing weights at http://127.0.0.1",
        ),
        (
            WeightSync::Folder,
            |s| {
                s.fault(|seen, _| {
                    (seen.path == "/reset_prefix_cache")
                        .then(|| Reply::Json(200, r#"{"success": false}"#.into()))
                });
            },
            "/reset_prefix_cache did not succeed",
        ),
        (
            WeightSync::Folder,
            |s| {
                s.fault(|seen, _| {
                    (seen.path == "/update_weight_version").then(|| recorded("not_found"))
                });
            },
            "status 404: Not Found",
        ),
        (
            WeightSync::Adapter,
            |s| {
                s.fault(|seen, _| {
                    (seen.path == "/v1/load_lora_adapter")
                        .then(|| recorded("load_lora_adapter_bad_rank"))
                });
            },
            "LoRA rank 16 is greater than max_lora_rank 8",
        ),
        (
            WeightSync::Adapter,
            |s| {
                s.fault(|seen, _| {
                    (seen.path == "/v1/load_lora_adapter")
                        .then(|| recorded("load_lora_adapter_bad_path"))
                });
            },
            "No adapter found",
        ),
        (
            WeightSync::Folder,
            |s| {
                s.fault(|seen, _| {
                    (seen.body["request_id"] == "g2rpo-score").then(|| recorded("generate"))
                });
            },
            "no prompt_logprobs",
        ),
    ];
    for (weight_sync, break_it, words) in table {
        let mut s = setting(Backend::Vllm, *weight_sync);
        break_it(&s.stub);
        let folder = s.folder("1", 0.5);
        let error = s
            .engine
            .sync(&folder, 1, &mut learner(0.5))
            .unwrap_err()
            .to_string();
        assert!(error.contains(words), "{error}");
        assert!(!s.stub.state().paused, "a server is never left paused");
        s.stub.fault(|_, _| None);
        assert!(s.engine.generate(&requests(1, 8), &params()).is_err());
    }
}

#[test]
fn a_sync_survives_a_broken_connection_and_a_busy_server() {
    for fault in [|| Reply::Bytes(vec![]), || recorded("generate_busy")] {
        let mut s = setting(Backend::Vllm, WeightSync::Folder);
        let mut left = 2;
        s.stub.fault(move |seen, _| {
            (seen.path == "/collective_rpc" && left > 0).then(|| {
                left -= 1;
                fault()
            })
        });
        s.engine
            .sync(s.folder("1", 0.5), 1, &mut learner(0.5))
            .unwrap();
    }
    // However often it is busy at the canary, and as long as it asks for.
    let mut s = setting(Backend::Vllm, WeightSync::Folder);
    let mut left = 9;
    s.stub.fault(move |seen, _| {
        (seen.path == "/inference/v1/generate" && left > 0).then(|| {
            left -= 1;
            Reply::RetryAfter(429, 0.02)
        })
    });
    let start = std::time::Instant::now();
    s.engine
        .sync(s.folder("1", 0.5), 1, &mut learner(0.5))
        .unwrap();
    assert!(start.elapsed() >= std::time::Duration::from_millis(180));
}

#[test]
fn what_cannot_be_synced_is_refused_before_any_server_is_asked() {
    let mut s = setting(Backend::Vllm, WeightSync::Folder);
    s.engine
        .sync(s.folder("5", 0.5), 5, &mut learner(0.5))
        .unwrap();
    s.changes();
    let good = s.folder("6", 0.5);
    let tied = s.dir.path().join("tied");
    write_weights(&tied, 0.5, false);
    std::fs::write(tied.join("config.json"), "{}").unwrap();
    let mut refused = |folder: &Path, version, learner: &mut g2rpo_remote::Scorer<'_>| {
        s.engine
            .sync(folder, version, learner)
            .unwrap_err()
            .to_string()
    };
    let nowhere = Path::new("/no/such/folder");
    for (error, words) in [
        (
            refused(&good, 5, &mut learner(0.5)),
            "version: 5 does not follow 5",
        ),
        (refused(nowhere, 6, &mut learner(0.5)), "/no/such/folder"),
        (refused(&tied, 6, &mut learner(0.5)), "write_untied"),
        (
            refused(&good, 6, &mut |_| Err("out of memory".into())),
            "the canary: out of memory",
        ),
        (
            refused(&good, 6, &mut |_| Ok(vec![])),
            "expected 19 finite numbers",
        ),
        (
            refused(&good, 6, &mut |ids| Ok(vec![f32::NAN; ids.len() - 1])),
            "expected 19 finite",
        ),
    ] {
        assert!(error.contains(words), "{error}");
    }
    assert_eq!(s.changes(), Vec::<String>::new());
    // The weights of before are still good.
    s.engine.generate(&requests(1, 8), &params()).unwrap();

    let mut none = setting(Backend::Vllm, WeightSync::None);
    let error = none
        .engine
        .sync(&good, 1, &mut learner(0.5))
        .unwrap_err()
        .to_string();
    assert!(error.contains("weight_sync: is none"), "{error}");
}

#[test]
fn weights_that_the_servers_were_started_with_are_confirmed() {
    let mut s = setting(Backend::Vllm, WeightSync::None);
    let error = s.engine.confirm(0, &mut learner(0.5)).unwrap_err();
    assert!(matches!(error, Error::Canary { .. }), "{error}");
    s.engine.confirm(0, &mut learner(0.0)).unwrap();
    // The server's own label is not ours, and says nothing.
    let mut s = setting(Backend::Vllm, WeightSync::Adapter);
    s.engine.confirm(0, &mut learner(0.0)).unwrap();
    s.engine
        .sync(s.folder("1", 0.5), 1, &mut learner(0.5))
        .unwrap();
    s.engine.generate(&requests(1, 8), &params()).unwrap();
}

#[test]
fn servers_may_see_the_folders_elsewhere() {
    let dir = tempfile::tempdir().unwrap();
    let here = dir.path().join("here/7");
    write_weights(&here, 0.5, false);
    write_weights(&dir.path().join("there/7"), 0.5, false);
    let stub = Stub::start();
    let there = dir.path().join("there");
    let mut engine = connect(RemoteConfig {
        weight_sync: WeightSync::Folder,
        weights_dir_on_server: Some(there.clone()),
        ..config(&[&stub])
    });
    engine.sync(&here, 7, &mut learner(0.5)).unwrap();
    let calls = stub.calls("/collective_rpc");
    let path = json!(there.join("7"));
    assert_eq!(calls.last().unwrap().body["kwargs"]["weights_path"], path);
}

#[test]
fn all_servers_get_the_weights_or_none_is_used() {
    let stubs = [Stub::start(), Stub::start()];
    let mut engine = connect(RemoteConfig {
        weight_sync: WeightSync::Folder,
        ..config(&[&stubs[0], &stubs[1]])
    });
    let dir = tempfile::tempdir().unwrap();
    write_weights(dir.path(), 0.5, false);
    let report = engine.sync(dir.path(), 1, &mut learner(0.5)).unwrap();
    assert_eq!(report.canaries.len(), 2);
    stubs[1].fault(|seen, _| (seen.path == "/collective_rpc").then(|| recorded("not_found")));
    let error = engine.sync(dir.path(), 2, &mut learner(0.5)).unwrap_err();
    assert!(error.to_string().contains(&stubs[1].url), "{error}");
    assert!(engine.generate(&requests(1, 8), &params()).is_err());
}
