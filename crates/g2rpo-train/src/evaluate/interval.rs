//! How sure a measured accuracy is: Wilson's interval for a share, the bootstrap for means over
//! problems.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

/// Number of standard deviations that hold 95 % of a normal distribution.
pub const Z95: f64 = 1.959_963_984_540_054;

/// An interval that holds the true value with the confidence it was made for.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

/// Wilson's score interval for a share of which `successes` of `n` independent trials are seen, after
/// Wilson (1927); `z` is the number of standard deviations, such as [`Z95`].
///
/// Unlike p ± z·√(p(1−p)/n) it stays in [0, 1] and is not empty at 0 and n. Without trials nothing
/// is known: [0, 1].
///
/// ```
/// use g2rpo_train::evaluate::interval::{Z95, wilson};
/// // With z = 2 and none of 4: low 0, high z²/(n + z²) = 4/8.
/// let interval = wilson(0, 4, 2.0);
/// assert_eq!((interval.low, interval.high), (0.0, 0.5));
/// assert!(wilson(50, 100, Z95).low > 0.40 && wilson(50, 100, Z95).high < 0.60);
/// ```
pub fn wilson(successes: usize, n: usize, z: f64) -> Interval {
    if n == 0 {
        let (low, high) = (0.0, 1.0);
        return Interval { low, high };
    }
    let (n, p) = (n as f64, successes as f64 / n as f64);
    let z2 = z * z;
    let centre = (p + z2 / (2.0 * n)) / (1.0 + z2 / n);
    let half = z / (1.0 + z2 / n) * (p * (1.0 - p) / n + z2 / (4.0 * n * n)).sqrt();
    Interval {
        low: (centre - half).max(0.0),
        high: (centre + half).min(1.0),
    }
}

/// Interval of the mean over problems by Efron's percentile bootstrap: problems are drawn with
/// replacement `draws` times, the ends are the quantiles (1 ± `confidence`)/2 of the means.
///
/// Draws depend on `seed` alone. Samples of one problem are not independent, so it is problems that
/// are drawn. `None` without values or draws.
///
/// ```
/// use g2rpo_train::evaluate::interval::bootstrap_mean;
/// let same = bootstrap_mean(&[0.25; 8], 0.95, 100, 0).unwrap();
/// assert_eq!((same.low, same.high), (0.25, 0.25));
/// assert!(bootstrap_mean(&[], 0.95, 100, 0).is_none());
/// ```
pub fn bootstrap_mean(
    values: &[f64],
    confidence: f64,
    draws: usize,
    seed: u64,
) -> Option<Interval> {
    if values.is_empty() || draws == 0 {
        return None;
    }
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let n = values.len();
    let mut means: Vec<f64> = (0..draws)
        .map(|_| (0..n).map(|_| values[rng.random_range(0..n)]).sum::<f64>() / n as f64)
        .collect();
    means.sort_by(f64::total_cmp);
    let tail = (1.0 - confidence) / 2.0;
    Some(Interval {
        low: quantile(&means, tail),
        high: quantile(&means, 1.0 - tail),
    })
}

/// Quantile of sorted values, linear between them, as numpy's default.
fn quantile(sorted: &[f64], q: f64) -> f64 {
    let at = q.clamp(0.0, 1.0) * (sorted.len() - 1) as f64;
    let below = at.floor() as usize;
    let above = (below + 1).min(sorted.len() - 1);
    sorted[below] + (sorted[above] - sorted[below]) * (at - below as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluate::fixture::fixture;
    use serde::Deserialize;

    #[derive(Deserialize)]
    struct Fixture {
        wilson: Vec<(usize, usize, f64, f64)>,
        bootstrap_values: Vec<f64>,
        bootstrap: Interval,
    }

    #[test]
    fn wilson_agrees_with_scipy() {
        for (successes, n, low, high) in fixture::<Fixture>().wilson {
            let got = wilson(successes, n, Z95);
            assert!((got.low - low).abs() < 1e-12, "{successes}/{n}: {got:?}");
            assert!((got.high - high).abs() < 1e-12, "{successes}/{n}: {got:?}");
        }
        assert_eq!(wilson(0, 0, Z95).high, 1.0);
    }

    #[test]
    fn the_bootstrap_agrees_with_scipy_within_its_own_noise() {
        let f: Fixture = fixture();
        let got = bootstrap_mean(&f.bootstrap_values, 0.95, 20_000, 1).unwrap();
        // The ends of 20,000 draws vary by about 0.002 here; those of scipy were 200,000.
        assert!((got.low - f.bootstrap.low).abs() < 0.01, "{got:?}");
        assert!((got.high - f.bootstrap.high).abs() < 0.01, "{got:?}");
        let again = bootstrap_mean(&f.bootstrap_values, 0.95, 20_000, 1);
        assert_eq!(again, Some(got));
        let other = bootstrap_mean(&f.bootstrap_values, 0.95, 50, 2);
        assert_ne!(other, bootstrap_mean(&f.bootstrap_values, 0.95, 50, 1));
    }

    #[test]
    fn quantiles_are_linear_between_values() {
        let sorted = [1.0, 2.0, 4.0];
        for (q, expected) in [(0.0, 1.0), (0.25, 1.5), (0.75, 3.0), (1.0, 4.0)] {
            assert_eq!(quantile(&sorted, q), expected);
        }
    }
}
