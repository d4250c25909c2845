//! A stub server on the loopback: a policy that anybody can compute, the recorded answers of real
//! servers to control calls, and every way in which a server can misbehave.
#![allow(dead_code, reason = "each test binary uses a part of it")]

mod wire;

pub(crate) use wire::complete;

use std::collections::HashMap;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use g2rpo_remote::{RemoteConfig, RemoteEngine, WeightSync};
use g2rpo_rollout::{Request, RolloutKey, SamplingParams};
use serde_json::{Value, json};

/// Ids of the stub's policy are below this.
pub(crate) const VOCAB: u32 = 50;

/// A request as the stub saw it.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) path: String,
    pub(crate) body: Value,
    pub(crate) authorization: Option<String>,
}

impl Seen {
    pub(crate) fn is_rollout(&self) -> bool {
        let id = [&self.body["request_id"], &self.body["rid"]];
        id.iter()
            .any(|id| id.as_str().is_some_and(|id| id.starts_with("g2rpo-5-")))
    }
}

/// What the stub answers.
#[derive(Debug, Clone)]
pub(crate) enum Reply {
    Json(u16, String),
    RetryAfter(u16, f64),
    Chunked(String),
    /// These bytes and nothing else.
    Bytes(Vec<u8>),
    /// The answer after a while.
    Late(Duration, Box<Self>),
    /// The answer byte by byte.
    Drip(Duration, String),
}

type Fault = Box<dyn FnMut(&Seen, &State) -> Option<Reply> + Send>;

/// What the stub is and remembers.
pub(crate) struct State {
    /// The one number that its policy depends on.
    pub(crate) weights: f64,
    pub(crate) started_with: f64,
    pub(crate) adapters: HashMap<String, f64>,
    pub(crate) label: String,
    pub(crate) paused: bool,
    pub(crate) seen: Vec<Seen>,
    pub(crate) in_flight: usize,
    pub(crate) most_in_flight: usize,
    /// Connections that ended while their answer was awaited.
    pub(crate) dropped: usize,
    /// How long a completion takes.
    pub(crate) work: Duration,
    pub(crate) raw_logprobs: bool,
    pub(crate) missing: Vec<&'static str>,
    fault: Option<Fault>,
    connections: Vec<TcpStream>,
}

pub(crate) struct Stub {
    pub(crate) url: String,
    port: u16,
    state: Arc<Mutex<State>>,
    alive: Arc<AtomicBool>,
}

impl Stub {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = State {
            weights: 0.0,
            started_with: 0.0,
            adapters: HashMap::new(),
            label: "default".into(),
            paused: false,
            seen: Vec::new(),
            in_flight: 0,
            most_in_flight: 0,
            dropped: 0,
            work: Duration::ZERO,
            raw_logprobs: false,
            missing: Vec::new(),
            fault: None,
            connections: Vec::new(),
        };
        let mut stub = Self {
            url: format!("http://127.0.0.1:{port}"),
            port,
            state: Arc::new(Mutex::new(state)),
            alive: Arc::default(),
        };
        stub.listen(listener);
        stub
    }

    fn listen(&mut self, listener: TcpListener) {
        self.alive = Arc::new(AtomicBool::new(true));
        let (state, alive) = (self.state.clone(), self.alive.clone());
        listener.set_nonblocking(true).unwrap();
        std::thread::spawn(move || {
            while alive.load(Ordering::SeqCst) {
                let Ok((stream, _)) = listener.accept() else {
                    std::thread::sleep(Duration::from_millis(2));
                    continue;
                };
                stream.set_nonblocking(false).unwrap();
                stream.set_nodelay(true).unwrap();
                let state = state.clone();
                lock(&state).connections.push(stream.try_clone().unwrap());
                std::thread::spawn(move || wire::serve(stream, &state));
            }
        });
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Calls `fault` for every request; what it returns is answered instead.
    pub(crate) fn fault(&self, fault: impl FnMut(&Seen, &State) -> Option<Reply> + Send + 'static) {
        self.state().fault = Some(Box::new(fault));
    }

    /// As a server that was killed: connections end, and nothing listens.
    pub(crate) fn kill(&self) {
        self.alive.store(false, Ordering::SeqCst);
        let mut state = self.state();
        for connection in state.connections.drain(..) {
            let _ = connection.shutdown(Shutdown::Both);
        }
        // It forgets what it was given.
        state.weights = state.started_with;
        state.adapters.clear();
        state.label = "default".into();
    }

    pub(crate) fn restart(&mut self) {
        let listener = loop {
            match TcpListener::bind(("127.0.0.1", self.port)) {
                Ok(listener) => break listener,
                Err(_) => std::thread::sleep(Duration::from_millis(5)),
            }
        };
        self.listen(listener);
    }

    pub(crate) fn rollouts(&self) -> usize {
        self.state().seen.iter().filter(|s| s.is_rollout()).count()
    }

    pub(crate) fn calls(&self, path: &str) -> Vec<Seen> {
        let state = self.state();
        state
            .seen
            .iter()
            .filter(|s| s.path == path)
            .cloned()
            .collect()
    }
}

pub(crate) fn lock(state: &Arc<Mutex<State>>) -> MutexGuard<'_, State> {
    state
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// A recorded answer.
pub(crate) fn recorded(name: &str) -> Reply {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/remote");
    let text = std::fs::read_to_string(path.join(format!("{name}.json"))).unwrap();
    let exchange: Value = serde_json::from_str(&text).unwrap();
    let status = exchange["status"].as_u64().unwrap() as u16;
    let response = match &exchange["response"] {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        json => json.to_string(),
    };
    Reply::Json(status, response)
}

/// The policy's log-probability of an id at temperature 1.
pub(crate) fn logp(weights: f64, id: u64) -> f64 {
    -0.25 * (1 + id % 7) as f64 - weights * 0.1 * (id % 3) as f64
}

/// The ids that a seed gives.
pub(crate) fn ids(seed: u64, max: usize, stop: &[u64]) -> Vec<u64> {
    let mut x = seed | 1;
    let mut ids = Vec::new();
    while ids.len() < max {
        x = x
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        ids.push((x >> 33) % u64::from(VOCAB));
        if stop.contains(ids.last().unwrap()) {
            break;
        }
    }
    ids
}

impl State {
    pub(crate) fn take_fault(&mut self, seen: &Seen) -> Option<Reply> {
        let mut fault = self.fault.take()?;
        let reply = fault(seen, self);
        self.fault.get_or_insert(fault);
        reply
    }

    /// What a healthy server answers.
    pub(crate) fn answer(&mut self, seen: &Seen) -> Reply {
        let path = seen.path.as_str();
        if self.missing.contains(&path) {
            return recorded("not_found");
        }
        let ok = |json: Value| Reply::Json(200, json.to_string());
        match path {
            "/health" => Reply::Json(200, String::new()),
            "/version" => recorded("version"),
            "/get_server_info" => recorded("sglang/get_server_info"),
            "/get_model_info" => ok(json!({ "weight_version": self.label })),
            "/v1/models" => {
                let Reply::Json(status, text) = recorded("models") else {
                    unreachable!()
                };
                let mut models: Value = serde_json::from_str(&text).unwrap();
                for name in self.adapters.keys() {
                    let adapter = json!({ "id": name, "parent": "policy" });
                    models["data"].as_array_mut().unwrap().push(adapter);
                }
                Reply::Json(status, models.to_string())
            }
            "/is_paused" if self.paused => recorded("is_paused_true"),
            "/is_paused" => recorded("is_paused_false"),
            "/weight_info" => ok(json!({ "weight_version": self.label })),
            "/pause?mode=abort" => {
                self.paused = true;
                recorded("pause_abort")
            }
            "/resume" => {
                self.paused = false;
                recorded("resume")
            }
            "/reset_prefix_cache" => recorded("reset_prefix_cache"),
            "/update_weight_version" => {
                self.label = seen.body["new_version"].as_str().unwrap().into();
                recorded("update_weight_version")
            }
            "/collective_rpc" => match weights_in(&seen.body["kwargs"]["weights_path"]) {
                Some(weights) => {
                    self.weights = weights;
                    recorded("reload_weights")
                }
                None if seen.body == json!({}) => Reply::Json(400, "{}".into()),
                None => recorded("reload_weights_bad_path"),
            },
            "/update_weights_from_disk" => match weights_in(&seen.body["model_path"]) {
                Some(weights) => {
                    self.weights = weights;
                    self.label = seen.body["weight_version"].as_str().unwrap().into();
                    recorded("sglang/update_weights_from_disk")
                }
                None if seen.body == json!({}) => Reply::Json(400, "{}".into()),
                None => recorded("sglang/update_weights_from_disk_bad_path"),
            },
            "/v1/load_lora_adapter" => self.load(seen, ""),
            "/load_lora_adapter" => self.load(seen, "sglang/"),
            "/v1/unload_lora_adapter" | "/unload_lora_adapter" => {
                let name = seen.body["lora_name"].as_str().unwrap();
                if self.adapters.remove(name).is_none() {
                    return recorded("unload_lora_adapter_unknown");
                }
                let sglang = path == "/unload_lora_adapter";
                recorded(if sglang {
                    "sglang/unload_lora_adapter"
                } else {
                    "unload_lora_adapter"
                })
            }
            "/inference/v1/generate" | "/v1/completions" | "/generate" => complete(self, seen),
            _ => recorded("not_found"),
        }
    }

    fn load(&mut self, seen: &Seen, kind: &str) -> Reply {
        let Some(name) = seen.body["lora_name"].as_str() else {
            return Reply::Json(400, "{}".into());
        };
        let inplace = seen.body["load_inplace"] == true;
        if self.adapters.contains_key(name) && !inplace {
            return recorded(&format!("{kind}load_lora_adapter_again"));
        }
        let Some(weights) = weights_in(&seen.body["lora_path"]) else {
            return recorded("load_lora_adapter_bad_path");
        };
        self.adapters.insert(name.into(), weights);
        recorded(&format!("{kind}load_lora_adapter"))
    }
}

/// The number that a weight folder of these tests holds.
fn weights_in(path: &Value) -> Option<f64> {
    let folder = PathBuf::from(path.as_str()?);
    let file = ["adapter_config.json", "config.json"]
        .iter()
        .find_map(|file| std::fs::read_to_string(folder.join(file)).ok())?;
    serde_json::from_str::<Value>(&file).ok()?["w"].as_f64()
}

/// Writes a folder with a number: an adapter, or a whole model.
pub(crate) fn write_weights(folder: &Path, weights: f64, adapter: bool) {
    std::fs::create_dir_all(folder).unwrap();
    let (config, file, tensors) = if adapter {
        let config = json!({ "peft_type": "LORA", "w": weights });
        let config = ("adapter_config.json", config);
        (
            config,
            "adapter_model.safetensors",
            &["q.lora_A.weight", "q.lora_B.weight"][..],
        )
    } else {
        let config = json!({ "tie_word_embeddings": false, "w": weights });
        (
            ("config.json", config),
            "model.safetensors",
            &["lm_head.weight"][..],
        )
    };
    std::fs::write(folder.join(config.0), config.1.to_string()).unwrap();
    let mut header = serde_json::Map::new();
    for (i, name) in tensors.iter().enumerate() {
        let offsets = [4 * i, 4 * i + 4];
        let info = json!({ "dtype": "F32", "shape": [1], "data_offsets": offsets });
        header.insert((*name).into(), info);
    }
    let header = Value::Object(header).to_string();
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.bytes());
    bytes.extend(vec![0; 4 * tensors.len()]);
    std::fs::write(folder.join(file), bytes).unwrap();
}

pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;

/// A learner with these weights.
pub(crate) fn learner(weights: f64) -> impl FnMut(&[u32]) -> Result<Vec<f32>, Failure> {
    move |ids| {
        Ok(ids[1..]
            .iter()
            .map(|id| logp(weights, u64::from(*id)) as f32)
            .collect())
    }
}

pub(crate) fn canary() -> Vec<Vec<u32>> {
    vec![(0..20).collect(), (20..32).rev().collect()]
}

/// Short limits, so that faults show at once.
pub(crate) fn config(stubs: &[&Stub]) -> RemoteConfig {
    RemoteConfig {
        vllm_server_base_url: stubs.iter().map(|stub| stub.url.clone()).collect(),
        vllm_server_timeout: 5.0,
        request_timeout: 5.0,
        control_timeout: 5.0,
        max_retries: 2,
        vocab_size: Some(VOCAB as usize),
        weight_sync: WeightSync::None,
        canary_tolerance: 1e-3,
        ..RemoteConfig::default()
    }
}

pub(crate) fn connect(config: RemoteConfig) -> RemoteEngine {
    RemoteEngine::connect(config, canary()).unwrap()
}

pub(crate) fn requests(n: usize, max_new_tokens: usize) -> Vec<Request> {
    (0..n as u32)
        .map(|i| Request {
            prompt: vec![1, 2, i % VOCAB],
            guidance: vec![3; i as usize % 2],
            key: RolloutKey {
                run: 5,
                step: 6,
                group: i / 8,
                member: i % 8,
            },
            max_new_tokens,
        })
        .collect()
}

pub(crate) fn params() -> SamplingParams {
    SamplingParams {
        stop_token_ids: vec![9],
        ..SamplingParams::default()
    }
}
