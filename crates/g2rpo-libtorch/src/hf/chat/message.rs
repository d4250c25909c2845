//! What is rendered: messages, and how.

use std::collections::BTreeMap;

use minijinja::Value;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

/// One message of a conversation. Whatever else serialises to a map with `role` and `content` can
/// be rendered too.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Message {
    /// `system`, `user`, `assistant` or `tool`.
    pub role: String,
    /// The text.
    pub content: String,
}

impl Message {
    /// From role and text.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        Self {
            role: role.into(),
            content: content.into(),
        }
    }
}

/// How a conversation is rendered. Names and defaults as in `apply_chat_template`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ChatOptions {
    /// End with what begins an answer of the assistant. Default false.
    pub add_generation_prompt: bool,
    /// End inside the last message, so that the model goes on with it: the way to put a guided
    /// prefix in front of the model as text. Default false; excludes `add_generation_prompt`.
    pub continue_final_message: bool,
    /// JSON schemas of tools, whose fields are printed in the order that they have here. Default
    /// none.
    pub tools: Option<OrderedJson>,
    /// Further variables of the template, such as `enable_thinking`. Default none.
    pub variables: BTreeMap<String, Json>,
}

/// JSON whose objects keep the order of their fields, which those of `serde_json` do not.
///
/// ```
/// use g2rpo_libtorch::OrderedJson;
/// let tools: OrderedJson = serde_json::from_str(r#"[{"name": "add", "arguments": {}}]"#)?;
/// assert_eq!(serde_json::to_string(&tools)?, r#"[{"name":"add","arguments":{}}]"#);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct OrderedJson(pub(super) Value);
