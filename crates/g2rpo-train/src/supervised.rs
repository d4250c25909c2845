//! One step of supervised learning.

use g2rpo_core::{Learner, Role, Scoring, UpdateStats, count_roles, supervised_loss};
use g2rpo_rollout::{TokenId, pack_supervised};

use crate::{Error, Result};

/// One optimiser step of supervised learning on (prompt, completion) pairs: the mean negative
/// log-likelihood of the completion tokens. Returns the loss in nats per token.
///
/// # Errors
/// [`Error::Learner`], and [`Error::Core`] for an empty prompt or no completion token at all.
pub fn supervised_step<'a, L: Learner + ?Sized>(
    learner: &mut L,
    pairs: impl IntoIterator<Item = (&'a [TokenId], &'a [TokenId])>,
    lr: f64,
) -> Result<(f64, UpdateStats)> {
    const TRAINED: [Role; 1] = [Role::Own];
    let (sequences, roles) = pack_supervised(pairs)?;
    let n_tokens = count_roles(&roles, &TRAINED);
    let mut loss = 0.0;
    let done = learner.accumulate(&sequences, &Scoring::default(), &mut |outputs| {
        let roles = roles.select(&outputs.rows);
        let part = supervised_loss(&roles, &outputs.logp, &TRAINED, n_tokens)?;
        loss += part.loss;
        Ok(part.into_grads())
    });
    done.map_err(Error::learner)?;
    let stats = learner.apply(lr).map_err(Error::learner)?;
    Ok((loss, stats))
}

#[cfg(test)]
mod tests {
    use super::*;
    use g2rpo_rollout::TabularPolicy;

    #[test]
    fn the_loss_of_a_uniform_policy_is_ln_v_and_falls() {
        let mut policy = TabularPolicy::new(8, 1);
        let pair = (&[1][..], &[2, 3][..]);
        let (first, _) = supervised_step(&mut policy, [pair, pair], 1.0).unwrap();
        assert!((first - 8f64.ln()).abs() < 1e-12);
        let (second, stats) = supervised_step(&mut policy, [pair, pair], 1.0).unwrap();
        assert!(second < first && stats.grad_norm > 0.0);
    }

    #[test]
    fn nothing_to_learn_from_is_an_error() {
        let mut policy = TabularPolicy::new(8, 1);
        let err = supervised_step(&mut policy, [(&[1][..], &[][..])], 1.0).unwrap_err();
        assert!(matches!(err, Error::Learner(_) | Error::Core(_)), "{err}");
    }
}
