//! vLLM's `/v1/completions` with ids for the prompt and for what comes back (0.32).

use std::collections::HashMap;

use g2rpo_core::TokenId;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::answer::{Answer, Ask};
use crate::error::Fault;
use crate::protocol::{
    PromptLogprobs, Scores, parse, vllm_choice, vllm_end, vllm_sampling, vllm_scores,
};

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

pub(super) fn read(text: &str) -> Result<Answer, Fault> {
    let Reply { model, choices } = parse(text)?;
    let choice = vllm_choice(choices)?;
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
            .map(|map| map.into_iter().flatten().filter_map(|c| c.1).collect())
            .collect(),
        tokens,
        end,
        versions: None,
    })
}

pub(super) fn read_scores(text: &str, tokens: &[TokenId]) -> Result<Scores, Fault> {
    let reply: Reply = parse(text)?;
    vllm_scores(vllm_choice(reply.choices)?.prompt_logprobs, tokens)
}
