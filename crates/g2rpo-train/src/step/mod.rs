//! The pieces of a training step, in the order in which a step calls them.

pub mod context;
pub(crate) mod early;
pub mod generate;
pub mod grade;
pub mod group;
pub mod learn;
pub mod mismatch;
pub mod plan;
pub mod play;
pub(crate) mod reliance;
pub mod report;
pub mod rescore;
pub mod rows;
pub mod update;
