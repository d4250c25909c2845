//! vLLM's `/v1/completions` with ids for the prompt and for what comes back (0.32).

use std::collections::HashMap;

use g2rpo_core::TokenId;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::answer::Answer;
use crate::error::Fault;
use crate::protocol::{Ask, PromptLogprobs, parse, vllm_end, vllm_sampling};

pub(super) fn body(ask: &Ask<'_>) -> Value {
    let mut body = vllm_sampling(ask);
    body["model"] = json!(ask.model);
    body["request_id"] = json!(ask.id);
    body["prompt"] = json!(ask.tokens);
    body["echo"] = json!(false);
    body["stream"] = json!(false);
    body["return_token_ids"] = json!(true);
    body
}

#[derive(Deserialize)]
struct Reply {
    model: Option<String>,
    choices: Vec<Choice>,
}

#[derive(Deserialize)]
struct Choice {
    finish_reason: Option<String>,
    #[serde(default)]
    stop_reason: Value,
    token_ids: Option<Vec<TokenId>>,
    prompt_token_ids: Option<Vec<TokenId>>,
    logprobs: Option<Logprobs>,
    prompt_logprobs: Option<PromptLogprobs>,
}

#[derive(Deserialize)]
struct Logprobs {
    token_logprobs: Vec<Option<f64>>,
    #[serde(default)]
    top_logprobs: Vec<Option<HashMap<String, Option<f64>>>>,
}

fn choice(reply: Reply) -> Result<(Option<String>, Choice), Fault> {
    let [choice] = <[Choice; 1]>::try_from(reply.choices)
        .map_err(|all| Fault::Body(format!("{} choices where one was asked for", all.len())))?;
    Ok((reply.model, choice))
}

pub(super) fn read(text: &str) -> Result<Answer, Fault> {
    let (model, choice) = choice(parse(text)?)?;
    let end = vllm_end(choice.finish_reason.as_deref(), &choice.stop_reason)?;
    let tokens = choice.token_ids.ok_or_else(|| {
        Fault::Body("no token_ids; this version of vLLM does not know return_token_ids".into())
    })?;
    let (logps, candidates) = (choice.logprobs)
        .map(|l| (l.token_logprobs, l.top_logprobs))
        .unwrap_or_default();
    Ok(Answer {
        id: None,
        model,
        prompt_len: None,
        prompt: choice.prompt_token_ids,
        scored: None,
        logps,
        candidates: (candidates.into_iter())
            .map(|map| {
                map.into_iter()
                    .flatten()
                    .filter_map(|(_, logp)| logp)
                    .collect()
            })
            .collect(),
        tokens,
        end,
        versions: None,
    })
}

pub(super) fn read_scores(text: &str, tokens: &[TokenId]) -> Result<Vec<f32>, Fault> {
    let (_, choice) = choice(parse(text)?)?;
    (choice.prompt_logprobs)
        .ok_or_else(|| Fault::Body("no prompt_logprobs".into()))?
        .of(tokens)
}
