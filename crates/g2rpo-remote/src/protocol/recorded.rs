//! Exchanges with real servers, read by the code that talks to them.

use g2rpo_core::TokenId;
use g2rpo_rollout::{Completion, SamplingParams, Stop};
use serde_json::Value;

use crate::answer::{Ask, Expected, settle};
use crate::error::Fault;
use crate::server::Route;

struct Recorded {
    request: Value,
    response: String,
    route: Route,
}

type Settled = Result<Completion, String>;

fn recorded(name: &str) -> Recorded {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata/remote");
    let path = format!("{folder}/{name}.json");
    let exchange: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    assert_eq!(exchange["status"], 200);
    let route = [Route::Generate, Route::Completions, Route::Sglang]
        .into_iter()
        .find(|route| exchange["path"] == route.path());
    Recorded {
        request: exchange["request"].clone(),
        response: exchange["response"].to_string(),
        route: route.unwrap(),
    }
}

impl Recorded {
    /// What is wrong with it as an answer to a request for so many ids.
    fn refused(&self, max_new_tokens: usize, expected: &Expected<'_>, words: &str) {
        let error = self.settled(max_new_tokens, expected).unwrap_err();
        assert!(error.contains(words), "{error}");
    }

    /// What we would have asked, and the completion that the answer makes.
    fn settled(&self, max_new_tokens: usize, expected: &Expected<'_>) -> Settled {
        let request = &self.request;
        let sampling = match self.route {
            Route::Completions => request,
            Route::Generate | Route::Sglang => &request["sampling_params"],
        };
        let tokens: Vec<TokenId> = ["token_ids", "prompt", "input_ids"]
            .iter()
            .find_map(|field| serde_json::from_value(request[field].clone()).ok())
            .unwrap();
        let stops = serde_json::from_value(sampling["stop_token_ids"].clone());
        let params = SamplingParams {
            temperature: sampling["temperature"].as_f64().unwrap(),
            stop_token_ids: stops.unwrap_or_default(),
            ..SamplingParams::default()
        };
        let answer = self.route.read(&self.response).map_err(|e| e.to_string())?;
        let id = answer.id.clone().unwrap_or_default();
        let ask = Ask {
            id: &id,
            model: request["model"].as_str().unwrap_or("policy"),
            adapter: false,
            tokens: &tokens,
            seed: 7,
            max_new_tokens,
            params: &params,
            candidates: 0,
        };
        self.same_where_both_speak(&self.route.body(&ask), max_new_tokens);
        settle(answer, &ask, expected, Some(362))
    }

    /// What the recorded request set, ours sets alike; our own choices aside.
    fn same_where_both_speak(&self, body: &Value, max_new_tokens: usize) {
        fn compare(theirs: &Value, ours: &Value, max_new_tokens: usize) {
            for (field, value) in theirs.as_object().unwrap() {
                match field.as_str() {
                    "sampling_params" => compare(value, &ours[field], max_new_tokens),
                    "max_tokens" | "max_new_tokens" => assert_eq!(ours[field], max_new_tokens),
                    // Some were recorded with others.
                    "request_id" | "rid" | "n" | "top_logprobs_num" => {
                        assert!(!ours[field].is_null());
                    }
                    _ => assert_eq!(&ours[field], value, "{field}"),
                }
            }
        }
        compare(&self.request, body, max_new_tokens);
    }
}

#[test]
fn completions_of_vllm_are_the_same_by_both_routes() {
    for name in ["generate", "completions"] {
        let completion = recorded(name).settled(4, &Expected::Unknown).unwrap();
        assert_eq!(completion.tokens, [16, 16, 16, 11]);
        let logps = [-0.014_468_165, -0.104_770_415, -0.624_414_1, -0.712_815_76];
        assert_eq!(completion.logps, logps);
        assert_eq!(completion.stop, Stop::Length);
        assert_eq!(completion.weight_versions, None);
    }
    for name in ["generate_stop", "completions_stop"] {
        let completion = recorded(name).settled(80, &Expected::Unknown).unwrap();
        assert_eq!(completion.tokens.last(), Some(&11));
        assert_eq!(completion.stop, Stop::Eos);
    }
}

#[test]
fn what_is_no_completion_is_refused() {
    let (cut, two) = (recorded("completions_no_room"), recorded("generate_n2"));
    cut.refused(50, &Expected::Unknown, "cut after 3 of 50 ids");
    two.refused(4, &Expected::Unknown, "2 choices where one was asked for");
    for name in ["generate_aborted", "sglang/generate_abort"] {
        let aborted = recorded(name);
        let read = aborted.route.read(&aborted.response);
        assert_eq!(read.unwrap_err(), Fault::Aborted);
    }
}

#[test]
fn versions_are_per_id_where_the_server_says_so() {
    let across = recorded("generate_across_versions");
    // The recorded answer was cut to four ids, as if four had been asked for.
    let completion = across.settled(4, &Expected::Labelled("", 1..=2)).unwrap();
    assert_eq!(completion.weight_versions, Some(vec![1, 1, 2, 2]));
    let second = Expected::Labelled("", 2..=2);
    across.refused(4, &second, "weights `1` made it, and `2` were to");
    // A server that was started again.
    recorded("generate").refused(4, &second, "weights `default` made it");
    let adapter = recorded("generate_lora").settled(4, &Expected::Named(3));
    assert_eq!(adapter.unwrap().weight_versions, Some(vec![3; 4]));
}

#[test]
fn scores_of_a_prompt_are_found_by_its_ids() {
    let tokens = [49, 85, 261, 84, 73, 79];
    let vllm = [
        -12.208_617,
        -12.539_748,
        -13.023_877,
        -12.115_094,
        -11.915_654,
    ];
    for (name, n, expected) in [
        ("generate_prompt_logprobs", 6, &vllm[..]),
        ("completions_prompt_logprobs", 6, &vllm),
        ("sglang/score", 3, &[-12.5, -11.25]),
    ] {
        let recorded = recorded(name);
        let read = |ids: &[TokenId]| recorded.route.read_scores(&recorded.response, ids);
        assert_eq!(read(&tokens[..n]).unwrap(), expected);
        let mut other = tokens;
        other[2] += 1;
        let error = read(&other[..n]).unwrap_err().to_string();
        assert!(error.contains("for id 262 at position 2"), "{error}");
        let error = read(&tokens[..n - 1]).unwrap_err().to_string();
        assert!(
            error.contains(&format!("for a prompt of {} ids", n - 1)),
            "{error}"
        );
    }
}

#[test]
fn completions_of_sglang() {
    let whole = recorded("sglang/generate");
    let completion = whole.settled(3, &Expected::Unknown).unwrap();
    assert_eq!(completion.tokens, [16, 16, 11]);
    assert_eq!(completion.logps, [-0.25, -0.5, -0.75]);
    assert_eq!(completion.stop, Stop::Eos);
    let answer = whole.route.read(&whole.response).unwrap();
    assert_eq!(answer.candidates[0], [-0.25, -1.5]);
    let length = recorded("sglang/generate_length");
    let completion = length.settled(3, &Expected::Labelled("", 7..=7)).unwrap();
    assert_eq!(completion.stop, Stop::Length);
    assert_eq!(completion.weight_versions, Some(vec![7; 3]));
    length.refused(3, &Expected::Labelled("", 8..=8), "weights `7` made it");
}

#[test]
fn what_is_no_answer_is_said_to_be_none() {
    let nan = r#"{"choices": [{"token_ids": [1], "logprob": NaN}]}"#;
    for (text, words) in [
        ("{\"choices\": [", "it ends early"),
        ("<html>", "in `<html>`"),
        (nan, "it holds NaN"),
        ("{}", "missing field"),
    ] {
        for route in [Route::Generate, Route::Completions, Route::Sglang] {
            let error = route.read(text).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }
}
