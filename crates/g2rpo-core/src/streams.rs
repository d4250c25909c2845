//! The per-token streams of some completions, aligned.

use crate::config::LossConfig;
use crate::error::{Error, Result, check_len};
use crate::learner::TokenOutputs;
use crate::ragged::Ragged;
use crate::sequences::Role;

/// Per-token streams of some completions, aligned: one row per completion (guidance and own
/// tokens, see [`crate::Sequences`]).
///
/// Rows are independent of each other: any subset of rows is again a `TokenStreams`, and losses
/// and gradients of the parts add up to those of the whole ([`crate::BatchTotals`]).
///
/// Values at tokens outside the loss are never read, so they may be NaN or infinite.
///
/// ```
/// use g2rpo_core::{Ragged, Role, TokenStreams};
/// let streams = TokenStreams::new(
///     Ragged::from_rows([vec![Role::Own, Role::Own], vec![Role::Own]]),
///     Ragged::from_rows([vec![-1.0, -2.0], vec![-0.5]]),
///     vec![1.0, -1.0],
/// )?
/// .with_logp_old(Ragged::from_rows([vec![-1.0, -2.0], vec![-0.5]]))?;
/// assert_eq!(streams.select(&[1]).advantages, [-1.0]);
/// # Ok::<(), g2rpo_core::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct TokenStreams {
    /// Who put each token there. [`Role::Prompt`] inside a completion is a hole: never in the loss.
    pub roles: Ragged<Role>,
    /// Log-probability of each token under the policy being trained, in nats.
    pub logp: Ragged<f64>,
    /// Advantage of each row.
    pub advantages: Vec<f64>,
    /// Advantage of every token, in place of the row's. Sequences as a whole are still judged by the
    /// row's: [`LossConfig::off_policy_mask_threshold`] asks for its sign. Refused by losses with
    /// one value per sequence: `vespo`, `gmpo`, and ratios at level `sequence`.
    pub token_advantages: Option<Ragged<f64>>,
    /// Factor, at least 0, on each token's share of the policy term, after the mismatch correction
    /// and before the sum over tokens. Denominators and the KL term do not know of it. Refused by
    /// `gmpo`.
    pub token_weights: Option<Ragged<f64>>,
    /// Log-probability under the policy at generation time, as the trainer computes it. `None`:
    /// on policy, `logp` itself without gradient, so that every ratio is 1 (TRL).
    pub logp_old: Option<Ragged<f64>>,
    /// Log-probability under the reference; needed when `beta` is not 0.
    pub logp_ref: Option<Ragged<f64>>,
    /// Log-probability as the sampler reported it. NaN: not reported for this token.
    pub logp_sampling: Option<Ragged<f64>>,
    /// Natural logarithm of the probability mass that top-p, top-k or min-p sampling kept, at most
    /// 0. A sampler that renormalises reports `logp − log_kept`; adding it back makes
    /// `logp_sampling` comparable with the full softmax.
    pub log_kept: Option<Ragged<f64>>,
    /// Entropy of the distribution each token was drawn from, in nats.
    pub entropy: Option<Ragged<f64>>,
    /// Rows cut by the length limit; read only under
    /// [`LossConfig::mask_truncated_completions`]. `None`: no row was.
    pub truncated: Option<Vec<bool>>,
}

impl TokenStreams {
    /// Streams of an on-policy step without reference.
    ///
    /// # Errors
    /// [`Error::Length`] or [`Error::Row`] if `logp` or `advantages` do not align with `roles`.
    pub fn new(roles: Ragged<Role>, logp: Ragged<f64>, advantages: Vec<f64>) -> Result<Self> {
        let streams = Self {
            roles,
            logp,
            advantages,
            token_advantages: None,
            token_weights: None,
            logp_old: None,
            logp_ref: None,
            logp_sampling: None,
            log_kept: None,
            entropy: None,
            truncated: None,
        };
        streams.check()?;
        Ok(streams)
    }

    /// Sets [`Self::token_advantages`].
    ///
    /// # Errors
    /// [`Error::Length`] or [`Error::Row`] if it does not align.
    pub fn with_token_advantages(mut self, token_advantages: Ragged<f64>) -> Result<Self> {
        token_advantages.check_shape("token_advantages", &self.roles)?;
        self.token_advantages = Some(token_advantages);
        Ok(self)
    }

    /// Sets [`Self::token_weights`].
    ///
    /// # Errors
    /// [`Error::Length`] or [`Error::Row`] if it does not align.
    pub fn with_token_weights(mut self, token_weights: Ragged<f64>) -> Result<Self> {
        token_weights.check_shape("token_weights", &self.roles)?;
        self.token_weights = Some(token_weights);
        Ok(self)
    }

    /// Sets [`Self::logp_old`].
    ///
    /// # Errors
    /// [`Error::Length`] or [`Error::Row`] if it does not align.
    pub fn with_logp_old(mut self, logp_old: Ragged<f64>) -> Result<Self> {
        logp_old.check_shape("logp_old", &self.roles)?;
        self.logp_old = Some(logp_old);
        Ok(self)
    }

    /// Sets [`Self::logp_ref`].
    ///
    /// # Errors
    /// [`Error::Length`] or [`Error::Row`] if it does not align.
    pub fn with_logp_ref(mut self, logp_ref: Ragged<f64>) -> Result<Self> {
        logp_ref.check_shape("logp_ref", &self.roles)?;
        self.logp_ref = Some(logp_ref);
        Ok(self)
    }

    /// Sets [`Self::logp_sampling`].
    ///
    /// # Errors
    /// [`Error::Length`] or [`Error::Row`] if it does not align.
    pub fn with_logp_sampling(mut self, logp_sampling: Ragged<f64>) -> Result<Self> {
        logp_sampling.check_shape("logp_sampling", &self.roles)?;
        self.logp_sampling = Some(logp_sampling);
        Ok(self)
    }

    /// Sets [`Self::log_kept`].
    ///
    /// # Errors
    /// [`Error::Length`] or [`Error::Row`] if it does not align.
    pub fn with_log_kept(mut self, log_kept: Ragged<f64>) -> Result<Self> {
        log_kept.check_shape("log_kept", &self.roles)?;
        self.log_kept = Some(log_kept);
        Ok(self)
    }

    /// Sets [`Self::entropy`].
    ///
    /// # Errors
    /// [`Error::Length`] or [`Error::Row`] if it does not align.
    pub fn with_entropy(mut self, entropy: Ragged<f64>) -> Result<Self> {
        entropy.check_shape("entropy", &self.roles)?;
        self.entropy = Some(entropy);
        Ok(self)
    }

    /// Sets [`Self::truncated`].
    ///
    /// # Errors
    /// [`Error::Length`] if there is not one flag per row.
    pub fn with_truncated(mut self, truncated: Vec<bool>) -> Result<Self> {
        check_len("truncated", truncated.len(), self.n_rows())?;
        self.truncated = Some(truncated);
        Ok(self)
    }

    /// The rows of a forward pass: selects `outputs.rows` and puts that pass's log-probabilities
    /// and (where it has them) entropies in place. This is the first line of a loss closure for
    /// [`crate::Learner::accumulate`].
    ///
    /// # Errors
    /// [`Error::Index`] if a row does not exist; [`Error::Length`] or [`Error::Row`] if the outputs
    /// do not align with the rows they name.
    ///
    /// ```
    /// use g2rpo_core::{Ragged, Role, TokenOutputs, TokenStreams};
    /// let roles = Ragged::from_rows([vec![Role::Own], vec![Role::Own, Role::Own]]);
    /// let old = Ragged::from_rows([vec![-1.0], vec![-1.0, -1.0]]);
    /// let batch = TokenStreams::new(roles, old, vec![0.5, -0.5])?;
    /// let logp = Ragged::from_rows([vec![-0.9, -1.1]]);
    /// let micro = batch.with_outputs(&TokenOutputs { rows: vec![1], logp, entropy: None })?;
    /// assert_eq!(micro.logp.row(0), [-0.9, -1.1]);
    /// assert_eq!(micro.advantages, [-0.5]);
    /// # Ok::<(), g2rpo_core::Error>(())
    /// ```
    pub fn with_outputs(&self, outputs: &TokenOutputs) -> Result<Self> {
        self.check()?;
        if let Some(&index) = outputs.rows.iter().find(|&&row| row >= self.n_rows()) {
            return Err(Error::Index {
                what: "rows of the forward pass",
                index,
                len: self.n_rows(),
            });
        }
        let pick = |stream: &Option<Ragged<f64>>| stream.as_ref().map(|s| s.select(&outputs.rows));
        let streams = Self {
            roles: self.roles.select(&outputs.rows),
            logp: outputs.logp.clone(),
            advantages: outputs.rows.iter().map(|&i| self.advantages[i]).collect(),
            token_advantages: pick(&self.token_advantages),
            token_weights: pick(&self.token_weights),
            logp_old: pick(&self.logp_old),
            logp_ref: pick(&self.logp_ref),
            logp_sampling: pick(&self.logp_sampling),
            log_kept: pick(&self.log_kept),
            entropy: outputs.entropy.clone().or_else(|| pick(&self.entropy)),
            truncated: (self.truncated.as_ref())
                .map(|flags| outputs.rows.iter().map(|&i| flags[i]).collect()),
        };
        streams.check()?;
        Ok(streams)
    }

    /// The given rows, in the given order.
    ///
    /// # Panics
    /// If an index is out of range, as indexing does.
    #[must_use]
    pub fn select(&self, rows: &[usize]) -> Self {
        let pick = |stream: &Option<Ragged<f64>>| stream.as_ref().map(|s| s.select(rows));
        Self {
            roles: self.roles.select(rows),
            logp: self.logp.select(rows),
            advantages: rows.iter().map(|&i| self.advantages[i]).collect(),
            token_advantages: pick(&self.token_advantages),
            token_weights: pick(&self.token_weights),
            logp_old: pick(&self.logp_old),
            logp_ref: pick(&self.logp_ref),
            logp_sampling: pick(&self.logp_sampling),
            log_kept: pick(&self.log_kept),
            entropy: pick(&self.entropy),
            truncated: (self.truncated.as_ref())
                .map(|flags| rows.iter().map(|&i| flags[i]).collect()),
        }
    }

    /// Number of rows.
    pub fn n_rows(&self) -> usize {
        self.roles.n_rows()
    }

    /// Checks that every stream aligns with the roles.
    ///
    /// # Errors
    /// [`Error::Length`] or [`Error::Row`] for the first stream that does not.
    pub fn check(&self) -> Result<()> {
        self.logp.check_shape("logp", &self.roles)?;
        check_len("advantages", self.advantages.len(), self.n_rows())?;
        for (what, stream) in [
            ("token_advantages", &self.token_advantages),
            ("token_weights", &self.token_weights),
            ("logp_old", &self.logp_old),
            ("logp_ref", &self.logp_ref),
            ("logp_sampling", &self.logp_sampling),
            ("log_kept", &self.log_kept),
            ("entropy", &self.entropy),
        ] {
            if let Some(stream) = stream {
                stream.check_shape(what, &self.roles)?;
            }
        }
        if let Some(truncated) = &self.truncated {
            check_len("truncated", truncated.len(), self.n_rows())?;
        }
        Ok(())
    }

    /// Whether row `i` is left out of the loss as a whole.
    pub(crate) fn is_masked_row(&self, i: usize, config: &LossConfig) -> bool {
        config.mask_truncated_completions && self.truncated.as_ref().is_some_and(|flags| flags[i])
    }
}
