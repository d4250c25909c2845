//! G²RPO-A: guided group relative policy optimization with adaptive guidance (Guo et al., ACL 2026,
//! [arXiv 2508.13023](https://arxiv.org/abs/2508.13023)), on libtorch, without Python at run time.
//!
//! This crate only gathers the others under short names:
//!
//! - [`core`]: advantages, KL estimators, ratios, losses with gradients, aggregation, metrics;
//! - [`guidance`]: where guidance comes from, how it is cut, who gets it, how much;
//! - [`rollout`]: tasks, prompts, sampling parameters, the rollout engine trait, groups and packing;
//! - [`math`]: whether two mathematical answers are the same;
//! - [`verify`]: answer checking for rewards;
//! - [`train`]: the loop over the traits, resume, evaluation, metrics and report;
//! - `remote` (feature `remote`): rollouts from vLLM and SGLang servers, and weights to them;
//! - [`libtorch`] (feature `libtorch`, on by default): models, checkpoints, generation and the learner.
//!
//! A project with another tensor library depends on `g2rpo-core` and its siblings directly, or on
//! this crate without default features.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

pub use g2rpo_core as core;
pub use g2rpo_guidance as guidance;
#[cfg(feature = "libtorch")]
pub use g2rpo_libtorch as libtorch;
pub use g2rpo_math as math;
#[cfg(feature = "remote")]
pub use g2rpo_remote as remote;
pub use g2rpo_rollout as rollout;
pub use g2rpo_train as train;
pub use g2rpo_verify as verify;
