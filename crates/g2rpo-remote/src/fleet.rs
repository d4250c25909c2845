//! The servers that share rollouts, and what is known of them.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use g2rpo_core::TokenId;
use ureq::Agent;

use crate::config::RemoteConfig;
use crate::line::Line;
use crate::push::Weights;
use crate::server::{Server, lock};

/// Servers that share rollouts.
#[derive(Debug)]
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
    pub(crate) fn line<'a>(&'a self, server: &'a Server) -> Line<'a> {
        Line {
            config: &self.config,
            agent: &self.control,
            endpoint: &server.endpoint,
        }
    }

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
