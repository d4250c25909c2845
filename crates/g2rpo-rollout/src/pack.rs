//! Rollouts laid out for a learner: one row each, with a role for every token.

use g2rpo_core::{Ragged, Role, Sequences, TokenId};

use crate::engine::Stop;
use crate::error::Result;
use crate::rollout::Rollout;

/// Rollouts laid out for a learner: one row each, in the order given.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    /// Prompt, guidance and sampled ids: exactly the ids used in generation, behind the prompt that
    /// the row is scored under.
    pub sequences: Sequences,
    /// Who put each completion token there: guidance first, then own.
    pub roles: Ragged<Role>,
    /// Log-probability at sampling of each own token; 0 at guidance tokens, which nobody sampled.
    pub logp_sampling: Ragged<f64>,
    /// Log of the mass the sampling filters kept; 0 at guidance tokens.
    pub log_kept: Ragged<f64>,
    /// Whether each row was cut off by the length limit.
    pub truncated: Vec<bool>,
}

impl Batch {
    /// Number of tokens that the policy sampled.
    pub fn sampled_tokens(&self) -> usize {
        let roles = self.roles.values().iter();
        roles.filter(|role| **role == Role::Own).count()
    }
}

/// Lays out rollouts, each behind the prompt that it is to be scored under: the one it was sampled
/// under, or another, such as the same question without its hint. No padding, no decoding: ids go
/// in as they were generated.
///
/// # Errors
/// A [`g2rpo_core::Error`] if a prompt is empty.
pub fn pack<'a>(rows: impl IntoIterator<Item = (&'a [TokenId], &'a Rollout)>) -> Result<Batch> {
    let mut tokens = Ragged::default();
    let mut prompt_lens = Vec::new();
    let mut roles = Ragged::default();
    let mut logp_sampling = Ragged::default();
    let mut log_kept = Ragged::default();
    let mut truncated = Vec::new();
    for (prompt, rollout) in rows {
        let (guidance, own) = (&rollout.guidance, &rollout.completion);
        let ids = prompt.iter().chain(guidance).chain(&own.tokens);
        tokens.push_row(ids.copied());
        prompt_lens.push(prompt.len());
        let given = guidance.iter().map(|_| Role::Guidance);
        roles.push_row(given.chain(own.tokens.iter().map(|_| Role::Own)));
        let zeros = || guidance.iter().map(|_| 0.0);
        let wide = |x: &f32| f64::from(*x);
        logp_sampling.push_row(zeros().chain(own.logps.iter().map(wide)));
        log_kept.push_row(zeros().chain(own.log_kept.iter().map(wide)));
        truncated.push(own.stop == Stop::Length);
    }
    roles.check_shape("log-probabilities of the completions", &logp_sampling)?;
    Ok(Batch {
        sequences: Sequences::new(tokens, prompt_lens)?,
        roles,
        logp_sampling,
        log_kept,
        truncated,
    })
}

/// Lays (prompt, completion) pairs out for supervised learning: every completion token is
/// [`Role::Own`].
///
/// # Errors
/// A [`g2rpo_core::Error`] if a prompt is empty.
pub fn pack_supervised<'a>(
    pairs: impl IntoIterator<Item = (&'a [TokenId], &'a [TokenId])>,
) -> Result<(Sequences, Ragged<Role>)> {
    let mut tokens = Ragged::default();
    let mut roles = Ragged::default();
    let mut prompt_lens = Vec::new();
    for (prompt, completion) in pairs {
        tokens.push_row(prompt.iter().chain(completion).copied());
        roles.push_row(completion.iter().map(|_| Role::Own));
        prompt_lens.push(prompt.len());
    }
    Ok((Sequences::new(tokens, prompt_lens)?, roles))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Completion;

    #[test]
    fn every_token_has_a_role() {
        let rollout = |guidance: &[TokenId], tokens: &[TokenId], stop| Rollout {
            prompt: vec![5, 6, 7],
            guidance: guidance.to_vec(),
            completion: Completion {
                tokens: tokens.to_vec(),
                logps: vec![-0.5; tokens.len()],
                log_kept: vec![-0.25; tokens.len()],
                weight_versions: None,
                stop,
            },
        };
        // The stop id (0, equal to a pad id) keeps its role.
        let rollouts = [
            rollout(&[], &[1, 0], Stop::Eos),
            rollout(&[2, 3], &[4], Stop::Length),
        ];
        let prompts: [&[TokenId]; 2] = [&rollouts[0].prompt, &[5, 6]];
        let batch = pack(prompts.into_iter().zip(&rollouts)).unwrap();
        assert_eq!(batch.sequences.tokens().row(0), [5, 6, 7, 1, 0]);
        assert_eq!(batch.sequences.tokens().row(1), [5, 6, 2, 3, 4]);
        assert_eq!(batch.roles.row(0), [Role::Own; 2]);
        assert_eq!(
            batch.roles.row(1),
            [Role::Guidance, Role::Guidance, Role::Own]
        );
        assert_eq!(batch.logp_sampling.row(1), [0.0, 0.0, -0.5]);
        assert_eq!(batch.log_kept.row(1), [0.0, 0.0, -0.25]);
        assert_eq!(batch.truncated, [false, true]);
        assert_eq!(batch.sampled_tokens(), 3);
    }

    #[test]
    fn empty_prompts_are_refused() {
        assert!(pack_supervised([(&[][..], &[1][..])]).is_err());
    }
}
