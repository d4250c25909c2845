//! Hugging Face's files: checkpoints, adapters, tokenizers, chat templates, and the hub.

pub(crate) mod chat;
pub(crate) mod checkpoint;
mod config;
mod config_json;
mod fields;
pub(crate) mod files;
pub(crate) mod hub;
mod mapped;
mod peft;
pub(crate) mod safetensors;
pub(crate) mod tokenizer;
