//! What several graded samples of each problem say: pass@k, avg@k and maj@k.

/// Probability that at least one of `k` samples is right, estimated without bias from `n` samples
/// of which `c` are right: 1 − C(n−c, k) / C(n, k), after Chen et al., arXiv 2107.03374.
///
/// It is taken as the product 1 − ∏ (1 − k/i) over i = n−c+1 … n, which neither overflows nor
/// cancels. `None` where it is undefined: k = 0, k > n or c > n.
///
/// ```
/// use g2rpo_train::evaluate::statistics::pass_at_k;
/// // Two of five are right: C(3, 2) / C(5, 2) = 3/10 of the pairs hold none of them.
/// assert!((pass_at_k(5, 2, 2).unwrap() - 0.7).abs() < 1e-15);
/// assert_eq!(pass_at_k(5, 0, 2), Some(0.0));
/// assert_eq!(pass_at_k(5, 2, 6), None);
/// ```
pub fn pass_at_k(n: usize, c: usize, k: usize) -> Option<f64> {
    if k == 0 || k > n || c > n {
        return None;
    }
    if n - c < k {
        return Some(1.0);
    }
    let none_right: f64 = (n - c + 1..=n).map(|i| 1.0 - k as f64 / i as f64).product();
    Some(1.0 - none_right)
}

/// Share of the first `k` samples that are right. `None` when there are fewer, or `k` is 0.
///
/// ```
/// use g2rpo_train::evaluate::statistics::avg_at_k;
/// assert_eq!(avg_at_k(&[true, false, false, true], 2), Some(0.5));
/// assert_eq!(avg_at_k(&[true], 2), None);
/// ```
pub fn avg_at_k(correct: &[bool], k: usize) -> Option<f64> {
    let first = correct.get(..k)?;
    (k > 0).then(|| first.iter().filter(|c| **c).count() as f64 / k as f64)
}

/// What a sample votes for when the majority decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Vote<'a> {
    /// The right answer, however it is written: what a verifier calls right has one value.
    Right,
    /// A wrong answer; equal texts are one vote.
    Wrong(&'a str),
    /// No answer was found. It takes a place among the samples and votes for nothing.
    Abstained,
}

/// Probability that the most frequent answer of `k` samples, drawn without replacement from
/// `votes`, is the right one. Among answers equally frequent one is drawn; nobody's vote is wrong.
///
/// With k = n this is the usual maj@n; with smaller `k` it is the exact expectation over all
/// subsets, counted by dynamic programming rather than drawn. `None` for k = 0, k > n, and for
/// more than 1,000 votes, where the counts leave the range of f64.
///
/// ```
/// use g2rpo_train::evaluate::statistics::{Vote, maj_at_k};
/// let votes = [Vote::Right, Vote::Right, Vote::Wrong("7")];
/// assert_eq!(maj_at_k(&votes, 3), Some(1.0));
/// // One pair of three is right twice; the other two are ties, won half of the time.
/// assert!((maj_at_k(&votes, 2).unwrap() - 2.0 / 3.0).abs() < 1e-15);
/// ```
pub fn maj_at_k(votes: &[Vote<'_>], k: usize) -> Option<f64> {
    let n = votes.len();
    if k == 0 || k > n || n > 1000 {
        return None;
    }
    let count = |vote: &Vote<'_>| votes.iter().filter(|v| *v == vote).count();
    let right = count(&Vote::Right);
    let abstained = count(&Vote::Abstained);
    let mut wrong: Vec<&str> = (votes.iter())
        .filter_map(|v| match v {
            Vote::Wrong(text) => Some(*text),
            Vote::Right | Vote::Abstained => None,
        })
        .collect();
    wrong.sort_unstable();
    let classes: Vec<usize> = (wrong.chunk_by(|a, b| a == b)).map(<[&str]>::len).collect();
    let won: f64 = (1..=right.min(k))
        .map(|most| ways_to_win(right, abstained, &classes, k, most))
        // The sum of nothing would be −0.
        .fold(0.0, |sum, ways| sum + ways);
    Some(won / choose(n, k))
}

/// Number of subsets of size `k` in which the right answer has `most` votes and no other has more;
/// a subset in which it shares the lead with t others counts 1/(t+1).
fn ways_to_win(right: usize, abstained: usize, classes: &[usize], k: usize, most: usize) -> f64 {
    let rest = k - most;
    // ways[ties][size]: `size` votes among the classes so far, of which `ties` have `most` votes.
    let max_ties = rest / most;
    let mut ways = vec![vec![0.0; rest + 1]; max_ties + 1];
    for (size, way) in ways[0].iter_mut().enumerate() {
        *way = choose(abstained, size);
    }
    for &class in classes {
        let mut next = vec![vec![0.0; rest + 1]; max_ties + 1];
        for (ties, of_ties) in ways.iter().enumerate() {
            for (size, &before) in of_ties.iter().enumerate() {
                // More ties than `max_ties` would be more votes than `rest`: no such subset.
                if before == 0.0 {
                    continue;
                }
                for taken in 0..=most.min(class).min(rest - size) {
                    let ties = ties + usize::from(taken == most);
                    next[ties][size + taken] += before * choose(class, taken);
                }
            }
        }
        ways = next;
    }
    let shared = (ways.iter().enumerate()).map(|(ties, ways)| ways[rest] / (ties + 1) as f64);
    choose(right, most) * shared.sum::<f64>()
}

/// Binomial coefficient; 0 where `k` is larger than `n`.
fn choose(n: usize, k: usize) -> f64 {
    if k > n {
        return 0.0;
    }
    (0..k.min(n - k)).fold(1.0, |c, i| c * (n - i) as f64 / (i + 1) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluate::fixture::fixture;
    use serde::Deserialize;

    #[derive(Deserialize)]
    struct Fixture {
        pass_at_k: Vec<(usize, usize, usize, f64)>,
        maj_at_k: Vec<Majority>,
    }

    #[derive(Deserialize)]
    struct Majority {
        right: usize,
        abstained: usize,
        wrong: Vec<usize>,
        k: usize,
        expected: f64,
    }

    #[test]
    fn pass_at_k_is_the_ratio_of_binomials() {
        for (n, c, k, expected) in fixture::<Fixture>().pass_at_k {
            let got = pass_at_k(n, c, k).unwrap();
            let close = (got - expected).abs() < 1e-13;
            assert!(close, "{n} {c} {k}: {got} {expected}");
        }
        assert_eq!(pass_at_k(3, 1, 0), None);
        assert_eq!(pass_at_k(3, 4, 1), None);
    }

    #[test]
    fn majority_is_that_of_all_subsets_counted_one_by_one() {
        for case in fixture::<Fixture>().maj_at_k {
            let texts = ["a", "b", "c", "d", "e"];
            let mut votes = vec![Vote::Right; case.right];
            votes.extend(vec![Vote::Abstained; case.abstained]);
            for (text, &n) in texts.iter().zip(&case.wrong) {
                votes.extend(vec![Vote::Wrong(text); n]);
            }
            // The order of the samples does not matter.
            votes.reverse();
            let got = maj_at_k(&votes, case.k).unwrap();
            let expected = case.expected;
            assert!((got - expected).abs() < 1e-13, "{got} {expected} {votes:?}");
        }
    }

    #[test]
    fn many_votes_stay_finite_and_too_many_are_refused() {
        let mut votes = vec![Vote::Right; 500];
        votes.extend(vec![Vote::Wrong("x"); 500]);
        let even = maj_at_k(&votes, 7).unwrap();
        assert!((even - 0.5).abs() < 1e-9, "{even}");
        votes.push(Vote::Abstained);
        assert_eq!(maj_at_k(&votes, 7), None);
    }
}
