//! The optimiser: AdamW on flat buffers and gradient clipping.

mod adamw;
mod clip;

pub(crate) use adamw::AdamW;
pub(crate) use clip::{clip_factor, grad_norm};
