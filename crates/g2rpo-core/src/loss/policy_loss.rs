//! The loss of some rows of a batch: what is checked, and in which order the terms are taken.

use super::row::{RowPass, Scratch};
use crate::choices::LossType;
use crate::config::LossConfig;
use crate::error::{Error, Result, check_finite};
use crate::exp::sum;
use crate::kl::KlPlacement;
use crate::learner::TokenGrads;
use crate::metrics::LossMetrics;
use crate::ragged::Ragged;
use crate::settings::NON_NEGATIVE;
use crate::streams::TokenStreams;
use crate::totals::BatchTotals;

/// What [`policy_loss`] returns.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct PolicyLoss {
    /// The rows' share of the loss, to be minimised. Shares of all rows of a step add up to its
    /// loss.
    pub loss: f64,
    /// ∂loss/∂logp, in the shape of the streams; exactly 0 for tokens outside the loss.
    pub grad_logp: Ragged<f64>,
    /// ∂loss/∂entropy; `None` when `entropy_coef` is 0.
    pub grad_entropy: Option<Ragged<f64>>,
    /// Statistics of these rows.
    pub metrics: LossMetrics,
}

impl PolicyLoss {
    /// The gradients in the form that [`crate::Learner::accumulate`] takes.
    pub fn into_grads(self) -> TokenGrads {
        TokenGrads {
            logp: self.grad_logp,
            entropy: self.grad_entropy,
        }
    }
}

/// The loss of some rows of a batch and its derivative with respect to every log-probability and
/// entropy.
///
/// Per token of the policy term, with `r` the importance ratio, `A` the advantage of the row or of
/// the token:
/// `L = surrogate(r, A) · off_policy_mask · top_entropy_mask · mismatch_weight · token_weight + beta · kl`,
/// summed with the weights of [`crate::Aggregation`], then guidance terms, then
/// `− entropy_coef · mean(entropy)`. This is the order of TRL 1.16's `_compute_loss`.
///
/// Derivatives follow torch's conventions: a ratio exactly at a clip bound is not clipped; no
/// gradient flows through masks, mismatch weights and the detached factors of each loss.
///
/// # Errors
/// Errors of [`LossConfig::check`] and [`TokenStreams::check`]; [`Error::Conflict`] for advantages or
/// weights of single tokens under a loss that has one per sequence; [`Error::Missing`] if a stream or
/// total that the configuration needs is absent; [`Error::NoTokens`] if `totals` say that nothing
/// of the batch is in the loss; [`Error::NotFinite`] or [`Error::Overflow`] naming row and token of
/// a value in the loss that is NaN, infinite or too large.
///
/// ```
/// use g2rpo_core::{policy_loss, BatchTotals, LossConfig, Ragged, Role, TokenStreams};
/// // Two completions of one token, on policy (r = 1), advantages +1 and −1.
/// let streams = TokenStreams::new(
///     Ragged::from_rows([[Role::Own], [Role::Own]]),
///     Ragged::from_rows([[-0.7], [-1.2]]),
///     vec![1.0, -1.0],
/// )?;
/// let config = LossConfig::default();
/// let totals = BatchTotals::of(&streams.roles, None, &config)?;
/// let whole = policy_loss(&streams, &config, &totals)?;
/// assert_eq!(whole.loss, 0.0); // −(1 − 1)/2
/// assert_eq!(whole.grad_logp.values(), [-0.5, 0.5]); // −r·A/2
/// // Any split adds up.
/// let first = policy_loss(&streams.select(&[0]), &config, &totals)?;
/// assert_eq!(first.loss, -0.5);
/// # Ok::<(), g2rpo_core::Error>(())
/// ```
pub fn policy_loss(
    streams: &TokenStreams,
    config: &LossConfig,
    totals: &BatchTotals,
) -> Result<PolicyLoss> {
    config.check()?;
    streams.check()?;
    check_inputs(streams, config, totals)?;
    let mut grad_logp = streams.logp.zeros_like();
    let mut grad_entropy = (config.entropy_coef != 0.0).then(|| streams.logp.zeros_like());
    let mut metrics = LossMetrics::default();
    let mut scratch = Scratch::default();
    for row in 0..streams.n_rows() {
        let pass = RowPass::new(streams, config, totals, row);
        let policy = pass.run(&mut scratch, grad_logp.row_mut(row), &mut metrics)?;
        metrics.policy_loss += policy;
        metrics.loss += policy;
        if let Some(grad) = &mut grad_entropy {
            metrics.loss += pass.entropy_bonus(grad.row_mut(row));
        }
        if !metrics.loss.is_finite() {
            return Err(pass.not_finite("sum of losses up to the row", 0, metrics.loss));
        }
    }
    Ok(PolicyLoss {
        loss: metrics.loss,
        grad_logp,
        grad_entropy,
        metrics,
    })
}

fn check_inputs(streams: &TokenStreams, config: &LossConfig, totals: &BatchTotals) -> Result<()> {
    if streams.logp_ref.is_none()
        && config.needs_reference()
        && config.kl_placement == KlPlacement::Loss
    {
        return Err(Error::Missing {
            what: "logp_ref",
            why: "beta is not 0",
        });
    }
    if streams.entropy.is_none() && config.needs_entropy() {
        return Err(Error::Missing {
            what: "entropy",
            why: "entropy_coef, top_entropy_quantile or guidance_token_loss = top_entropy uses it",
        });
    }
    if streams.logp_sampling.is_none() && config.importance_sampling_correction.is_some() {
        return Err(Error::Missing {
            what: "logp_sampling",
            why: "importance_sampling_correction uses it",
        });
    }
    if totals.entropy_threshold.is_none() && config.top_entropy_quantile < 1.0 {
        return Err(Error::Missing {
            what: "BatchTotals::entropy_threshold",
            why: "top_entropy_quantile is below 1; call BatchTotals::with_entropies on the whole batch",
        });
    }
    if streams.token_advantages.is_some() {
        config.check_token_advantages()?;
    }
    if streams.token_weights.is_some() && config.loss_type == LossType::Gmpo {
        return Err(Error::Conflict {
            first: "token_weights",
            second: "loss_type = gmpo",
            why: "the loss has one value per sequence; use another loss",
        });
    }
    for (name, value) in [
        ("BatchTotals::n_rows", totals.n_rows),
        ("BatchTotals::n_tokens", totals.n_tokens),
        ("BatchTotals::n_own", totals.n_own),
        ("BatchTotals::n_guidance", totals.n_guidance),
        ("BatchTotals::n_entropy", totals.n_entropy),
    ] {
        NON_NEGATIVE.check(name, value)?;
    }
    let supervised = config.guidance_token_loss.supervised_coef() > 0.0 && totals.n_guidance > 0.0;
    if streams.n_rows() > 0 && totals.n_tokens == 0.0 && !supervised {
        return Err(Error::NoTokens {
            rows: totals.n_rows,
        });
    }
    for (row, &advantage) in streams.advantages.iter().enumerate() {
        check_finite("advantages", row, 0, advantage)?;
    }
    Ok(())
}

impl RowPass<'_> {
    /// Adds the row's gradient and statistics and returns its share of the policy loss.
    fn run(
        &self,
        scratch: &mut Scratch,
        grad: &mut [f64],
        metrics: &mut LossMetrics,
    ) -> Result<f64> {
        scratch.n_policy = self.fill_mask(&mut scratch.mask);
        let has_policy_term = scratch.n_policy > 0.0;
        if has_policy_term {
            self.fill_log_ratio(scratch)?;
            self.check_entropies(&scratch.mask)?;
        }
        self.fill_advantage(scratch)?;
        scratch.level = self.level(scratch)?;
        scratch.row_weight = self.fill_weights(scratch, metrics)?;
        if has_policy_term {
            self.surrogate(scratch, metrics)?;
            self.kl_term(scratch, metrics)?;
            self.ratio_metrics(scratch, metrics);
        } else {
            self.empty_row_metrics(metrics);
        }
        let aggregation = self.totals.row_weight(self.counts, self.config);
        let mut loss = 0.0;
        let mut is_finite = true;
        if has_policy_term {
            loss += aggregation * sum(&scratch.value);
            for (grad, slope) in grad.iter_mut().zip(&scratch.slope) {
                *grad = aggregation * slope;
                is_finite &= grad.abs() <= f64::MAX;
            }
        }
        if self.counts.guidance > 0 && !self.is_masked {
            loss += self.guidance_terms(aggregation * scratch.row_weight, grad)?;
        }
        if self.totals.n_guidance > 0.0 && !self.is_masked {
            self.guidance_metrics(scratch, grad, metrics);
        }
        // Finite streams, but a product beyond f64: an advantage of 1e308, say.
        if !(is_finite && loss.is_finite()) {
            return Err(self.not_finite("loss or gradient of the row", 0, loss));
        }
        Ok(loss)
    }
}
