//! What is asked of a server before the first rollout, what is refused with which words, and how
//! rollouts are spread.

mod common;

use std::collections::BTreeMap;
use std::time::Duration;

use common::{Reply, Stub, canary, config, connect, params, recorded, requests};
use g2rpo_remote::{Backend, Error, LogProbs, RemoteConfig, RemoteEngine, Route, WeightSync};
use g2rpo_rollout::{Completion, RolloutEngine, SamplingParams, Stop};
use serde_json::json;

#[test]
fn a_server_is_known_before_the_first_rollout() {
    let stub = Stub::start();
    let engine = connect(config(&[&stub]));
    let server = engine.servers().next().unwrap();
    assert_eq!((&*server.version, &*server.model), ("0.32.0", "policy"));
    assert_eq!(
        (server.max_model_len, server.vocab_size),
        (Some(128), Some(50))
    );
    assert_eq!(
        (server.route, server.logprobs),
        (Route::Generate, LogProbs::AtTemperature)
    );
    assert_eq!(engine.version(), None);
    assert_eq!(stub.rollouts(), 0);
}

#[test]
fn the_other_route_serves_where_the_first_is_closed() {
    let (open, closed) = (Stub::start(), Stub::start());
    closed.fault(|seen, _| {
        (seen.path == "/inference/v1/generate").then(|| recorded("generate_disabled"))
    });
    let mut engines = [&open, &closed].map(|stub| connect(config(&[stub])));
    assert_eq!(
        engines[1].servers().next().unwrap().route,
        Route::Completions
    );
    let [a, b] = engines
        .each_mut()
        .map(|e| e.generate(&requests(16, 8), &params()).unwrap());
    assert_eq!(a, b);
    assert_eq!(
        engines[1].score(&[1, 2, 3]).unwrap(),
        engines[0].score(&[1, 2, 3]).unwrap()
    );
}

#[test]
fn completions_are_handed_over_as_servers_answer() {
    let stubs = [Stub::start(), Stub::start()];
    let mut engine = connect(config(&[&stubs[0], &stubs[1]]));
    let mut requests = requests(16, 8);
    // A server is not asked for nothing, and places behind this one are its own no more.
    requests[3].max_new_tokens = 0;
    let mut handed = BTreeMap::new();
    let mut note = |place: usize, completion: &Completion| {
        assert!(handed.insert(place, completion.clone()).is_none());
    };
    let returned = (engine.generate_each(&requests, &params(), &mut note)).unwrap();
    assert_eq!(handed.len(), 15);
    for (place, completion) in handed {
        assert_eq!(completion, returned[place]);
    }
}

#[test]
fn sglang_gives_the_same() {
    let (vllm, sglang) = (Stub::start(), Stub::start());
    let mut engines =
        [(Backend::Vllm, &vllm), (Backend::Sglang, &sglang)].map(|(backend, stub)| {
            connect(RemoteConfig {
                backend,
                ..config(&[stub])
            })
        });
    let server = engines[1].servers().next().unwrap();
    assert_eq!((&*server.version, server.route), ("0.5.23", Route::Sglang));
    let [a, b] = engines
        .each_mut()
        .map(|e| e.generate(&requests(16, 8), &params()).unwrap());
    assert_eq!(a, b);
}

#[test]
fn what_a_server_lacks_is_refused_with_what_to_do() {
    type Break = fn(&Stub, &mut RemoteConfig);
    let table: &[(Break, &str)] = &[
        (
            |s, _| s.state().missing = vec!["/version"],
            "is it another kind of server (backend = \"sglang\"",
        ),
        (
            |_, c| c.model = Some("other".into()),
            "(in a recipe `server_model`) to one of the base models that it serves: [\"policy\"]",
        ),
        (
            |_, c| c.vocab_size = Some(51),
            "does not know id 50, the last of the learner's vocabulary of 51",
        ),
        (
            |s, c| {
                c.weight_sync = WeightSync::Adapter;
                s.state().missing = vec!["/v1/load_lora_adapter"];
            },
            "VLLM_ALLOW_RUNTIME_LORA_UPDATING=True",
        ),
        (
            |s, c| {
                c.weight_sync = WeightSync::Folder;
                s.state().missing = vec!["/collective_rpc"];
            },
            "VLLM_SERVER_DEV_MODE=1",
        ),
        (
            |s, c| {
                c.weight_sync = WeightSync::Folder;
                s.state().paused = true;
            },
            "it is paused",
        ),
        (
            |s, c| {
                c.backend = Backend::Sglang;
                c.weight_sync = WeightSync::Adapter;
                s.state().missing = vec!["/load_lora_adapter"];
            },
            "start it with --enable-lora",
        ),
        (
            |s, _| {
                s.fault(|seen, _| {
                    (seen.body["request_id"] == "g2rpo-probe").then(|| recorded("generate_stop"))
                });
            },
            "it reports no log-probabilities of the two most probable ids",
        ),
        (
            |s, _| {
                s.fault(|seen, _| {
                    (seen.path == "/inference/v1/generate").then(|| {
                        Reply::Json(401, r#"{"error": {"message": "Unauthorized"}}"#.into())
                    })
                });
            },
            "another API key (api_key_env): Unauthorized",
        ),
        (
            |s, _| {
                s.fault(|seen, _| {
                    (seen.path == "/v1/models").then(|| Reply::Json(200, "[".into()))
                });
            },
            "asking for its models",
        ),
        (
            |_, c| c.api_key_env = Some("G2RPO_TEST_NO_KEY".into()),
            "G2RPO_TEST_NO_KEY holds no key",
        ),
        (|_, c| c.max_in_flight = 0, "max_in_flight"),
    ];
    for (break_it, words) in table {
        let stub = Stub::start();
        let mut config = config(&[&stub]);
        break_it(&stub, &mut config);
        match RemoteEngine::connect(config, canary()) {
            Ok(_) => assert_eq!(*words, ""),
            Err(error) => {
                assert!(
                    !words.is_empty() && error.to_string().contains(words),
                    "{error}"
                );
            }
        }
        assert_eq!(stub.rollouts(), 0);
    }
}

#[test]
fn a_server_that_comes_up_late_is_waited_for() {
    let mut stub = Stub::start();
    stub.kill();
    let config = config(&[&stub]);
    let thread = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(300));
        stub.restart();
        stub
    });
    connect(config);
    let stub = thread.join().unwrap();
    stub.kill();
    let config = RemoteConfig {
        vllm_server_timeout: 0.2,
        ..common::config(&[&stub])
    };
    let error = RemoteEngine::connect(config, canary()).unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error}");
}

#[test]
fn a_canary_must_fit() {
    let stub = Stub::start();
    for (canary, words) in [
        (vec![], "at least one sequence"),
        (vec![vec![1]], "at least two ids"),
        (vec![vec![1, 50]], "id 50 is not in its vocabulary"),
        (vec![vec![1; 128]], "has no room"),
    ] {
        let error = RemoteEngine::connect(config(&[&stub]), canary)
            .unwrap_err()
            .to_string();
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn settings_are_refused_before_the_first_request() {
    let (stub, raw) = (Stub::start(), Stub::start());
    raw.state().raw_logprobs = true;
    let mut engine = connect(config(&[&stub, &raw]));
    assert_eq!(engine.servers().nth(1).unwrap().logprobs, LogProbs::Raw);
    let cold = SamplingParams {
        temperature: 0.7,
        ..params()
    };
    let filtered = SamplingParams {
        top_p: 0.9,
        ..params()
    };
    let mut long = requests(2, 8);
    long[1].max_new_tokens = 126;
    for (requests, params, words) in [
        (requests(2, 8), cold, "temperature 0.7 cannot be used with"),
        (requests(2, 8), filtered, "top_p 0.9 cannot be used with"),
        (long, params(), "it would cut the completion silently"),
    ] {
        let error = engine.generate(&requests, &params).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
    assert_eq!(stub.rollouts() + raw.rollouts(), 0);
}

#[test]
fn one_request_for_each_rollout_with_ids_and_a_seed_of_its_own() {
    let stub = Stub::start();
    let mut engine = connect(config(&[&stub]));
    let requests = requests(16, 8);
    engine.generate(&requests, &params()).unwrap();
    let calls = stub.calls("/inference/v1/generate");
    let calls: Vec<_> = calls.iter().filter(|seen| seen.is_rollout()).collect();
    assert_eq!(calls.len(), 16);
    let mut seeds = Vec::new();
    for seen in calls {
        let sampling = &seen.body["sampling_params"];
        let seed = sampling["seed"].as_i64().unwrap();
        let request = requests.iter().find(|r| r.key.to_seed() == seed).unwrap();
        let spliced = [&request.prompt[..], &request.guidance].concat();
        assert_eq!(seen.body["token_ids"], json!(spliced));
        assert_eq!(sampling["n"], 1);
        // What is left out, a server would fill with defaults of its own.
        for field in [
            "temperature",
            "top_p",
            "top_k",
            "min_p",
            "repetition_penalty",
            "presence_penalty",
            "frequency_penalty",
            "min_tokens",
            "max_tokens",
            "stop",
            "stop_token_ids",
            "ignore_eos",
            "skip_special_tokens",
            "detokenize",
            "logprobs",
        ] {
            assert!(!sampling[field].is_null(), "{field}");
        }
        seeds.push(seed);
    }
    seeds.sort_unstable();
    seeds.dedup();
    assert_eq!(seeds.len(), 16);
    // Rows of one prompt must not have neighbouring seeds.
    assert!(seeds.windows(2).all(|pair| pair[1] - pair[0] > 1000));
}

#[test]
fn requests_in_flight_are_bounded_and_servers_share_them() {
    let stubs = [Stub::start(), Stub::start()];
    let config = RemoteConfig {
        max_in_flight: 4,
        ..config(&[&stubs[0], &stubs[1]])
    };
    let mut engine = connect(config);
    for stub in &stubs {
        stub.state().work = Duration::from_millis(20);
    }
    let all = engine.generate(&requests(48, 8), &params()).unwrap();
    let alone = Stub::start();
    let expected = connect(common::config(&[&alone])).generate(&requests(48, 8), &params());
    assert_eq!(all, expected.unwrap());
    for stub in &stubs {
        assert_eq!(stub.state().most_in_flight, 4);
        assert!((12..=36).contains(&stub.rollouts()), "{}", stub.rollouts());
    }
}

#[test]
fn prompt_tokens_in_flight_are_bounded() {
    let stub = Stub::start();
    let mut engine = connect(RemoteConfig {
        // Requests have three or four ids.
        max_prompt_tokens_in_flight: Some(8),
        ..config(&[&stub])
    });
    stub.state().work = Duration::from_millis(10);
    engine.generate(&requests(12, 8), &params()).unwrap();
    assert_eq!(stub.state().most_in_flight, 2);
}

#[test]
fn nothing_is_asked_for_nothing() {
    let stub = Stub::start();
    let mut engine = connect(config(&[&stub]));
    assert_eq!(engine.generate(&[], &params()).unwrap(), []);
    let mut some = requests(3, 8);
    some[1].max_new_tokens = 0;
    let all = engine.generate(&some, &params()).unwrap();
    assert_eq!((all[1].tokens.len(), all[1].stop), (0, Stop::Length));
    assert!(!all[0].tokens.is_empty() && !all[2].tokens.is_empty());
    assert_eq!(stub.rollouts(), 2);
}

#[test]
fn the_key_of_the_environment_is_sent() {
    // PATH is there on every machine, and is printable.
    let stub = Stub::start();
    let mut engine = connect(RemoteConfig {
        api_key_env: Some("PATH".into()),
        ..config(&[&stub])
    });
    engine.generate(&requests(1, 8), &params()).unwrap();
    let key = format!("Bearer {}", std::env::var("PATH").unwrap());
    assert!(
        stub.state()
            .seen
            .iter()
            .all(|s| s.authorization.as_ref() == Some(&key))
    );
    assert!(!format!("{engine:?}").contains(&key));
}
