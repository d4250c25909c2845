//! A checkpoint's tokenizer as the one that rollouts ask for.

use g2rpo_rollout::{Encoding, Error, Result, TokenId, Tokenizer};

use crate::hf::tokenizer::HfTokenizer;

/// Offsets of a character that several ids share are the whole character for each of them, as the
/// tokenizer reports them.
impl Tokenizer for HfTokenizer {
    fn encode(&self, text: &str) -> Result<Encoding> {
        self.encode_with_offsets(text).map_err(Error::tokenizer)
    }

    fn decode(&self, ids: &[TokenId]) -> Result<String> {
        self.decode_without_special(ids).map_err(Error::tokenizer)
    }
}
