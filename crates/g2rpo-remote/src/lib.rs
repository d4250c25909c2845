//! Rollout engines over HTTP: vLLM's `/inference/v1/generate` and `/v1/completions`, and SGLang's
//! `/generate`.
//!
//! [`RemoteEngine`] is a [`RolloutEngine`](g2rpo_rollout::RolloutEngine) over one server or several.
//! Token ids go in and come out, every rollout is one request with a seed of its own, every answer
//! is checked before it becomes a [`Completion`](g2rpo_rollout::Completion), and weights that were
//! synced are proved by a canary. What a server cannot report is refused before the first request.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

mod answer;
mod board;
mod canary;
mod config;
mod dispatch;
mod engine;
mod error;
mod fleet;
mod folder;
mod http;
mod line;
mod probe;
mod protocol;
mod push;
mod server;
mod settings;
mod sync;
mod untie;

pub use canary::CanaryReport;
pub use config::{Backend, RemoteConfig, WeightSync};
pub use engine::{Canceller, RemoteEngine};
pub use error::{Error, Fault, Result, Scorer};
pub use server::{LogProbs, Route, ServerInfo};
pub use sync::SyncReport;
pub use untie::write_untied;
