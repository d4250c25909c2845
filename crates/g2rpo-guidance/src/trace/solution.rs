//! A worked solution as ids, with the text they spell.

use g2rpo_core::TokenId;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// A worked solution: the ids that can be spliced in front of a completion and, where known, the
/// text they spell, so that steps and the answer are found in the text and cut in the ids.
///
/// The text is never encoded again. Every place between two tokens knows its byte offset, or that
/// it lies within a character and must not be cut at.
///
/// ```
/// use g2rpo_guidance::Trace;
/// let trace = Trace::from_pieces(&[(1, "2+2"), (2, " ="), (3, " 4\n"), (4, "#### 4")]);
/// assert_eq!(trace.prefix(2), [1, 2]);
/// assert_eq!(trace.prefix_text(3), Some("2+2 = 4\n"));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Trace {
    tokens: Vec<TokenId>,
    lead: usize,
    text: String,
    /// `bytes[i]` is the length of the text of the first `i` tokens; `None` within a character.
    /// Empty when the text is not known.
    bytes: Vec<Option<usize>>,
    answer_start: Option<usize>,
    marks: Vec<usize>,
}

impl Trace {
    /// Ids alone. Lines and steps cannot be found in such a trace, nor can its answer: give its
    /// place with [`with_answer_start`](Self::with_answer_start), or the caps know only that the
    /// last token must stay back.
    pub fn from_tokens(tokens: Vec<TokenId>) -> Self {
        Self {
            tokens,
            ..Self::default()
        }
    }

    /// Ids with the text of each; good for tokenizers whose every token is text by itself.
    pub fn from_pieces(pieces: &[(TokenId, &str)]) -> Self {
        let mut trace = Self::from_tokens(pieces.iter().map(|p| p.0).collect());
        trace.bytes.push(Some(0));
        for (_, piece) in pieces {
            trace.text.push_str(piece);
            trace.bytes.push(Some(trace.text.len()));
        }
        trace
    }

    /// Ids with the byte range of each in the text, as the `tokenizers` crate reports them
    /// (`Encoding::get_offsets` of a plain encode), or as the lengths of its bytes say.
    ///
    /// Ranges may end within a character that spreads over several tokens, or overlap there; they may
    /// leave white space uncovered (it goes with the token behind it) and may be empty for special
    /// tokens.
    ///
    /// # Errors
    /// [`Error::Length`] if there is not one range per id, or a range ends behind the text or
    /// before an earlier one.
    pub fn from_offsets(
        tokens: Vec<TokenId>,
        text: impl Into<String>,
        offsets: &[(usize, usize)],
    ) -> Result<Self> {
        let text = text.into();
        if tokens.len() != offsets.len() {
            return Err(Error::Length {
                what: "trace: offsets of tokens",
                expected: tokens.len(),
                got: offsets.len(),
            });
        }
        let mut ends = Vec::with_capacity(tokens.len() + 1);
        let mut clean = vec![true];
        ends.push(0);
        for &(start, end) in offsets {
            let last = *ends.last().unwrap_or(&0);
            let empty = start == end;
            if !empty && (end < last || end > text.len()) {
                return Err(Error::Length {
                    what: "trace: end of a token's offsets",
                    expected: if end < last { last } else { text.len() },
                    got: end,
                });
            }
            if !empty && start < last {
                // This token and the one before it are parts of the same character.
                if let Some(before) = clean.last_mut() {
                    *before = false;
                }
            }
            ends.push(if empty { last } else { end });
            clean.push(true);
        }
        // White space that no range covers is text nevertheless, and the last cut takes it all.
        if let Some(last) = ends.last_mut() {
            *last = text.len();
        }
        let bytes = (ends.into_iter().zip(clean))
            .map(|(end, clean)| (clean && text.is_char_boundary(end)).then_some(end))
            .collect();
        Ok(Self {
            bytes,
            text,
            ..Self::from_tokens(tokens)
        })
    }

    /// States where the final answer begins: no cut takes more than `tokens` tokens.
    #[must_use]
    pub fn with_answer_start(mut self, tokens: usize) -> Self {
        self.answer_start = Some(tokens);
        self
    }

    /// Places (in tokens) where the trace may be cut, for [`Unit::Marks`](crate::Unit::Marks):
    /// branching points found by a model, say.
    #[must_use]
    pub fn with_marks(mut self, mut tokens: Vec<usize>) -> Self {
        tokens.sort_unstable();
        tokens.dedup();
        self.marks = tokens;
        self
    }

    /// The trace behind an opening tag, e.g. the ids and text of `<think>\n`, unless it begins
    /// with that tag already: a doubled tag ruins the format reward.
    ///
    /// The tag is a lead: it goes with every guided member and is not counted by amounts. If the
    /// text is not known, `tokens` is compared with the first ids instead.
    #[must_use]
    pub fn wrapped(self, tokens: &[TokenId], text: &str) -> Self {
        let doubled = match self.text() {
            Some(own) => own.trim_start().starts_with(text.trim()),
            None => self.tokens.starts_with(tokens),
        };
        if doubled || tokens.is_empty() {
            return self;
        }
        let n = tokens.len();
        let mut bytes = Vec::new();
        if self.has_text() {
            bytes.push(Some(0));
            // How the tag's text divides over its ids does not matter: it is never cut.
            bytes.extend(std::iter::repeat_n(None, n - 1));
            bytes.extend(self.bytes.iter().map(|b| b.map(|b| b + text.len())));
        }
        Self {
            tokens: [tokens, &self.tokens].concat(),
            lead: n + self.lead,
            text: if self.has_text() {
                text.to_owned() + &self.text
            } else {
                self.text
            },
            bytes,
            answer_start: self.answer_start.map(|a| a + n),
            marks: self.marks.iter().map(|m| m + n).collect(),
        }
    }

    /// The trace behind its first `n` ids, which must end between two characters.
    pub(crate) fn without_first(self, n: usize) -> Self {
        let skipped = self.byte_of(n).unwrap_or(0);
        let bytes = self.bytes.iter().skip(n).map(|b| b.map(|b| b - skipped));
        let later = |place: usize| place.saturating_sub(n);
        Self {
            tokens: self.rest(n).to_vec(),
            lead: later(self.lead),
            text: self.text[skipped..].to_owned(),
            bytes: bytes.collect(),
            answer_start: self.answer_start.map(later),
            marks: (self.marks.iter().filter(|m| **m > n))
                .map(|&m| later(m))
                .collect(),
        }
    }

    /// All ids.
    pub fn tokens(&self) -> &[TokenId] {
        &self.tokens
    }

    /// Number of ids, lead included.
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Whether there is nothing to give.
    pub fn is_empty(&self) -> bool {
        self.tokens.len() <= self.lead
    }

    /// Number of ids at the start that go with every guided member and are not counted by amounts.
    pub fn lead(&self) -> usize {
        self.lead
    }

    /// The first `n` ids, or all of them.
    pub fn prefix(&self, n: usize) -> &[TokenId] {
        &self.tokens[..n.min(self.tokens.len())]
    }

    /// The ids behind the first `n`.
    pub fn rest(&self, n: usize) -> &[TokenId] {
        &self.tokens[n.min(self.tokens.len())..]
    }

    /// The whole text, if it is known.
    pub fn text(&self) -> Option<&str> {
        self.has_text().then_some(self.text.as_str())
    }

    /// Text of the first `n` ids, unless it is unknown or ends within a character.
    pub fn prefix_text(&self, n: usize) -> Option<&str> {
        self.byte_of(n).map(|end| &self.text[..end])
    }

    /// Where the final answer begins, in tokens, if [`with_answer_start`](Self::with_answer_start)
    /// was called.
    pub fn answer_start(&self) -> Option<usize> {
        self.answer_start
    }

    /// The places given to [`with_marks`](Self::with_marks).
    pub fn marks(&self) -> &[usize] {
        &self.marks
    }

    pub(crate) fn has_text(&self) -> bool {
        !self.bytes.is_empty()
    }

    /// Byte offset of the place behind `n` ids; `None` if unknown or within a character.
    pub(crate) fn byte_of(&self, n: usize) -> Option<usize> {
        self.bytes.get(n).copied().flatten()
    }

    /// Largest number of ids, at most `n`, that ends between characters (0 always does).
    pub(crate) fn clean_at_most(&self, n: usize) -> usize {
        let n = n.min(self.tokens.len());
        if !self.has_text() {
            return n;
        }
        let clean = |i: &usize| self.bytes[*i].is_some();
        (0..=n).rev().find(clean).unwrap_or(0)
    }

    /// Largest number of ids whose text ends at or before `byte`, between characters.
    pub(crate) fn tokens_before(&self, byte: usize) -> usize {
        let is_before = |i: &usize| self.bytes[*i].is_some_and(|b| b <= byte);
        (0..self.bytes.len()).rev().find(is_before).unwrap_or(0)
    }

    /// Smallest number of ids whose text ends at or behind `byte`, between characters.
    pub(crate) fn tokens_through(&self, byte: usize) -> usize {
        let is_through = |i: &usize| self.bytes[*i].is_some_and(|b| b >= byte);
        let found = (0..self.bytes.len()).find(is_through);
        found.unwrap_or(self.tokens.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_character_spread_over_tokens_cannot_be_cut() {
        // é is 0xC3 0xA9.
        let trace = Trace::from_offsets(vec![5, 6, 7], "aé b", &[(0, 2), (2, 3), (3, 5)]).unwrap();
        assert_eq!(trace.prefix_text(1), None);
        assert_eq!(trace.clean_at_most(1), 0);
        assert_eq!(trace.prefix_text(2), Some("aé"));
        let offsets = Trace::from_offsets(vec![5, 6, 7], "aé b", &[(0, 3), (1, 3), (3, 5)]);
        assert_eq!(offsets, Ok(trace));
    }

    #[test]
    fn uncovered_white_space_goes_with_the_token_behind() {
        let trace = Trace::from_offsets(vec![1, 2], "a b ", &[(0, 1), (2, 3)]).unwrap();
        assert_eq!(trace.prefix_text(1), Some("a"));
        assert_eq!(trace.prefix_text(2), Some("a b "));
    }

    #[test]
    fn boundaries_that_do_not_fit_are_refused() {
        let err = Trace::from_offsets(vec![1], "ab", &[(0, 3)]).unwrap_err();
        let expected = "trace: end of a token's offsets: expected 2, got 3";
        assert_eq!(err.to_string(), expected);
        assert!(Trace::from_offsets(vec![1, 2], "ab", &[(0, 2), (0, 1)]).is_err());
        assert!(Trace::from_offsets(vec![1, 2], "a", &[(0, 1)]).is_err());
    }

    #[test]
    fn the_tag_is_never_doubled() {
        let plain = Trace::from_pieces(&[(1, "so"), (2, " 4")]);
        let wrapped = plain.clone().wrapped(&[90, 91], "<think>\n");
        assert_eq!(wrapped.tokens(), [90, 91, 1, 2]);
        assert_eq!(wrapped.lead(), 2);
        assert_eq!(wrapped.prefix_text(3), Some("<think>\nso"));
        assert_eq!(wrapped.clone().wrapped(&[90, 91], "<think>\n"), wrapped);
        let ids = Trace::from_tokens(vec![90, 91, 1]);
        assert_eq!(ids.clone().wrapped(&[90, 91], "<think>\n"), ids);
    }
}
