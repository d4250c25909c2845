//! How many tokens guidance and own tokens may take.

use crate::defaults::settings;
use crate::error::{Domain, Result};

settings! {
    /// How guidance and own tokens share the length of a completion.
    #[derive(Copy, Eq)]
    pub struct Budget {
        /// Whether a guided prefix counts as part of the completion. If so, a guided member samples
        /// less; if not, every member may sample `max_completion_length` tokens behind its prefix.
        /// Default true: all sequences then fit the same memory.
        pub counts_guidance: bool = true,
        /// Own tokens that must remain possible when guidance counts, at least 1. Default 1.
        pub min_own_tokens: usize = 1,
        /// A limit of its own for guidance, in tokens. Default none.
        pub max_guidance: Option<usize> = None,
    }
}

impl Budget {
    /// Checks that something can be sampled.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) if the completion has no room for the own tokens.
    pub fn check(&self, max_completion_length: usize) -> Result<()> {
        let max = max_completion_length as f64;
        let own = self.min_own_tokens as f64;
        Domain(1.0, max, "[1, max_completion_length]").check("min_own_tokens", own)
    }

    /// Most guidance tokens that may be given.
    ///
    /// ```
    /// use g2rpo_guidance::Budget;
    /// let budget = Budget { min_own_tokens: 30, ..Budget::default() };
    /// assert_eq!(budget.most_guidance(100), 70);
    /// assert_eq!(budget.max_new_tokens(100, 60), 40);
    /// let apart = Budget { counts_guidance: false, ..budget };
    /// assert_eq!(apart.max_new_tokens(100, 60), 100);
    /// ```
    pub fn most_guidance(&self, max_completion_length: usize) -> usize {
        let room = if self.counts_guidance {
            max_completion_length.saturating_sub(self.min_own_tokens)
        } else {
            usize::MAX
        };
        room.min(self.max_guidance.unwrap_or(usize::MAX))
    }

    /// Most tokens to sample behind a prefix of `guidance` tokens. A hint in the prompt is no
    /// prefix and takes nothing.
    pub fn max_new_tokens(&self, max_completion_length: usize, guidance: usize) -> usize {
        if self.counts_guidance {
            max_completion_length.saturating_sub(guidance)
        } else {
            max_completion_length
        }
    }

    /// What counts of a completion against `max_completion_length`.
    pub fn counted(&self, guidance: usize, own: usize) -> usize {
        if self.counts_guidance {
            guidance + own
        } else {
            own
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_to_sample_is_an_error() {
        let check = |min_own_tokens, max| {
            let budget = Budget {
                min_own_tokens,
                ..Budget::default()
            };
            budget.check(max)
        };
        assert!(check(300, 300).is_ok() && check(0, 300).is_err());
        let expected = "min_own_tokens = 300 is outside its domain [1, max_completion_length]";
        assert_eq!(check(300, 256).unwrap_err().to_string(), expected);
    }
}
