//! A line to one server for everything that is no rollout, and waiting until somebody answers.

use std::time::{Duration, Instant};

use serde_json::Value;
use ureq::Agent;

use crate::board::backoff;
use crate::config::RemoteConfig;
use crate::error::{Error, Fault, Result};
use crate::http::Endpoint;
use crate::protocol::parse;

/// A server, and how it is spoken to.
#[derive(Clone, Copy)]
pub(crate) struct Line<'a> {
    pub(crate) config: &'a RemoteConfig,
    pub(crate) agent: &'a Agent,
    pub(crate) endpoint: &'a Endpoint,
}

/// After this time somebody who waits is told what for.
const SILENCE: Duration = Duration::from_secs(2);

impl Line<'_> {
    pub(crate) fn get(&self, path: &str) -> Result<Value, Fault> {
        let limit = Duration::from_secs_f64(self.config.control_timeout);
        parse(&self.endpoint.get(self.agent, path, limit)?)
    }

    pub(crate) fn post(&self, path: &str, body: Option<&Value>) -> Result<String, Fault> {
        let limit = Duration::from_secs_f64(self.config.control_timeout);
        self.endpoint.post(self.agent, path, body, limit)
    }

    /// As [`post`](Self::post), with the time that it takes to move weights.
    pub(crate) fn post_slowly(&self, path: &str, body: Option<&Value>) -> Result<String, Fault> {
        let limit = Duration::from_secs_f64(self.config.weight_sync_timeout);
        self.endpoint.post(self.agent, path, body, limit)
    }

    /// How long a server is waited for.
    pub(crate) fn patience(&self) -> Duration {
        Duration::from_secs_f64(self.config.vllm_server_timeout)
    }

    /// Waits until the server answers that it is well. A wait that is not short is told as a warning of `tracing`.
    pub(crate) fn wait(&self, given_up: &dyn Fn() -> bool) -> Result<()> {
        let (start, url) = (Instant::now(), self.endpoint.url());
        let patience = self.patience();
        let limit = Duration::from_secs_f64(self.config.control_timeout.min(10.0));
        let mut tries = 0;
        let mut told = false;
        while let Err(fault) = self.endpoint.get(self.agent, "/health", limit) {
            if given_up() {
                return Err(Error::Cancelled);
            }
            let waited = start.elapsed();
            let hopeless = match fault {
                Fault::Impossible(_) => true,
                Fault::Status { status, .. } => (400..=499).contains(&status),
                _ => false,
            };
            if hopeless {
                return Err(fault.when("asking for its health", url));
            }
            if waited >= patience {
                return Err(Error::Unreachable {
                    server: url.into(),
                    waited,
                    fault,
                });
            }
            if waited >= SILENCE.min(patience / 4) && !told {
                told = true;
                let most = self.config.vllm_server_timeout;
                tracing::warn!(
                    "waiting for {url}, at most {most} s (vllm_server_timeout): {fault}"
                );
            }
            std::thread::sleep(backoff(tries, 0.5).min(patience - waited));
            tries = (tries + 1).min(4);
        }
        if told {
            let waited = start.elapsed().as_secs_f64();
            tracing::warn!("{url} answers after {waited:.0} s");
        }
        Ok(())
    }
}
