//! One server: where it is, what was learned about it, and which weights it serves.

use std::sync::{Mutex, MutexGuard, PoisonError};

use g2rpo_core::TokenId;

use crate::http::Endpoint;

/// What was learned about a server when it was first reached.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerInfo {
    /// Its address.
    pub url: String,
    /// Version of its software.
    pub version: String,
    /// Name of its base model.
    pub model: String,
    /// Most ids of prompt and completion together, where it says so.
    pub max_model_len: Option<usize>,
    /// The vocabulary that was asked for and confirmed.
    pub vocab_size: Option<usize>,
    /// How rollouts are asked for.
    pub route: Route,
    /// Which distribution its log-probabilities belong to.
    pub logprobs: LogProbs,
}

/// How rollouts are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Route {
    /// vLLM's `/inference/v1/generate`.
    Generate,
    /// vLLM's `/v1/completions`.
    Completions,
    /// SGLang's `/generate`.
    Sglang,
}

/// Which distribution a server's log-probabilities belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LogProbs {
    /// The one at the sampling temperature.
    AtTemperature,
    /// The one at temperature 1, whatever the sampling temperature.
    Raw,
}

impl ServerInfo {
    /// Whether an id is in the vocabulary, as far as that is known.
    pub(crate) fn has_token(&self, id: TokenId) -> bool {
        self.vocab_size.is_none_or(|size| (id as usize) < size)
    }
}

/// A server of the engine.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) endpoint: Endpoint,
    pub(crate) info: ServerInfo,
    pub(crate) serving: Mutex<Serving>,
}

/// The weights that a server is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Serving {
    /// Name of the base model or of an adapter.
    pub(crate) model: String,
    /// Whether `model` is an adapter.
    pub(crate) adapter: bool,
    /// Version of the weights; `None` before the first sync.
    pub(crate) version: Option<u64>,
    /// Why the weights are not to be trusted: a sync that failed half-way.
    pub(crate) unknown: Option<String>,
}

impl Server {
    pub(crate) fn new(endpoint: Endpoint, info: ServerInfo) -> Self {
        let serving = Mutex::new(Serving {
            model: info.model.clone(),
            adapter: false,
            version: None,
            unknown: None,
        });
        Self {
            endpoint,
            info,
            serving,
        }
    }

    pub(crate) fn url(&self) -> &str {
        self.endpoint.url()
    }

    pub(crate) fn serving(&self) -> Serving {
        lock(&self.serving).clone()
    }
}

/// A lock whose holder died holds state that is still whole: every change of it is one assignment.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
