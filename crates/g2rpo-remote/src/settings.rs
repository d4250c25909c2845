//! Sampling settings that a server can execute and report, checked before the first request.

use g2rpo_rollout::{Request, SamplingParams};

use crate::error::{Error, Result};
use crate::server::{LogProbs, Route, ServerInfo};

/// Refuses what `server` cannot do, or do without our knowing what was sampled. Temperature and stops are what is left.
pub(crate) fn check_params(params: &SamplingParams, server: &ServerInfo) -> Result<()> {
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
    let at_temperature = format!("temperature {temperature}");
    if !(temperature >= 0.0 && temperature.is_finite()) {
        return refuse(at_temperature, "it must be a number from 0");
    }
    // The most probable id survives every filter, so a greedy choice needs none.
    let filters = [
        (*top_k != 0, format!("top_k {top_k}")),
        (*top_p != 1.0, format!("top_p {top_p}")),
        (*min_p != 0.0, format!("min_p {min_p}")),
    ];
    if let Some((_, setting)) = filters.into_iter().find(|(on, _)| *on && temperature > 0.0) {
        return refuse(
            setting,
            "it reports no log-probability together with the mass that the filter kept, and \
             the learner's ratio needs both; switch the filter off, or sample locally",
        );
    }
    if *repetition_penalty != 1.0 {
        return refuse(
            format!("repetition_penalty {repetition_penalty}"),
            "its log-probabilities are those after the penalty, and the learner's are before; \
             set it to 1, or sample locally",
        );
    }
    if server.logprobs == LogProbs::Raw && temperature != 0.0 && temperature != 1.0 {
        let how = match server.route {
            Route::Sglang => "without SGLANG_RETURN_ORIGINAL_LOGPROB",
            Route::Generate | Route::Completions => "with --logprobs-mode processed_logprobs",
        };
        let reason = format!("it reports log-probabilities at temperature 1; start it {how}");
        return refuse(at_temperature, &reason);
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
    match stop_token_ids.iter().find(|id| !server.has_token(**id)) {
        Some(id) => refuse(
            format!("stop_token_ids {id}"),
            "no such id in its vocabulary",
        ),
        None => Ok(()),
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
        type Change = fn(&mut SamplingParams);
        // Servers by route and log-probabilities, changes of the settings, and what a refusal says.
        let vllm: &[(Change, &str)] = &[
            (|_| (), ""),
            (|p| p.temperature = 0.7, ""),
            (|p| p.temperature = -1.0, "temperature -1"),
            (|p| p.temperature = f64::NAN, "temperature NaN"),
            (|p| p.top_k = 5, "top_k 5"),
            (|p| p.top_p = 0.9, "top_p 0.9"),
            (|p| (p.top_k, p.temperature) = (5, 0.0), ""),
            (|p| p.repetition_penalty = 1.1, "repetition_penalty 1.1"),
            (|p| p.stop_token_ids = vec![49], ""),
            (|p| p.stop_token_ids = vec![50], "stop_token_ids 50"),
            (|p| p.stop = vec!["x".into()], ""),
            (|p| p.stop = vec![String::new()], "ends everything"),
        ];
        let raw: &[(Change, &str)] = &[
            (|_| (), ""),
            (|p| p.temperature = 0.0, ""),
            (|p| p.temperature = 0.7, "1; start it with --logprobs-mode"),
        ];
        let sglang: &[(Change, &str)] = &[
            (|p| p.min_p = 0.1, "min_p 0.1"),
            (|p| p.stop = vec!["x".into()], "use stop_token_ids"),
        ];
        let raw_sglang: &[(Change, &str)] = &[(|p| p.temperature = 0.7, "it without SGLANG_")];
        for (route, logprobs, table) in [
            (Route::Generate, LogProbs::AtTemperature, vllm),
            (Route::Completions, LogProbs::Raw, raw),
            (Route::Sglang, LogProbs::AtTemperature, sglang),
            (Route::Sglang, LogProbs::Raw, raw_sglang),
        ] {
            for (change, refusal) in table {
                let mut params = SamplingParams::default();
                change(&mut params);
                match check_params(&params, &server(route, logprobs)) {
                    Ok(()) => assert_eq!(*refusal, "", "{params:?} at {route:?}"),
                    Err(e) => assert!(
                        !refusal.is_empty() && e.to_string().contains(refusal),
                        "{e}"
                    ),
                }
            }
        }
    }

    #[test]
    fn requests_that_would_be_cut_are_refused_with_their_key() {
        let server = server(Route::Generate, LogProbs::AtTemperature);
        let request = |prompt, max_new_tokens| Request {
            prompt,
            guidance: vec![1, 2],
            key: RolloutKey::default(),
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
            assert!(
                error.contains("rollout (run 0, step 0, group 0, member 0) at http://s"),
                "{error}"
            );
        }
    }
}
