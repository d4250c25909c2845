//! The optimiser: [`AdamW`] on flat buffers, gradient clipping, learning-rate schedules.

mod adamw;
mod clip;
mod schedule;

pub use adamw::{AdamW, AdamWConfig};
pub(crate) use clip::{clip_factor, grad_norm};
pub use schedule::{LrSchedule, LrSchedulerType};
