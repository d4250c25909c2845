//! The optimiser: [`AdamW`] on flat buffers and gradient clipping.

mod adamw;
mod clip;

pub use adamw::{AdamW, AdamWConfig};
pub(crate) use clip::{clip_factor, grad_norm};
