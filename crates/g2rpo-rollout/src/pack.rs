use g2rpo_core::{Ragged, Role, Sequences, TokenId};

use crate::{Group, Result, Stop};

/// Groups laid out for a learner: one row per rollout, group after group.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    /// Prompt, guidance and sampled ids: exactly the ids used in generation.
    pub sequences: Sequences,
    /// Who put each completion token there: guidance first, then own.
    pub roles: Ragged<Role>,
    /// Log-probability at sampling of each own token; 0 at guidance tokens, which nobody sampled.
    pub logp_sampling: Ragged<f64>,
    /// Log of the mass the sampling filters kept; 0 at guidance tokens.
    pub log_kept: Ragged<f64>,
    /// The group of each row.
    pub groups: Vec<usize>,
    /// Whether each row started from guidance.
    pub guided: Vec<bool>,
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

/// Lays groups out as a batch. No padding, no decoding: ids go in as they were generated.
///
/// # Errors
/// A [`g2rpo_core::Error`] if a prompt is empty.
pub fn pack(groups: &[Group]) -> Result<Batch> {
    let mut tokens = Ragged::default();
    let mut batch = Batch {
        sequences: Sequences::new(Ragged::default(), Vec::new())?,
        roles: Ragged::default(),
        logp_sampling: Ragged::default(),
        log_kept: Ragged::default(),
        groups: Vec::new(),
        guided: Vec::new(),
        truncated: Vec::new(),
    };
    let mut prompt_lens = Vec::new();
    for (index, group) in groups.iter().enumerate() {
        for rollout in &group.rollouts {
            let (guidance, own) = (&rollout.guidance, &rollout.completion);
            let ids = group.prompt.iter().chain(guidance).chain(&own.tokens);
            tokens.push_row(ids.copied());
            prompt_lens.push(group.prompt.len());
            let roles = guidance.iter().map(|_| Role::Guidance);
            batch
                .roles
                .push_row(roles.chain(own.tokens.iter().map(|_| Role::Own)));
            let zeros = || guidance.iter().map(|_| 0.0);
            let wide = |x: &f32| f64::from(*x);
            let logps = zeros().chain(own.logps.iter().map(wide));
            batch.logp_sampling.push_row(logps);
            let kept = zeros().chain(own.log_kept.iter().map(wide));
            batch.log_kept.push_row(kept);
            batch.groups.push(index);
            batch.guided.push(rollout.is_guided());
            batch.truncated.push(own.stop == Stop::Length);
        }
    }
    batch.sequences = Sequences::new(tokens, prompt_lens)?;
    batch
        .roles
        .check_shape("log-probabilities of the completions", &batch.logp_sampling)?;
    Ok(batch)
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
    use crate::{Completion, Rollout};

    #[test]
    fn every_token_has_a_role_and_every_row_a_group() {
        let rollout = |guidance: &[TokenId], tokens: &[TokenId], stop| Rollout {
            guidance: guidance.to_vec(),
            completion: Completion {
                tokens: tokens.to_vec(),
                logps: vec![-0.5; tokens.len()],
                log_kept: vec![-0.25; tokens.len()],
                weight_versions: None,
                stop,
            },
        };
        let group = |prompt: &[TokenId], rollouts| Group {
            task: 0,
            prompt: prompt.to_vec(),
            rollouts,
        };
        // Equal prompts stay two groups; the stop id (0, equal to a pad id) keeps its role.
        let groups = [
            group(
                &[5, 6],
                vec![
                    rollout(&[], &[1, 0], Stop::Eos),
                    rollout(&[2, 3], &[4], Stop::Length),
                ],
            ),
            group(&[5, 6], vec![rollout(&[], &[0], Stop::Eos)]),
        ];
        let batch = pack(&groups).unwrap();
        assert_eq!(batch.sequences.tokens().row(1), [5, 6, 2, 3, 4]);
        assert_eq!(
            batch.roles.row(1),
            [Role::Guidance, Role::Guidance, Role::Own]
        );
        assert_eq!(batch.roles.row(0), [Role::Own; 2]);
        assert_eq!(batch.logp_sampling.row(1), [0.0, 0.0, -0.5]);
        assert_eq!(batch.log_kept.row(1), [0.0, 0.0, -0.25]);
        assert_eq!(batch.groups, [0, 0, 1]);
        assert_eq!(batch.guided, [false, true, false]);
        assert_eq!(batch.truncated, [false, true, false]);
        assert_eq!(batch.sampled_tokens(), 4);
    }

    #[test]
    fn empty_prompts_are_refused() {
        assert!(pack_supervised([(&[][..], &[1][..])]).is_err());
    }
}
