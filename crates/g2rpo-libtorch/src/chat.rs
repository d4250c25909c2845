use std::path::Path;

use serde_json::Value;

use crate::{Error, Result};

/// A chat template in Jinja.
#[derive(Debug)]
pub struct ChatTemplate {
    source: String,
}

impl ChatTemplate {
    /// The template of a checkpoint folder: `chat_template.jinja`, or else the field
    /// `chat_template` of its `tokenizer_config.json`; `None` if there is neither.
    ///
    /// # Errors
    /// [`Error::Io`] for a file that cannot be read.
    pub fn from_dir(dir: &Path, tokenizer_config: &Value) -> Result<Option<Self>> {
        let path = dir.join("chat_template.jinja");
        let source = match path.exists() {
            true => Some(std::fs::read_to_string(&path).map_err(Error::io(&path))?),
            false => (tokenizer_config.get("chat_template"))
                .and_then(Value::as_str)
                .map(str::to_owned),
        };
        Ok(source.map(|source| Self { source }))
    }

    /// The template's text.
    pub fn source(&self) -> &str {
        &self.source
    }
}
