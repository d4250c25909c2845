//! Estimators of the divergence from the reference policy, and the penalty of a row.

use crate::config::LossConfig;
use crate::error::{Error, Result};
use crate::exp::EXP_MAX;
use crate::exp::{exp_minus, max, min};
use crate::names::named;
use crate::ragged::Ragged;
use crate::sequences::Role;

/// Per-token estimate of `KL(π ‖ π_ref)` from one sampled token, with `d = logp_ref − logp`.
/// Names are Schulman's ("Approximating KL Divergence", 2020).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KlEstimator {
    /// `−d`: unbiased, any sign. verl's `kl`.
    K1,
    /// `d²/2`: biased, its gradient is an unbiased KL gradient on policy. verl's `mse`.
    K2,
    /// `e^d − d − 1`: unbiased, never negative. TRL's and DeepSeekMath's; verl's `low_var_kl`.
    K3,
    /// `|d|`. verl's `abs`.
    Abs,
}

named!(KlEstimator, "kl_estimator": K1 = "k1", K2 = "k2", K3 = "k3", Abs = "abs");

/// Which gradient the KL term sends back, whatever its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KlGradient {
    /// The derivative of the value (TRL). For k3 this is not the gradient of the KL divergence.
    Value,
    /// The derivative of k2, `logp − logp_ref`: on policy an unbiased gradient of KL (verl's
    /// straight-through forms `k1+`, `k3+`). Bias correction multiplies it by the ratio; clamps,
    /// which are of the value, do not touch it.
    K2,
    /// The derivative of the value plus the value times `∇logp`: on policy the full gradient of
    /// the estimator's expectation (NeMo-RL).
    ScoreFunction,
}

named!(KlGradient, "kl_gradient": Value = "value", K2 = "k2", ScoreFunction = "score_function");

/// Where KL acts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KlPlacement {
    /// `+ beta · kl` per token of the loss.
    Loss,
    /// Subtracted from the reward before advantages are formed, see [`kl_penalties`]; the loss needs
    /// no reference and only reports KL if it is given one.
    Reward,
}

named!(KlPlacement, "kl_placement": Loss = "loss", Reward = "reward");

impl KlEstimator {
    /// Value and derivative with respect to `logp`.
    ///
    /// The derivative of [`KlEstimator::Abs`] at `logp == logp_ref` is 0, as in torch.
    /// `logp_ref − logp` above 709.78 gives an infinite k3; [`crate::policy_loss`] refuses that.
    ///
    /// ```
    /// use g2rpo_core::KlEstimator;
    /// let (logp, logp_ref) = (-1.0, -3.0); // d = −2
    /// assert_eq!(KlEstimator::K1.value_and_grad(logp, logp_ref), (2.0, 1.0));
    /// assert_eq!(KlEstimator::K2.value_and_grad(logp, logp_ref), (2.0, 2.0));
    /// let (k3, _) = KlEstimator::K3.value_and_grad(logp, logp_ref);
    /// assert!((k3 - 1.1353352832366128).abs() < 1e-15); // e⁻² + 2 − 1
    /// ```
    pub fn value_and_grad(self, logp: f64, logp_ref: f64) -> (f64, f64) {
        let d = logp_ref - logp;
        if self == Self::K3 && d > EXP_MAX {
            return (f64::INFINITY, f64::NEG_INFINITY);
        }
        let (value, grad, _) = self.of(d);
        (value, grad)
    }

    /// Value, its derivative with respect to `logp`, and the sum of both, of which no digit is lost
    /// where they cancel.
    #[inline(always)]
    pub(crate) fn of(self, d: f64) -> (f64, f64, f64) {
        match self {
            Self::K1 => (-d, 1.0, 1.0 - d),
            Self::K2 => (0.5 * d * d, -d, 0.5 * d * d - d),
            Self::K3 => {
                let (k, e) = exp_minus(d);
                (k, -e, -d)
            }
            Self::Abs => {
                let sign = if d > 0.0 {
                    -1.0
                } else if d < 0.0 {
                    1.0
                } else {
                    0.0
                };
                (d.abs(), sign, d.abs() + sign)
            }
        }
    }
}

/// KL of every sequence to the reference for [`KlPlacement::Reward`]: the sum of the estimator over
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
            match role {
                Role::Prompt | Role::Guidance => continue,
                Role::Own => {}
            }
            let (p, q) = (logp.row(row)[position], logp_ref.row(row)[position]);
            for (what, value) in [("logp", p), ("logp_ref", q)] {
                if !value.is_finite() {
                    return Err(Error::NotFinite {
                        what,
                        row,
                        position,
                        value,
                    });
                }
            }
            check_exponent(config, q - p, row, position)?;
            sum += estimate(config, q - p).value;
            if !sum.is_finite() {
                return Err(Error::NotFinite {
                    what: "sum of kl",
                    row,
                    position,
                    value: sum,
                });
            }
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

    const ALL: [KlEstimator; 4] = [
        KlEstimator::K1,
        KlEstimator::K2,
        KlEstimator::K3,
        KlEstimator::Abs,
    ];

    #[test]
    fn derivatives_agree_with_finite_differences() {
        for estimator in ALL {
            for d in [-3.0, -0.5, 1e-3, 0.7, 2.0] {
                let (logp, h) = (-1.0, 1e-6);
                let value = |x| estimator.value_and_grad(x, logp + d).0;
                let (_, grad) = estimator.value_and_grad(logp, logp + d);
                let difference = (value(logp + h) - value(logp - h)) / (2.0 * h);
                assert_relative_eq!(grad, difference, epsilon = 1e-8, max_relative = 1e-7);
            }
        }
    }

    #[test]
    fn expectations_over_a_distribution_are_the_divergence() {
        // Outside truth: Σ p ln(p/q) for p = (.5, .3, .2), q = (.2, .5, .3).
        let (p, q) = ([0.5f64, 0.3, 0.2], [0.2f64, 0.5, 0.3]);
        let kl: f64 = p.iter().zip(&q).map(|(p, q)| p * (p / q).ln()).sum();
        for estimator in [KlEstimator::K1, KlEstimator::K3] {
            let mean: f64 = (p.iter().zip(&q))
                .map(|(p, q)| p * estimator.value_and_grad(p.ln(), q.ln()).0)
                .sum();
            assert_relative_eq!(mean, kl, max_relative = 1e-12);
        }
    }

    #[test]
    fn the_k2_gradient_is_the_gradient_of_the_divergence() {
        // Softmax over two logits (x, 0): p = σ(x). Outside truth: d KL/dx by finite differences.
        let q = [0.3f64, 0.7];
        let probs = |x: f64| {
            let s = 1.0 / (1.0 + (-x).exp());
            [s, 1.0 - s]
        };
        let kl = |x: f64| -> f64 {
            (probs(x).iter().zip(&q))
                .map(|(p, q)| p * (p / q).ln())
                .sum()
        };
        let x = 3.0;
        let p = probs(x);
        let score = [1.0 - p[0], -p[0]]; // d ln p_i / dx
        let truth = (kl(x + 1e-6) - kl(x - 1e-6)) / 2e-6;
        let expected = |grad: &dyn Fn(usize) -> f64| -> f64 {
            (0..2).map(|i| p[i] * grad(i) * score[i]).sum()
        };
        let k2 = expected(&|i| p[i].ln() - q[i].ln());
        assert_relative_eq!(k2, truth, epsilon = 1e-8);
        for estimator in [KlEstimator::K1, KlEstimator::K3] {
            let full = expected(&|i| {
                let (value, grad) = estimator.value_and_grad(p[i].ln(), q[i].ln());
                value + grad
            });
            assert_relative_eq!(full, truth, epsilon = 1e-8);
        }
        // The trap that makes the gradient a choice of its own.
        let k3 = expected(&|i| KlEstimator::K3.value_and_grad(p[i].ln(), q[i].ln()).1);
        assert!((k3 - truth).abs() > 1e-2);
    }

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
