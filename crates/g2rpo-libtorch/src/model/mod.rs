//! The decoder and its parts.

mod attention;
mod decoder;
mod linear;
mod mlp;
mod norm;
mod rope;

pub use attention::Attention;
pub use decoder::{Context, Decoder, DecoderLayer, Pattern};
pub use linear::{Linear, Lora};
pub use mlp::Mlp;
pub use norm::RmsNorm;
pub use rope::{Rope, rotate};
