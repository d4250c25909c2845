//! Training with several processes: who this one is, and c10d's process group over Gloo.

mod gloo;
mod launch;
mod learner;
mod shim;

pub use gloo::Gloo;
pub use launch::Launch;
