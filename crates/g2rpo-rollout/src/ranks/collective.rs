//! The group of processes that train together, as a trait, and its errors.

use std::any::Any;
use std::fmt;

/// The processes of a run, seen from one of them.
///
/// Every rank makes the same calls in the same order. Three methods are enough: whatever else ranks have to say
/// is a sum in which each fills its own places ([`share`](super::share)).
///
/// After an error the group is of no use: every later call on this rank fails with the same error.
pub trait Collective: Send + Sync + fmt::Debug {
    /// Number of this process, from 0. Rank 0 writes files.
    fn rank(&self) -> usize;

    /// Number of processes, at least 1.
    fn size(&self) -> usize;

    /// Replaces the values by their sums over all ranks, the same bits on every rank. `what` says in an error
    /// what the sum was for.
    ///
    /// # Errors
    /// [`RankError`]: a rank ended, or did not make the call within the time limit.
    fn sum(&self, what: &'static str, values: Values<'_>) -> Result<(), RankError>;

    /// The group as it is, for a learner that knows groups which sum what is not in host memory.
    fn as_any(&self) -> Option<&dyn Any> {
        None
    }
}

/// Numbers to be summed, as many on every rank.
#[derive(Debug)]
pub enum Values<'a> {
    /// In single precision.
    F32(&'a mut [f32]),
    /// In double precision.
    F64(&'a mut [f64]),
}

/// Why ranks cannot go on together.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum RankError {
    /// Ranks ended or hang.
    #[error(
        "{} did not take part in {what}: ended, or hung for {seconds} s; this rank stops. Resume from the last checkpoint",
        names(ranks)
    )]
    Lost {
        /// The ranks.
        ranks: Vec<usize>,
        /// The call they are missing from.
        what: String,
        /// The time limit.
        seconds: f64,
    },
    /// A rank failed in its part of the work.
    #[error("rank {rank} failed in {what}: {message}")]
    Failed {
        /// The rank.
        rank: usize,
        /// What it was doing.
        what: String,
        /// Its error.
        message: String,
    },
    /// A rank does something else than the others.
    #[error(
        "rank {rank} differs from the others in {what}: every rank needs the same program, checkpoint, data, seed and settings"
    )]
    Differs {
        /// The rank.
        rank: usize,
        /// What differs.
        what: String,
    },
    /// The connection between ranks does not work.
    #[error("ranks: {0}")]
    Transport(String),
}

/// `rank 1`, or `ranks 1 and 2`.
fn names(ranks: &[usize]) -> String {
    let numbers: Vec<String> = ranks.iter().map(usize::to_string).collect();
    match numbers.as_slice() {
        [one] => format!("rank {one}"),
        [all @ .., last] => format!("ranks {} and {last}", all.join(", ")),
        [] => "a rank that cannot be named".into(),
    }
}

/// A run of one process.
#[derive(Debug, Clone, Copy, Default)]
pub struct Solo;

impl Collective for Solo {
    fn rank(&self) -> usize {
        0
    }

    fn size(&self) -> usize {
        1
    }

    fn sum(&self, _what: &'static str, _values: Values<'_>) -> Result<(), RankError> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lost_ranks_are_named() {
        let lost = |ranks: &[usize]| RankError::Lost {
            ranks: ranks.to_vec(),
            what: "the sum of gradients".into(),
            seconds: 30.0,
        };
        assert_eq!(
            lost(&[1]).to_string(),
            "rank 1 did not take part in the sum of gradients: ended, or hung for 30 s; this rank stops. \
             Resume from the last checkpoint"
        );
        assert!(
            lost(&[0, 2, 3])
                .to_string()
                .starts_with("ranks 0, 2 and 3 did")
        );
    }
}
