//! Whole methods as data: settings by key, published ones by name.

pub(crate) mod idle;
pub(crate) mod keys;
pub(crate) mod presets;
pub(crate) mod rules;
pub(crate) mod settings;
