//! The engine: servers, their state, and the two things that are done with them.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use g2rpo_core::TokenId;
use g2rpo_rollout::{Completion, Finished, Request, RolloutEngine, SamplingParams, Stop};

use crate::config::RemoteConfig;
use crate::error::{Error, Result, Scorer};
use crate::fleet::Fleet;
use crate::http::{Endpoint, agent};
use crate::line::Line;
use crate::probe::probe;
use crate::server::{Server, ServerInfo, lock};
use crate::settings::{check_params, check_request};
use crate::sync::SyncReport;
use crate::{dispatch, sync};

/// Rollouts from vLLM or SGLang servers.
///
/// Clones are handles of the same engine. Rollouts do not depend on how many servers share them, up
/// to what batching does to the servers' own rounding: every request has the seed of its key.
#[derive(Debug, Clone)]
pub struct RemoteEngine {
    fleet: Arc<Fleet>,
}

/// Stops an engine from another thread, for example on Ctrl-C.
#[derive(Debug, Clone)]
pub struct Canceller {
    fleet: Arc<Fleet>,
}

impl RemoteEngine {
    /// Waits for the servers, learns what they can do, and refuses what the configuration asks for
    /// and they cannot.
    ///
    /// `canary` are the sequences by which [`Self::sync`] proves that weights arrived: one or
    /// more, each of two ids or more, best some prompts with answers; 100 ids in all are plenty.
    ///
    /// # Errors
    /// [`Error::Config`] for settings out of range, [`Error::Unreachable`] when a server does not
    /// come up within `vllm_server_timeout`, [`Error::Server`] when it lacks something.
    pub fn connect(config: RemoteConfig, canary: Vec<Vec<TokenId>>) -> Result<Self> {
        config.validate()?;
        if canary.is_empty() || canary.iter().any(|sequence| sequence.len() < 2) {
            return Err(Error::Config {
                name: "canary",
                problem: "give at least one sequence, each of at least two ids".into(),
            });
        }
        let key = config.api_key()?;
        let control = agent(2 * config.vllm_server_base_url.len());
        let mut servers = Vec::new();
        for url in &config.vllm_server_base_url {
            let endpoint = Endpoint::new(url, key.as_deref());
            let line = Line {
                config: &config,
                agent: &control,
                endpoint: &endpoint,
            };
            line.wait(&|| false)?;
            let info = probe(line, &canary)?;
            servers.push(Server::new(endpoint, info));
        }
        Ok(Self {
            fleet: Arc::new(Fleet {
                servers,
                control,
                canary,
                config,
                applied: Mutex::new(None),
                cancelled: AtomicBool::new(false),
                sessions: Mutex::new(Vec::new()),
                next_session: AtomicU64::new(0),
            }),
        })
    }

    /// What was learned about each server.
    pub fn servers(&self) -> impl Iterator<Item = &ServerInfo> {
        self.fleet.servers.iter().map(|server| &server.info)
    }

    /// Version of the weights that rollouts are made with; `None` before the first sync.
    pub fn version(&self) -> Option<u64> {
        let applied = lock(&self.fleet.applied);
        applied.as_ref().map(|applied| applied.version)
    }

    /// A handle that stops this engine.
    pub fn canceller(&self) -> Canceller {
        Canceller {
            fleet: self.fleet.clone(),
        }
    }

    /// Brings the weights in `folder` to every server, as `weight_sync` says, and proves by the
    /// canary that they serve them.
    ///
    /// `folder` is a PEFT adapter or a Hugging Face folder with an untied head
    /// ([`write_untied`](crate::write_untied) makes one), and stays where it is until the next
    /// sync: a server that is started again gets it again. `version` is higher than the one before.
    ///
    /// # Errors
    /// [`Error::Folder`] for a folder that would harm the servers, [`Error::Canary`] when a
    /// server's log-probabilities are too far from those of `learner`, [`Error::Scorer`] when the
    /// learner has none, [`Error::Call`] and [`Error::Unreachable`] when a server fails. The
    /// engine then makes no rollouts with weights that are not proved.
    pub fn sync(
        &mut self,
        folder: impl AsRef<Path>,
        version: u64,
        learner: &mut Scorer<'_>,
    ) -> Result<SyncReport> {
        sync::sync(&self.fleet, Some(folder.as_ref()), version, learner)
    }

    /// Proves by the canary that the servers were started with the learner's weights, which are
    /// called `version` from then on.
    ///
    /// # Errors
    /// As [`Self::sync`].
    pub fn confirm(&mut self, version: u64, learner: &mut Scorer<'_>) -> Result<SyncReport> {
        sync::sync(&self.fleet, None, version, learner)
    }

    /// Log-probabilities, at temperature 1, of `tokens` from the second on under the weights that
    /// the first server serves.
    ///
    /// # Errors
    /// [`Error::Call`] with what the server said.
    pub fn score(&mut self, tokens: &[TokenId]) -> Result<Vec<f32>> {
        let server = &self.fleet.servers[0];
        sync::score(&self.fleet, server, &server.serving(), tokens)
    }
}

impl RolloutEngine for RemoteEngine {
    type Error = Error;

    /// One request for each rollout, of which `max_in_flight` are at a server at the same time.
    ///
    /// # Errors
    /// Of settings and requests that a server cannot execute or report, before the first is sent;
    /// of an answer that cannot be trained on; and of servers that are lost for too long. When one
    /// request fails for good, those in flight are dropped, and the servers end them.
    fn generate(
        &mut self,
        requests: &[Request],
        params: &SamplingParams,
    ) -> Result<Vec<Completion>> {
        self.generate_each(requests, params, &mut |_, _| {})
    }

    /// As [`generate`](Self::generate); a completion is handed over when its server has answered.
    fn generate_each(
        &mut self,
        requests: &[Request],
        params: &SamplingParams,
        finished: &mut Finished<'_>,
    ) -> Result<Vec<Completion>> {
        let fleet = &*self.fleet;
        for server in &fleet.servers {
            if let Some(problem) = server.serving().unknown {
                return Err(Error::Server {
                    server: server.url().into(),
                    problem,
                });
            }
            check_params(params, &server.info)?;
            for request in requests {
                check_request(request, &server.info)?;
            }
        }
        for server in &fleet.servers {
            sync::check(fleet, server)?;
        }
        // A server refuses to sample nothing.
        let (places, asked): (Vec<usize>, Vec<Request>) = (requests.iter().cloned().enumerate())
            .filter(|(_, request)| request.max_new_tokens > 0)
            .unzip();
        let nothing = Completion {
            tokens: Vec::new(),
            logps: Vec::new(),
            log_kept: Vec::new(),
            weight_versions: self.version().map(|_| Vec::new()),
            stop: Stop::Length,
        };
        let mut all = vec![nothing; requests.len()];
        if !asked.is_empty() {
            let mut of_asked = |i: usize, completion: &Completion| finished(places[i], completion);
            let made = dispatch::run(fleet, &asked, params, &mut of_asked)?;
            for (place, completion) in places.into_iter().zip(made) {
                all[place] = completion;
            }
        }
        Ok(all)
    }
}

impl Canceller {
    /// Ends the engine's calls for rollouts with [`Error::Cancelled`], now and until
    /// [`Self::clear`]. The servers end what they were asked for.
    pub fn cancel(&self) {
        self.fleet.cancelled.store(true, Ordering::SeqCst);
        for (_, agent) in lock(&self.fleet.sessions).iter() {
            agent.clone().shutdown();
        }
    }

    /// Lets the engine work again.
    pub fn clear(&self) {
        self.fleet.cancelled.store(false, Ordering::SeqCst);
    }
}
