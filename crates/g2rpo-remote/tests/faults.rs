//! Every way in which a server can fail a rollout: what is tried again succeeds, and what is not
//! says what is wrong, where, and for which rollout.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use common::{Reply, Seen, State, Stub, config, connect, params, recorded, requests};
use g2rpo_remote::{Error, RemoteConfig, WeightSync};
use g2rpo_rollout::RolloutEngine;
use serde_json::{Value, json};

/// An answer of the stub to a rollout, made wrong.
type Wrong = fn(Reply) -> Reply;

fn choice(reply: Reply, change: fn(&mut Value)) -> Reply {
    reply.edit(|json| change(&mut json["choices"][0]))
}

/// Applies `wrong` to the answers of the first `times` rollouts.
fn spoil(stub: &Stub, times: usize, wrong: Wrong) {
    let mut left = times;
    stub.fault(move |seen: &Seen, state: &State| {
        if !seen.is_rollout() || left == 0 {
            return None;
        }
        left -= 1;
        Some(wrong(common::complete(state, seen)))
    });
}

/// Faults that pass: the name, the fault, and what is said when it does not pass.
const PASSING: &[(&str, Wrong, &str)] = &[
    (
        "closed socket",
        |_| Reply::Bytes(vec![]),
        "the connection broke before the answer was complete",
    ),
    (
        "half an answer",
        half,
        "the connection broke before the answer was complete",
    ),
    (
        "no HTTP",
        |_| Reply::Bytes(b"garbage\r\n\r\n".to_vec()),
        "the connection broke",
    ),
    (
        "half JSON",
        |r| {
            let t = r.text();
            Reply::Json(200, t[..t.len() / 2].into())
        },
        "it ends early",
    ),
    (
        "no JSON",
        |_| Reply::Json(200, "<html>".into()),
        "an answer that cannot be read",
    ),
    (
        "no UTF-8",
        |_| Reply::Bytes(b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n\xff".to_vec()),
        "it is not UTF-8",
    ),
    (
        "dead engine",
        |_| recorded("generate_after_failed_reload"),
        "status 500: EngineCore encountered an issue",
    ),
    (
        "bad gateway",
        |_| Reply::Json(502, "<h1>Bad Gateway</h1>".into()),
        "status 502: <h1>Bad Gateway</h1>",
    ),
    (
        "gateway timeout",
        |_| Reply::Json(504, String::new()),
        "status 504",
    ),
    (
        "aborted",
        |r| choice(r, |c| c["finish_reason"] = json!("abort")),
        "the server aborted the request",
    ),
    (
        "late",
        |r| Reply::Late(Duration::from_secs(9), Box::new(r)),
        "no complete answer within 0.3 s",
    ),
    (
        "slow drip",
        |r| Reply::Drip(Duration::from_millis(20), r.text()),
        "no complete answer within 0.3 s",
    ),
];

fn half(reply: Reply) -> Reply {
    let text = reply.text();
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", text.len());
    Reply::Bytes((head + &text[..text.len() / 2]).into_bytes())
}

fn quick(stub: &Stub) -> RemoteConfig {
    RemoteConfig {
        request_timeout: 0.3,
        ..config(&[stub])
    }
}

#[test]
fn what_passes_is_tried_again_with_the_same_result() {
    let expected = {
        let stub = Stub::start();
        connect(quick(&stub))
            .generate(&requests(3, 8), &params())
            .unwrap()
    };
    for (name, wrong, _) in PASSING {
        let stub = Stub::start();
        let mut engine = connect(quick(&stub));
        spoil(&stub, 2, *wrong);
        let got = engine.generate(&requests(3, 8), &params());
        assert_eq!(got.unwrap(), expected, "{name}");
        assert_eq!(stub.rollouts(), 5, "{name}");
    }
}

#[test]
fn what_does_not_pass_is_given_up_with_its_key() {
    for (name, wrong, words) in PASSING {
        let stub = Stub::start();
        let mut engine = connect(quick(&stub));
        spoil(&stub, usize::MAX, *wrong);
        let error = engine.generate(&requests(1, 8), &params()).unwrap_err();
        assert!(
            matches!(error, Error::GaveUp { tries: 3, .. }),
            "{name}: {error}"
        );
        let error = error.to_string();
        assert!(error.contains(words), "{name}: {error}");
        assert!(
            error.contains("rollout (run 5, step 6, group 0, member 0) at http://127."),
            "{error}"
        );
        assert_eq!(stub.rollouts(), 3, "{name}");
    }
}

#[test]
fn what_would_come_again_is_refused_at_once() {
    let table: &[(&str, Wrong, &str)] = &[
        (
            "wrong request",
            |r| r.edit(|j| j["request_id"] = json!("generate-tokens-other")),
            "it answers the request `other`",
        ),
        (
            "wrong model",
            |r| r.edit(|j| j["model"] = json!("base")),
            "the model `base` made it",
        ),
        (
            "wrong prompt",
            |r| r.edit(|j| j["usage"]["prompt_tokens"] = json!(99)),
            "a prompt of 99 ids",
        ),
        (
            "wrong ids",
            |r| choice(r, |c| c["token_ids"][0] = json!(4000)),
            "id 4000 is not in the vocabulary",
        ),
        (
            "other ids",
            |r| choice(r, |c| c["token_ids"][0] = json!(8)),
            "belongs to id",
        ),
        (
            "NaN",
            |r| choice(r, |c| c["logprobs"]["content"][1]["logprob"] = Value::Null),
            "at position 1 is missing or NaN",
        ),
        (
            "no log-probabilities",
            |r| choice(r, |c| c["logprobs"] = Value::Null),
            "8 ids came with 0 log-probabilities",
        ),
        (
            "cut off",
            |r| {
                choice(r, |c| {
                    c["logprobs"]["content"][0]["logprob"] = json!(-9999.0);
                })
            },
            "is -9999",
        ),
        ("silently cut", cut, "it was cut after 3 of 8 ids"),
        (
            "ended early",
            |r| choice(r, |c| c["finish_reason"] = json!("stop")),
            "which is no stop id",
        ),
        (
            "unknown model",
            |_| recorded("generate_unknown_model"),
            "status 404: The model `policy-1` does not exist",
        ),
        (
            "bad request",
            |_| Reply::Json(400, "{}".into()),
            "status 400",
        ),
    ];
    for (name, wrong, words) in table {
        let stub = Stub::start();
        let mut engine = connect(config(&[&stub]));
        spoil(&stub, 1, *wrong);
        let mut requests = requests(1, 8);
        requests[0].guidance.clear();
        let mut params = params();
        // So that the completion has its eight ids.
        params.stop_token_ids.clear();
        let error = engine.generate(&requests, &params).unwrap_err();
        assert!(matches!(error, Error::Rollout { .. }), "{name}: {error}");
        let error = error.to_string();
        assert!(error.contains(words), "{name}: {error}");
        assert!(
            error.contains("step 6, group 0, member 0"),
            "{name}: {error}"
        );
        assert_eq!(stub.rollouts(), 1, "{name}");
    }
}

fn cut(reply: Reply) -> Reply {
    choice(reply, |choice| {
        for list in ["/token_ids", "/logprobs/content"] {
            choice
                .pointer_mut(list)
                .unwrap()
                .as_array_mut()
                .unwrap()
                .truncate(3);
        }
    })
}

#[test]
fn python_writes_nan_as_a_word() {
    let stub = Stub::start();
    let mut engine = connect(config(&[&stub]));
    spoil(&stub, usize::MAX, |_| {
        Reply::Json(200, r#"{"logprob": NaN}"#.into())
    });
    let error = engine
        .generate(&requests(1, 8), &params())
        .unwrap_err()
        .to_string();
    assert!(error.contains("it holds NaN"), "{error}");
}

#[test]
fn chunks_are_put_together() {
    let stub = Stub::start();
    let mut engine = connect(config(&[&stub]));
    spoil(&stub, 1, |r| Reply::Chunked(r.text()));
    engine.generate(&requests(1, 8), &params()).unwrap();
    assert_eq!(stub.rollouts(), 1);
}

#[test]
fn a_busy_server_is_asked_later_however_often() {
    for busy in [
        || recorded("generate_busy"),
        || Reply::RetryAfter(429, 0.02),
    ] {
        let stub = Stub::start();
        let mut engine = connect(config(&[&stub]));
        // More often than max_retries.
        let mut left = 5;
        stub.fault(move |seen, _| {
            (seen.is_rollout() && left > 0).then(|| {
                left -= 1;
                busy()
            })
        });
        engine.generate(&requests(1, 8), &params()).unwrap();
        assert_eq!(stub.rollouts(), 6);
    }
    let stub = Stub::start();
    let mut engine = connect(quick(&stub));
    stub.fault(|seen, _| seen.is_rollout().then(|| recorded("generate_busy")));
    let error = engine
        .generate(&requests(1, 8), &params())
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("status 503: The engine is currently busy"),
        "{error}"
    );
}

#[test]
fn a_wait_that_the_server_asks_for_is_kept() {
    let stub = Stub::start();
    let mut engine = connect(config(&[&stub]));
    spoil(&stub, 1, |_| Reply::RetryAfter(503, 0.4));
    let start = Instant::now();
    engine.generate(&requests(1, 8), &params()).unwrap();
    assert!(start.elapsed() >= Duration::from_millis(400));
}

#[test]
fn one_failure_ends_the_call_and_drops_the_rest() {
    let stub = Stub::start();
    let mut engine = connect(config(&[&stub]));
    stub.fault(|seen, state| {
        let answer = common::complete(state, seen);
        let last = seen.body["token_ids"][2] == 7;
        seen.is_rollout().then(|| {
            let (time, answer) = if last {
                (200, answer.with_status(400))
            } else {
                (4000, answer)
            };
            Reply::Late(Duration::from_millis(time), Box::new(answer))
        })
    });
    let start = Instant::now();
    let outcome = engine.generate(&requests(8, 8), &params());
    assert!(matches!(outcome, Err(Error::Rollout { .. })), "{outcome:?}");
    assert!(start.elapsed() < Duration::from_secs(2));
    while stub.state().dropped < 7 {
        assert!(
            start.elapsed() < Duration::from_secs(3),
            "{}",
            stub.state().dropped
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn cancelled_requests_are_dropped_at_the_server() {
    let stub = Stub::start();
    let mut engine = connect(config(&[&stub]));
    stub.state().work = Duration::from_secs(4);
    let canceller = engine.canceller();
    let thread = std::thread::spawn({
        let canceller = canceller.clone();
        move || {
            std::thread::sleep(Duration::from_millis(200));
            canceller.cancel();
        }
    });
    let start = Instant::now();
    let outcome = engine.generate(&requests(8, 8), &params());
    assert!(matches!(outcome, Err(Error::Cancelled)), "{outcome:?}");
    assert!(start.elapsed() < Duration::from_secs(2));
    thread.join().unwrap();
    while stub.state().dropped < 8 {
        assert!(
            start.elapsed() < Duration::from_secs(3),
            "{}",
            stub.state().dropped
        );
        std::thread::sleep(Duration::from_millis(5));
    }
    // It stays cancelled until it is told otherwise.
    let outcome = engine.generate(&requests(1, 8), &params());
    assert!(matches!(outcome, Err(Error::Cancelled)), "{outcome:?}");
    stub.state().work = Duration::ZERO;
    canceller.clear();
    engine.generate(&requests(1, 8), &params()).unwrap();
}

#[test]
fn a_server_that_is_gone_is_said_to_be_gone() {
    let stub = Stub::start();
    let mut engine = connect(RemoteConfig {
        vllm_server_timeout: 0.5,
        ..config(&[&stub])
    });
    stub.kill();
    let error = engine.generate(&requests(2, 8), &params()).unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error}");
    let error = error.to_string();
    assert!(
        error.contains("does not answer for 1 s (vllm_server_timeout)"),
        "{error}"
    );
    assert!(error.contains("no connection"), "{error}");
}

#[test]
fn another_server_takes_over() {
    let stubs = [Stub::start(), Stub::start()];
    let mut engine = connect(RemoteConfig {
        vllm_server_timeout: 0.5,
        ..config(&[&stubs[0], &stubs[1]])
    });
    let expected = engine.generate(&requests(32, 8), &params()).unwrap();
    stubs[0].kill();
    assert_eq!(
        engine.generate(&requests(32, 8), &params()).unwrap(),
        expected
    );
}

#[test]
fn a_server_that_is_started_again_gets_its_weights_again() {
    for (weight_sync, adapter) in [(WeightSync::Folder, false), (WeightSync::Adapter, true)] {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("7");
        common::write_weights(&folder, 1.5, adapter);
        let mut stub = Stub::start();
        let mut engine = connect(RemoteConfig {
            weight_sync,
            ..config(&[&stub])
        });
        engine.sync(&folder, 7, &mut common::learner(1.5)).unwrap();
        let expected = engine.generate(&requests(16, 8), &params()).unwrap();

        stub.state().work = Duration::from_millis(300);
        let thread = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(150));
            stub.kill();
            std::thread::sleep(Duration::from_millis(300));
            stub.state().work = Duration::ZERO;
            stub.restart();
            stub
        });
        let got = engine.generate(&requests(16, 8), &params());
        let stub = thread.join().unwrap();
        assert_eq!(got.unwrap(), expected);
        let pushes = if adapter {
            "/v1/load_lora_adapter"
        } else {
            "/collective_rpc"
        };
        let pushed = stub
            .calls(pushes)
            .iter()
            .filter(|s| s.body != json!({}))
            .count();
        assert_eq!(pushed, 2, "once for the sync and once for the restart");
    }
}

#[test]
fn a_restart_between_two_calls_is_noticed() {
    for (weight_sync, adapter, route) in [
        (WeightSync::Folder, false, ""),
        (WeightSync::Folder, false, "/inference/v1/generate"),
        (WeightSync::Adapter, true, ""),
    ] {
        let dir = tempfile::tempdir().unwrap();
        common::write_weights(dir.path(), 1.5, adapter);
        let mut stub = Stub::start();
        stub.state().missing = vec![route];
        let mut engine = connect(RemoteConfig {
            weight_sync,
            ..config(&[&stub])
        });
        engine
            .sync(dir.path(), 7, &mut common::learner(1.5))
            .unwrap();
        let expected = engine.generate(&requests(4, 8), &params()).unwrap();
        stub.kill();
        stub.restart();
        assert_eq!(
            engine.generate(&requests(4, 8), &params()).unwrap(),
            expected
        );
    }
}

#[test]
fn an_adapter_that_vanished_during_a_call_is_loaded_again() {
    let dir = tempfile::tempdir().unwrap();
    common::write_weights(dir.path(), 1.5, true);
    let stub = Stub::start();
    let mut engine = connect(RemoteConfig {
        weight_sync: WeightSync::Adapter,
        ..config(&[&stub])
    });
    engine
        .sync(dir.path(), 7, &mut common::learner(1.5))
        .unwrap();
    spoil(&stub, 2, |_| recorded("generate_unknown_model"));
    engine.generate(&requests(4, 8), &params()).unwrap();
}

#[test]
fn an_answer_by_other_weights_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    common::write_weights(dir.path(), 1.5, false);
    let stub = Stub::start();
    let mut engine = connect(RemoteConfig {
        weight_sync: WeightSync::Folder,
        label_prefix: "mine-".into(),
        ..config(&[&stub])
    });
    engine
        .sync(dir.path(), 7, &mut common::learner(1.5))
        .unwrap();
    // Another run has other labels, even for the same version.
    for label in ["default", "7", "other-7"] {
        let mut left = 1;
        stub.fault(move |seen, state| {
            let wrong = seen.is_rollout() && left == 1;
            wrong.then(|| {
                left = 0;
                common::complete(state, seen).edit(|json| {
                    json["choices"][0]["weight_versions"][0]["version"] = json!(label);
                })
            })
        });
        let error = engine
            .generate(&requests(1, 8), &params())
            .unwrap_err()
            .to_string();
        let words = format!("weights `{label}` made it, and `mine-7` were to");
        assert!(error.contains(&words), "{error}");
    }
    let made = engine.generate(&requests(1, 8), &params()).unwrap();
    assert!(
        made[0]
            .weight_versions
            .as_ref()
            .unwrap()
            .iter()
            .all(|v| *v == 7)
    );
}

#[test]
fn a_request_that_kills_every_server_is_given_up() {
    let mut stub = Stub::start();
    let mut engine = connect(config(&[&stub]));
    let deaths = Arc::new(AtomicUsize::new(0));
    stub.fault({
        let deaths = deaths.clone();
        move |seen, _| {
            seen.is_rollout().then(|| {
                deaths.fetch_add(1, Ordering::SeqCst);
                Reply::Bytes(vec![])
            })
        }
    });
    let thread = std::thread::spawn(move || {
        for death in 1..=3 {
            while deaths.load(Ordering::SeqCst) < death {
                std::thread::sleep(Duration::from_millis(2));
            }
            stub.kill();
            stub.restart();
        }
    });
    let error = engine.generate(&requests(1, 8), &params()).unwrap_err();
    assert!(matches!(error, Error::GaveUp { tries: 3, .. }), "{error}");
    thread.join().unwrap();
}
