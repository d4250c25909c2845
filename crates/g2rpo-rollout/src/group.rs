use g2rpo_core::TokenId;

use crate::{Completion, Error, Request, Result, RolloutEngine, RolloutKey, SamplingParams};

/// One task's rollouts to be made: a shared prompt, and the guidance of each member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupPlan {
    /// Index of the task in its data set.
    pub task: usize,
    /// Prompt ids, shared by the group.
    pub prompt: Vec<TokenId>,
    /// One entry per member: the ids its completion starts with, empty for unguided members.
    pub guidance: Vec<Vec<TokenId>>,
}

/// One member of a group: what it was given and what it sampled.
#[derive(Debug, Clone, PartialEq)]
pub struct Rollout {
    /// Guidance ids at the start of the completion; empty when unguided.
    pub guidance: Vec<TokenId>,
    /// What the engine sampled behind them.
    pub completion: Completion,
}

impl Rollout {
    /// Whether the member started from guidance.
    pub fn is_guided(&self) -> bool {
        !self.guidance.is_empty()
    }

    /// Guidance and sampled ids: the whole answer, which is what a verifier reads.
    pub fn answer(&self) -> Vec<TokenId> {
        [&self.guidance[..], &self.completion.tokens].concat()
    }
}

/// One task's rollouts. The group is its own identity: nothing is inferred from equal prompts or
/// from positions in a batch.
#[derive(Debug, Clone, PartialEq)]
pub struct Group {
    /// Index of the task in its data set.
    pub task: usize,
    /// Prompt ids, shared by the group.
    pub prompt: Vec<TokenId>,
    /// The members, in the order of the plan.
    pub rollouts: Vec<Rollout>,
}

/// Generates all members of all groups in one call of the engine.
///
/// `run` and `step` complete the [`RolloutKey`] of every member; its group is the index in
/// `plans`. `max_completion_length` counts guidance, as a completion does in TRL, so that a guided
/// member never yields a longer sequence than an unguided one; at least one token is sampled.
///
/// # Errors
/// [`Error::Generate`] with what the engine said, and [`Error::Engine`] if it did not return one
/// completion per request with one log-probability per token.
pub fn collect<E: RolloutEngine + ?Sized>(
    engine: &mut E,
    plans: Vec<GroupPlan>,
    params: &SamplingParams,
    run: u64,
    step: u64,
    max_completion_length: usize,
) -> Result<Vec<Group>> {
    let requests: Vec<Request> = (plans.iter().enumerate())
        .flat_map(|(group, plan)| {
            (plan.guidance.iter().enumerate()).map(move |(member, guidance)| Request {
                prompt: plan.prompt.clone(),
                guidance: guidance.clone(),
                key: RolloutKey {
                    run,
                    step,
                    group: group as u32,
                    member: member as u32,
                },
                max_new_tokens: max_completion_length.saturating_sub(guidance.len()).max(1),
            })
        })
        .collect();
    let completions = engine
        .generate(&requests, params)
        .map_err(|e| Error::Generate(Box::new(e)))?;
    expect("completions", requests.len(), completions.len())?;
    for c in &completions {
        expect(
            "log-probabilities of a completion",
            c.tokens.len(),
            c.logps.len(),
        )?;
        expect(
            "kept masses of a completion",
            c.tokens.len(),
            c.log_kept.len(),
        )?;
        if let Some(versions) = &c.weight_versions {
            expect(
                "weight versions of a completion",
                c.tokens.len(),
                versions.len(),
            )?;
        }
    }
    let mut completions = completions.into_iter();
    Ok(plans
        .into_iter()
        .map(|plan| Group {
            task: plan.task,
            prompt: plan.prompt,
            rollouts: (plan.guidance.into_iter().zip(&mut completions))
                .map(|(guidance, completion)| Rollout {
                    guidance,
                    completion,
                })
                .collect(),
        })
        .collect())
}

fn expect(what: &'static str, expected: usize, got: usize) -> Result<()> {
    if expected == got {
        Ok(())
    } else {
        Err(Error::Engine {
            what,
            expected,
            got,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ScriptedEngine, Stop};

    fn plans() -> Vec<GroupPlan> {
        vec![
            GroupPlan {
                task: 4,
                prompt: vec![1, 2],
                guidance: vec![vec![], vec![9, 8]],
            },
            GroupPlan {
                task: 0,
                prompt: vec![3],
                guidance: vec![vec![7]],
            },
        ]
    }

    #[test]
    fn members_get_their_own_key_prompt_and_budget() {
        let mut seen = Vec::new();
        let mut engine = ScriptedEngine::new(|request: &Request| {
            seen.push(request.clone());
            vec![request.key.member + 10]
        });
        let params = SamplingParams::default();
        let groups = collect(&mut engine, plans(), &params, 5, 6, 3).unwrap();
        assert_eq!(groups[0].rollouts[1].answer(), [9, 8, 11]);
        assert!(groups[0].rollouts[1].is_guided() && !groups[0].rollouts[0].is_guided());
        assert_eq!(groups[1].task, 0);
        let budgets: Vec<_> = seen.iter().map(|r| r.max_new_tokens).collect();
        assert_eq!(budgets, [3, 1, 2]);
        let key = RolloutKey {
            run: 5,
            step: 6,
            group: 1,
            member: 0,
        };
        assert_eq!(seen[2].key, key);
        assert_eq!(seen[2].prompt, [3]);
    }

    struct Broken(usize);
    impl RolloutEngine for Broken {
        type Error = std::convert::Infallible;
        fn generate(
            &mut self,
            _: &[Request],
            _: &SamplingParams,
        ) -> Result<Vec<Completion>, Self::Error> {
            let completion = Completion {
                tokens: vec![1, 2],
                logps: vec![0.0],
                log_kept: vec![0.0; 2],
                weight_versions: None,
                stop: Stop::Eos,
            };
            Ok(vec![completion; self.0])
        }
    }

    #[test]
    fn an_engine_that_miscounts_is_caught() {
        let run = |n| {
            collect(&mut Broken(n), plans(), &SamplingParams::default(), 0, 0, 8)
                .unwrap_err()
                .to_string()
        };
        assert_eq!(run(2), "rollout engine: completions: expected 3, got 2");
        assert_eq!(
            run(3),
            "rollout engine: log-probabilities of a completion: expected 2, got 1"
        );
    }
}
