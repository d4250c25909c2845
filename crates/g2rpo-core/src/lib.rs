//! The arithmetic of G²RPO-A and its siblings, for any tensor library: slices in, numbers out.
//!
//! This crate computes a loss *and its derivative with respect to every token's log-probability*.
//! A backend produces log-probabilities and pushes the per-token gradients back through its own
//! autograd: the scalar `(grad.detach() * logp).sum()` has exactly the right gradient. So no loss
//! formula exists outside this crate. It does no I/O, holds no random generator and no clock.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod advantage;
mod choices;
mod config;
mod error;
mod exp;
mod guidance;
mod kl;
mod kl_penalty;
mod learner;
mod loss;
mod metrics;
mod mismatch;
mod names;
#[cfg(feature = "ndarray")]
mod padded;
mod preset;
mod ragged;
mod sequences;
mod settings;
mod streams;
mod supervised;
mod token_advantage;
mod totals;

pub use advantage::{
    AdvantageEstimator, Advantages, Baseline, GroupStats, MultiObjectiveAggregation, Scale,
    Singleton, Strata, weighted_rewards,
};
pub use choices::{
    Aggregation, CispoClip, DppoDivergence, ImportanceSamplingLevel, LengthNormalizer, LossType,
};
pub use config::LossConfig;
pub use error::{Error, Result};
pub use guidance::GuidanceTokenLoss;
pub use kl::{KlEstimator, KlGradient, KlPlacement};
pub use kl_penalty::kl_penalties;
pub use learner::{
    ExpertLoad, Learner, Scoring, TokenGrads, TokenOutputs, UpdateStats, WhichPolicy,
};
pub use loss::{PolicyLoss, policy_loss};
pub use metrics::{LossMetrics, Mean, Summary};
pub use mismatch::{MismatchCorrection, MismatchLevel, OutOfRange};
pub use preset::Preset;
pub use ragged::Ragged;
pub use sequences::{Role, Sequences, TokenId};
pub use streams::TokenStreams;
pub use supervised::{SupervisedLoss, count_roles, supervised_loss};
pub use token_advantage::{
    Rlcsd, RlcsdAdvantages, Rlsd, TokenAdvantage, hint_reliance, hint_reliance_weight,
};
pub use totals::BatchTotals;
