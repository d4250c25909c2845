//! Two runs on the same problems: is one better, or was it luck?

use serde::Serialize;

use super::interval::{Interval, bootstrap_mean};

/// What the same problems say about two runs. Differences are second minus first.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct PairedComparison {
    /// Problems that both runs answered.
    pub n: usize,
    /// Mean of the first run.
    pub first: f64,
    /// Mean of the second run.
    pub second: f64,
    /// Mean of the differences.
    pub difference: f64,
    /// 95 % interval of that mean, by the bootstrap over problems.
    pub interval: Interval,
    /// Problems on which the second run is better.
    pub wins: usize,
    /// Problems on which it is worse.
    pub losses: usize,
    /// Of [`sign_test`] on wins and losses.
    pub p_value: f64,
}

/// Compares two runs by the value of each problem, such as the share of its samples that are right.
/// `pairs` holds (first, second) of every problem that both answered; `seed` keys the bootstrap's
/// 10,000 draws. `None` without a problem.
///
/// Pairing removes what makes problems differ from each other, which is most of the noise of two
/// separate accuracies.
///
/// ```
/// use g2rpo_train::evaluate::paired::compare_paired;
/// let pairs = [(0.0, 1.0), (0.0, 1.0), (1.0, 1.0), (0.0, 0.0)];
/// let c = compare_paired(&pairs, 0).unwrap();
/// assert_eq!((c.first, c.second, c.difference), (0.25, 0.75, 0.5));
/// // Two heads in a row, or two tails: 2 · 1/4.
/// assert_eq!((c.wins, c.losses, c.p_value), (2, 0, 0.5));
/// ```
pub fn compare_paired(pairs: &[(f64, f64)], seed: u64) -> Option<PairedComparison> {
    const DRAWS: usize = 10_000;
    let differences: Vec<f64> = pairs.iter().map(|(a, b)| b - a).collect();
    let interval = bootstrap_mean(&differences, 0.95, DRAWS, seed)?;
    let n = pairs.len();
    let mean = |sum: f64| sum / n as f64;
    let wins = differences.iter().filter(|d| **d > 0.0).count();
    let losses = differences.iter().filter(|d| **d < 0.0).count();
    Some(PairedComparison {
        n,
        first: mean(pairs.iter().map(|p| p.0).sum()),
        second: mean(pairs.iter().map(|p| p.1).sum()),
        difference: mean(differences.iter().sum()),
        interval,
        wins,
        losses,
        p_value: sign_test(wins, losses),
    })
}

/// Two-sided exact sign test: how likely a fair coin is to be at least as one-sided as `wins`
/// against `losses`. Ties say nothing and are left out. 1 when there is neither.
///
/// With one sample for each problem, wins and losses are the discordant pairs, and this is
/// McNemar's exact test.
///
/// ```
/// use g2rpo_train::evaluate::paired::sign_test;
/// assert_eq!(sign_test(0, 0), 1.0);
/// // (1 + 5) of 32 on either side.
/// assert!((sign_test(4, 1) - 12.0 / 32.0).abs() < 1e-15);
/// ```
pub fn sign_test(wins: usize, losses: usize) -> f64 {
    let n = wins + losses;
    // ln C(n, i) grows term by term, so that no coefficient overflows.
    let mut ln_choose = 0.0;
    let ln_half_n = n as f64 * 0.5_f64.ln();
    let mut tail = 0.0;
    for i in 0..=wins.min(losses) {
        tail += f64::exp(ln_choose + ln_half_n);
        ln_choose += ((n - i) as f64 / (i + 1) as f64).ln();
    }
    (2.0 * tail).min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluate::fixture::fixture;
    use serde::Deserialize;

    #[derive(Deserialize)]
    struct Fixture {
        sign_test: Vec<(usize, usize, f64)>,
    }

    #[test]
    fn the_sign_test_is_scipys_and_mcnemars() {
        for (wins, losses, p) in fixture::<Fixture>().sign_test {
            let got = sign_test(wins, losses);
            assert!((got - p).abs() < 1e-9 * p, "{wins} {losses}: {got} {p}");
        }
    }

    #[test]
    fn a_difference_that_every_problem_shows_is_sure() {
        let pairs = (0..20).map(f64::from).map(|x| (x, x + 0.5));
        let c = compare_paired(&Vec::from_iter(pairs), 3).unwrap();
        assert_eq!((c.interval.low, c.interval.high), (0.5, 0.5));
        assert_eq!((c.wins, c.losses), (20, 0));
        assert!(c.p_value < 2e-6);
        assert!(compare_paired(&[], 3).is_none());
    }
}
