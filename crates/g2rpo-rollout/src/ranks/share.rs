//! What every rank knows, said to all: numbers of any length, failures, and whether all are at the same place.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Range;

use super::collective::{Collective, RankError, Values};

/// A number for whatever must be the same on every rank. Programs of one build agree on it.
pub fn fingerprint(of: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    of.hash(&mut hasher);
    hasher.finish()
}

/// Numbers that a rank says about itself before the rest: failed or not, how many follow, and `same`.
const HEADER: usize = 4;

/// Gives every rank's numbers to every rank, in the order of ranks.
///
/// `same` must be equal on all ranks, a [`fingerprint`] of what the call is about; so a rank that has gone another
/// way is found at the first call. A rank that could not do its part says why instead.
///
/// ```
/// use g2rpo_rollout::ranks::{Solo, share};
/// assert_eq!(share(&Solo, "an example", 0, Ok(vec![1.0, 2.0])), Ok(vec![vec![1.0, 2.0]]));
/// ```
///
/// # Errors
/// [`RankError`], on all ranks alike where one differs or failed.
pub fn share(
    ranks: &dyn Collective,
    what: &'static str,
    same: u64,
    mine: Result<Vec<f64>, String>,
) -> Result<Vec<Vec<f64>>, RankError> {
    let (rank, size) = (ranks.rank(), ranks.size());
    let failed = mine.is_err();
    let mine = mine.unwrap_or_else(|message| message.bytes().map(f64::from).collect());
    if size == 1 && !failed {
        return Ok(vec![mine]);
    }
    // Every rank fills its own places of a row of zeros; halves of a u64 are exact in f64.
    let same = fingerprint((what, same));
    let mut header = vec![0.0; HEADER * size];
    header[rank * HEADER..][..HEADER].copy_from_slice(&[
        f64::from(u8::from(failed)),
        mine.len() as f64,
        f64::from((same >> 32) as u32),
        f64::from(same as u32),
    ]);
    ranks.sum(what, Values::F64(&mut header))?;
    let headers: Vec<&[f64]> = header.chunks(HEADER).collect();
    let marks: Vec<&[f64]> = headers.iter().map(|h| &h[2..]).collect();
    if let Some(rank) = odd_one_out(&marks) {
        let what = what.into();
        return Err(RankError::Differs { rank, what });
    }
    let lengths: Vec<usize> = headers.iter().map(|h| h[1] as usize).collect();
    let mut all = vec![0.0; lengths.iter().sum()];
    let range = |rank: usize| -> Range<usize> {
        let start = lengths[..rank].iter().sum();
        start..start + lengths[rank]
    };
    if !all.is_empty() {
        all[range(rank)].copy_from_slice(&mine);
        ranks.sum(what, Values::F64(&mut all))?;
    }
    if let Some(rank) = headers.iter().position(|h| h[0] > 0.0) {
        let bytes: Vec<u8> = all[range(rank)].iter().map(|b| *b as u8).collect();
        return Err(RankError::Failed {
            rank,
            what: what.into(),
            message: String::from_utf8_lossy(&bytes).into_owned(),
        });
    }
    Ok((0..size).map(|rank| all[range(rank)].to_vec()).collect())
}

/// The first rank that says something else than most do; of two halves, the one with rank 0 is right.
fn odd_one_out(marks: &[&[f64]]) -> Option<usize> {
    let votes = |mark: &[f64]| marks.iter().filter(|m| **m == mark).count();
    let most = marks.iter().map(|m| votes(m)).max()?;
    let right = marks.iter().find(|m| votes(m) == most)?;
    marks.iter().position(|m| m != right)
}

/// Reads back, one after another, numbers that a rank laid out.
pub(super) struct Reader<'a>(pub(super) &'a [f64]);

impl<'a> Reader<'a> {
    /// The next `n` numbers.
    pub(super) fn take(&mut self, n: usize) -> Result<&'a [f64], RankError> {
        let Some((taken, rest)) = self.0.split_at_checked(n) else {
            let (n, left) = (n, self.0.len());
            let text = format!("a rank sent {left} numbers where {n} were expected");
            return Err(RankError::Transport(text));
        };
        self.0 = rest;
        Ok(taken)
    }

    /// The next number, as a count.
    pub(super) fn count(&mut self) -> Result<usize, RankError> {
        Ok(self.take(1)?[0] as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_minority_is_odd() {
        let (a, b): (&[f64], &[f64]) = (&[1.0, 2.0], &[1.0, 3.0]);
        assert_eq!(odd_one_out(&[a, a]), None);
        assert_eq!(odd_one_out(&[a, b]), Some(1));
        assert_eq!(odd_one_out(&[b, a, a]), Some(0));
        assert_eq!(odd_one_out(&[a, b, a, a]), Some(1));
    }

    #[test]
    fn a_short_message_is_an_error() {
        let mut reader = Reader(&[2.0, 7.0]);
        assert_eq!(reader.count(), Ok(2));
        assert!(reader.take(2).is_err());
        assert_eq!(reader.take(1), Ok(&[7.0][..]));
    }
}
