//! The arithmetic of G²RPO-A and its siblings, for any tensor library: slices in, numbers out.
//!
//! This crate computes a loss *and its derivative with respect to every token's log-probability*.
//! A backend produces log-probabilities and pushes the per-token gradients back through its own
//! autograd: the scalar `(grad.detach() * logp).sum()` has exactly the right gradient. So no loss
//! formula exists outside this crate. It does no I/O, holds no random generator and no clock.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod error;
mod learner;
mod ragged;
mod sequences;

pub use error::{Error, Result};
pub use learner::{Learner, Policy, TokenGrads, TokenOutputs, UpdateStats};
pub use ragged::Ragged;
pub use sequences::{Role, Sequences};

/// Id of a token in a model's vocabulary.
pub type TokenId = u32;
