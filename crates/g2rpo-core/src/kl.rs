//! Estimators of the divergence from the reference policy.

use crate::exp::{EXP_MAX, exp_minus};
use crate::names::named;

named! {
    /// Per-token estimate of `KL(π ‖ π_ref)` from one sampled token, with `d = logp_ref − logp`.
    /// Names are Schulman's ("Approximating KL Divergence", 2020).
    pub enum KlEstimator: "kl_estimator" {
        /// `−d`: unbiased, any sign. verl's `kl`.
        K1 = "k1",
        /// `d²/2`: biased, its gradient is an unbiased KL gradient on policy. verl's `mse`.
        K2 = "k2",
        /// `e^d − d − 1`: unbiased, never negative. TRL's and DeepSeekMath's; verl's `low_var_kl`.
        K3 = "k3",
        /// `|d|`. verl's `abs`.
        Abs = "abs",
    }
}

named! {
    /// Which gradient the KL term sends back, whatever its value.
    pub enum KlGradient: "kl_gradient" {
        /// The derivative of the value (TRL). For k3 this is not the gradient of the KL divergence.
        Value = "value",
        /// The derivative of k2, `logp − logp_ref`: on policy an unbiased gradient of KL (verl's
        /// straight-through forms `k1+`, `k3+`). Bias correction multiplies it by the ratio; clamps,
        /// which are of the value, do not touch it.
        K2 = "k2",
        /// The derivative of the value plus the value times `∇logp`: on policy the full gradient of
        /// the estimator's expectation (NeMo-RL).
        ScoreFunction = "score_function",
    }
}

named! {
    /// Where KL acts.
    pub enum KlPlacement: "kl_placement" {
        /// `+ beta · kl` per token of the loss.
        Loss = "loss",
        /// Subtracted from the reward before advantages are formed, see [`crate::kl_penalties`]; the loss needs
        /// no reference and only reports KL if it is given one.
        Reward = "reward",
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;
    use approx::assert_relative_eq;

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
}
