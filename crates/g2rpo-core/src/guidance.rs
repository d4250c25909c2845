//! What guidance tokens contribute to the loss.

use crate::error::Result;
use crate::sequences::Role;
use crate::settings::{NON_NEGATIVE, POSITIVE, POSITIVE_SHARE, SHARE};

/// What guidance tokens contribute to the loss. Nobody sampled them, so no choice is an importance
/// weight towards the expert; `docs/algorithm.md` discusses what each does to the gradient.
///
/// `π` is the current probability of the token, `A` the advantage of its sequence.
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "snake_case")
)]
pub enum GuidanceTokenLoss {
    /// Nothing: guidance is context.
    Masked,
    /// Treated as the policy's own tokens (G²RPO-A, arXiv 2508.13023): same advantage, ratio, KL.
    SameAdvantage,
    /// As `SameAdvantage` where the advantage is positive, nothing elsewhere, so that a failed
    /// rollout does not unlearn the solution. The tokens count in the denominators either way.
    PositiveOnly,
    /// `coef ·` mean negative log-likelihood over the guidance tokens of the batch, whatever the
    /// advantage (UFT, arXiv 2505.16984, uses 0.001).
    Supervised {
        /// Weight of the mean.
        coef: f64,
    },
    /// `−A·π/(π+gamma)`, no ratio, clip or KL (LUFFY, arXiv 2504.14945, uses 0.1). The factor on
    /// `∇logπ` is `A·π·gamma/(π+gamma)²`.
    Shaped {
        /// Where the weight turns down.
        gamma: f64,
    },
    /// Supervised with `∇logπ` scaled by `min(1, π/alpha)` (TrSFT of TRAPO, arXiv 2512.17636, uses
    /// alpha 0.1): the loss is `−ln π` from `alpha` up and its tangent `1 − π/alpha − ln alpha`
    /// below; `coef ·` mean over the guidance tokens of the batch.
    Trust {
        /// Probability below which the gradient is scaled down.
        alpha: f64,
        /// Weight of the mean; TRAPO uses 1.
        coef: f64,
    },
    /// As `SameAdvantage`, but only for the `⌈fraction · n⌉` guidance tokens of highest entropy of
    /// each sequence (Prefix-RFT, arXiv 2507.01679, uses 0.2); of equal entropies the earlier
    /// token is kept. Needs the entropy stream.
    TopEntropy {
        /// Share of the sequence's guidance tokens that is kept.
        fraction: f64,
    },
}

impl GuidanceTokenLoss {
    /// How many of `n_guidance` guidance tokens of one sequence enter the policy term and hence
    /// the denominators under [`crate::LengthNormalizer::InLoss`].
    ///
    /// ```
    /// use g2rpo_core::GuidanceTokenLoss as G;
    /// assert_eq!(G::Masked.n_in_policy_term(10), 0);
    /// assert_eq!(G::SameAdvantage.n_in_policy_term(10), 10);
    /// assert_eq!(G::TopEntropy { fraction: 0.25 }.n_in_policy_term(10), 3);
    /// ```
    pub fn n_in_policy_term(self, n_guidance: usize) -> usize {
        match self {
            Self::Masked | Self::Supervised { .. } | Self::Trust { .. } => 0,
            Self::SameAdvantage | Self::PositiveOnly | Self::Shaped { .. } => n_guidance,
            Self::TopEntropy { fraction } => {
                // Rounding noise in `fraction · n` must not push a whole number up by one.
                ((fraction * n_guidance as f64 - 1e-9).ceil().max(0.0) as usize).min(n_guidance)
            }
        }
    }

    /// Weight of the supervised mean over the guidance tokens of the batch, 0 for the treatments
    /// that have none.
    pub(crate) fn supervised_coef(self) -> f64 {
        match self {
            Self::Supervised { coef } | Self::Trust { coef, .. } => coef,
            Self::Masked
            | Self::SameAdvantage
            | Self::PositiveOnly
            | Self::Shaped { .. }
            | Self::TopEntropy { .. } => 0.0,
        }
    }

    /// Value and derivative with respect to `logp` of one guidance token, before aggregation.
    /// `None` where the token is treated like an own token or not at all.
    pub(crate) fn token_term(self, logp: f64, advantage: f64) -> Option<(f64, f64)> {
        match self {
            Self::Masked | Self::SameAdvantage | Self::PositiveOnly | Self::TopEntropy { .. } => {
                None
            }
            Self::Supervised { coef } => Some((-coef * logp, -coef)),
            Self::Shaped { gamma } => {
                let p = logp.exp();
                let f = p / (p + gamma);
                Some((-advantage * f, -advantage * f * gamma / (p + gamma)))
            }
            Self::Trust { alpha, coef } => {
                let p = logp.exp();
                if p >= alpha {
                    Some((-coef * logp, -coef))
                } else {
                    Some((coef * (1.0 - p / alpha - alpha.ln()), -coef * p / alpha))
                }
            }
        }
    }

    pub(crate) fn check(self) -> Result<()> {
        NON_NEGATIVE.check("guidance_token_loss.coef", self.supervised_coef())?;
        match self {
            Self::Masked | Self::SameAdvantage | Self::PositiveOnly | Self::Supervised { .. } => {
                Ok(())
            }
            Self::Shaped { gamma } => POSITIVE.check("guidance_token_loss.gamma", gamma),
            Self::Trust { alpha, .. } => POSITIVE_SHARE.check("guidance_token_loss.alpha", alpha),
            Self::TopEntropy { fraction } => SHARE.check("guidance_token_loss.fraction", fraction),
        }
    }
}

/// Marks the guidance tokens of one row that the top-entropy treatment keeps.
pub(crate) fn top_entropy_guidance(roles: &[Role], entropy: &[f64], n_kept: usize) -> Vec<usize> {
    let mut tokens: Vec<usize> = (0..roles.len())
        .filter(|&t| roles[t] == Role::Guidance)
        .collect();
    tokens.sort_by(|&a, &b| entropy[b].total_cmp(&entropy[a]).then(a.cmp(&b)));
    tokens.truncate(n_kept);
    tokens
}

#[cfg(test)]
mod tests {
    use super::*;
    use approx::assert_relative_eq;

    #[test]
    fn trust_is_continuous_at_alpha() {
        let treatment = GuidanceTokenLoss::Trust {
            alpha: 0.1,
            coef: 1.0,
        };
        let at = |p: f64| treatment.token_term(p.ln(), 1.0).unwrap();
        assert_relative_eq!(at(0.1 - 1e-12).0, at(0.1).0, epsilon = 1e-9);
        assert_relative_eq!(at(0.1 - 1e-12).1, at(0.1).1, epsilon = 1e-9);
    }

    #[test]
    fn shaped_gives_the_published_factor() {
        // LUFFY: the factor on ∇logπ is A·π·γ/(π+γ)²; π = γ gives A/4.
        let (value, grad) = GuidanceTokenLoss::Shaped { gamma: 0.1 }
            .token_term(0.1f64.ln(), 2.0)
            .unwrap();
        assert_relative_eq!(value, -1.0, max_relative = 1e-14);
        assert_relative_eq!(grad, -0.5, max_relative = 1e-14);
    }

    #[test]
    fn a_whole_share_is_not_rounded_up() {
        for (fraction, n, kept) in [
            (0.2, 5, 1),
            (0.1, 10, 1),
            (0.3, 10, 3),
            (0.0, 4, 0),
            (1.0, 4, 4),
        ] {
            let treatment = GuidanceTokenLoss::TopEntropy { fraction };
            assert_eq!(treatment.n_in_policy_term(n), kept);
        }
    }

    #[test]
    fn of_equal_entropies_the_earlier_token_is_kept() {
        use Role::{Guidance, Own};
        let roles = [Guidance, Guidance, Guidance, Own];
        let kept = top_entropy_guidance(&roles, &[0.5, 1.0, 0.5, 9.0], 2);
        assert_eq!(kept, [1, 0]);
    }
}
