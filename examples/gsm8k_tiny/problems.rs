//! The problems to warm up on, to train on and to be measured by.

use std::collections::HashMap;

use anyhow::{Result, ensure};
use g2rpo::rollout::{ChainProblems, Split, Task, read_gsm8k};
use g2rpo::verify::{CalculatorMarks, Gsm8k, Gsm8kExtraction, check_references};

use crate::options::Options;

/// What a policy reads before it answers. One line break ends the question, so that the solution
/// starts on a line of its own.
pub const PROMPT: &str = "{question}\n";

/// Problems to warm up on, to train on and to be measured by.
pub struct Problems {
    /// Short problems and a small share of long ones, for the supervised warm-up.
    pub warm_up: Vec<Task>,
    /// Target problems of the RL phase.
    pub train: Vec<Task>,
    /// Target problems that nothing is trained on.
    pub held_out: Vec<Task>,
}

impl Problems {
    /// Generated problems, or those of the files that were named.
    pub fn load(options: &Options) -> Result<Self> {
        if let (Some(train), Some(test)) = (&options.train, &options.test) {
            let train = read_gsm8k(train)?;
            let mut held_out = read_gsm8k(test)?;
            held_out.truncate(options.eval_problems);
            return Ok(Self {
                warm_up: train.clone(),
                train,
                held_out,
            });
        }
        // The problems are the same for every seed of a run: seeds vary the training, not the exam.
        let make = |steps, n, split| ChainProblems::default().generate(steps, n, split, 1);
        let target = options.difficulty;
        ensure!(
            (3..=20).contains(&target),
            "--difficulty {target}: the warm-up teaches 1 and 2 steps, targets have 3 to 20"
        );
        let mut warm_up = Vec::new();
        let n_short = 10_000;
        let n_long = (2.0 * n_short as f64 * options.long_share).round() as usize;
        for (steps, n) in [(1, n_short), (2, n_short), (target, n_long)] {
            warm_up.extend(make(steps, n, Split::Train)?);
        }
        Ok(Self {
            warm_up,
            train: make(target, 4000, Split::Train)?,
            held_out: make(target, options.eval_problems, Split::HeldOut)?,
        })
    }

    /// What is paid: the right number behind `####`, reached by calculator marks that are all
    /// right. Without the marks a guess of the number alone would pay at [`Self::chance`].
    pub fn verifier(&self) -> Gsm8k {
        Gsm8k {
            extraction: Gsm8kExtraction::Strict,
            calculator_marks: CalculatorMarks::Required,
        }
    }

    /// Says how many references no verdict can be reached on, if any.
    pub fn warn_unverifiable(&self) {
        for (name, tasks) in [("train", &self.train), ("held-out", &self.held_out)] {
            let references = tasks.iter().map(|t| t.reference.as_str());
            let report = check_references(&self.verifier(), references);
            if report.unverifiable_share() > 0.0 {
                eprintln!(
                    "warning: {:.1} % of the {name} references cannot be verified; such tasks are masked",
                    100.0 * report.unverifiable_share()
                );
            }
        }
    }

    /// Probability that a number drawn from the answers of the training problems is the answer of
    /// a held-out one.
    pub fn chance(&self) -> f64 {
        let mut counts: HashMap<&str, usize> = HashMap::new();
        for task in &self.train {
            *counts.entry(&task.reference).or_default() += 1;
        }
        let hits = |t: &Task| *counts.get(t.reference.as_str()).unwrap_or(&0);
        let total: usize = self.held_out.iter().map(hits).sum();
        total as f64 / (self.train.len() * self.held_out.len()) as f64
    }
}
