//! A run as data: what a recipe can say, how it is read, checked, written and compared.

pub mod check;
pub mod keys;
pub(crate) mod merge;
pub(crate) mod method;
pub(crate) mod overrides;
pub mod read;
mod section;
pub mod server;
pub(crate) mod setting;
pub mod settings;
pub mod trl;
pub mod trl_keys;
pub mod write;
#[cfg(feature = "yaml")]
pub mod yaml;
