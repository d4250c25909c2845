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
#[derive(Debug, Clone, PartialEq, Default)]
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

/// A method for each stream that sets it.
macro_rules! setters {
    ($($setter:ident $stream:ident,)+) => {$(
        #[doc = concat!("Sets [`Self::", stringify!($stream), "`].")]
        ///
        /// # Errors
        /// [`Error::Length`] or [`Error::Row`] if it does not align.
        pub fn $setter(mut self, $stream: Ragged<f64>) -> Result<Self> {
            $stream.check_shape(stringify!($stream), &self.roles)?;
            self.$stream = Some($stream);
            Ok(self)
        }
    )+};
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
            ..Self::default()
        };
        streams.check()?;
        Ok(streams)
    }

    setters! {
        with_token_advantages token_advantages,
        with_token_weights token_weights,
        with_logp_old logp_old,
        with_logp_ref logp_ref,
        with_logp_sampling logp_sampling,
        with_log_kept log_kept,
        with_entropy entropy,
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
        let (rows, entropy) = (&outputs.rows, outputs.entropy.clone());
        let streams = self.picked(rows, outputs.logp.clone(), entropy);
        streams.check()?;
        Ok(streams)
    }

    /// The given rows, in the given order.
    ///
    /// # Panics
    /// If an index is out of range, as indexing does.
    #[must_use]
    pub fn select(&self, rows: &[usize]) -> Self {
        self.picked(rows, self.logp.select(rows), None)
    }

    /// The given rows with other log-probabilities and, if there are some, other entropies.
    fn picked(&self, rows: &[usize], logp: Ragged<f64>, entropy: Option<Ragged<f64>>) -> Self {
        let pick = |stream: &Option<Ragged<f64>>| stream.as_ref().map(|s| s.select(rows));
        let truncated = self.truncated.as_ref();
        Self {
            roles: self.roles.select(rows),
            logp,
            advantages: rows.iter().map(|&i| self.advantages[i]).collect(),
            token_advantages: pick(&self.token_advantages),
            token_weights: pick(&self.token_weights),
            logp_old: pick(&self.logp_old),
            logp_ref: pick(&self.logp_ref),
            logp_sampling: pick(&self.logp_sampling),
            log_kept: pick(&self.log_kept),
            entropy: entropy.or_else(|| pick(&self.entropy)),
            truncated: truncated.map(|flags| rows.iter().map(|&i| flags[i]).collect()),
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
