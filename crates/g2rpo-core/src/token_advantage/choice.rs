//! Which of these a method uses, and which losses it fits.

use super::rlcsd::Rlcsd;
use super::rlsd::Rlsd;
use crate::choices::Aggregation;
use crate::config::LossConfig;
use crate::error::{Error, Result};

/// A way to spread a row's advantage over its tokens. All need one more pass of
/// [`crate::Learner::token_logps`] for each hint, under the prompt with the hint.
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "snake_case")
)]
pub enum TokenAdvantage {
    /// One right hint against none.
    Rlsd(Rlsd),
    /// One right hint against wrong ones.
    Rlcsd(Rlcsd),
}

impl TokenAdvantage {
    /// Checks the settings, and that the loss can take them.
    ///
    /// # Errors
    /// [`Error::Config`] naming a number; [`Error::Conflict`] naming the setting of the loss.
    ///
    /// ```
    /// use g2rpo_core::{LossConfig, LossType, Rlcsd, TokenAdvantage};
    /// let contrast = TokenAdvantage::Rlcsd(Rlcsd::default());
    /// assert!(contrast.check(&LossConfig::default()).is_ok());
    /// let grpo = LossConfig { loss_type: LossType::Grpo, ..LossConfig::default() };
    /// assert!(contrast.check(&grpo).is_err());
    /// ```
    pub fn check(&self, loss: &LossConfig) -> Result<()> {
        loss.check_token_advantages()?;
        match self {
            Self::Rlsd(rlsd) => rlsd.check(),
            Self::Rlcsd(rlcsd) => {
                rlcsd.check()?;
                if loss.aggregation() == Aggregation::TokenMean {
                    return Ok(());
                }
                Err(Error::Conflict {
                    first: "rlcsd",
                    second: "an aggregation other than token_mean",
                    why: "its loss is the sum of two means over tokens; use loss_type = dapo or aggregation = token_mean",
                })
            }
        }
    }
}
