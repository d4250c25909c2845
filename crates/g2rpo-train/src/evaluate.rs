//! Evaluation of a policy: completions, graded, and what they say.

#[cfg(test)]
mod fixture;
pub mod graded;
pub mod interval;
pub mod paired;
pub mod statistics;
pub mod summary;

use std::sync::Arc;

use g2rpo_rollout::{Request, RolloutEngine, RolloutKey, SamplingParams, Stop};
use g2rpo_verify::Verifier;

use crate::data::dataset::Dataset;
use crate::error::Result;
use crate::evaluate::graded::GradedSample;
use crate::step::early::collect_judged;
use crate::step::grade::verdicts;

/// How a policy is evaluated.
#[derive(Debug, Clone, PartialEq)]
pub struct EvalConfig {
    /// How completions are drawn. Default greedy.
    pub sampling: SamplingParams,
    /// Longest completion in tokens. Default 512.
    pub max_completion_length: usize,
    /// Completions of each task; more than one needs a temperature. Default 1.
    pub samples_per_task: u32,
    /// Names the draws. Default 0.
    pub seed: u64,
}

impl Default for EvalConfig {
    fn default() -> Self {
        Self {
            sampling: SamplingParams::greedy(),
            max_completion_length: 512,
            samples_per_task: 1,
            seed: 0,
        }
    }
}

/// How well a policy does without guidance.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Evaluation {
    /// Every completion with its verdict, task after task.
    pub samples: Vec<GradedSample>,
}

impl Evaluation {
    /// Part of the completions that is correct, in [0, 1]; 0 when there are none. What could not be
    /// decided is not correct.
    pub fn accuracy(&self) -> f64 {
        let correct = self.samples.iter().filter(|s| s.is_correct()).count();
        correct as f64 / self.samples.len().max(1) as f64
    }

    /// Mean number of tokens of a completion; 0 when there are none.
    pub fn mean_length(&self) -> f64 {
        let tokens: usize = self.samples.iter().map(|s| s.tokens).sum();
        tokens as f64 / self.samples.len().max(1) as f64
    }
}

/// Generates unguided completions of every task and grades them. No task ever sees guidance here.
///
/// With [`SamplingParams::greedy`] the result is a function of the policy alone.
///
/// # Errors
/// As [`g2rpo_rollout::collect`] and [`crate::grade`].
pub fn evaluate<E: RolloutEngine + ?Sized>(
    engine: &mut E,
    data: &Dataset<'_>,
    verifier: &dyn Verifier,
    config: &EvalConfig,
) -> Result<Evaluation> {
    let key = |task: usize, member| RolloutKey {
        run: config.seed,
        // Training steps count from 0, so the largest number names no training step.
        step: u64::MAX,
        group: task as u32,
        member,
    };
    let items = (0..data.len())
        .map(|task| data.item(task))
        .collect::<Result<Vec<_>>>()?;
    let asked = || (0..data.len()).flat_map(|t| (0..config.samples_per_task).map(move |m| (t, m)));
    let requests = asked().map(|(task, member)| Request {
        prompt: items[task].prompt.clone(),
        guidance: Vec::new(),
        key: key(task, member),
        max_new_tokens: config.max_completion_length,
    });
    let of_each: Vec<_> = asked().map(|(task, _)| Arc::clone(&items[task])).collect();
    let requests = requests.collect();
    let sampling = &config.sampling;
    let (rollouts, early) = collect_judged(engine, requests, sampling, data, verifier, &of_each)?;
    let answers: Vec<_> = (of_each.into_iter().zip(&rollouts))
        .map(|(item, rollout)| (item, rollout.answer()))
        .collect();
    let judged = verdicts(data, verifier, &answers, early)?;
    let samples = (asked().zip(rollouts).zip(judged))
        .map(|(((task, member), rollout), (text, verdict))| {
            let mut sample = GradedSample::new(items[task].task.id, member, text, &verdict);
            sample.tokens = rollout.completion.tokens.len();
            sample.truncated = rollout.completion.stop == Stop::Length;
            sample
        })
        .collect();
    Ok(Evaluation { samples })
}
