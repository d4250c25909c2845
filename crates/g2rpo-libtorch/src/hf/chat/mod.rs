//! Conversations as text, the way transformers renders them.

mod conversation;
mod error;
mod functions;
mod json;
mod message;
mod python;
mod template;

pub use message::{ChatOptions, Message, OrderedJson};
pub use template::ChatTemplate;

#[cfg(test)]
mod tests;
