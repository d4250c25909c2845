//! The configured KL of a token, and the penalty of a row.

use crate::config::LossConfig;
use crate::error::{Error, Result, check_finite};
use crate::exp::{EXP_MAX, max, min};
use crate::kl::{KlEstimator, KlGradient};
use crate::ragged::Ragged;
use crate::sequences::Role;

/// KL of every sequence to the reference for [`crate::KlPlacement::Reward`]: the sum of the estimator over
/// its own tokens. `beta` times it is to be subtracted from the sequence's reward before advantages
/// are formed, as in verl's `apply_kl_penalty`; [`crate::policy_loss`] then adds no KL.
///
/// `logp` is the policy that sampled (usually `logp_old`), so there is no importance ratio, and
/// [`LossConfig::use_bias_correction_kl`] has nothing to correct. Guidance tokens and holes do not
/// count: the policy did not choose them. The clamps of the configuration apply.
///
/// # Errors
/// [`Error::Length`] or [`Error::Row`] if the streams do not align; [`Error::NotFinite`] or
/// [`Error::Overflow`] naming the token.
///
/// ```
/// use g2rpo_core::{kl_penalties, KlEstimator, LossConfig, Ragged, Role};
/// let roles = Ragged::from_rows([vec![Role::Guidance, Role::Own, Role::Own]]);
/// let logp = Ragged::from_rows([vec![-9.0, -1.0, -2.0]]);
/// let logp_ref = Ragged::from_rows([vec![-1.0, -1.5, -2.25]]);
/// let config = LossConfig { kl_estimator: KlEstimator::K1, ..LossConfig::default() };
/// assert_eq!(kl_penalties(&roles, &logp, &logp_ref, &config)?, [0.75]);
/// # Ok::<(), g2rpo_core::Error>(())
/// ```
pub fn kl_penalties(
    roles: &Ragged<Role>,
    logp: &Ragged<f64>,
    logp_ref: &Ragged<f64>,
    config: &LossConfig,
) -> Result<Vec<f64>> {
    config.check()?;
    logp.check_shape("logp", roles)?;
    logp_ref.check_shape("logp_ref", roles)?;
    let mut penalties = Vec::with_capacity(roles.n_rows());
    for (row, roles) in roles.rows().enumerate() {
        let mut sum = 0.0;
        for (position, role) in roles.iter().enumerate() {
            if *role != Role::Own {
                continue;
            }
            let (p, q) = (logp.row(row)[position], logp_ref.row(row)[position]);
            check_finite("logp", row, position, p)?;
            check_finite("logp_ref", row, position, q)?;
            check_exponent(config, q - p, row, position)?;
            sum += estimate(config, q - p).value;
            check_finite("sum of kl", row, position, sum)?;
        }
        penalties.push(sum);
    }
    Ok(penalties)
}

/// The KL term of one token before any importance ratio.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Estimate {
    /// Clamped value.
    pub(crate) value: f64,
    /// Derivative with respect to `logp`.
    pub(crate) grad: f64,
    /// Derivative of the value times a factor whose own derivative is the factor: an importance
    /// ratio, or the probability in an expectation. The score-function gradient.
    pub(crate) with_score: f64,
}

/// The configured estimator at `d = logp_ref − logp`.
///
/// Where a clamp acts on the value, the term is a constant that says nothing of the direction to the
/// reference: neither it nor the factor it is multiplied by sends a gradient. (A factor that did
/// would push down whatever has the clamped value, the farthest below the reference first.) The k2
/// gradient belongs to no value: it knows of no clamp, and a factor only scales it.
#[inline(always)]
pub(crate) fn estimate(config: &LossConfig, d: f64) -> Estimate {
    let limit = config.kl_log_ratio_clamp.unwrap_or(f64::INFINITY);
    let inside = d.abs() <= limit;
    let (value, grad, with_score) = config.kl_estimator.of(min(max(d, -limit), limit));
    let cap = config.kl_clamp.unwrap_or(f64::INFINITY);
    let flows = inside & (value.abs() <= cap);
    let value = min(max(value, -cap), cap);
    match config.kl_gradient {
        KlGradient::Value | KlGradient::ScoreFunction => Estimate {
            value,
            grad: if flows { grad } else { 0.0 },
            with_score: if flows { with_score } else { 0.0 },
        },
        KlGradient::K2 => Estimate {
            value,
            grad: -d,
            with_score: -d,
        },
    }
}

/// Refuses a `d` whose exponential overflows, where the estimator takes one.
pub(crate) fn check_exponent(
    config: &LossConfig,
    d: f64,
    row: usize,
    position: usize,
) -> Result<()> {
    if config.kl_estimator == KlEstimator::K3 && config.kl_log_ratio_clamp.is_none() && d > EXP_MAX
    {
        return Err(Error::Overflow {
            what: "logp_ref - logp",
            row,
            position,
            value: d,
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use approx::assert_relative_eq;

    #[test]
    fn clamps_stop_value_and_gradient() {
        let config = LossConfig {
            kl_log_ratio_clamp: Some(20.0),
            kl_clamp: Some(10.0),
            ..LossConfig::default()
        };
        let far = estimate(&config, 800.0);
        assert_eq!((far.value, far.grad, far.with_score), (10.0, 0.0, 0.0));
        let near = estimate(&config, -5.0);
        assert_relative_eq!(near.value, (-5f64).exp() + 4.0, max_relative = 1e-15);
        assert_eq!(near.with_score, 5.0);
    }
}
