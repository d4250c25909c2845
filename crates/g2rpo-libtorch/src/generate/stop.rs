//! When a rollout ends.

use g2rpo_rollout::{SamplingParams, TokenId};

use crate::error::{Result, ensure};
use crate::hf::tokenizer::HfTokenizer;

/// When a completion is over.
#[derive(Debug)]
pub(super) struct StopRules<'a> {
    ids: &'a [TokenId],
    texts: &'a [String],
    tokenizer: Option<&'a HfTokenizer>,
    /// How many of the last ids are decoded to look for a text.
    window: usize,
}

impl<'a> StopRules<'a> {
    /// Fails if there are stop texts but no tokenizer to decode with.
    pub(super) fn new(
        params: &'a SamplingParams,
        tokenizer: Option<&'a HfTokenizer>,
    ) -> Result<Self> {
        let why = "stop texts need a tokenizer: build the engine with `with_tokenizer`";
        ensure(
            params.stop.is_empty() || tokenizer.is_some(),
            "stop",
            || why,
        )?;
        // An id may stand for part of a byte sequence, but hardly for less than a byte; a few more
        // cover the characters that are cut at the window's start.
        let window = params.stop.iter().map(|s| s.len() + 4).max().unwrap_or(0);
        Ok(Self {
            ids: &params.stop_token_ids,
            texts: &params.stop,
            tokenizer,
            window,
        })
    }

    /// Whether the completion, whose last id is new, ends here.
    pub(super) fn ends(&self, tokens: &[TokenId]) -> Result<bool> {
        let Some(last) = tokens.last() else {
            return Ok(false);
        };
        if self.ids.contains(last) {
            return Ok(true);
        }
        match self.tokenizer {
            Some(tokenizer) if !self.texts.is_empty() => {
                let tail = &tokens[tokens.len().saturating_sub(self.window)..];
                let text = tokenizer.decode(tail)?;
                Ok(self.texts.iter().any(|stop| text.contains(stop)))
            }
            _ => Ok(false),
        }
    }
}
