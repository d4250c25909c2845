//! How much of a success is owed to the hint it was given.

use super::stream::known;
use crate::error::{Error, Result, check_finite};
use crate::ragged::Ragged;
use crate::sequences::Role;
use crate::settings::POSITIVE;

/// Hint reliance (HiLL, arXiv 2604.00698): the mean over the given rows, the hinted successes, of
/// `mean_t logp(y_t) − mean_t logp(y_t | hint)` over own tokens, in nats per token.
///
/// Near 0 the completion is as likely without the hint, so what it teaches carries over; far below 0
/// it is not. NaN in `logp_hinted`: the row had no hint, and it is left out, as is a row without own
/// tokens. `None` if no row is left.
///
/// # Errors
/// [`Error::Length`] or [`Error::Row`] if the streams do not align; [`Error::Index`] for a row that does
/// not exist; [`Error::NotFinite`] naming the token.
///
/// ```
/// use g2rpo_core::{Ragged, Role, hint_reliance};
/// let roles = Ragged::from_rows([vec![Role::Own; 2], vec![Role::Own]]);
/// let logp = Ragged::from_rows([vec![-2.0, -1.0], vec![-1.0]]);
/// let hinted = Ragged::from_rows([vec![-0.5, -0.5], vec![-0.5]]);
/// assert_eq!(hint_reliance(&roles, &logp, &hinted, &[0])?, Some(-1.0)); // −1.5 + 0.5
/// assert_eq!(hint_reliance(&roles, &logp, &hinted, &[0, 1])?, Some(-0.75));
/// # Ok::<(), g2rpo_core::Error>(())
/// ```
pub fn hint_reliance(
    roles: &Ragged<Role>,
    logp: &Ragged<f64>,
    logp_hinted: &Ragged<f64>,
    rows: &[usize],
) -> Result<Option<f64>> {
    logp.check_shape("logp", roles)?;
    logp_hinted.check_shape("logp_hinted", roles)?;
    let (mut sum, mut n_rows) = (0.0, 0.0);
    for &row in rows {
        if row >= roles.n_rows() {
            return Err(Error::Index {
                what: "hinted successes",
                index: row,
                len: roles.n_rows(),
            });
        }
        let (mut total, mut n) = (0.0, 0.0);
        for (t, &role) in roles.row(row).iter().enumerate() {
            if role != Role::Own {
                continue;
            }
            let Some(hinted) = known("logp_hinted", row, t, logp_hinted.row(row)[t])? else {
                continue;
            };
            let plain = logp.row(row)[t];
            check_finite("logp", row, t, plain)?;
            total += plain - hinted;
            n += 1.0;
        }
        if n > 0.0 {
            sum += total / n;
            n_rows += 1.0;
        }
    }
    Ok((n_rows > 0.0).then(|| sum / n_rows))
}

/// HiLL's weight of a hint, `exp(min(reliance, 0)/temperature)`, in (0, 1]; the paper's temperature is
/// 0.3.
///
/// # Errors
/// [`Error::Config`] unless the temperature is finite and above 0.
///
/// ```
/// use g2rpo_core::hint_reliance_weight;
/// assert_eq!(hint_reliance_weight(0.1, 0.3)?, 1.0);
/// assert_eq!(hint_reliance_weight(-0.3, 0.3)?, (-1f64).exp());
/// # Ok::<(), g2rpo_core::Error>(())
/// ```
pub fn hint_reliance_weight(reliance: f64, temperature: f64) -> Result<f64> {
    POSITIVE.check("temperature", temperature)?;
    Ok((reliance.min(0.0) / temperature).exp())
}
