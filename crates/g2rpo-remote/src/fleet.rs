//! The servers that share rollouts, and what is known of them.

use std::fmt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use g2rpo_core::TokenId;
use ureq::Agent;

use crate::board::backoff;
use crate::config::RemoteConfig;
use crate::error::{Error, Fault, Result};
use crate::http::Endpoint;
use crate::push::Weights;
use crate::server::{Server, lock};

/// Servers that share rollouts.
pub(crate) struct Fleet {
    pub(crate) config: RemoteConfig,
    pub(crate) servers: Vec<Server>,
    /// Connections for everything that is no rollout.
    pub(crate) control: Agent,
    /// The sequences that every sync is checked on.
    pub(crate) canary: Vec<Vec<TokenId>>,
    /// The last sync, to be repeated at a server that was started again.
    pub(crate) applied: Mutex<Option<Applied>>,
    pub(crate) cancelled: AtomicBool,
    pub(crate) sessions: Mutex<Vec<(u64, Agent)>>,
    pub(crate) next_session: AtomicU64,
}

/// The last sync that was proved.
#[derive(Debug, Clone)]
pub(crate) struct Applied {
    pub(crate) version: u64,
    pub(crate) weights: Weights,
    /// The learner's log-probabilities of the canary.
    pub(crate) learner: Vec<f32>,
}

impl Fleet {
    pub(crate) fn cancelled(&self) -> bool {
        self.cancelled.load(Ordering::SeqCst)
    }

    /// Makes the connections of a call known to cancellation.
    pub(crate) fn open(&self, agent: Agent) -> u64 {
        let session = self.next_session.fetch_add(1, Ordering::Relaxed);
        lock(&self.sessions).push((session, agent));
        session
    }

    pub(crate) fn close(&self, session: u64) {
        lock(&self.sessions).retain(|(id, _)| *id != session);
    }
}

/// After this time somebody who waits is told what for.
const SILENCE: Duration = Duration::from_secs(2);

/// Waits until the server answers that it is well. A wait that is not short is told as a warning of `tracing`.
pub(crate) fn wait_for(
    config: &RemoteConfig,
    control: &Agent,
    endpoint: &Endpoint,
    given_up: &dyn Fn() -> bool,
) -> Result<()> {
    let start = Instant::now();
    let limit = config.control_limit().min(Duration::from_secs(10));
    let mut tries = 0;
    let mut told = false;
    loop {
        let fault = match endpoint.get(control, "/health", limit) {
            Ok(_) => {
                if told {
                    let waited = start.elapsed().as_secs_f64();
                    tracing::warn!("{} answers after {waited:.0} s", endpoint.url());
                }
                return Ok(());
            }
            Err(fault) => fault,
        };
        if given_up() {
            return Err(Error::Cancelled);
        }
        let waited = start.elapsed();
        if matches!(
            fault,
            Fault::Impossible(_)
                | Fault::Status {
                    status: 400..=499,
                    ..
                }
        ) {
            return Err(Error::Call {
                doing: "asking for its health".into(),
                server: endpoint.url().into(),
                fault,
            });
        }
        if waited >= config.server_timeout() {
            return Err(Error::Unreachable {
                server: endpoint.url().into(),
                waited,
                fault,
            });
        }
        if waited >= SILENCE.min(config.server_timeout() / 4) && !told {
            told = true;
            tracing::warn!(
                "waiting for {}, at most {} s (vllm_server_timeout): {fault}",
                endpoint.url(),
                config.vllm_server_timeout
            );
        }
        let left = config.server_timeout().saturating_sub(waited);
        std::thread::sleep(backoff(tries, 0.5).min(left));
        tries = (tries + 1).min(4);
    }
}

impl fmt::Debug for Fleet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fleet")
            .field("servers", &self.servers)
            .finish_non_exhaustive()
    }
}
