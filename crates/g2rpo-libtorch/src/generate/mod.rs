//! Batched sampling with a KV cache.
//!
//! Legend of shapes: `b` rows in the batch, `t` positions, `h` hidden, `v` vocabulary.

mod batch_sampler;
mod cache;
mod device_sampler;
mod engine;
mod forward;
mod prefill;
mod sampler;
mod stop;

pub use engine::{EngineConfig, TorchEngine};
