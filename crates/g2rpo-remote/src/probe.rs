//! What a server is and can do, asked before the first rollout.

use g2rpo_core::TokenId;
use g2rpo_rollout::SamplingParams;
use serde_json::{Value, json};

use crate::answer::{Answer, Ask};
use crate::config::{Backend, RemoteConfig, WeightSync};
use crate::error::{Error, Fault, Result};
use crate::line::Line;
use crate::server::{LogProbs, Route, ServerInfo};

struct Probe<'a> {
    line: Line<'a>,
    route: Route,
    model: String,
}

/// Asks a server that is up for all that rollouts and syncs will need.
pub(crate) fn probe(line: Line<'_>, canary: &[Vec<TokenId>]) -> Result<ServerInfo> {
    let config = line.config;
    let mut probe = Probe {
        line,
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
        url: line.endpoint.url().into(),
        version,
        model: probe.model.clone(),
        max_model_len,
        vocab_size: config.vocab_size,
        route: probe.route,
        logprobs,
    };
    probe.canary(canary, &info)?;
    Ok(info)
}

impl Probe<'_> {
    fn refuse<T>(&self, problem: impl Into<String>) -> Result<T> {
        Err(Error::Server {
            server: self.line.endpoint.url().into(),
            problem: problem.into(),
        })
    }

    fn doing<T>(&self, doing: &str, result: Result<T, Fault>) -> Result<T> {
        result.map_err(|fault| fault.when(doing, self.line.endpoint.url()))
    }

    fn version(&self, backend: Backend) -> Result<String> {
        let (path, other) = match backend {
            Backend::Vllm => ("/version", "sglang"),
            Backend::Sglang => ("/get_server_info", "vllm"),
        };
        match self.line.get(path) {
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
        let reply = self.doing("asking for its models", self.line.get("/v1/models"))?;
        let all = reply["data"].as_array().into_iter().flatten();
        let bases: Vec<&Value> = all.filter(|m| m["parent"].is_null()).collect();
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
        match self.line.post(path, Some(&json!({}))) {
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
        let params = SamplingParams {
            temperature,
            ..SamplingParams::default()
        };
        let ask = Ask {
            id: "g2rpo-probe",
            model: &self.model,
            adapter: false,
            tokens,
            seed: 0,
            max_new_tokens: 1,
            params: &params,
            candidates,
        };
        let body = self.route.body(&ask);
        self.route
            .read(&self.line.post(self.route.path(), Some(&body))?)
    }

    /// Which distribution log-probabilities belong to: at temperature 2 the two most probable ids
    /// are half as far apart as at temperature 1, unless the server ignores the temperature. Three are asked for,
    /// since one place goes to the id that was sampled, however improbable it is.
    fn logprobs(&self) -> Result<LogProbs> {
        let mut last = None;
        for id in 0..16 {
            let gap = |temperature| {
                let answer = self.ask(&[id], temperature, 3);
                let answer = self.doing("asking for log-probabilities", answer)?;
                Ok(answer.candidates.first().and_then(|logps| gap(logps)))
            };
            match (gap(1.0)?, gap(2.0)?) {
                (Some(one), Some(two)) if one > 0.01 => match two / one {
                    0.4..0.6 => return Ok(LogProbs::AtTemperature),
                    0.9..1.1 => return Ok(LogProbs::Raw),
                    ratio => last = Some(ratio),
                },
                _ => (),
            }
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
        let last = behind - 1;
        // A tokenizer may know more ids than the model has rows; a server of the same model then
        // takes them as well, and answers nonsense, but no learner of that model sends them.
        match self.ask(&[last], 0.0, 0) {
            Err(Fault::Status { status: 400, .. }) => self.refuse(format!(
                "it does not know id {last}, the last of the learner's vocabulary of {size}; it serves \
                 another model"
            )),
            answer => self.doing("asking for its vocabulary", answer.map(drop)),
        }
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
            let reply = self.doing("asking whether it is paused", self.line.get("/is_paused"))?;
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
            let n = sequence.len();
            if info.max_model_len.is_some_and(|most| n >= most) {
                return self.refuse(format!(
                    "a canary of {n} ids has no room in its --max-model-len"
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
