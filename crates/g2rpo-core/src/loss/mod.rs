//! The policy loss, row by row: ratios, surrogate, weights, KL, guidance, entropy, aggregation.

mod clip;
mod count;
mod dppo;
mod gmpo;
mod guided;
mod kl_term;
mod policy_loss;
mod ratio;
mod row;
mod surrogate;
mod vespo;
mod weights;

pub use policy_loss::{PolicyLoss, policy_loss};
