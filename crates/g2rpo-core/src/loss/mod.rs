//! The policy loss, row by row: ratios, surrogate, weights, KL, guidance, entropy, aggregation.

mod kl_term;
mod ratio;
mod surrogate;
mod weights;

use crate::exp::{map_into, sum, sum_of};
use crate::guidance::top_entropy_guidance;
use crate::totals::RowCounts;
use crate::{
    BatchTotals, Error, GuidanceTokenLoss, KlPlacement, LossConfig, LossMetrics, Ragged, Result,
    Role, TokenGrads, TokenStreams,
};
use ratio::Ratio;

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
/// Per token of the policy term, with `r` the importance ratio, `A` the row's advantage:
/// `L = surrogate(r, A) · off_policy_mask · top_entropy_mask · mismatch_weight + beta · kl`, summed
/// with the weights of [`crate::Aggregation`], then guidance terms, then
/// `− entropy_coef · mean(entropy)`. This is the order of TRL 1.16's `_compute_loss`.
///
/// Derivatives follow torch's conventions: a ratio exactly at a clip bound is not clipped; no
/// gradient flows through masks, mismatch weights and the detached factors of each loss.
///
/// # Errors
/// Errors of [`LossConfig::check`] and [`TokenStreams::check`]; [`Error::Missing`] if a stream or
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
    for (name, value) in [
        ("BatchTotals::n_rows", totals.n_rows),
        ("BatchTotals::n_tokens", totals.n_tokens),
        ("BatchTotals::n_own", totals.n_own),
        ("BatchTotals::n_guidance", totals.n_guidance),
        ("BatchTotals::n_entropy", totals.n_entropy),
    ] {
        if !(value.is_finite() && value >= 0.0) {
            return crate::config::domain(name, value, "[0, inf)");
        }
    }
    let supervised = config.guidance_token_loss.supervised_coef() > 0.0 && totals.n_guidance > 0.0;
    if streams.n_rows() > 0 && totals.n_tokens == 0.0 && !supervised {
        return Err(Error::NoTokens {
            rows: totals.n_rows,
        });
    }
    for (row, &advantage) in streams.advantages.iter().enumerate() {
        if !advantage.is_finite() {
            return Err(Error::NotFinite {
                what: "advantages",
                row,
                position: 0,
                value: advantage,
            });
        }
    }
    Ok(())
}

/// Buffers of one row, reused from row to row.
#[derive(Debug, Default)]
struct Scratch {
    /// 1 for tokens of the policy term, else 0.
    mask: Vec<f64>,
    /// Masked `logp − logp_old`, clamped.
    log_ratio: Vec<f64>,
    /// 0 where the clamp stops the gradient; empty without clamp.
    flow: Vec<f64>,
    /// Importance ratio per token; empty at sequence level.
    ratio: Vec<f64>,
    /// Detached token weights; empty where all are 1.
    weight: Vec<f64>,
    /// Token losses.
    value: Vec<f64>,
    /// Derivatives of the row's summed token losses.
    slope: Vec<f64>,
    /// KL per token.
    kl: Vec<f64>,
    /// Derivatives of KL.
    kl_slope: Vec<f64>,
}

/// One row and everything it is judged by.
struct RowPass<'a> {
    streams: &'a TokenStreams,
    config: &'a LossConfig,
    totals: &'a BatchTotals,
    row: usize,
    roles: &'a [Role],
    logp: &'a [f64],
    advantage: f64,
    counts: RowCounts,
    is_masked: bool,
}

impl<'a> RowPass<'a> {
    fn new(
        streams: &'a TokenStreams,
        config: &'a LossConfig,
        totals: &'a BatchTotals,
        row: usize,
    ) -> Self {
        let roles = streams.roles.row(row);
        Self {
            streams,
            config,
            totals,
            row,
            roles,
            logp: streams.logp.row(row),
            advantage: streams.advantages[row],
            counts: RowCounts::of(roles),
            is_masked: streams.is_masked_row(row, config),
        }
    }

    /// Adds the row's gradient and statistics and returns its share of the policy loss.
    fn run(
        &self,
        scratch: &mut Scratch,
        grad: &mut [f64],
        metrics: &mut LossMetrics,
    ) -> Result<f64> {
        let n_policy = self.fill_mask(&mut scratch.mask);
        if n_policy > 0.0 {
            self.fill_log_ratio(scratch)?;
            self.check_entropies(&scratch.mask)?;
        }
        let ratio = Ratio::of(self, scratch, n_policy)?;
        let row_weight = self.fill_weights(scratch, metrics)?;
        if n_policy == 0.0 {
            self.empty_row_metrics(metrics);
        } else {
            self.surrogate(scratch, ratio, n_policy, row_weight, metrics)?;
            self.kl_term(scratch, ratio, n_policy, metrics)?;
            self.ratio_metrics(scratch, ratio, n_policy, metrics);
        }
        let aggregation = self.totals.row_weight(self.counts, self.config);
        let mut loss = 0.0;
        let mut is_finite = true;
        if n_policy > 0.0 {
            loss += aggregation * sum(&scratch.value);
            for (grad, slope) in grad.iter_mut().zip(&scratch.slope) {
                *grad = aggregation * slope;
                is_finite &= grad.abs() <= f64::MAX;
            }
        }
        if self.counts.guidance > 0 && !self.is_masked {
            loss += self.guidance_terms(aggregation * row_weight, grad)?;
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

    /// Marks the tokens of the policy term and counts them.
    fn fill_mask(&self, mask: &mut Vec<f64>) -> f64 {
        if self.is_masked {
            map_into(mask, self.roles, |_| 0.0);
            return 0.0;
        }
        let like_own = match self.config.guidance_token_loss {
            GuidanceTokenLoss::SameAdvantage => true,
            GuidanceTokenLoss::PositiveOnly => self.advantage > 0.0,
            GuidanceTokenLoss::Masked
            | GuidanceTokenLoss::Supervised { .. }
            | GuidanceTokenLoss::Shaped { .. }
            | GuidanceTokenLoss::Trust { .. }
            | GuidanceTokenLoss::TopEntropy { .. } => false,
        };
        if like_own {
            map_into(mask, self.roles, |r| f64::from(u8::from(r != Role::Prompt)));
            return (self.counts.own + self.counts.guidance) as f64;
        }
        map_into(mask, self.roles, |r| f64::from(u8::from(r == Role::Own)));
        let mut n_policy = self.counts.own;
        if let (treatment @ GuidanceTokenLoss::TopEntropy { .. }, Some(entropy)) =
            (self.config.guidance_token_loss, &self.streams.entropy)
        {
            let n_kept = treatment.n_in_policy_term(self.counts.guidance);
            for token in top_entropy_guidance(self.roles, entropy.row(self.row), n_kept) {
                mask[token] = 1.0;
                n_policy += 1;
            }
        }
        n_policy as f64
    }

    fn check_entropies(&self, mask: &[f64]) -> Result<()> {
        let Some(entropy) = &self.streams.entropy else {
            return Ok(());
        };
        let entropy = entropy.row(self.row);
        let ranks_guidance = matches!(
            self.config.guidance_token_loss,
            GuidanceTokenLoss::TopEntropy { .. }
        );
        let in_use = |t: usize| match self.roles[t] {
            Role::Prompt => false,
            Role::Own => true,
            Role::Guidance => {
                ranks_guidance || (mask[t] > 0.0 && self.config.top_entropy_quantile < 1.0)
            }
        };
        match (0..entropy.len()).find(|&t| in_use(t) && !entropy[t].is_finite()) {
            None => Ok(()),
            Some(position) => Err(self.not_finite("entropy", position, entropy[position])),
        }
    }

    /// Guidance tokens that are neither masked nor treated like own tokens: adds their gradient,
    /// returns their share of the loss. `policy_weight` is the row's weight in the policy term.
    fn guidance_terms(&self, policy_weight: f64, grad: &mut [f64]) -> Result<f64> {
        let treatment = self.config.guidance_token_loss;
        let weight = match treatment {
            GuidanceTokenLoss::Shaped { .. } => policy_weight,
            GuidanceTokenLoss::Supervised { .. } | GuidanceTokenLoss::Trust { .. } => {
                1.0 / self.totals.n_guidance.max(1.0)
            }
            GuidanceTokenLoss::Masked
            | GuidanceTokenLoss::SameAdvantage
            | GuidanceTokenLoss::PositiveOnly
            | GuidanceTokenLoss::TopEntropy { .. } => return Ok(0.0),
        };
        let mut loss = 0.0;
        for (position, &role) in self.roles.iter().enumerate() {
            if role != Role::Guidance {
                continue;
            }
            let logp = self.logp[position];
            if !logp.is_finite() {
                return Err(self.not_finite("logp", position, logp));
            }
            let Some((value, slope)) = treatment.token_term(logp, self.advantage) else {
                continue;
            };
            if !(value.is_finite() && slope.is_finite()) {
                return Err(Error::Overflow {
                    what: "logp of guidance",
                    row: self.row,
                    position,
                    value: logp,
                });
            }
            loss += weight * value;
            grad[position] = weight * slope;
        }
        Ok(loss)
    }

    /// Adds ∂loss/∂entropy, returns the bonus's share of the loss.
    fn entropy_bonus(&self, grad: &mut [f64]) -> f64 {
        let Some(entropy) = &self.streams.entropy else {
            return 0.0;
        };
        if self.is_masked || self.totals.n_entropy == 0.0 {
            return 0.0;
        }
        let per_token = -self.config.entropy_coef / self.totals.n_entropy;
        let threshold = self.totals.entropy_threshold.unwrap_or(f64::NEG_INFINITY);
        let mut sum = 0.0;
        for (t, &value) in entropy.row(self.row).iter().enumerate() {
            if self.roles[t] == Role::Own && value >= threshold {
                grad[t] = per_token;
                sum += value;
            }
        }
        per_token * sum
    }

    fn guidance_metrics(&self, scratch: &Scratch, grad: &[f64], metrics: &mut LossMetrics) {
        let total = sum_of(grad, f64::abs);
        let mut guidance = 0.0;
        for (t, &role) in self.roles.iter().enumerate() {
            match role {
                Role::Own => metrics.own_logp.push(self.logp[t]),
                Role::Guidance if grad[t] != 0.0 || scratch.mask[t] > 0.0 => {
                    guidance += grad[t].abs();
                    metrics.guidance_logp.push(self.logp[t]);
                    let negative = scratch.mask[t] > 0.0 && self.advantage < 0.0;
                    (metrics.guidance_negative).push(f64::from(u8::from(negative)));
                }
                Role::Guidance | Role::Prompt => {}
            }
        }
        metrics.guidance_gradient += guidance;
        metrics.own_gradient += total - guidance;
    }

    fn not_finite(&self, what: &'static str, position: usize, value: f64) -> Error {
        Error::NotFinite {
            what,
            row: self.row,
            position,
            value,
        }
    }
}
