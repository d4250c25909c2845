//! Training with several processes: who this one is, and c10d's process groups over Gloo and NCCL.

mod group;
mod launch;
mod learner;
mod nccl;
mod shim;

pub use group::ProcessGroup;
pub use launch::Launch;
