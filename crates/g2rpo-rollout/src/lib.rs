//! Tasks and data sets, prompts, sampling parameters, the [`RolloutEngine`] trait, groups and
//! packing for reinforcement learning on language models.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod engine;
mod key;

pub use engine::{Completion, Request, RolloutEngine, SamplingParams, Stop};
pub use g2rpo_core::TokenId;
pub use key::{Purpose, RolloutKey};
