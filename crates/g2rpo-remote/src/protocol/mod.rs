//! What is said to each kind of server, and how its answers are read. Every field is sent: what a
//! request leaves out, a server fills from the model's folder or from defaults of its own.

mod completions;
mod generate;
#[cfg(test)]
mod recorded;
mod sglang;

use g2rpo_core::TokenId;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::answer::Answer;
use crate::error::Fault;
use crate::http::excerpt;
use crate::server::Route;
use crate::settings::Settings;

/// One completion to ask for.
#[derive(Debug)]
pub(crate) struct Ask<'a> {
    pub(crate) id: &'a str,
    /// Name of the base model or of an adapter.
    pub(crate) model: &'a str,
    pub(crate) adapter: bool,
    /// Prompt and guidance.
    pub(crate) tokens: &'a [TokenId],
    pub(crate) seed: i64,
    pub(crate) max_new_tokens: usize,
    pub(crate) settings: &'a Settings,
    /// Most probable ids to report at each position, beside the sampled one.
    pub(crate) candidates: usize,
}

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
        if let Some(i) = scores.iter().position(|logp| !logp.is_finite()) {
            return Err(Fault::Body(format!(
                "the log-probability of id {} at position {} of the prompt is {}",
                tokens[i + 1],
                i + 1,
                scores[i]
            )));
        }
        Ok(scores)
    }
}

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
#[derive(Debug, Deserialize)]
#[serde(transparent)]
struct PromptLogprobs(Vec<Option<std::collections::HashMap<String, Scored>>>);

#[derive(Debug, Deserialize)]
struct Scored {
    logprob: Option<f64>,
}

impl PromptLogprobs {
    fn of(&self, tokens: &[TokenId]) -> Result<Vec<f32>, Fault> {
        same_length(self.0.len(), tokens)?;
        let missing = |id, i| {
            Fault::Body(format!(
                "no log-probability for id {id} at position {i} of the prompt"
            ))
        };
        (self.0.iter().enumerate().zip(tokens).skip(1))
            .map(|((i, entry), id)| {
                (entry.as_ref())
                    .and_then(|map| map.get(&id.to_string())?.logprob)
                    .map(|logp| logp as f32)
                    .ok_or_else(|| missing(id, i))
            })
            .collect()
    }
}

/// The log-probabilities of a prompt are as many as its ids, the first being none.
fn same_length(scores: usize, tokens: &[TokenId]) -> Result<(), Fault> {
    if scores == tokens.len() {
        return Ok(());
    }
    Err(Fault::Body(format!(
        "{scores} log-probabilities for a prompt of {} ids",
        tokens.len()
    )))
}

/// The fields that both routes of vLLM take.
fn vllm_sampling(ask: &Ask<'_>) -> Value {
    json!({
        "n": 1,
        "max_tokens": ask.max_new_tokens,
        "min_tokens": 0,
        "temperature": ask.settings.temperature,
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
        "stop_token_ids": ask.settings.stop_token_ids,
        "stop": ask.settings.stop,
        "include_stop_str_in_output": true,
        "skip_special_tokens": false,
    })
}

/// vLLM's `finish_reason` and `stop_reason`.
fn vllm_end(finish: Option<&str>, stop: &Value) -> Result<crate::answer::End, Fault> {
    use crate::answer::End;
    match finish {
        Some("stop") if stop.is_string() => Ok(End::Text),
        Some("stop") => Ok(End::Id),
        Some("length") => Ok(End::Length),
        Some("abort") => Err(Fault::Aborted),
        other => Err(Fault::Body(format!("finish_reason {other:?}"))),
    }
}
