//! What is said to each kind of server, and how its answers are read. Every field is sent: what a
//! request leaves out, a server fills from the model's folder or from defaults of its own.

mod completions;
mod generate;
#[cfg(test)]
mod recorded;
mod sglang;

use std::collections::HashMap;

use g2rpo_core::TokenId;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::answer::{Answer, Ask, End};
use crate::error::Fault;
use crate::http::excerpt;
use crate::server::Route;

impl Route {
    /// Where completions and scores are asked for.
    pub(crate) fn path(self) -> &'static str {
        match self {
            Self::Generate => "/inference/v1/generate",
            Self::Completions => "/v1/completions",
            Self::Sglang => "/generate",
        }
    }

    pub(crate) fn body(self, ask: &Ask<'_>) -> Value {
        match self {
            Self::Generate => generate::body(ask),
            Self::Completions => completions::body(ask),
            Self::Sglang => sglang::body(ask),
        }
    }

    /// The completion in an answer; its agreement with the question is checked elsewhere.
    pub(crate) fn read(self, text: &str) -> Result<Answer, Fault> {
        match self {
            Self::Generate => generate::read(text),
            Self::Completions => completions::read(text),
            Self::Sglang => sglang::read(text),
        }
    }

    /// Changes a question for one id into one for the log-probabilities of its own tokens.
    pub(crate) fn score_body(self, ask: &Ask<'_>) -> Value {
        let mut body = self.body(ask);
        match self {
            Self::Generate => body["sampling_params"]["prompt_logprobs"] = json!(0),
            Self::Completions => body["prompt_logprobs"] = json!(0),
            Self::Sglang => body["logprob_start_len"] = json!(0),
        }
        body
    }

    /// Log-probabilities of `tokens` from the second on, at temperature 1.
    pub(crate) fn read_scores(self, text: &str, tokens: &[TokenId]) -> Result<Vec<f32>, Fault> {
        let scores = match self {
            Self::Generate => generate::read_scores(text, tokens),
            Self::Completions => completions::read_scores(text, tokens),
            Self::Sglang => sglang::read_scores(text, tokens),
        }?;
        if scores.len() != tokens.len() {
            return Err(Fault::Body(format!(
                "{} log-probabilities for a prompt of {} ids",
                scores.len(),
                tokens.len()
            )));
        }
        // The first id has none.
        (scores.iter().zip(tokens).enumerate().skip(1))
            .map(|(i, (score, id))| match score.map(|logp| logp as f32) {
                Some(logp) if logp.is_finite() => Ok(logp),
                Some(logp) => Err(Fault::Body(format!(
                    "the log-probability of id {id} at position {i} of the prompt is {logp}"
                ))),
                None => Err(Fault::Body(format!(
                    "no log-probability for id {id} at position {i} of the prompt"
                ))),
            })
            .collect()
    }
}

/// What a server says of each id of a prompt.
type Scores = Vec<Option<f64>>;

/// Reads JSON. Python writes NaN as a bare word, which no reader of JSON takes.
pub(crate) fn parse<T: DeserializeOwned>(text: &str) -> Result<T, Fault> {
    serde_json::from_str(text).map_err(|e| {
        Fault::Body(match e.classify() {
            serde_json::error::Category::Eof => format!("it ends early: {e}"),
            _ if text.contains("NaN") => format!("it holds NaN: {e}"),
            _ => format!("{e}, in `{}`", excerpt(text)),
        })
    })
}

/// vLLM's log-probabilities of a prompt: nothing for the first id, then a map that holds the id.
#[derive(Deserialize)]
#[serde(transparent)]
struct PromptLogprobs(Vec<Option<HashMap<String, Scored>>>);

#[derive(Deserialize)]
struct Scored {
    logprob: Option<f64>,
}

fn vllm_scores(all: Option<PromptLogprobs>, tokens: &[TokenId]) -> Result<Scores, Fault> {
    let PromptLogprobs(all) = all.ok_or_else(|| Fault::Body("no prompt_logprobs".into()))?;
    let score = |(i, map): (usize, &Option<HashMap<String, Scored>>)| {
        map.as_ref()?.get(&tokens.get(i)?.to_string())?.logprob
    };
    Ok(all.iter().enumerate().map(score).collect())
}

/// vLLM's only choice.
fn vllm_choice<T>(mut choices: Vec<T>) -> Result<T, Fault> {
    let n = choices.len();
    (choices.pop().filter(|_| n == 1))
        .ok_or_else(|| Fault::Body(format!("{n} choices where one was asked for")))
}

/// The fields that both routes of vLLM take.
fn vllm_sampling(ask: &Ask<'_>) -> Value {
    json!({
        "n": 1,
        "max_tokens": ask.max_new_tokens,
        "min_tokens": 0,
        "temperature": ask.params.temperature,
        "top_p": 1.0,
        "top_k": 0,
        "min_p": 0.0,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
        "repetition_penalty": 1.0,
        "seed": ask.seed,
        "logprobs": ask.candidates,
        // The ids that end a completion are ours alone, not those of the model's folder.
        "ignore_eos": true,
        "stop_token_ids": ask.params.stop_token_ids,
        "stop": ask.params.stop,
        "include_stop_str_in_output": true,
        "skip_special_tokens": false,
    })
}

/// vLLM's `finish_reason` and `stop_reason`.
fn vllm_end(finish: Option<&str>, stop: &Value) -> Result<End, Fault> {
    match finish {
        Some("stop") if stop.is_string() => Ok(End::Text),
        Some("stop") => Ok(End::Id),
        Some("length") => Ok(End::Length),
        Some("abort") => Err(Fault::Aborted),
        other => Err(Fault::Body(format!("finish_reason {other:?}"))),
    }
}
