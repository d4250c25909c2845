//! Qwen and Llama models, checkpoints, generation and a GRPO learner on libtorch.
//!
//! The path of a model through this crate: [`DecoderConfig`] says what a checkpoint holds,
//! [`Parameters`] hold its numbers in one flat buffer, a [`Decoder`] computes with them.
#![deny(missing_docs)]

mod config;
mod device;
mod error;
mod init;
pub mod learner;
mod lora;
pub mod model;
pub mod optim;
mod params;
mod state;

pub use config::{Architecture, DType, DecoderConfig, RopeConfig, RopeScaling};
pub use device::{cuda_is_available, device};
pub use error::{Error, Result};
pub use init::init_parameters;
pub use learner::{LearnerConfig, Reference, TorchLearner};
pub use lora::{Adapter, LoraConfig};
pub use model::Decoder;
pub use params::{ParamSpec, Parameters};
