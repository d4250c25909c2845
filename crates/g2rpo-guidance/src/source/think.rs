//! The tag that opens the thinking, which must not be doubled.

use g2rpo_core::TokenId;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::trace::solution::Trace;

/// The tag that opens the thinking, as ids and text, e.g. `<think>\n`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ThinkTag {
    /// Its ids.
    pub tokens: Vec<TokenId>,
    /// Its text.
    pub text: String,
}

impl ThinkTag {
    /// The trace such that prompt and trace together open the thinking exactly once.
    ///
    /// `prompt` is the text that the completion follows; chat templates of some models end with
    /// the tag. A trace that begins with it although the prompt ends with it loses it; if it
    /// cannot be taken off between two tokens, the trace cannot be used.
    ///
    /// ```
    /// use g2rpo_guidance::{ThinkTag, Trace};
    /// let tag = ThinkTag { tokens: vec![90], text: "<think>\n".to_owned() };
    /// let bare = Trace::from_pieces(&[(1, "so")]);
    /// let tagged = Trace::from_pieces(&[(90, "<think>\n"), (1, "so")]);
    /// assert_eq!(tag.wrap(bare.clone(), "Assistant:")?.tokens(), [90, 1]);
    /// assert_eq!(tag.wrap(tagged.clone(), "Assistant:")?.tokens(), [90, 1]);
    /// assert_eq!(tag.wrap(bare, "Assistant: <think>\n")?.tokens(), [1]);
    /// assert_eq!(tag.wrap(tagged, "Assistant: <think>\n")?.tokens(), [1]);
    /// # Ok::<(), g2rpo_guidance::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::TagBoundary`] if a doubled tag ends within a token.
    pub fn wrap(&self, trace: Trace, prompt: &str) -> Result<Trace> {
        let name = self.text.trim();
        if name.is_empty() || !prompt.trim_end().ends_with(name) {
            return Ok(trace.wrapped(&self.tokens, &self.text));
        }
        let Some(text) = trace.text() else {
            let own = trace.tokens().starts_with(&self.tokens);
            let n = if own { self.tokens.len() } else { 0 };
            return Ok(trace.without_first(n));
        };
        let indent = text.len() - text.trim_start().len();
        if !text[indent..].starts_with(name) {
            return Ok(trace);
        }
        let name_end = indent + name.len();
        let blank = text[name_end..].len() - text[name_end..].trim_start().len();
        // Preferably with the white space behind the tag, at least the tag itself.
        let exact = |byte| {
            (0..=trace.len())
                .rev()
                .find(|&i| trace.byte_of(i) == Some(byte))
        };
        let n = (name_end..=name_end + blank).rev().find_map(exact);
        match n {
            Some(n) => Ok(trace.without_first(n)),
            None => Err(Error::TagBoundary {
                tag: name.to_owned(),
                byte: name_end,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tag() -> ThinkTag {
        ThinkTag {
            tokens: vec![90, 91],
            text: "<think>\n".to_owned(),
        }
    }

    #[test]
    fn a_doubled_tag_is_taken_off_between_tokens_or_refused() {
        let prompt = "<|assistant|>\n<think>\n";
        let split = Trace::from_pieces(&[(90, "<think>"), (91, "\n"), (1, "so")]);
        assert_eq!(tag().wrap(split, prompt).unwrap().tokens(), [1]);
        let glued = Trace::from_pieces(&[(90, "<think>"), (7, "\nso")]);
        assert_eq!(tag().wrap(glued, prompt).unwrap().tokens(), [7]);
        let broken = Trace::from_pieces(&[(5, "<thi"), (6, "nk>so")]);
        assert_eq!(
            tag().wrap(broken, prompt).unwrap_err().to_string(),
            "trace: its own <think> ends within a token (byte 7) and cannot be taken off"
        );
        let ids = Trace::from_tokens(vec![90, 91, 4]);
        assert_eq!(tag().wrap(ids, prompt).unwrap().tokens(), [4]);
    }
}
