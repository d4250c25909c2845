//! RLSD: tokens that a hint makes likelier count more where the answer was right, less where wrong.

use super::stream::{check_advantages, known};
use crate::error::{Result, check_finite, check_len};
use crate::ragged::Ragged;
use crate::sequences::Role;
use crate::settings::{SHARE, settings};

settings! {
    /// RLSD (arXiv 2604.03128): `Â_t = A·((1 − lambda) + lambda·w_t)` with
    /// `w_t = clip(exp(sign(A)·Δ_t), 1 − epsilon_w, 1 + epsilon_w)` and
    /// `Δ_t = logp(y_t | hint) − logp(y_t)`, no gradient through `w_t`.
    ///
    /// [`Default`] is the paper's: `lambda` 0.5, weights in [0.8, 1.2]. (RLCSD's authors measured it below
    /// plain GRPO on Qwen3-1.7B, and arXiv 2603.24472 warns of self-distillation.)
    #[derive(Copy)]
    pub struct Rlsd {
        /// Share of the weighted advantage, in [0, 1]; 0 is plain GRPO. Default 0.5.
        pub lambda: f64 = 0.5,
        /// How far weights may be from 1, in [0, 1]. Default 0.2.
        pub epsilon_w: f64 = 0.2,
    }
}

impl Rlsd {
    /// Advantage of every token, for [`crate::TokenStreams::token_advantages`].
    ///
    /// `logp` and `logp_hinted` are log-probabilities of the same completions under the prompt and
    /// under the prompt with the hint, rows and tokens aligned with `roles`. NaN in `logp_hinted`:
    /// no hint, the token keeps its row's advantage, as do guidance tokens.
    ///
    /// # Errors
    /// Errors of [`Self::check`]; [`crate::Error::Length`] or [`crate::Error::Row`] if the streams do
    /// not align; [`crate::Error::NotFinite`] naming an infinite value, or an own token without
    /// `logp`.
    ///
    /// ```
    /// use g2rpo_core::{Ragged, Rlsd, Role};
    /// let roles = Ragged::from_rows([[Role::Own; 3], [Role::Own; 3]]);
    /// let logp = Ragged::from_rows([[-1.0; 3], [-1.0; 3]]);
    /// // The hint makes the first token likelier, leaves the second, and says nothing of the third.
    /// let hinted = Ragged::from_rows([[-0.5, -1.0, f64::NAN], [-0.5, -1.0, f64::NAN]]);
    /// let got = Rlsd::default().token_advantages(&roles, &[1.0, -1.0], &logp, &hinted)?;
    /// assert_eq!(got.row(0), [1.1, 1.0, 1.0]); // (1 + 1.2)/2
    /// assert_eq!(got.row(1), [-0.9, -1.0, -1.0]); // −(1 + 0.8)/2
    /// # Ok::<(), g2rpo_core::Error>(())
    /// ```
    pub fn token_advantages(
        &self,
        roles: &Ragged<Role>,
        advantages: &[f64],
        logp: &Ragged<f64>,
        logp_hinted: &Ragged<f64>,
    ) -> Result<Ragged<f64>> {
        self.check()?;
        check_len("advantages", advantages.len(), roles.n_rows())?;
        check_advantages(advantages)?;
        logp.check_shape("logp", roles)?;
        logp_hinted.check_shape("logp_hinted", roles)?;
        let mut out = roles.zeros_like();
        for (row, &advantage) in advantages.iter().enumerate() {
            for (t, &role) in roles.row(row).iter().enumerate() {
                out.row_mut(row)[t] = advantage;
                let hinted = known("logp_hinted", row, t, logp_hinted.row(row)[t]);
                if role != Role::Own || advantage == 0.0 {
                    continue;
                }
                let Some(hinted) = hinted? else { continue };
                let plain = logp.row(row)[t];
                check_finite("logp", row, t, plain)?;
                let weight = (advantage.signum() * (hinted - plain)).exp();
                let weight = weight.clamp(1.0 - self.epsilon_w, 1.0 + self.epsilon_w);
                out.row_mut(row)[t] = advantage * ((1.0 - self.lambda) + self.lambda * weight);
            }
        }
        Ok(out)
    }

    /// Checks the settings.
    ///
    /// # Errors
    /// [`crate::Error::Config`].
    pub fn check(&self) -> Result<()> {
        SHARE.check("rlsd.lambda", self.lambda)?;
        SHARE.check("rlsd.epsilon_w", self.epsilon_w)
    }
}
