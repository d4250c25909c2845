//! RLCSD: what a right hint makes likelier than wrong hints do moves the advantage of a token.

use super::stream::{check_advantages, known};
use crate::error::{Result, check_len};
use crate::ragged::Ragged;
use crate::sequences::Role;
use crate::settings::{AT_LEAST_1, Domain, NON_NEGATIVE, POSITIVE, settings};

settings! {
    /// RLCSD (arXiv 2606.11709): per own token
    /// `e_t = logp(y_t | right hint) − ln mean_k exp logp(y_t | wrong hint k)`,
    /// `r_t = clip(beta·lambda·tanh(e_t/tau), ±residual_clip)`, and where `|r_t| > delta` the token is
    /// *selected* and has `A + r_t`, moved to 0 if its sign is no longer that of `A`. The loss is the mean
    /// over unselected tokens plus `eta` times the mean over selected ones. A row with `A = 0` stays at 0.
    ///
    /// [`Default`] is the authors' setting (their configurations of November 2026); not reproduced by
    /// others. What is subtracted is the style that any hint brings with it.
    #[derive(Copy)]
    pub struct Rlcsd {
        /// Size of the residual. Default 1.
        pub beta: f64 = 1.0,
        /// The share of it that is used. Default 0.5. Only the product with `beta` matters.
        pub lambda: f64 = 0.5,
        /// Contrast at which `tanh` saturates. Default 0.02.
        pub tau: f64 = 0.02,
        /// Largest residual. Default 2, out of reach of the other defaults.
        pub residual_clip: f64 = 2.0,
        /// Residuals up to this leave a token unselected. Default 0.02.
        pub delta: f64 = 0.02,
        /// Weight of the mean over selected tokens. Default 1.
        pub eta: f64 = 1.0,
        /// Most wrong hints that are marginalised over. Default 4.
        pub k_max: usize = 4,
    }
}

/// What RLCSD gives to [`crate::TokenStreams`], and how much of it.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct RlcsdAdvantages {
    /// For [`crate::TokenStreams::token_advantages`].
    pub advantages: Ragged<f64>,
    /// For [`crate::TokenStreams::token_weights`]: they turn a mean over own tokens into the sum of
    /// the two means.
    pub weights: Ragged<f64>,
    /// Own tokens in the loss whose advantage was moved.
    pub n_selected: usize,
    /// Own tokens in the loss that keep their row's advantage.
    pub n_unselected: usize,
}

impl Rlcsd {
    /// Advantages and weights of the rows of one optimiser step; the means are over all of them, so
    /// they are not to be computed by micro-batch. The loss must be a mean over tokens
    /// ([`crate::Aggregation::TokenMean`]).
    ///
    /// `logp_right` and each of `logp_wrong` are log-probabilities of the same completions under the
    /// prompt with a hint, aligned with `roles`. NaN: the row has no such hint. A row without a right
    /// one or without any wrong one keeps its advantage (the authors drop it from the batch); guidance
    /// tokens always do, with weight 1. `truncated` marks rows that the loss leaves out
    /// ([`crate::LossConfig::mask_truncated_completions`]).
    ///
    /// # Errors
    /// Errors of [`Self::check`]; [`crate::Error::Length`] or [`crate::Error::Row`] if the streams do not align;
    /// [`crate::Error::NotFinite`] naming an infinite value; [`crate::Error::Config`] for more than `k_max` wrong
    /// hints.
    ///
    /// ```
    /// use g2rpo_core::{Ragged, Rlcsd, Role};
    /// let roles = Ragged::from_rows([[Role::Own; 4]]);
    /// let right = Ragged::from_rows([[-0.5, -1.0, -1.5, f64::NAN]]);
    /// let wrong = Ragged::from_rows([[-1.0; 4]]);
    /// let got = Rlcsd::default().token_advantages(&roles, &[0.25], &right, &[wrong], None)?;
    /// // tanh(±25) is ±1: residuals ±0.5; the third would change its sign.
    /// assert_eq!(got.advantages.row(0), [0.75, 0.25, 0.0, 0.25]);
    /// assert_eq!((got.n_selected, got.n_unselected), (2, 2));
    /// assert_eq!(got.weights.row(0), [2.0; 4]); // 4 of 4 tokens over 2
    /// # Ok::<(), g2rpo_core::Error>(())
    /// ```
    pub fn token_advantages(
        &self,
        roles: &Ragged<Role>,
        advantages: &[f64],
        logp_right: &Ragged<f64>,
        logp_wrong: &[Ragged<f64>],
        truncated: Option<&[bool]>,
    ) -> Result<RlcsdAdvantages> {
        self.check()?;
        check_len("advantages", advantages.len(), roles.n_rows())?;
        check_advantages(advantages)?;
        logp_right.check_shape("logp_right", roles)?;
        for logp_wrong in logp_wrong {
            logp_wrong.check_shape("logp_wrong", roles)?;
        }
        if let Some(truncated) = truncated {
            check_len("truncated", truncated.len(), roles.n_rows())?;
        }
        let most = Domain(0.0, self.k_max as f64, "[0, rlcsd.k_max]");
        most.check("number of wrong hints", logp_wrong.len() as f64)?;
        let is_out = |row: usize| truncated.is_some_and(|flags| flags[row]);
        let mut out = roles.zeros_like();
        let mut selected = roles.map(|_| false);
        let (mut n_selected, mut n_own) = (0, 0);
        for (row, &advantage) in advantages.iter().enumerate() {
            for (t, &role) in roles.row(row).iter().enumerate() {
                out.row_mut(row)[t] = advantage;
                if role != Role::Own || is_out(row) {
                    continue;
                }
                n_own += 1;
                let right = known("logp_right", row, t, logp_right.row(row)[t])?;
                let contrast = right.zip(mixture(logp_wrong, row, t)?);
                let residual = contrast.map_or(0.0, |(right, wrong)| {
                    let size = self.beta * self.lambda * ((right - wrong) / self.tau).tanh();
                    size.clamp(-self.residual_clip, self.residual_clip)
                });
                if residual.abs() <= self.delta {
                    continue;
                }
                n_selected += 1;
                selected.row_mut(row)[t] = true;
                out.row_mut(row)[t] = if advantage > 0.0 {
                    (advantage + residual).max(0.0)
                } else if advantage < 0.0 {
                    (advantage + residual).min(0.0)
                } else {
                    0.0
                };
            }
        }
        let n_unselected = n_own - n_selected;
        let share = |n: usize| n_own as f64 / n.max(1) as f64;
        let (of_selected, of_unselected) = (self.eta * share(n_selected), share(n_unselected));
        let mut weights = roles.map(|_| 1.0);
        let places = weights.values_mut().iter_mut().zip(selected.values());
        for ((weight, &selected), role) in places.zip(roles.values()) {
            if *role == Role::Own {
                *weight = if selected { of_selected } else { of_unselected };
            }
        }
        Ok(RlcsdAdvantages {
            advantages: out,
            weights,
            n_selected,
            n_unselected,
        })
    }

    /// Checks the settings.
    ///
    /// # Errors
    /// [`crate::Error::Config`].
    pub fn check(&self) -> Result<()> {
        NON_NEGATIVE.check("rlcsd.beta", self.beta)?;
        NON_NEGATIVE.check("rlcsd.lambda", self.lambda)?;
        NON_NEGATIVE.check("rlcsd.residual_clip", self.residual_clip)?;
        NON_NEGATIVE.check("rlcsd.delta", self.delta)?;
        NON_NEGATIVE.check("rlcsd.eta", self.eta)?;
        POSITIVE.check("rlcsd.tau", self.tau)?;
        AT_LEAST_1.check("rlcsd.k_max", self.k_max as f64)
    }
}

/// Logarithm of the mean probability under the wrong hints that the row has.
fn mixture(logp_wrong: &[Ragged<f64>], row: usize, t: usize) -> Result<Option<f64>> {
    let mut values = Vec::with_capacity(logp_wrong.len());
    for logp_wrong in logp_wrong {
        values.extend(known("logp_wrong", row, t, logp_wrong.row(row)[t])?);
    }
    let largest = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = values.iter().map(|v| (v - largest).exp()).sum();
    Ok((!values.is_empty()).then(|| largest + (sum / values.len() as f64).ln()))
}
