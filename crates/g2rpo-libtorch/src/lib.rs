//! Qwen and Llama models, checkpoints, generation and a GRPO learner on libtorch.
//!
//! The path of a model through this crate: [`DecoderConfig`] says what a checkpoint holds,
//! [`Parameters`] hold its numbers in one flat buffer, a [`Decoder`] computes with them, a
//! [`TorchEngine`] samples from it, a [`TorchLearner`] trains it, and an [`HfTokenizer`] stands
//! between ids and text. A [`Model`] is all of it, opened from a folder.
#![deny(missing_docs)]

mod device;
mod error;
mod folder;
mod generate;
mod hf;
mod learner;
pub mod model;
mod ranks;
mod shim;

pub use device::{cuda_is_available, device};
pub use error::{Error, Result};
pub use folder::Model;

pub use generate::config::EngineConfig;
pub use generate::engine::TorchEngine;
pub use hf::chat::{ChatOptions, ChatTemplate, Message, OrderedJson};
pub use hf::checkpoint::{Checkpoint, load_checkpoint, save_checkpoint};
pub use hf::hub::model_folder;
pub use hf::safetensors::save_safetensors;
pub use hf::tokenizer::{HfTokenizer, TokenizerConfig};
pub use learner::config::{LearnerConfig, Reference};
pub use learner::torch_learner::TorchLearner;
pub use model::config::{
    Activation, Architecture, BlockSpec, DecoderConfig, DeltaNetConfig, ExpertsConfig, LayerRope,
    LayerSpec, QueryGrowth, RopeConfig, RopeScaling,
};
pub use model::decoder::Decoder;
pub use model::dtype::DType;
pub use model::init::init_parameters;
pub use model::lora::{Adapter, LoraConfig};
pub use model::params::{ParamSpec, Parameters};
pub use ranks::{Launch, ProcessGroup};
