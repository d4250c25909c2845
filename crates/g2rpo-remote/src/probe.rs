//! What a server is and can do, asked before the first rollout.

use std::time::Duration;

use g2rpo_core::TokenId;
use serde_json::{Value, json};
use ureq::Agent;

use crate::answer::Answer;
use crate::config::{Backend, RemoteConfig, WeightSync};
use crate::error::{Error, Fault, Result};
use crate::http::Endpoint;
use crate::protocol::{Ask, parse};
use crate::server::{LogProbs, Route, Server, ServerInfo};
use crate::settings::Settings;

/// What a server must serve.
pub(crate) struct Wanted<'a> {
    pub(crate) config: &'a RemoteConfig,
    pub(crate) agent: &'a Agent,
    pub(crate) canary: &'a [Vec<TokenId>],
}

struct Probe<'a> {
    endpoint: &'a Endpoint,
    agent: &'a Agent,
    limit: Duration,
    route: Route,
    model: String,
}

/// Asks a server that is up for all that rollouts and syncs will need.
pub(crate) fn probe(endpoint: Endpoint, wanted: &Wanted<'_>) -> Result<Server> {
    let config = wanted.config;
    let mut probe = Probe {
        endpoint: &endpoint,
        agent: wanted.agent,
        limit: config.control_limit(),
        route: match config.backend {
            Backend::Vllm => Route::Generate,
            Backend::Sglang => Route::Sglang,
        },
        model: String::new(),
    };
    let version = probe.version(config.backend)?;
    let (model, max_model_len) = probe.model(config.model.as_deref())?;
    probe.model = model;
    if probe.route == Route::Generate && !probe.knows(Route::Generate.path())? {
        probe.route = Route::Completions;
    }
    let logprobs = probe.logprobs()?;
    if let Some(size) = config.vocab_size {
        probe.vocabulary(size)?;
    }
    probe.weight_sync(config)?;
    let info = ServerInfo {
        url: endpoint.url().into(),
        version,
        model: probe.model.clone(),
        max_model_len,
        vocab_size: config.vocab_size,
        route: probe.route,
        logprobs,
    };
    probe.canary(wanted.canary, &info)?;
    Ok(Server::new(endpoint, info))
}

impl Probe<'_> {
    fn refuse<T>(&self, problem: impl Into<String>) -> Result<T> {
        Err(Error::Server {
            server: self.endpoint.url().into(),
            problem: problem.into(),
        })
    }

    fn doing<T>(&self, doing: &str, result: Result<T, Fault>) -> Result<T> {
        result.map_err(|fault| Error::Call {
            doing: doing.into(),
            server: self.endpoint.url().into(),
            fault,
        })
    }

    fn get(&self, path: &str) -> Result<Value, Fault> {
        parse(&self.endpoint.get(self.agent, path, self.limit)?)
    }

    fn version(&self, backend: Backend) -> Result<String> {
        let (path, other) = match backend {
            Backend::Vllm => ("/version", "sglang"),
            Backend::Sglang => ("/get_server_info", "vllm"),
        };
        match self.get(path) {
            Err(Fault::Status { status: 404, .. }) => self.refuse(format!(
                "it has no {path}; is it another kind of server (backend = \"{other}\"; in a recipe server_backend)?"
            )),
            reply => Ok(self.doing("asking for its version", reply)?["version"]
                .as_str()
                .unwrap_or("unknown")
                .into()),
        }
    }

    /// The base model and the room it has.
    fn model(&self, wanted: Option<&str>) -> Result<(String, Option<usize>)> {
        let reply = self.doing("asking for its models", self.get("/v1/models"))?;
        let all = reply["data"]
            .as_array()
            .map(Vec::as_slice)
            .unwrap_or_default();
        let bases: Vec<&Value> = all.iter().filter(|m| m["parent"].is_null()).collect();
        let names: Vec<&str> = bases.iter().filter_map(|m| m["id"].as_str()).collect();
        let at = match wanted {
            Some(name) => names.iter().position(|n| *n == name),
            None => (names.len() == 1).then_some(0),
        };
        let Some(at) = at else {
            return self.refuse(format!(
                "set `model` (in a recipe `server_model`) to one of the base models that it serves: {names:?}"
            ));
        };
        let room = bases[at]["max_model_len"].as_u64().map(|len| len as usize);
        Ok((names[at].into(), room))
    }

    /// Whether a route is open: an empty question is a bad one there, not found where there is no
    /// such route, and forbidden where a switch of the server closes it.
    fn knows(&self, path: &str) -> Result<bool> {
        let reply = self
            .endpoint
            .post(self.agent, path, Some(&json!({})), self.limit);
        match reply {
            Ok(_) => Ok(true),
            Err(Fault::Status {
                status: 403..=405, ..
            }) => Ok(false),
            Err(Fault::Status {
                status: 401,
                message,
                ..
            }) => self.refuse(format!("it wants another API key (api_key_env): {message}")),
            Err(Fault::Status { .. }) => Ok(true),
            Err(fault) => self.doing(&format!("looking for {path}"), Err(fault)),
        }
    }

    fn ask(
        &self,
        tokens: &[TokenId],
        temperature: f64,
        candidates: usize,
    ) -> Result<Answer, Fault> {
        let settings = Settings {
            temperature,
            stop_token_ids: Vec::new(),
            stop: Vec::new(),
        };
        let ask = Ask {
            id: "g2rpo-probe",
            model: &self.model,
            adapter: false,
            tokens,
            seed: 0,
            max_new_tokens: 1,
            settings: &settings,
            candidates,
        };
        let body = self.route.body(&ask);
        let text = (self.endpoint).post(self.agent, self.route.path(), Some(&body), self.limit)?;
        self.route.read(&text)
    }

    /// Which distribution log-probabilities belong to: at temperature 2 the two most probable ids
    /// are half as far apart as at temperature 1, unless the server ignores the temperature. Three are asked for,
    /// since one place goes to the id that was sampled, however improbable it is.
    fn logprobs(&self) -> Result<LogProbs> {
        let mut last = None;
        for id in 0..16 {
            let gap = |temperature| {
                self.ask(&[id], temperature, 3)
                    .map(|answer| gap(answer.candidates.first().map_or(&[], Vec::as_slice)))
            };
            let one = self.doing("asking for log-probabilities", gap(1.0))?;
            let two = self.doing("asking for log-probabilities", gap(2.0))?;
            let ratio = match (one, two) {
                (Some(one), Some(two)) if one > 0.01 => two / one,
                _ => continue,
            };
            if (ratio - 0.5).abs() < 0.1 {
                return Ok(LogProbs::AtTemperature);
            }
            if (ratio - 1.0).abs() < 0.1 {
                return Ok(LogProbs::Raw);
            }
            last = Some(ratio);
        }
        self.refuse(match last {
            Some(ratio) => format!(
                "the two most probable ids at temperature 2 are {ratio:.2} times as far apart as at \
                 temperature 1; 0.5 or 1 would say which distribution it reports"
            ),
            None => "it reports no log-probabilities of the two most probable ids; allow at least 3 \
                     (--max-logprobs)"
                .into(),
        })
    }

    fn vocabulary(&self, size: usize) -> Result<()> {
        let Ok(behind) = TokenId::try_from(size) else {
            return self.refuse(format!("vocab_size {size} is larger than ids can be"));
        };
        let taken = |id| match self.ask(&[id], 0.0, 0) {
            Ok(_) => Ok(true),
            Err(Fault::Status { status: 400, .. }) => Ok(false),
            Err(fault) => self.doing("asking for its vocabulary", Err(fault)),
        };
        if !taken(behind - 1)? {
            return self.refuse(format!(
                "it does not know id {}, the last of the learner's vocabulary of {size}; it serves \
                 another model",
                behind - 1
            ));
        }
        // A tokenizer may know more ids than the model has rows; a server of the same model then
        // takes them as well, and answers nonsense, but no learner of that model sends them.
        Ok(())
    }

    fn weight_sync(&self, config: &RemoteConfig) -> Result<()> {
        let (path, how) = match (config.weight_sync, config.backend) {
            (WeightSync::None, _) => return Ok(()),
            (WeightSync::Adapter, Backend::Vllm) => (
                "/v1/load_lora_adapter",
                "start it with --enable-lora and VLLM_ALLOW_RUNTIME_LORA_UPDATING=True",
            ),
            (WeightSync::Adapter, Backend::Sglang) => {
                ("/load_lora_adapter", "start it with --enable-lora")
            }
            (WeightSync::Folder, Backend::Vllm) => {
                ("/collective_rpc", "start it with VLLM_SERVER_DEV_MODE=1")
            }
            (WeightSync::Folder, Backend::Sglang) => {
                ("/update_weights_from_disk", "its version is too old")
            }
        };
        if !self.knows(path)? {
            return self.refuse(format!("it has no {path}, which weight_sync needs: {how}"));
        }
        if (config.weight_sync, config.backend) == (WeightSync::Folder, Backend::Vllm) {
            let reply = self.doing("asking whether it is paused", self.get("/is_paused"))?;
            if reply["is_paused"] == true {
                return self.refuse(
                    "it is paused, perhaps by a run that died during a sync; POST /resume to it",
                );
            }
        }
        Ok(())
    }

    fn canary(&self, canary: &[Vec<TokenId>], info: &ServerInfo) -> Result<()> {
        for sequence in canary {
            if let Some(id) = sequence.iter().find(|id| !info.has_token(**id)) {
                return self.refuse(format!("the canary's id {id} is not in its vocabulary"));
            }
            if info
                .max_model_len
                .is_some_and(|most| sequence.len() >= most)
            {
                return self.refuse(format!(
                    "a canary of {} ids has no room in its --max-model-len",
                    sequence.len()
                ));
            }
        }
        Ok(())
    }
}

/// How far the two largest are apart.
fn gap(logps: &[f64]) -> Option<f64> {
    let mut sorted = logps.to_vec();
    sorted.sort_by(|a, b| b.total_cmp(a));
    match sorted[..] {
        [first, second, ..] => Some(first - second),
        _ => None,
    }
}
