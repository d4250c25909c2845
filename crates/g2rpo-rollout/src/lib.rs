//! Tasks and data sets, prompts, sampling parameters, the [`RolloutEngine`] trait, groups and
//! packing for reinforcement learning on language models.
//!
//! This crate knows token ids and texts, not tensors. An engine of your own implements
//! [`RolloutEngine`]; a tokenizer of your own implements [`Tokenizer`]. [`ScriptedEngine`] and
//! [`ByteTokenizer`] stand in for both in tests.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod engine;
mod error;
mod files;
mod gsm8k;
mod key;
mod pack;
pub mod ranks;
mod rollout;
mod scripted;
mod shared;
mod synthetic;
mod tabular;
mod task;
mod tokenizer;

pub use engine::{Completion, Finished, Request, RolloutEngine, SamplingParams, Stop};
pub use error::{Error, Result};
pub use files::{is_stream, replace_atomically, write_atomically};
pub use g2rpo_core::TokenId;
pub use gsm8k::{parse_gsm8k, read_gsm8k, write_gsm8k};
pub use key::{Purpose, RolloutKey};
pub use pack::{Batch, pack, pack_supervised};
pub use rollout::{Rollout, collect, collect_each};
pub use scripted::ScriptedEngine;
pub use shared::Shared;
pub use synthetic::{ChainProblems, Split};
pub use tabular::TabularPolicy;
pub use task::Task;
pub use tokenizer::{ByteTokenizer, Encoding, Tokenizer};
