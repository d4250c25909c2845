//! A server in vLLM's words over our own engine: it samples, scores, and loads a folder of weights, or an adapter, when it
//! is told to.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use g2rpo::core::{Learner, Ragged, Scoring, Sequences, TokenId, WhichPolicy};
use g2rpo::libtorch::{Adapter, LearnerConfig, Model, TorchEngine, TorchLearner};
use g2rpo::rollout::{Request, RolloutEngine, RolloutKey, SamplingParams, Stop};
use serde_json::{Map, Value, json};
use tch::{Device, Kind};

/// The ids that it has room for.
pub(crate) const ROOM: usize = 512;

pub(crate) struct Server {
    pub(crate) url: String,
    state: Arc<Mutex<State>>,
}

struct State {
    model: Model,
    label: String,
    /// The model with adapters, by their names; `None` where it was started without that.
    adapters: Option<BTreeMap<String, Model>>,
    /// Folders that it was told to load, in order.
    loaded: Vec<PathBuf>,
    /// Answers that it has, and does not load.
    ignores_weights: bool,
}

impl Server {
    /// Serves the model of a folder from here on.
    pub(crate) fn start(folder: &Path) -> Self {
        Self::start_as(folder, None)
    }

    /// The same, started so that adapters can be loaded.
    pub(crate) fn start_with_adapters(folder: &Path) -> Self {
        Self::start_as(folder, Some(BTreeMap::new()))
    }

    fn start_as(folder: &Path, adapters: Option<BTreeMap<String, Model>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::new(Mutex::new(State {
            model: Model::load(folder, Device::Cpu, None).unwrap(),
            label: "default".into(),
            adapters,
            loaded: Vec::new(),
            ignores_weights: false,
        }));
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let state = Arc::clone(&shared);
                std::thread::spawn(move || serve(&stream.unwrap(), &state));
            }
        });
        Self { url, state }
    }

    /// The names of the adapters that it has.
    pub(crate) fn adapters(&self) -> Vec<String> {
        let state = self.state.lock().unwrap();
        state
            .adapters
            .iter()
            .flat_map(BTreeMap::keys)
            .cloned()
            .collect()
    }

    /// The folders that it loaded.
    pub(crate) fn loaded(&self) -> Vec<PathBuf> {
        self.state.lock().unwrap().loaded.clone()
    }

    /// It says that it loads new weights, and keeps the old ones.
    pub(crate) fn ignore_weights(&self) {
        self.state.lock().unwrap().ignores_weights = true;
    }
}

/// Answers the requests of one connection.
fn serve(mut stream: &TcpStream, state: &Mutex<State>) {
    // Of this thread alone; the command has the other cores.
    tch::set_num_threads(1);
    let mut reader = BufReader::new(stream);
    while let Some((path, body)) = read(&mut reader) {
        let (status, answer) = state.lock().unwrap().answer(&path, &body);
        let text = answer.to_string();
        let head = format!(
            "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            text.len()
        );
        if stream.write_all((head + &text).as_bytes()).is_err() {
            return;
        }
    }
}

fn read(reader: &mut BufReader<&TcpStream>) -> Option<(String, Value)> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|n| *n > 0)?;
    let path = line.split(' ').nth(1)?.to_owned();
    let mut length = 0;
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok()?;
        let Some((name, value)) = header.trim_end().split_once(": ") else {
            break;
        };
        if name.eq_ignore_ascii_case("content-length") {
            length = value.parse().ok()?;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some((path, serde_json::from_slice(&body).unwrap_or_default()))
}

impl State {
    fn answer(&mut self, path: &str, body: &Value) -> (u16, Value) {
        let success = (200, json!({ "success": true }));
        match path {
            "/health" => (200, Value::Null),
            "/version" => (200, json!({ "version": "0" })),
            "/v1/models" => {
                let mut models =
                    vec![json!({ "id": "policy", "parent": null, "max_model_len": ROOM })];
                let names = self.adapters.iter().flat_map(BTreeMap::keys);
                models.extend(names.map(|name| json!({ "id": name, "parent": "policy" })));
                (200, json!({ "data": models }))
            }
            "/v1/load_lora_adapter" | "/v1/unload_lora_adapter" => self.adapter(path, body),
            "/is_paused" => (200, json!({ "is_paused": false })),
            "/weight_info" => (200, json!({ "weight_version": self.label })),
            "/pause?mode=abort" | "/resume" | "/reset_prefix_cache" => success,
            "/update_weight_version" => {
                self.label = body["new_version"].as_str().unwrap().into();
                success
            }
            "/collective_rpc" => {
                let Some(folder) = body["kwargs"]["weights_path"].as_str() else {
                    return (400, json!({}));
                };
                if !self.ignores_weights {
                    self.model = Model::load(folder, Device::Cpu, None).unwrap();
                }
                self.loaded.push(folder.into());
                success
            }
            "/inference/v1/generate" if body["token_ids"].is_null() => (400, json!({})),
            "/inference/v1/generate" => self.generate(body),
            _ => (404, json!({})),
        }
    }

    /// Loads or unloads an adapter.
    fn adapter(&mut self, path: &str, body: &Value) -> (u16, Value) {
        let Some(adapters) = &mut self.adapters else {
            return (404, json!({}));
        };
        let Some(name) = body["lora_name"].as_str() else {
            return (400, json!({}));
        };
        if path == "/v1/unload_lora_adapter" {
            let status = if adapters.remove(name).is_some() {
                200
            } else {
                404
            };
            return (status, json!({}));
        }
        let folder = Path::new(body["lora_path"].as_str().unwrap());
        let mut model = self.model.twin().unwrap();
        if !self.ignores_weights {
            let read = Adapter::load(folder, &model.config, Kind::Float, Device::Cpu);
            model.adapter = Some(read.unwrap());
        }
        adapters.insert(name.into(), model);
        self.loaded.push(folder.into());
        (200, json!("Success"))
    }

    /// The model that a request asks for.
    fn asked(&self, body: &Value) -> &Model {
        let name = body["model"].as_str().unwrap();
        let adapter = self.adapters.as_ref().and_then(|all| all.get(name));
        adapter.unwrap_or_else(|| {
            assert_eq!(name, "policy", "a model that nobody serves");
            &self.model
        })
    }

    fn generate(&self, body: &Value) -> (u16, Value) {
        let model = self.asked(body);
        let sampling = &body["sampling_params"];
        let prompt: Vec<TokenId> = serde_json::from_value(body["token_ids"].clone()).unwrap();
        let params = SamplingParams {
            temperature: sampling["temperature"].as_f64().unwrap(),
            stop_token_ids: serde_json::from_value(sampling["stop_token_ids"].clone()).unwrap(),
            ..SamplingParams::default()
        };
        let request = Request {
            prompt: prompt.clone(),
            guidance: Vec::new(),
            key: RolloutKey {
                run: sampling["seed"].as_u64().unwrap(),
                ..RolloutKey::default()
            },
            max_new_tokens: sampling["max_tokens"].as_u64().unwrap() as usize,
        };
        let mut engine = TorchEngine::of(model).unwrap();
        let Ok(mut made) = engine.generate(&[request], &params) else {
            return (400, json!({ "error": { "message": "no such id" } }));
        };
        let made = made.remove(0);
        let top = match sampling["logprobs"].as_u64().unwrap() {
            0 => Vec::new(),
            n => top(model, &prompt, params.temperature, n as i64),
        };
        let content = made.tokens.iter().zip(&made.logps).map(|(id, logp)| {
            let top: Vec<Value> = top.iter().map(|l| json!({ "logprob": l })).collect();
            json!({ "token_id": id, "logprob": logp, "top_logprobs": top })
        });
        let scores = (!sampling["prompt_logprobs"].is_null()).then(|| scores(model, &prompt));
        let finish = if made.stop == Stop::Eos {
            "stop"
        } else {
            "length"
        };
        let answer = json!({
            "request_id": format!("generate-tokens-{}", body["request_id"].as_str().unwrap()),
            "model": body["model"],
            "usage": { "prompt_tokens": prompt.len() },
            "prompt_logprobs": scores,
            "choices": [{
                "finish_reason": finish,
                "stop_reason": null,
                "token_ids": made.tokens,
                "weight_versions": [{ "version": self.label, "start": 0, "end": made.tokens.len() }],
                "logprobs": { "content": content.collect::<Vec<_>>() },
            }],
        });
        (200, answer)
    }
}

/// Log-probabilities of the most probable ids behind a prompt.
fn top(model: &Model, prompt: &[TokenId], temperature: f64, n: i64) -> Vec<f64> {
    let ids: Vec<i64> = prompt.iter().map(|id| i64::from(*id)).collect();
    let ids_bt = tch::Tensor::from_slice(&ids).unsqueeze(0);
    let decoder = model.decoder().unwrap();
    let logits = tch::no_grad(|| decoder.logits_btv(&ids_bt).unwrap());
    let last = logits.select(0, 0).select(0, -1) / temperature;
    let (top, _) = last.log_softmax(-1, Kind::Double).topk(n, -1, true, true);
    Vec::try_from(top).unwrap()
}

fn scores(model: &Model, prompt: &[TokenId]) -> Vec<Value> {
    let mut learner = TorchLearner::of(model, LearnerConfig::default()).unwrap();
    let sequences = Sequences::new(Ragged::from_rows([prompt.to_vec()]), vec![1]).unwrap();
    let out = learner.token_logps(&sequences, WhichPolicy::Current, &Scoring::default());
    let out = out.unwrap().logp;
    let entry = |(id, logp): (&TokenId, &f64)| {
        Value::Object(Map::from_iter([(
            id.to_string(),
            json!({ "logprob": logp }),
        )]))
    };
    let rest = prompt[1..].iter().zip(out.row(0)).map(entry);
    std::iter::once(Value::Null).chain(rest).collect()
}
