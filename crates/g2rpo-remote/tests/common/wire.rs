//! The stub's side of HTTP, and its completions in each server's words.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use super::{Reply, Seen, State, VOCAB, ids, lock, logp};

/// Answers the requests of one connection until it ends.
pub(crate) fn serve(stream: TcpStream, state: &Arc<Mutex<State>>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    while let Some(seen) = read(&mut reader) {
        let (reply, work) = {
            let mut state = lock(state);
            state.seen.push(seen.clone());
            state.in_flight += 1;
            state.most_in_flight = state.most_in_flight.max(state.in_flight);
            let fault = state.take_fault(&seen);
            let work = if seen.is_rollout() {
                state.work
            } else {
                Duration::ZERO
            };
            let reply = fault.unwrap_or_else(|| state.answer(&seen));
            (reply, work)
        };
        let reply = match work {
            Duration::ZERO => reply,
            work => Reply::Late(work, Box::new(reply)),
        };
        let reply = wait(&stream, reply, state);
        lock(state).in_flight -= 1;
        let goes_on = reply.is_some_and(|reply| send(&stream, &reply, state));
        if !goes_on {
            let _ = stream.shutdown(std::net::Shutdown::Both);
            return;
        }
    }
}

fn read(reader: &mut BufReader<TcpStream>) -> Option<Seen> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|n| *n > 0)?;
    let path = line.split(' ').nth(1)?.to_owned();
    let (mut length, mut authorization) = (0, None);
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok()?;
        let Some((name, value)) = header.trim_end().split_once(": ") else {
            break;
        };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.parse().ok()?,
            "authorization" => authorization = Some(value.to_owned()),
            _ => (),
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Seen {
        path,
        body: serde_json::from_slice(&body).unwrap_or_default(),
        authorization,
    })
}

/// What is to be answered, when it is time; nothing if the client has gone by then.
fn wait(stream: &TcpStream, reply: Reply, state: &Arc<Mutex<State>>) -> Option<Reply> {
    let Reply::Late(time, reply) = reply else {
        return Some(reply);
    };
    let end = Instant::now() + time;
    while Instant::now() < end {
        std::thread::sleep(Duration::from_millis(2).min(time));
        if gone(stream) {
            lock(state).dropped += 1;
            return None;
        }
    }
    wait(stream, *reply, state)
}

/// Whether the connection may go on.
fn send(mut stream: &TcpStream, reply: &Reply, state: &Arc<Mutex<State>>) -> bool {
    let head = |status: u16, more: &str| {
        format!("HTTP/1.1 {status} X\r\ncontent-type: application/json\r\n{more}\r\n\r\n")
    };
    match reply {
        Reply::Json(status, text) => {
            let head = head(*status, &format!("content-length: {}", text.len()));
            stream.write_all((head + text).as_bytes()).is_ok()
        }
        Reply::RetryAfter(status, seconds) => {
            let more = format!("retry-after: {seconds}\r\ncontent-length: 0");
            stream.write_all(head(*status, &more).as_bytes()).is_ok()
        }
        Reply::Chunked(text) => {
            let mut bytes = head(200, "transfer-encoding: chunked").into_bytes();
            for chunk in text.as_bytes().chunks(7) {
                bytes.extend(format!("{:x}\r\n", chunk.len()).bytes());
                bytes.extend(chunk);
                bytes.extend(b"\r\n");
            }
            bytes.extend(b"0\r\n\r\n");
            stream.write_all(&bytes).is_ok()
        }
        Reply::Bytes(bytes) => {
            let _ = stream.write_all(bytes);
            false
        }
        Reply::Late(..) => false,
        Reply::Drip(pause, text) => {
            let head = head(200, &format!("content-length: {}", text.len()));
            for byte in (head + text).bytes() {
                std::thread::sleep(*pause);
                if stream.write_all(&[byte]).is_err() {
                    lock(state).dropped += 1;
                    return false;
                }
            }
            true
        }
    }
}

/// Whether the client ended the connection.
fn gone(stream: &TcpStream) -> bool {
    stream.set_nonblocking(true).unwrap();
    let gone = match stream.peek(&mut [0]) {
        Ok(n) => n == 0,
        Err(e) => e.kind() != std::io::ErrorKind::WouldBlock,
    };
    stream.set_nonblocking(false).unwrap();
    gone
}

/// A completion, as the three routes write it.
pub(crate) fn complete(state: &State, seen: &Seen) -> Reply {
    let body = &seen.body;
    let (sampling, prompt, max, seed) = match seen.path.as_str() {
        "/inference/v1/generate" => (&body["sampling_params"], "token_ids", "max_tokens", "seed"),
        "/v1/completions" => (body, "prompt", "max_tokens", "seed"),
        _ => (
            &body["sampling_params"],
            "input_ids",
            "max_new_tokens",
            "sampling_seed",
        ),
    };
    let Some(max) = sampling[max].as_u64() else {
        return super::recorded("generate_unknown_model").with_status(400);
    };
    let prompt: Vec<u64> = serde_json::from_value(body[prompt].clone()).unwrap();
    if prompt.iter().any(|id| *id >= u64::from(VOCAB)) {
        return Reply::Json(400, r#"{"error": {"message": "out of vocabulary"}}"#.into());
    }
    let adapter = body["model"]
        .as_str()
        .filter(|m| *m != "policy")
        .or(body["lora_path"].as_str());
    let weights = match adapter {
        None => state.weights,
        Some(name) => match state.adapters.get(name) {
            Some(weights) => *weights,
            None => return super::recorded("generate_unknown_model"),
        },
    };
    let stop: Vec<u64> = serde_json::from_value(sampling["stop_token_ids"].clone()).unwrap();
    let ids = ids(sampling[seed].as_u64().unwrap(), max as usize, &stop);
    let finish = if stop.contains(ids.last().unwrap()) {
        "stop"
    } else {
        "length"
    };
    let temperature = match sampling["temperature"].as_f64().unwrap() {
        t if t == 0.0 || state.raw_logprobs => 1.0,
        t => t,
    };
    let logps: Vec<f64> = ids.iter().map(|id| logp(weights, *id)).collect();
    let top = [-0.1 / temperature, -1.1 / temperature];
    let scores: Vec<Option<f64>> = (prompt.iter().enumerate())
        .map(|(i, id)| (i > 0).then(|| logp(weights, *id)))
        .collect();
    let answer = match seen.path.as_str() {
        "/inference/v1/generate" => {
            // One place of those that were asked for goes to the sampled id, here an improbable one.
            let asked = sampling["logprobs"].as_u64().unwrap_or(0) as usize;
            let all = [-7.0 - 0.1 / temperature].into_iter().chain(top);
            let top: Vec<Value> = (all.take(asked)).map(|l| json!({ "logprob": l })).collect();
            let content: Vec<Value> = (ids.iter().zip(&logps))
                .map(|(id, l)| json!({ "token_id": id, "logprob": l, "top_logprobs": top }))
                .collect();
            json!({
                "request_id": format!("generate-tokens-{}", body["request_id"].as_str().unwrap()),
                "model": body["model"],
                "usage": { "prompt_tokens": prompt.len() },
                "prompt_logprobs": maps(&prompt, &scores),
                "choices": [{
                    "finish_reason": finish,
                    "stop_reason": null,
                    "token_ids": ids,
                    "weight_versions": [{ "version": state.label, "start": 0, "end": ids.len() }],
                    "logprobs": { "content": content },
                }],
            })
        }
        "/v1/completions" => json!({
            "model": body["model"],
            "choices": [{
                "finish_reason": finish,
                "stop_reason": null,
                "token_ids": ids,
                "prompt_token_ids": prompt,
                "prompt_logprobs": maps(&prompt, &scores),
                "logprobs": {
                    "token_logprobs": logps,
                    "top_logprobs": vec![json!({ "a": top[0], "b": top[1] }); ids.len()],
                },
            }],
        }),
        _ => {
            let triples = |ids: &[u64], logps: &[Option<f64>]| -> Vec<Value> {
                ids.iter()
                    .zip(logps)
                    .map(|(id, l)| json!([l, id, null]))
                    .collect()
            };
            let logps: Vec<Option<f64>> = logps.into_iter().map(Some).collect();
            json!({
                "text": "",
                "output_ids": ids,
                "meta_info": {
                    "id": body["rid"],
                    "finish_reason": { "type": finish },
                    "prompt_tokens": prompt.len(),
                    "weight_version": state.label,
                    "input_token_logprobs": triples(&prompt, &scores),
                    "output_token_logprobs": triples(&ids, &logps),
                    "output_top_logprobs":
                        vec![json!([[top[0], 0, null], [top[1], 1, null]]); ids.len()],
                },
            })
        }
    };
    Reply::Json(200, answer.to_string())
}

fn maps(prompt: &[u64], scores: &[Option<f64>]) -> Vec<Value> {
    (prompt.iter().zip(scores))
        .map(|(id, score)| match score {
            None => Value::Null,
            Some(score) => {
                let entry = json!({ "logprob": score });
                Value::Object(Map::from_iter([(id.to_string(), entry)]))
            }
        })
        .collect()
}

impl Reply {
    pub(crate) fn with_status(self, status: u16) -> Self {
        match self {
            Self::Json(_, text) => Self::Json(status, text),
            other => other,
        }
    }

    /// The text of a JSON answer, changed.
    pub(crate) fn edit(self, change: impl FnOnce(&mut Value)) -> Self {
        let Self::Json(status, text) = self else {
            return self;
        };
        let mut json: Value = serde_json::from_str(&text).unwrap();
        change(&mut json);
        Self::Json(status, json.to_string())
    }

    pub(crate) fn text(&self) -> String {
        match self {
            Self::Json(_, text) => text.clone(),
            other => panic!("{other:?}"),
        }
    }
}
