//! vLLM's `/inference/v1/generate` (0.32).

use g2rpo_core::TokenId;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::answer::{Answer, Ask, Span};
use crate::error::Fault;
use crate::protocol::{
    PromptLogprobs, Scores, parse, vllm_choice, vllm_end, vllm_sampling, vllm_scores,
};

pub(super) fn body(ask: &Ask<'_>) -> Value {
    let mut sampling = vllm_sampling(ask);
    // Text is needed only to look for stop strings in it.
    sampling["detokenize"] = json!(!ask.params.stop.is_empty());
    json!({
        "model": ask.model,
        "request_id": ask.id,
        "token_ids": ask.tokens,
        "stream": false,
        "sampling_params": sampling,
    })
}

#[derive(Deserialize)]
struct Reply {
    request_id: Option<String>,
    model: Option<String>,
    usage: Option<Usage>,
    prompt_logprobs: Option<PromptLogprobs>,
    choices: Vec<Choice>,
}

#[derive(Deserialize)]
struct Usage {
    prompt_tokens: usize,
}

#[derive(Deserialize)]
struct Choice {
    finish_reason: Option<String>,
    #[serde(default)]
    stop_reason: Value,
    token_ids: Vec<TokenId>,
    weight_versions: Option<Vec<Span>>,
    logprobs: Option<Logprobs>,
}

#[derive(Deserialize)]
struct Logprobs {
    content: Vec<Position>,
}

#[derive(Deserialize)]
struct Position {
    token_id: TokenId,
    logprob: Option<f64>,
    #[serde(default)]
    top_logprobs: Vec<Candidate>,
}

#[derive(Deserialize)]
struct Candidate {
    logprob: Option<f64>,
}

pub(super) fn read(text: &str) -> Result<Answer, Fault> {
    let reply: Reply = parse(text)?;
    let choice = vllm_choice(reply.choices)?;
    let end = vllm_end(choice.finish_reason.as_deref(), &choice.stop_reason)?;
    let positions = choice.logprobs.map(|l| l.content).unwrap_or_default();
    Ok(Answer {
        id: (reply.request_id).map(|id| match id.strip_prefix("generate-tokens-") {
            Some(ours) => ours.to_owned(),
            None => id,
        }),
        model: reply.model,
        prompt: None,
        prompt_len: reply.usage.map(|usage| usage.prompt_tokens),
        scored: Some(positions.iter().map(|p| p.token_id).collect()),
        logps: positions.iter().map(|p| p.logprob).collect(),
        candidates: (positions.iter())
            .map(|p| p.top_logprobs.iter().filter_map(|c| c.logprob).collect())
            .collect(),
        tokens: choice.token_ids,
        end,
        versions: choice.weight_versions,
    })
}

pub(super) fn read_scores(text: &str, tokens: &[TokenId]) -> Result<Scores, Fault> {
    vllm_scores(parse::<Reply>(text)?.prompt_logprobs, tokens)
}
