//! Data sets: how they are read, what is wrong with them, how a policy sees them, in which order.

pub mod dataset;
pub mod formats;
pub mod lint;
pub mod order;
pub mod parallel;
#[cfg(feature = "parquet")]
pub mod parquet;
pub mod read;
mod recent;
mod rows;
mod spool;
pub mod spot;
pub mod tasks;
mod written;
