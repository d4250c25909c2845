//! SGLang's `/generate` (0.5).

use g2rpo_core::TokenId;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Value, json};

use crate::answer::{Answer, Ask, End, Span};
use crate::error::Fault;
use crate::protocol::{Scores, parse};

pub(super) fn body(ask: &Ask<'_>) -> Value {
    json!({
        "rid": ask.id,
        "input_ids": ask.tokens,
        "lora_path": ask.adapter.then_some(ask.model),
        "stream": false,
        "return_logprob": true,
        "logprob_start_len": -1,
        "top_logprobs_num": ask.candidates,
        "return_text_in_logprobs": false,
        "sampling_params": {
            "n": 1,
            "max_new_tokens": ask.max_new_tokens,
            "min_new_tokens": 0,
            "temperature": ask.params.temperature,
            "top_p": 1.0,
            "top_k": -1,
            "min_p": 0.0,
            "presence_penalty": 0.0,
            "frequency_penalty": 0.0,
            "repetition_penalty": 1.0,
            "sampling_seed": ask.seed,
            "ignore_eos": true,
            "stop_token_ids": ask.params.stop_token_ids,
            "stop": [],
            "no_stop_trim": true,
            "skip_special_tokens": false,
        },
    })
}

#[derive(Deserialize)]
struct Reply {
    output_ids: Vec<TokenId>,
    meta_info: Meta,
}

#[derive(Deserialize)]
struct Meta {
    id: Option<String>,
    finish_reason: Value,
    prompt_tokens: Option<usize>,
    weight_version: Option<String>,
    output_token_logprobs: Option<Vec<Triple>>,
    input_token_logprobs: Option<Vec<Triple>>,
    output_top_logprobs: Option<Vec<Option<Vec<Triple>>>>,
}

/// Log-probability, id, text.
type Triple = (Option<f64>, TokenId, IgnoredAny);

pub(super) fn read(text: &str) -> Result<Answer, Fault> {
    let Reply {
        output_ids,
        meta_info: meta,
    } = parse(text)?;
    let end = match meta.finish_reason["type"].as_str() {
        Some("stop") => End::Id,
        Some("length") => End::Length,
        Some("abort") => return Err(Fault::Aborted),
        _ => return Err(Fault::Body(format!("finish_reason {}", meta.finish_reason))),
    };
    let positions = meta.output_token_logprobs.unwrap_or_default();
    let versions = meta.weight_version.map(|version| {
        vec![Span {
            version,
            start: 0,
            end: output_ids.len(),
        }]
    });
    Ok(Answer {
        id: meta.id,
        model: None,
        prompt: None,
        prompt_len: meta.prompt_tokens,
        scored: Some(positions.iter().map(|p| p.1).collect()),
        logps: positions.iter().map(|p| p.0).collect(),
        candidates: (meta.output_top_logprobs.unwrap_or_default().iter())
            .map(|top| top.iter().flatten().filter_map(|c| c.0).collect())
            .collect(),
        tokens: output_ids,
        end,
        versions,
    })
}

pub(super) fn read_scores(text: &str, tokens: &[TokenId]) -> Result<Scores, Fault> {
    let reply: Reply = parse(text)?;
    let scores = (reply.meta_info.input_token_logprobs)
        .ok_or_else(|| Fault::Body("no input_token_logprobs".into()))?;
    Ok((scores.iter().enumerate())
        .map(|(i, (logp, id, _))| logp.filter(|_| tokens.get(i) == Some(id)))
        .collect())
}
