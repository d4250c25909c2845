use g2rpo_rollout::{Encoding, Error, Result, TokenId};

use crate::Tokenizer;

/// Offsets of a character that several ids share are the whole character for each of them, as the
/// tokenizer reports them.
impl g2rpo_rollout::Tokenizer for Tokenizer {
    fn encode(&self, text: &str) -> Result<Encoding> {
        let encoding = self.encode_with_offsets(text).map_err(Error::tokenizer)?;
        Ok(Encoding {
            ids: encoding.ids,
            offsets: (encoding.offsets.into_iter())
                .map(|(start, end)| start..end)
                .collect(),
        })
    }

    fn decode(&self, ids: &[TokenId]) -> Result<String> {
        self.decode_without_special(ids).map_err(Error::tokenizer)
    }
}
