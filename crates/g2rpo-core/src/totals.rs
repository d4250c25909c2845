//! Counts over a whole optimiser step, the denominators of the loss.

use std::ops::AddAssign;

use crate::choices::{Aggregation, LengthNormalizer};
use crate::config::LossConfig;
use crate::error::{Result, check_finite, check_len};
use crate::ragged::Ragged;
use crate::sequences::Role;

/// Counts over a whole optimiser step, the denominators of the loss.
///
/// [`crate::policy_loss`] takes them as an argument, so that losses and gradients of micro-batches
/// and workers add up to those of the batch however it is cut. Compute them once for all rows of
/// the step, or per worker and add with `+=`.
///
/// Counts are `f64` so that they can be rescaled: TRL divides its token-mean losses by the average
/// over the generation batch instead of the step's own count.
///
/// ```
/// use g2rpo_core::{BatchTotals, LossConfig, Ragged, Role::*};
/// let config = LossConfig::default();
/// let roles = Ragged::from_rows([vec![Guidance, Own, Own], vec![Own, Prompt]]);
/// let whole = BatchTotals::of(&roles, None, &config)?;
/// assert_eq!((whole.n_rows, whole.n_tokens, whole.n_own), (2.0, 3.0, 3.0));
/// let mut sum = BatchTotals::of(&roles.select(&[0]), None, &config)?;
/// sum += BatchTotals::of(&roles.select(&[1]), None, &config)?;
/// assert_eq!(sum, whole);
/// # Ok::<(), g2rpo_core::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct BatchTotals {
    /// Rows, masked ones included (TRL counts them).
    pub n_rows: f64,
    /// Tokens that the token-mean denominator counts, see [`LengthNormalizer`].
    pub n_tokens: f64,
    /// Own tokens in the loss.
    pub n_own: f64,
    /// Guidance tokens of rows that are in the loss, whatever their treatment.
    pub n_guidance: f64,
    /// Entropy from which on a token is kept under [`LossConfig::top_entropy_quantile`].
    pub entropy_threshold: Option<f64>,
    /// Tokens that the entropy bonus averages over: own tokens in the loss, under a threshold only
    /// those that reach it.
    pub n_entropy: f64,
}

impl BatchTotals {
    /// Counts the rows. `truncated` is read only under
    /// [`LossConfig::mask_truncated_completions`].
    ///
    /// With a `top_entropy_quantile` below 1 call [`Self::with_entropies`] as well.
    ///
    /// # Errors
    /// [`crate::Error::Length`] if `truncated` has not one flag per row; errors of [`LossConfig::check`].
    pub fn of(
        roles: &Ragged<Role>,
        truncated: Option<&[bool]>,
        config: &LossConfig,
    ) -> Result<Self> {
        config.check()?;
        if let Some(truncated) = truncated {
            check_len("truncated", truncated.len(), roles.n_rows())?;
        }
        let mut totals = Self {
            n_rows: roles.n_rows() as f64,
            ..Self::default()
        };
        for (i, roles) in roles.rows().enumerate() {
            if config.mask_truncated_completions && truncated.is_some_and(|flags| flags[i]) {
                continue;
            }
            let counts = RowCounts::of(roles);
            totals.n_own += counts.own as f64;
            totals.n_guidance += counts.guidance as f64;
            totals.n_tokens += counts.normalizer(config) as f64;
        }
        totals.n_entropy = totals.n_own;
        Ok(totals)
    }

    /// Sets the entropy threshold and the count of tokens that reach it, from the entropies of the
    /// *whole* batch: a quantile cannot be merged from parts, so gather the entropies of all
    /// workers before. Does nothing when `top_entropy_quantile` is 1.
    ///
    /// The threshold is the linearly interpolated `1 − top_entropy_quantile` quantile over the
    /// tokens of the policy term (torch's and NumPy's default), own tokens here.
    ///
    /// # Errors
    /// [`crate::Error::Length`] or [`crate::Error::Row`] if `entropy` does not align; [`crate::Error::NotFinite`] naming
    /// an own token whose entropy is not finite.
    ///
    /// ```
    /// use g2rpo_core::{BatchTotals, LossConfig, Ragged, Role};
    /// let config = LossConfig { top_entropy_quantile: 0.5, ..LossConfig::default() };
    /// let roles = Ragged::from_rows([vec![Role::Own; 5]]);
    /// let entropy = Ragged::from_rows([vec![0.1, 0.5, 0.2, 0.9, 0.3]]);
    /// let totals = BatchTotals::of(&roles, None, &config)?
    ///     .with_entropies(&roles, &entropy, None, &config)?;
    /// assert_eq!((totals.entropy_threshold, totals.n_entropy), (Some(0.3), 3.0));
    /// # Ok::<(), g2rpo_core::Error>(())
    /// ```
    pub fn with_entropies(
        mut self,
        roles: &Ragged<Role>,
        entropy: &Ragged<f64>,
        truncated: Option<&[bool]>,
        config: &LossConfig,
    ) -> Result<Self> {
        if config.top_entropy_quantile >= 1.0 {
            return Ok(self);
        }
        entropy.check_shape("entropy", roles)?;
        let mut values = Vec::new();
        for (row, (roles, entropy)) in roles.rows().zip(entropy.rows()).enumerate() {
            if config.mask_truncated_completions && truncated.is_some_and(|flags| flags[row]) {
                continue;
            }
            for (position, (role, &value)) in roles.iter().zip(entropy).enumerate() {
                if *role == Role::Own {
                    check_finite("entropy", row, position, value)?;
                    values.push(value);
                }
            }
        }
        // Without own tokens there is no quantile, and nothing that could reach it.
        let threshold =
            quantile(&mut values, 1.0 - config.top_entropy_quantile).unwrap_or(f64::MAX);
        self.entropy_threshold = Some(threshold);
        self.n_entropy = values.iter().filter(|&&value| value >= threshold).count() as f64;
        Ok(self)
    }

    /// Weight of a row's summed token losses: the aggregation as one factor. 0 where the
    /// denominator is.
    pub(crate) fn row_weight(&self, counts: RowCounts, config: &LossConfig) -> f64 {
        let denominator = match config.aggregation() {
            Aggregation::SequenceMean => self.n_rows * counts.normalizer(config).max(1) as f64,
            Aggregation::TokenMean => self.n_tokens,
            Aggregation::ConstantLength => self.n_rows * config.max_completion_length as f64,
            Aggregation::SequenceSum => self.n_rows,
        };
        if denominator > 0.0 {
            1.0 / denominator
        } else {
            0.0
        }
    }
}

impl AddAssign for BatchTotals {
    /// Adds the counts of other rows. An entropy threshold survives only if both sides agree on it:
    /// it belongs to the whole batch.
    fn add_assign(&mut self, other: Self) {
        self.n_rows += other.n_rows;
        self.n_tokens += other.n_tokens;
        self.n_own += other.n_own;
        self.n_guidance += other.n_guidance;
        self.n_entropy += other.n_entropy;
        if self.entropy_threshold != other.entropy_threshold {
            self.entropy_threshold = None;
        }
    }
}

/// Tokens of one row by role.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct RowCounts {
    pub(crate) own: usize,
    pub(crate) guidance: usize,
}

impl RowCounts {
    pub(crate) fn of(roles: &[Role]) -> Self {
        // Sums of bytes over pieces that cannot overflow them compile to vector code.
        let count = |wanted: Role| -> usize {
            (roles.chunks(255))
                .map(|piece| piece.iter().map(|&r| u8::from(r == wanted)).sum::<u8>())
                .map(usize::from)
                .sum()
        };
        let (own, guidance) = (count(Role::Own), count(Role::Guidance));
        Self { own, guidance }
    }

    /// The row's contribution to denominators.
    pub(crate) fn normalizer(self, config: &LossConfig) -> usize {
        match config.length_normalizer {
            LengthNormalizer::InLoss => {
                self.own + config.guidance_token_loss.n_in_policy_term(self.guidance)
            }
            LengthNormalizer::Own => self.own,
            LengthNormalizer::Completion => self.own + self.guidance,
        }
    }
}

/// Linearly interpolated quantile; `None` of nothing. Sorts its input.
pub(crate) fn quantile(values: &mut [f64], q: f64) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let last = values.len().checked_sub(1)?;
    let place = q * last as f64;
    let below = place.floor();
    let low = values[below as usize];
    let high = values[(below as usize + 1).min(last)];
    Some(low + (place - below) * (high - low))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::GuidanceTokenLoss;

    fn roles() -> Ragged<Role> {
        use Role::{Guidance, Own, Prompt};
        Ragged::from_rows([vec![Guidance, Guidance, Own, Prompt, Own], vec![Own]])
    }

    #[test]
    fn normalizers_count_what_they_say() {
        use GuidanceTokenLoss::{Masked, SameAdvantage, TopEntropy};
        use LengthNormalizer::{Completion, InLoss, Own};
        for (treatment, normalizer, n_tokens) in [
            (Masked, InLoss, 3.0),
            (SameAdvantage, InLoss, 5.0),
            (SameAdvantage, Own, 3.0),
            (Masked, Completion, 5.0),
            (TopEntropy { fraction: 0.5 }, InLoss, 4.0),
        ] {
            let config = LossConfig {
                guidance_token_loss: treatment,
                length_normalizer: normalizer,
                ..LossConfig::default()
            };
            let totals = BatchTotals::of(&roles(), None, &config).unwrap();
            assert_eq!(totals.n_tokens, n_tokens, "{treatment:?} {normalizer:?}");
        }
    }

    #[test]
    fn truncated_rows_count_as_rows_only() {
        let config = LossConfig {
            mask_truncated_completions: true,
            ..LossConfig::default()
        };
        let totals = BatchTotals::of(&roles(), Some(&[true, false]), &config).unwrap();
        assert_eq!((totals.n_rows, totals.n_tokens), (2.0, 1.0));
        let err = BatchTotals::of(&roles(), Some(&[true]), &config).unwrap_err();
        assert_eq!(err.to_string(), "truncated: expected length 2, got 1");
    }

    #[test]
    fn quantiles_interpolate() {
        // NumPy: np.quantile([1, 2, 4, 8], [0, .5, .8, 1]) = [1, 3, 5.6, 8].
        let mut values = [8.0, 1.0, 4.0, 2.0];
        for (q, expected) in [(0.0, 1.0), (0.5, 3.0), (0.8, 5.6), (1.0, 8.0)] {
            let got = quantile(&mut values, q).unwrap();
            assert!((got - expected).abs() < 1e-12, "{q}: {got}");
        }
        assert_eq!(quantile(&mut [], 0.5), None);
    }

    #[test]
    fn thresholds_of_parts_do_not_merge() {
        let with = |threshold| BatchTotals {
            entropy_threshold: Some(threshold),
            ..BatchTotals::default()
        };
        let mut a = with(0.5);
        a += a;
        assert_eq!(a.entropy_threshold, Some(0.5));
        a += with(0.6);
        assert_eq!(a.entropy_threshold, None);
    }
}
