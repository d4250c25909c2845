//! Word problems of a given number of steps, made up.

use std::collections::HashSet;
use std::fmt::Write;

use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::{Error, Result, Task};

/// Word problems in the format of GSM8K whose difficulty is their number of steps.
///
/// A person starts with some things and gains or loses a few in every step; the solution is a
/// line per step with the calculator mark `<<a+b=c>>`, then `#### answer`. Amounts stay within
/// `0..=max_total`, so a policy that knows the arithmetic of one step can fail only by losing the
/// thread of a long chain, which is what guidance is about.
///
/// ```
/// use g2rpo_rollout::{ChainProblems, Split};
/// let tasks = ChainProblems::default().generate(2, 3, Split::Train, 7)?;
/// assert_eq!(tasks.len(), 3);
/// assert_eq!(tasks[0].difficulty, Some(2.0));
/// assert_eq!(tasks[0].solution.as_ref().unwrap().lines().count(), 3);
/// # Ok::<(), g2rpo_rollout::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChainProblems {
    /// Largest amount held at any time. Default 99: two digits.
    pub max_total: u32,
    /// Largest amount gained or lost in one step. Default 9: one digit.
    pub max_change: u32,
}

/// Which half of the problems: a chain of numbers belongs to one of them whatever words surround
/// it, so held-out chains were never trained on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Split {
    /// Nine tenths of all chains.
    Train,
    /// One tenth.
    HeldOut,
}

impl Default for ChainProblems {
    fn default() -> Self {
        Self {
            max_total: 99,
            max_change: 9,
        }
    }
}

const NAMES: [&str; 8] = ["Mia", "Tom", "Ana", "Ben", "Zoe", "Sam", "Eva", "Max"];
const THINGS: [&str; 8] = [
    "shells", "coins", "cards", "books", "beads", "stamps", "pens", "apples",
];
const GAINS: [&str; 4] = ["finds", "buys", "gets", "wins"];
const LOSSES: [&str; 4] = ["loses", "sells", "gives", "drops"];

impl ChainProblems {
    /// `n` different problems of exactly `steps` steps; ids count from 0.
    ///
    /// The same arguments give the same problems on every machine.
    ///
    /// # Errors
    /// [`Error::TooFewProblems`] if so many different ones do not exist or are too rare to find.
    pub fn generate(&self, steps: usize, n: usize, split: Split, seed: u64) -> Result<Vec<Task>> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(2 * steps as u64 + u64::from(split == Split::HeldOut));
        let mut tasks = Vec::with_capacity(n);
        let mut seen = HashSet::new();
        let tries = 100 * n + 1000;
        for _ in 0..tries {
            if tasks.len() == n {
                break;
            }
            let chain = self.chain(steps, &mut rng);
            if chain_split(&chain) != split {
                continue;
            }
            let task = tell(&chain, tasks.len() as u64, &mut rng);
            if seen.insert(task.question.clone()) {
                tasks.push(task);
            }
        }
        if tasks.len() < n {
            return Err(Error::TooFewProblems {
                made: tasks.len(),
                steps,
                tries,
                asked: n,
            });
        }
        Ok(tasks)
    }

    /// The start, then one signed change per step.
    fn chain(&self, steps: usize, rng: &mut impl Rng) -> Vec<i64> {
        let max = i64::from(self.max_total);
        let mut total = rng.random_range(0..=max);
        let mut chain = vec![total];
        while chain.len() <= steps {
            let size = rng.random_range(1..=i64::from(self.max_change.max(1)));
            let change = if rng.random() { size } else { -size };
            if (0..=max).contains(&(total + change)) {
                total += change;
                chain.push(change);
            } else if max < size {
                chain.push(0);
            }
        }
        chain
    }
}

/// FNV-1a of the numbers: stable across platforms and releases, unlike the standard hasher.
fn chain_split(chain: &[i64]) -> Split {
    let hash = chain
        .iter()
        .flat_map(|n| n.to_le_bytes())
        .fold(0xcbf2_9ce4_8422_2325_u64, |h, byte| {
            (h ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
    // The low bits of FNV mix poorly for short inputs.
    if (hash >> 32) % 10 == 0 {
        Split::HeldOut
    } else {
        Split::Train
    }
}

fn tell(chain: &[i64], id: u64, rng: &mut impl Rng) -> Task {
    let mut pick = |words: &[&'static str]| words[rng.random_range(0..words.len())];
    let (name, things) = (pick(&NAMES), pick(&THINGS));
    let mut total = chain[0];
    let mut question = format!("{name} has {total} {things}");
    let mut solution = String::new();
    for &change in &chain[1..] {
        let (verb, sign) = if change < 0 {
            (pick(&LOSSES), '-')
        } else {
            (pick(&GAINS), '+')
        };
        let (before, size) = (total, change.abs());
        total += change;
        // Writing to a String cannot fail.
        let _ = write!(question, ", {verb} {size}");
        let _ = writeln!(solution, "<<{before}{sign}{size}={total}>>{total} {things}");
    }
    let _ = write!(question, ". How many {things} does {name} have now?");
    let _ = write!(solution, "#### {total}");
    Task {
        id,
        question,
        reference: total.to_string(),
        solution: Some(solution),
        difficulty: Some((chain.len() - 1) as f64),
        ..Task::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn generate(steps: usize, n: usize, split: Split, seed: u64) -> Vec<Task> {
        ChainProblems::default()
            .generate(steps, n, split, seed)
            .unwrap()
    }

    #[test]
    fn same_seed_same_problems() {
        let of = |seed| generate(3, 20, Split::Train, seed);
        assert_eq!(of(1), of(1));
        assert_ne!(of(1), of(2));
    }

    #[test]
    fn no_chain_is_in_both_splits() {
        let numbers =
            |t: &Task| t.solution.clone().unwrap() + &t.question[..t.question.find(',').unwrap()];
        let of =
            |split, n| HashSet::<String>::from_iter(generate(2, n, split, 1).iter().map(numbers));
        assert!(of(Split::Train, 2000).is_disjoint(&of(Split::HeldOut, 300)));
    }

    #[test]
    fn every_mark_is_right_and_carries_on_from_the_last() {
        for task in generate(6, 200, Split::Train, 5) {
            let start: i64 = task.question.split(' ').nth(2).unwrap().parse().unwrap();
            let mut total = start;
            let solution = task.solution.unwrap();
            let mut lines = solution.lines();
            for line in lines.by_ref().take(6) {
                let mark = &line[line.find("<<").unwrap() + 2..line.find(">>").unwrap()];
                let (left, right) = mark.split_once('=').unwrap();
                let sign = left.find(['+', '-']).unwrap();
                let [a, b, sum] =
                    [&left[..sign], &left[sign..], right].map(|n| n.parse::<i64>().unwrap());
                assert_eq!(a, total, "{solution}");
                total = sum;
                assert_eq!(a + b, total);
                assert!((0..=99).contains(&total));
            }
            assert_eq!(lines.next(), Some(format!("#### {total}").as_str()));
            assert_eq!(task.reference, total.to_string());
        }
    }

    #[test]
    fn impossible_requests_end() {
        let of = |max_total, max_change| ChainProblems {
            max_total,
            max_change,
        };
        let tiny = of(1, 1).generate(1, 5_000, Split::Train, 0);
        let is_named = matches!(tiny, Err(Error::TooFewProblems { steps: 1, .. }));
        assert!(is_named, "{tiny:?}");
        assert!(of(0, 5).generate(2, 1, Split::Train, 0).is_ok());
    }
}
