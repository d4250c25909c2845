//! Batched sampling with a KV cache.
//!
//! Legend of shapes: `b` rows in the batch, `t` positions, `h` hidden, `v` vocabulary.

mod cache;
pub(crate) mod config;
mod cuda;
mod decoding;
mod device;
mod device_sampler;
pub(crate) mod engine;
mod filter;
mod flash;
mod forward;
mod host;
mod host_sampler;
mod partial;
mod prefill;
mod readers;
mod sampler;
mod shared;
mod slice;
mod stop;
