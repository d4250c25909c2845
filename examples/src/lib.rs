//! What examples have in common.

use g2rpo::rollout::{Encoding, Result, TokenId, Tokenizer};

/// A tokenizer of small letters: `a` is the id 0.
#[derive(Debug)]
pub struct Letters;

impl Tokenizer for Letters {
    fn encode(&self, text: &str) -> Result<Encoding> {
        Ok(Encoding {
            ids: text.bytes().map(|b| TokenId::from(b - b'a')).collect(),
            offsets: (0..text.len()).map(|i| i..i + 1).collect(),
        })
    }

    fn decode(&self, ids: &[TokenId]) -> Result<String> {
        Ok(ids.iter().map(|&id| char::from(b'a' + id as u8)).collect())
    }
}
