//! Batched sampling with a KV cache.
//!
//! Legend of shapes: `b` rows in the batch, `t` positions, `h` hidden, `v` vocabulary.

mod batch_sampler;
mod cache;
mod decoding;
mod device;
mod device_sampler;
mod engine;
mod flash;
mod forward;
mod host;
mod host_sampler;
mod prefill;
mod sampler;
mod shared;
mod stop;

pub use engine::{EngineConfig, TorchEngine};
