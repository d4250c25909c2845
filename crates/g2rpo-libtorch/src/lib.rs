//! Qwen and Llama models, checkpoints, generation and a GRPO learner on libtorch.
//!
//! The path of a model through this crate: [`DecoderConfig`] says what a checkpoint holds,
//! [`Parameters`] hold its numbers in one flat buffer, a [`Decoder`] computes with them, a
//! [`TorchEngine`] samples from it, and a [`Tokenizer`] stands between ids and text.
#![deny(missing_docs)]

mod chat;
mod checkpoint;
mod config;
mod cuda;
mod device;
mod error;
mod files;
mod generate;
mod hub;
mod init;
pub mod learner;
mod lora;
mod mapped;
pub mod model;
pub mod optim;
mod params;
mod slice;
mod state;
mod text;
mod tokenizer;

pub use chat::{ChatOptions, ChatTemplate, Message, OrderedJson};
pub use checkpoint::{
    Checkpoint, load_checkpoint, load_parameters, save_checkpoint, save_safetensors,
};
pub use config::{Architecture, DType, DecoderConfig, RopeConfig, RopeScaling};
pub use device::{cuda_is_available, device};
pub use error::{Error, Result};
pub use generate::{EngineConfig, TorchEngine};
pub use hub::model_folder;
pub use init::init_parameters;
pub use learner::{LearnerConfig, Reference, TorchLearner};
pub use lora::{Adapter, LoraConfig};
pub use model::Decoder;
pub use params::{ParamSpec, Parameters};
pub use tokenizer::{Encoding, Tokenizer, TokenizerConfig};
