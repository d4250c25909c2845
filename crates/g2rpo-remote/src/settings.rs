//! Sampling settings that a server can execute and report, checked before the first request.

use g2rpo_core::TokenId;
use g2rpo_rollout::{Request, SamplingParams};

use crate::error::{Error, Result};
use crate::server::{LogProbs, Route, ServerInfo};

/// What of [`SamplingParams`] goes to a server: everything else has been refused.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Settings {
    pub(crate) temperature: f64,
    pub(crate) stop_token_ids: Vec<TokenId>,
    pub(crate) stop: Vec<String>,
}

impl Settings {
    /// Refuses what `server` cannot do, or do without our knowing what was sampled.
    pub(crate) fn check(params: &SamplingParams, server: &ServerInfo) -> Result<Self> {
        let refuse = |setting: String, reason: &str| {
            Err(Error::Sampling {
                setting,
                server: server.url.clone(),
                reason: reason.into(),
            })
        };
        let SamplingParams {
            temperature,
            top_k,
            top_p,
            min_p,
            repetition_penalty,
            stop_token_ids,
            stop,
        } = params;
        let temperature = *temperature;
        if !(temperature >= 0.0 && temperature.is_finite()) {
            return refuse(
                format!("temperature {temperature}"),
                "it must be a number from 0",
            );
        }
        // The most probable id survives every filter, so a greedy choice needs none.
        if temperature > 0.0 {
            let filters = [
                (*top_k != 0, format!("top_k {top_k}")),
                (*top_p != 1.0, format!("top_p {top_p}")),
                (*min_p != 0.0, format!("min_p {min_p}")),
            ];
            if let Some((_, setting)) = filters.into_iter().find(|(on, _)| *on) {
                return refuse(
                    setting,
                    "it reports no log-probability together with the mass that the filter kept, and \
                     the learner's ratio needs both; switch the filter off, or sample locally",
                );
            }
        }
        if *repetition_penalty != 1.0 {
            return refuse(
                format!("repetition_penalty {repetition_penalty}"),
                "its log-probabilities are those after the penalty, and the learner's are before; \
                 set it to 1, or sample locally",
            );
        }
        if server.logprobs == LogProbs::Raw && temperature != 0.0 && temperature != 1.0 {
            return refuse(
                format!("temperature {temperature}"),
                match server.route {
                    Route::Sglang => {
                        "it reports log-probabilities at temperature 1; start it without \
                         SGLANG_RETURN_ORIGINAL_LOGPROB"
                    }
                    Route::Generate | Route::Completions => {
                        "it reports log-probabilities at temperature 1; start it with \
                         --logprobs-mode processed_logprobs"
                    }
                },
            );
        }
        if !stop.is_empty() && server.route == Route::Sglang {
            return refuse(
                format!("stop {stop:?}"),
                "it does not say which ids belong to the answer when a text ends it; use \
                 stop_token_ids",
            );
        }
        if stop.iter().any(String::is_empty) {
            return refuse("stop \"\"".into(), "an empty text ends everything at once");
        }
        if let Some(id) = (stop_token_ids.iter()).find(|id| !server.has_token(**id)) {
            return refuse(
                format!("stop_token_ids {id}"),
                "no such id in its vocabulary",
            );
        }
        Ok(Self {
            temperature,
            stop_token_ids: stop_token_ids.clone(),
            stop: stop.clone(),
        })
    }
}

/// Refuses a rollout that `server` would cut or reject.
pub(crate) fn check_request(request: &Request, server: &ServerInfo) -> Result<()> {
    let refuse = |problem: String| {
        Err(Error::Rollout {
            key: request.key,
            server: server.url.clone(),
            problem,
        })
    };
    if request.prompt.is_empty() {
        return refuse("its prompt is empty; give at least one id".into());
    }
    let ids = request.prompt.iter().chain(&request.guidance);
    if let Some(id) = ids.copied().find(|id| !server.has_token(*id)) {
        return refuse(format!("id {id} is not in the server's vocabulary"));
    }
    let given = request.prompt.len() + request.guidance.len();
    let asked = given.saturating_add(request.max_new_tokens);
    match server.max_model_len {
        Some(most) if asked > most => refuse(format!(
            "prompt and guidance have {given} ids and {} are to be sampled, but the server's \
             --max-model-len is {most}; it would cut the completion silently",
            request.max_new_tokens
        )),
        _ => Ok(()),
    }
}

/// A request id that names the rollout and the try.
pub(crate) fn request_id(request: &Request, tries: u32) -> String {
    let key = request.key;
    format!(
        "g2rpo-{:x}-{}-{}-{}-{tries}",
        key.run, key.step, key.group, key.member
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use g2rpo_rollout::RolloutKey;

    fn server(route: Route, logprobs: LogProbs) -> ServerInfo {
        ServerInfo {
            url: "http://s".into(),
            version: "1".into(),
            model: "policy".into(),
            max_model_len: Some(10),
            vocab_size: Some(50),
            route,
            logprobs,
        }
    }

    #[test]
    fn every_setting_is_executed_or_refused_with_a_reason() {
        use LogProbs::{AtTemperature, Raw};
        type Change = fn(&mut SamplingParams);
        // A change, route and log-probabilities of the server, and what the refusal says.
        let table: &[(Change, Route, LogProbs, Option<&str>)] = &[
            (|_| (), Route::Generate, AtTemperature, None),
            (|_| (), Route::Completions, Raw, None),
            (
                |p| p.temperature = 0.7,
                Route::Generate,
                AtTemperature,
                None,
            ),
            (|p| p.temperature = 0.0, Route::Generate, Raw, None),
            (
                |p| p.temperature = 0.7,
                Route::Generate,
                Raw,
                Some("--logprobs-mode processed_logprobs"),
            ),
            (
                |p| p.temperature = 0.7,
                Route::Sglang,
                Raw,
                Some("SGLANG_RETURN_ORIGINAL_LOGPROB"),
            ),
            (
                |p| p.temperature = -1.0,
                Route::Generate,
                AtTemperature,
                Some("temperature -1"),
            ),
            (
                |p| p.temperature = f64::NAN,
                Route::Generate,
                AtTemperature,
                Some("temperature NaN"),
            ),
            (
                |p| p.top_k = 5,
                Route::Generate,
                AtTemperature,
                Some("top_k 5"),
            ),
            (
                |p| p.top_p = 0.9,
                Route::Generate,
                AtTemperature,
                Some("top_p 0.9"),
            ),
            (
                |p| p.min_p = 0.1,
                Route::Sglang,
                AtTemperature,
                Some("min_p 0.1"),
            ),
            (
                |p| (p.top_k, p.temperature) = (5, 0.0),
                Route::Generate,
                AtTemperature,
                None,
            ),
            (
                |p| p.repetition_penalty = 1.1,
                Route::Generate,
                AtTemperature,
                Some("repetition_penalty 1.1"),
            ),
            (
                |p| p.stop_token_ids = vec![49],
                Route::Generate,
                AtTemperature,
                None,
            ),
            (
                |p| p.stop_token_ids = vec![50],
                Route::Generate,
                AtTemperature,
                Some("stop_token_ids 50"),
            ),
            (
                |p| p.stop = vec!["x".into()],
                Route::Generate,
                AtTemperature,
                None,
            ),
            (
                |p| p.stop = vec![String::new()],
                Route::Generate,
                AtTemperature,
                Some("ends everything"),
            ),
            (
                |p| p.stop = vec!["x".into()],
                Route::Sglang,
                AtTemperature,
                Some("use stop_token_ids"),
            ),
        ];
        for (change, route, logprobs, refusal) in table {
            let mut params = SamplingParams::default();
            change(&mut params);
            let checked = Settings::check(&params, &server(*route, *logprobs));
            match (checked, refusal) {
                (Ok(_), None) => (),
                (Err(e), Some(words)) => assert!(e.to_string().contains(words), "{e}"),
                (got, _) => panic!("{params:?} at {route:?}: {got:?}"),
            }
        }
    }

    #[test]
    fn requests_that_would_be_cut_are_refused_with_their_key() {
        let server = server(Route::Generate, LogProbs::AtTemperature);
        let request = |prompt: Vec<TokenId>, max_new_tokens| Request {
            prompt,
            guidance: vec![1, 2],
            key: RolloutKey {
                run: 1,
                step: 2,
                group: 3,
                member: 4,
            },
            max_new_tokens,
        };
        check_request(&request(vec![0; 5], 3), &server).unwrap();
        for (request, words) in [
            (request(vec![], 3), "prompt is empty"),
            (request(vec![50], 3), "id 50 is not in"),
            (request(vec![0; 5], 4), "--max-model-len is 10"),
            (request(vec![0; 5], usize::MAX), "--max-model-len is 10"),
        ] {
            let error = check_request(&request, &server).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
            assert!(error.contains("step 2, group 3, member 4"), "{error}");
        }
    }
}
