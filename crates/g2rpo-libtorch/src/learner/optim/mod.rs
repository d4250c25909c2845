//! The optimiser: [`AdamW`] on flat buffers, gradient clipping, learning-rate schedules.

mod adamw;
mod clip;

pub use adamw::{AdamW, AdamWConfig};
pub(crate) use clip::{clip_factor, grad_norm};
