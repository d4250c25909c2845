//! Token sequences to be scored, and who put each token there.

use crate::error::{Error, Result, check_len};
use crate::ragged::Ragged;

/// Id of a token in a model's vocabulary.
pub type TokenId = u32;

/// Who put a token into a sequence. Masks, counts and denominators derive from roles, never from
/// pad or end-of-sequence ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Role {
    /// Context that the policy neither produced nor is trained on: the prompt, or, inside a
    /// completion, the answer of a tool.
    Prompt,
    /// Copied from a ground-truth solution and placed at the start of the completion.
    Guidance,
    /// Sampled by the policy.
    Own,
}

/// Whole sequences to be scored: prompt, then completion (guidance and own tokens).
///
/// Every per-token stream about these sequences (log-probabilities, roles, gradients) covers the
/// completion only: its row `i` has `tokens.row(i).len() - prompt_lens[i]` entries, the first of
/// which belongs to the token right behind the prompt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sequences {
    tokens: Ragged<TokenId>,
    prompt_lens: Vec<usize>,
}

impl Sequences {
    /// Checks and builds.
    ///
    /// # Errors
    /// [`Error::Length`] if there is not one prompt length per row; [`Error::Row`] if a prompt is
    /// empty (the first completion token would have no context) or longer than its row.
    pub fn new(tokens: Ragged<TokenId>, prompt_lens: Vec<usize>) -> Result<Self> {
        check_len("prompt lengths", prompt_lens.len(), tokens.n_rows())?;
        for (row, (&prompt, len)) in prompt_lens.iter().zip(tokens.lengths()).enumerate() {
            if prompt == 0 || prompt > len {
                return Err(Error::Row {
                    what: "prompt",
                    row,
                    expected: if prompt == 0 { 1 } else { len },
                    got: prompt,
                });
            }
        }
        Ok(Self {
            tokens,
            prompt_lens,
        })
    }

    /// Prompt and completion ids, one row per sequence.
    pub fn tokens(&self) -> &Ragged<TokenId> {
        &self.tokens
    }

    /// Number of prompt tokens of each row, at least 1.
    pub fn prompt_lens(&self) -> &[usize] {
        &self.prompt_lens
    }

    /// Number of sequences.
    pub fn n_rows(&self) -> usize {
        self.prompt_lens.len()
    }

    /// Number of completion tokens of each row.
    pub fn completion_lens(&self) -> impl ExactSizeIterator<Item = usize> {
        (self.tokens.lengths().zip(&self.prompt_lens)).map(|(len, prompt)| len - prompt)
    }

    /// Completion ids of row `i`.
    ///
    /// # Panics
    /// If `i >= n_rows`, as indexing does.
    pub fn completion(&self, i: usize) -> &[TokenId] {
        &self.tokens.row(i)[self.prompt_lens[i]..]
    }

    /// The given rows, in the given order.
    ///
    /// # Panics
    /// If an index is out of range, as indexing does.
    #[must_use]
    pub fn select(&self, rows: &[usize]) -> Self {
        Self {
            tokens: self.tokens.select(rows),
            prompt_lens: rows.iter().map(|&i| self.prompt_lens[i]).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn completion_is_what_follows_the_prompt() {
        let s = Sequences::new(Ragged::from_rows([vec![7, 8, 9], vec![5]]), vec![1, 1]).unwrap();
        assert_eq!(s.completion(0), [8, 9]);
        assert_eq!(s.completion_lens().collect::<Vec<_>>(), [2, 0]);
    }

    #[test]
    fn empty_and_overlong_prompts_are_refused() {
        let tokens = || Ragged::from_rows([vec![7, 8, 9]]);
        for (prompt_lens, message) in [
            (vec![0], "prompt: row 0 has 0 tokens, expected 1"),
            (vec![4], "prompt: row 0 has 4 tokens, expected 3"),
            (vec![], "prompt lengths: expected length 1, got 0"),
        ] {
            let err = Sequences::new(tokens(), prompt_lens).unwrap_err();
            assert_eq!(err.to_string(), message);
        }
    }
}
