use serde::{Deserialize, Serialize};

use crate::{Result, error::within};

/// How many tokens guidance and own tokens may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Budget {
    /// TRL's `max_completion_length`: tokens of a completion. Default 256, as in TRL.
    pub max_completion_length: usize,
    /// Whether guidance counts as part of the completion. If so, a guided member samples less; if
    /// not, every member may sample `max_completion_length` tokens behind its guidance. Default
    /// true: all sequences then fit the same memory.
    pub counts_guidance: bool,
    /// Own tokens that must remain possible when guidance counts. Default 1.
    pub min_own_tokens: usize,
    /// A limit of its own for guidance. Default none.
    pub max_guidance: Option<usize>,
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            max_completion_length: 256,
            counts_guidance: true,
            min_own_tokens: 1,
            max_guidance: None,
        }
    }
}

impl Budget {
    /// Checks that something can be sampled.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) if the completion has no room for an own token.
    pub fn check(&self) -> Result<()> {
        let max = self.max_completion_length as f64;
        within("max_completion_length", max, 1.0, f64::MAX, "[1, ∞)")?;
        within(
            "min_own_tokens",
            self.min_own_tokens as f64,
            0.0,
            max,
            "[0, max_completion_length]",
        )?;
        Ok(())
    }

    /// Most guidance tokens that may be given.
    ///
    /// ```
    /// use g2rpo_guidance::Budget;
    /// let budget = Budget { max_completion_length: 100, min_own_tokens: 30, ..Budget::default() };
    /// assert_eq!(budget.max_guidance(), 70);
    /// assert_eq!(budget.max_new_tokens(60), 40);
    /// let apart = Budget { counts_guidance: false, ..budget };
    /// assert_eq!(apart.max_new_tokens(60), 100);
    /// ```
    pub fn max_guidance(&self) -> usize {
        let room = if self.counts_guidance {
            self.max_completion_length
                .saturating_sub(self.min_own_tokens)
        } else {
            usize::MAX
        };
        room.min(self.max_guidance.unwrap_or(usize::MAX))
    }

    /// Most tokens to sample behind `guidance` tokens.
    pub fn max_new_tokens(&self, guidance: usize) -> usize {
        if self.counts_guidance {
            self.max_completion_length.saturating_sub(guidance)
        } else {
            self.max_completion_length
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_to_sample_is_an_error() {
        assert!(Budget::default().check().is_ok());
        let none = Budget {
            max_completion_length: 0,
            ..Budget::default()
        };
        assert!(none.check().is_err());
        let own = Budget {
            min_own_tokens: 300,
            ..Budget::default()
        };
        assert_eq!(
            own.check().unwrap_err().to_string(),
            "min_own_tokens = 300 is outside its domain [0, max_completion_length]"
        );
    }
}
