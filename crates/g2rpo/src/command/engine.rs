//! What samples: this process's own model, or servers.

use std::fmt;

use g2rpo::libtorch::TorchEngine;
#[cfg(feature = "remote")]
use g2rpo::remote::RemoteEngine;
use g2rpo::rollout::{Completion, Finished, Request, RolloutEngine, SamplingParams};

/// The engine of one process.
#[derive(Debug)]
pub(crate) enum Engine {
    /// Samples from the learner's own numbers.
    Local(Box<TorchEngine>),
    /// Asks servers.
    #[cfg(feature = "remote")]
    Remote(RemoteEngine),
    /// Rank 0 asks the servers for this one.
    #[cfg(feature = "remote")]
    AtRank0,
}

/// What an engine of either kind says.
#[derive(Debug)]
pub(crate) struct EngineError(Box<dyn std::error::Error + Send + Sync>);

impl fmt::Display for EngineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for EngineError {}

impl RolloutEngine for Engine {
    type Error = EngineError;

    fn generate(
        &mut self,
        requests: &[Request],
        params: &SamplingParams,
    ) -> Result<Vec<Completion>, EngineError> {
        self.generate_each(requests, params, &mut |_, _| {})
    }

    fn generate_each(
        &mut self,
        requests: &[Request],
        params: &SamplingParams,
        finished: &mut Finished<'_>,
    ) -> Result<Vec<Completion>, EngineError> {
        match self {
            Self::Local(engine) => engine
                .generate_each(requests, params, finished)
                .map_err(|e| EngineError(e.into())),
            #[cfg(feature = "remote")]
            Self::Remote(engine) => engine
                .generate_each(requests, params, finished)
                .map_err(|e| EngineError(e.into())),
            #[cfg(feature = "remote")]
            Self::AtRank0 => Err(EngineError("rank 0 asks the servers for all".into())),
        }
    }
}
