//! The supervised loss of warm-up.

use crate::error::{Error, Result, check_finite};
use crate::learner::TokenGrads;
use crate::ragged::Ragged;
use crate::sequences::Role;

/// What [`supervised_loss`] returns.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct SupervisedLoss {
    /// The rows' share of the mean negative log-likelihood, in nats.
    pub loss: f64,
    /// ∂loss/∂logp: `−1/n_tokens` on the trained tokens, exactly 0 elsewhere.
    pub grad_logp: Ragged<f64>,
    /// Trained tokens of these rows.
    pub n_tokens: usize,
}

impl SupervisedLoss {
    /// The gradients in the form that [`crate::Learner::accumulate`] takes.
    pub fn into_grads(self) -> TokenGrads {
        TokenGrads {
            logp: self.grad_logp,
            entropy: None,
        }
    }
}

/// Number of tokens in any of the given roles, the denominator of [`supervised_loss`].
///
/// ```
/// use g2rpo_core::{count_roles, Ragged, Role::*};
/// let roles = Ragged::from_rows([vec![Guidance, Own, Prompt], vec![Own]]);
/// assert_eq!(count_roles(&roles, &[Guidance, Own]), 3);
/// ```
pub fn count_roles(roles: &Ragged<Role>, trained: &[Role]) -> usize {
    (roles.values().iter())
        .filter(|role| trained.contains(role))
        .count()
}

/// Mean negative log-likelihood over the tokens in any of the `trained` roles, for supervised
/// warm-up: `−(1/n_tokens) Σ logp`.
///
/// `n_tokens` is the count over the whole optimiser step ([`count_roles`]), so that shares of
/// micro-batches and workers add up. Values at other tokens are never read.
///
/// # Errors
/// [`Error::Length`] or [`Error::Row`] if the streams do not align; [`Error::NoTokens`] if
/// `n_tokens` is 0; [`Error::NotFinite`] naming a trained token without a finite log-probability.
///
/// ```
/// use g2rpo_core::{supervised_loss, Ragged, Role};
/// let roles = Ragged::from_rows([vec![Role::Guidance, Role::Own], vec![Role::Prompt, Role::Own]]);
/// let logp = Ragged::from_rows([vec![-1.0, -2.0], vec![f64::NAN, -3.0]]);
/// let all = supervised_loss(&roles, &logp, &[Role::Guidance, Role::Own], 3)?;
/// assert!((all.loss - 2.0).abs() < 1e-15); // (1 + 2 + 3)/3
/// assert_eq!(all.grad_logp.row(1), [0.0, -1.0 / 3.0]);
/// # Ok::<(), g2rpo_core::Error>(())
/// ```
pub fn supervised_loss(
    roles: &Ragged<Role>,
    logp: &Ragged<f64>,
    trained: &[Role],
    n_tokens: usize,
) -> Result<SupervisedLoss> {
    logp.check_shape("logp", roles)?;
    if n_tokens == 0 {
        return Err(Error::NoTokens {
            rows: roles.n_rows() as f64,
        });
    }
    let per_token = -1.0 / n_tokens as f64;
    let mut grad_logp = logp.zeros_like();
    let mut sum = 0.0;
    let mut n_here = 0;
    for (row, roles) in roles.rows().enumerate() {
        let grad = grad_logp.row_mut(row);
        for (position, role) in roles.iter().enumerate() {
            if !trained.contains(role) {
                continue;
            }
            let value = logp.row(row)[position];
            check_finite("logp", row, position, value)?;
            sum += value;
            grad[position] = per_token;
            n_here += 1;
        }
    }
    Ok(SupervisedLoss {
        loss: per_token * sum,
        grad_logp,
        n_tokens: n_here,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_add_up_and_bad_tokens_are_named() {
        let roles = Ragged::from_rows([vec![Role::Own; 3], vec![Role::Own; 1]]);
        let logp = Ragged::from_rows([vec![-0.5, -1.0, -0.25], vec![-2.0]]);
        let trained = [Role::Own];
        let loss = |roles: &Ragged<Role>, logp: &Ragged<f64>| {
            supervised_loss(roles, logp, &trained, 4).map(|whole| whole.loss)
        };
        let part = |i| loss(&roles.select(&[i]), &logp.select(&[i])).unwrap();
        assert_eq!(loss(&roles, &logp), Ok(part(0) + part(1)));
        assert_eq!(loss(&roles, &logp), Ok(0.9375));
        let bad = logp.map(|&x| if x == -2.0 { f64::NEG_INFINITY } else { x });
        let message = loss(&roles, &bad).unwrap_err().to_string();
        let expected = "logp: row 1, token 0 is -inf, expected a finite number";
        assert_eq!(message, expected);
        assert!(supervised_loss(&roles, &logp, &trained, 0).is_err());
    }
}
