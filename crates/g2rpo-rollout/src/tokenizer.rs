//! The trait between text and token ids, and a tokenizer of bytes.

use std::ops::Range;

use g2rpo_core::TokenId;

use crate::{Error, Result};

/// Between text and token ids.
pub trait Tokenizer {
    /// Ids of a text, each with the bytes of the text that it stands for. No special ids are
    /// added.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] if the text cannot be encoded.
    fn encode(&self, text: &str) -> Result<Encoding>;

    /// Text of ids. Special ids are left out; ids that together are no valid UTF-8 give U+FFFD.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] if an id is not in the vocabulary.
    fn decode(&self, ids: &[TokenId]) -> Result<String>;
}

/// A text as ids.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Encoding {
    /// The ids.
    pub ids: Vec<TokenId>,
    /// For each id, the bytes of the text it stands for, in order; what lies between two ranges
    /// was dropped by the tokenizer's normalisation.
    pub offsets: Vec<Range<usize>>,
}

/// One id per byte: a tokenizer for tests and doctests. Ids of 256 and above are special and
/// decode to nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ByteTokenizer;

impl ByteTokenizer {
    /// An end-of-sequence id.
    pub const EOS: TokenId = 256;
}

impl Tokenizer for ByteTokenizer {
    fn encode(&self, text: &str) -> Result<Encoding> {
        Ok(Encoding {
            ids: text.bytes().map(TokenId::from).collect(),
            offsets: (0..text.len()).map(|i| i..i + 1).collect(),
        })
    }

    fn decode(&self, ids: &[TokenId]) -> Result<String> {
        let bytes: Vec<u8> = ids.iter().filter_map(|&id| u8::try_from(id).ok()).collect();
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

macro_rules! forward {
    ($($pointer:ty),*) => {$(
        impl<T: Tokenizer + ?Sized> Tokenizer for $pointer {
            fn encode(&self, text: &str) -> Result<Encoding> {
                (**self).encode(text)
            }

            fn decode(&self, ids: &[TokenId]) -> Result<String> {
                (**self).decode(ids)
            }
        }
    )*};
}

forward!(&T, Box<T>);

impl Error {
    /// Wraps what a tokenizer library said.
    pub fn tokenizer(error: impl std::fmt::Display) -> Self {
        Self::Tokenizer(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_round_trip_and_special_ids_vanish() {
        let text = "3 × 4 = 12";
        let mut encoding = ByteTokenizer.encode(text).unwrap();
        assert_eq!(encoding.offsets.last(), Some(&(text.len() - 1..text.len())));
        encoding.ids.push(ByteTokenizer::EOS);
        assert_eq!(ByteTokenizer.decode(&encoding.ids).unwrap(), text);
    }
}
