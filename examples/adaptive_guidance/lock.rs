//! The task and where the policy starts: combination locks, and a table of logits for each.

use anyhow::Result;
use g2rpo::rollout::{Purpose, RolloutKey, TabularPolicy, Task, TokenId, Tokenizer};
use g2rpo_examples::Letters;
use rand::RngExt;

/// Positions of a lock. The reward is 1 if all are right and 0 otherwise.
pub(crate) const LENGTH: usize = 12;
/// Symbols per position: a uniform policy opens a lock with probability 4⁻¹² = 6·10⁻⁸.
const SYMBOLS: usize = 4;
/// Locks, each with a code and rows of its own in the table.
pub(crate) const LOCKS: usize = 16;

/// Locks with random codes. The question is the lock's number, written with the symbols.
pub(crate) fn tasks(seed: u64) -> Result<Vec<Task>> {
    let key = RolloutKey {
        run: seed,
        ..RolloutKey::default()
    };
    let mut rng = key.rng(Purpose::Task);
    let mut lock = |number: usize| {
        let digits = [number / SYMBOLS, number % SYMBOLS].map(|digit| digit as TokenId);
        let code: Vec<TokenId> = (0..LENGTH)
            .map(|_| rng.random_range(0..SYMBOLS as TokenId))
            .collect();
        let code = Letters.decode(&code)?;
        Ok(Task {
            id: number as u64,
            question: Letters.decode(&digits)?,
            reference: code.clone(),
            solution: Some(code),
            ..Task::default()
        })
    };
    (0..LOCKS).map(&mut lock).collect()
}

/// A policy that knows lock and position, and opens every lock with probability `success`.
pub(crate) fn policy(tasks: &[Task], success: f64) -> Result<TabularPolicy> {
    // p = eᵇ / (eᵇ + 3) for the right symbol.
    let p = success.powf(1.0 / LENGTH as f64);
    let bonus = (p * (SYMBOLS - 1) as f64 / (1.0 - p)).ln();
    let mut policy = TabularPolicy::by_position(SYMBOLS, 2);
    for task in tasks {
        let (mut text, code) = (Letters.encode(&task.question)?.ids, code(task)?);
        for symbol in code {
            let mut logits = vec![0.0; SYMBOLS];
            logits[symbol as usize] = bonus;
            policy.start_at(&text, logits);
            text.push(symbol);
        }
    }
    Ok(policy)
}

/// Exact probability of opening a lock without guidance, mean over locks.
pub(crate) fn accuracy(policy: &TabularPolicy, tasks: &[Task]) -> Result<f64> {
    let mut sum = 0.0;
    for task in tasks {
        let mut text = Letters.encode(&task.question)?.ids;
        let mut opens = 1.0;
        for symbol in code(task)? {
            opens *= policy.probabilities(&text)[symbol as usize];
            text.push(symbol);
        }
        sum += opens;
    }
    Ok(sum / tasks.len() as f64)
}

fn code(task: &Task) -> Result<Vec<TokenId>> {
    Ok(Letters.encode(&task.reference)?.ids)
}
