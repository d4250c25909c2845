//! Evaluation of a policy: completions, graded, and what they say.

pub mod graded;
pub mod interval;
pub mod paired;
pub mod statistics;
pub mod summary;

use g2rpo_rollout::{
    GroupPlan, RolloutEngine, SamplingParams, Stop, Task, TokenId, Tokenizer, collect,
};
use g2rpo_verify::{Outcome, Verifier};

use crate::{Result, score};

/// How well a policy does without guidance.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Evaluation {
    /// Completions graded.
    pub n: usize,
    /// Completions that were correct.
    pub correct: usize,
    /// Completions that nothing could be said about; they count as not correct.
    pub undecided: usize,
    /// Completions cut off by the length limit.
    pub truncated: usize,
    /// Mean number of tokens of a completion.
    pub mean_length: f64,
    /// (task index, answer, correct) of every completion.
    pub samples: Vec<(usize, String, bool)>,
}

impl Evaluation {
    /// Part of the completions that is correct, in [0, 1]; 0 when there are none.
    pub fn accuracy(&self) -> f64 {
        self.correct as f64 / self.n.max(1) as f64
    }
}

/// Held-out tasks and what is needed to grade them.
#[derive(Clone, Copy)]
pub struct EvalSet<'a> {
    /// The tasks.
    pub tasks: &'a [Task],
    /// The prompt of each task.
    pub prompts: &'a [Vec<TokenId>],
    /// Decodes for the verifier.
    pub tokenizer: &'a dyn Tokenizer,
    /// Grades.
    pub verifier: &'a dyn Verifier,
}

impl std::fmt::Debug for EvalSet<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EvalSet")
            .field("tasks", &self.tasks.len())
            .finish_non_exhaustive()
    }
}

/// Generates one unguided completion per task and grades it. No task ever sees guidance here.
///
/// With [`SamplingParams::greedy`] the result is a function of
/// the policy alone; otherwise draws are keyed by `seed`.
///
/// # Errors
/// As [`collect`] and [`score`].
pub fn evaluate<E: RolloutEngine + ?Sized>(
    engine: &mut E,
    set: &EvalSet<'_>,
    params: &SamplingParams,
    max_completion_length: usize,
    seed: u64,
) -> Result<Evaluation> {
    let plans = (set.prompts.iter().enumerate())
        .map(|(task, prompt)| GroupPlan {
            task,
            prompt: prompt.clone(),
            guidance: vec![Vec::new()],
        })
        .collect();
    // Training steps count from 0, so the largest number names no training step.
    let groups = collect(engine, plans, params, seed, u64::MAX, max_completion_length)?;
    let scores = score(&groups, set.tasks, set.tokenizer, set.verifier)?;
    let rollouts = || groups.iter().flat_map(|g| &g.rollouts);
    let n = rollouts().count();
    let tokens: usize = rollouts().map(|r| r.completion.tokens.len()).sum();
    let is = |wanted: fn(&Outcome) -> bool| {
        let verdicts = scores.verdicts.iter();
        verdicts.filter(|v| wanted(&v.outcome)).count()
    };
    Ok(Evaluation {
        n,
        correct: is(|o| matches!(o, Outcome::Correct)),
        undecided: is(|o| matches!(o, Outcome::Unverifiable(_) | Outcome::Fault(_))),
        truncated: rollouts()
            .filter(|r| r.completion.stop == Stop::Length)
            .count(),
        mean_length: tokens as f64 / n.max(1) as f64,
        samples: (groups.iter().map(|g| g.task))
            .zip(scores.answers)
            .zip(&scores.rewards)
            .map(|((task, answer), reward)| (task, answer, *reward == Some(1.0)))
            .collect(),
    })
}
