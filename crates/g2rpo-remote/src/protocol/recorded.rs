//! Exchanges with real servers, read by the code that talks to them.

use g2rpo_core::TokenId;
use g2rpo_rollout::{Completion, Stop};
use serde_json::Value;

use crate::answer::{Expected, settle};
use crate::error::Fault;
use crate::protocol::Ask;
use crate::server::Route;
use crate::settings::Settings;

struct Recorded {
    request: Value,
    response: String,
    route: Route,
}

fn recorded(name: &str) -> Recorded {
    let path = format!(
        "{}/../../testdata/remote/{name}.json",
        env!("CARGO_MANIFEST_DIR")
    );
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
    /// What we would have asked, and the completion that the answer makes.
    fn settled(
        &self,
        max_new_tokens: usize,
        expected: &Expected<'_>,
    ) -> Result<Completion, String> {
        let request = &self.request;
        let sampling = match self.route {
            Route::Completions => request,
            Route::Generate | Route::Sglang => &request["sampling_params"],
        };
        let tokens: Vec<TokenId> = ["token_ids", "prompt", "input_ids"]
            .iter()
            .find_map(|field| serde_json::from_value(request[field].clone()).ok())
            .unwrap();
        let settings = Settings {
            temperature: sampling["temperature"].as_f64().unwrap(),
            stop_token_ids: serde_json::from_value(sampling["stop_token_ids"].clone())
                .unwrap_or_default(),
            stop: vec![],
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
            settings: &settings,
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
fn an_answer_that_was_cut_silently_is_refused() {
    let error = recorded("completions_no_room")
        .settled(50, &Expected::Unknown)
        .unwrap_err();
    assert!(error.contains("cut after 3 of 50 ids"), "{error}");
}

#[test]
fn more_choices_than_asked_for_are_refused() {
    let error = recorded("generate_n2")
        .settled(4, &Expected::Unknown)
        .unwrap_err();
    assert!(
        error.contains("2 choices where one was asked for"),
        "{error}"
    );
}

#[test]
fn an_aborted_answer_is_no_completion() {
    for name in ["generate_aborted", "sglang/generate_abort"] {
        let recorded = recorded(name);
        assert_eq!(
            recorded.route.read(&recorded.response).unwrap_err(),
            Fault::Aborted
        );
    }
}

#[test]
fn versions_are_per_id_where_the_server_says_so() {
    let across = recorded("generate_across_versions");
    // The recorded answer was cut to four ids, as if four had been asked for.
    let completion = across.settled(4, &Expected::Labelled("", 1..=2)).unwrap();
    assert_eq!(completion.weight_versions, Some(vec![1, 1, 2, 2]));
    let error = across
        .settled(4, &Expected::Labelled("", 2..=2))
        .unwrap_err();
    assert!(
        error.contains("weights `1` made it, and `2` were to"),
        "{error}"
    );
    // A server that was started again.
    let error = recorded("generate")
        .settled(4, &Expected::Labelled("", 2..=2))
        .unwrap_err();
    assert!(error.contains("weights `default` made it"), "{error}");
    let adapter = recorded("generate_lora")
        .settled(4, &Expected::Named(3))
        .unwrap();
    assert_eq!(adapter.weight_versions, Some(vec![3; 4]));
}

#[test]
fn scores_of_a_prompt_are_found_by_its_ids() {
    let tokens = [49, 85, 261, 84, 73, 79];
    for name in ["generate_prompt_logprobs", "completions_prompt_logprobs"] {
        let recorded = recorded(name);
        let scores = recorded
            .route
            .read_scores(&recorded.response, &tokens)
            .unwrap();
        assert_eq!(
            scores,
            [
                -12.208_617,
                -12.539_748,
                -13.023_877,
                -12.115_094,
                -11.915_654
            ]
        );
        let other = [49, 85, 262, 84, 73, 79];
        let error = recorded
            .route
            .read_scores(&recorded.response, &other)
            .unwrap_err();
        assert!(
            error.to_string().contains("id 262 at position 2"),
            "{error}"
        );
        let error = recorded
            .route
            .read_scores(&recorded.response, &tokens[..5])
            .unwrap_err();
        assert!(
            error.to_string().contains("for a prompt of 5 ids"),
            "{error}"
        );
    }
    let sglang = recorded("sglang/score");
    let scores = sglang
        .route
        .read_scores(&sglang.response, &[49, 85, 261])
        .unwrap();
    assert_eq!(scores, [-12.5, -11.25]);
    assert!(
        sglang
            .route
            .read_scores(&sglang.response, &[49, 85, 262])
            .is_err()
    );
}

#[test]
fn completions_of_sglang() {
    let completion = recorded("sglang/generate")
        .settled(3, &Expected::Unknown)
        .unwrap();
    assert_eq!(completion.tokens, [16, 16, 11]);
    assert_eq!(completion.logps, [-0.25, -0.5, -0.75]);
    assert_eq!(completion.stop, Stop::Eos);
    let length = recorded("sglang/generate_length");
    let completion = length.settled(3, &Expected::Labelled("", 7..=7)).unwrap();
    assert_eq!(completion.stop, Stop::Length);
    assert_eq!(completion.weight_versions, Some(vec![7; 3]));
    assert!(length.settled(3, &Expected::Labelled("", 8..=8)).is_err());
    let candidates = recorded("sglang/generate");
    let answer = candidates.route.read(&candidates.response).unwrap();
    assert_eq!(answer.candidates[0], [-0.25, -1.5]);
}

#[test]
fn what_is_no_answer_is_said_to_be_none() {
    for (text, words) in [
        ("{\"choices\": [", "it ends early"),
        ("<html>", "in `<html>`"),
        (
            "{\"choices\": [{\"token_ids\": [1], \"logprob\": NaN}]}",
            "it holds NaN",
        ),
        ("{}", "missing field"),
    ] {
        for route in [Route::Generate, Route::Completions, Route::Sglang] {
            let error = route.read(text).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }
}
