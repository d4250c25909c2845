//! The decoder and its parts: what a model computes, and the numbers that it computes with.
//!
//! A decoder's parts hold handles to tensors: a clone of them has the same numbers.
//! Where a function does not say what its errors are, they are libtorch's.

mod attention;
pub(crate) mod config;
pub(crate) mod context;
pub(crate) mod decoder;
pub(crate) mod delta_net;
pub(crate) mod dtype;
pub(crate) mod experts;
mod handle;
pub(crate) mod init;
pub(crate) mod linear;
pub(crate) mod lora;
mod mlp;
pub(crate) mod norm;
pub(crate) mod params;
pub(crate) mod rope;

pub use attention::{Attention, Heads};
pub use context::{Context, Pattern, Rotations};
pub use decoder::{Decoder, DecoderLayer, FeedForward, Mixer};
pub use delta_net::{DeltaNet, DeltaState};
pub use experts::Experts;
pub use handle::Handle;
pub use linear::{Linear, Lora, Parallel};
pub use mlp::Mlp;
pub use norm::RmsNorm;
pub use rope::{Rope, rotate};
