//! Learning: token log-probabilities, their gradient, and the optimiser.

mod batch;
pub(crate) mod config;
mod head;
mod optim;
mod pass;
mod state;
#[cfg(test)]
mod tests;
pub(crate) mod torch_learner;
mod trunk;
