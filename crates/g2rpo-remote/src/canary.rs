//! The canary: whether a server's log-probabilities of fixed sequences are the learner's.

use std::fmt;

/// How far a server's log-probabilities of the canary are from the learner's.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct CanaryReport {
    /// The server's address.
    pub server: String,
    /// Ids compared.
    pub tokens: usize,
    /// Mean distance in nats.
    pub mean: f64,
    /// Largest distance in nats.
    pub largest: f64,
    /// The mean distance that is allowed.
    pub tolerance: f64,
    /// How much of the way from the learner's previous weights to the new ones the server has gone:
    /// about 1 where the new weights arrived, 0 where the old ones are still served. `None` at the
    /// first sync, or when the learner itself did not move.
    pub progress: Option<f64>,
    /// Standard error of `progress`.
    pub progress_error: Option<f64>,
}

/// Movement of the learner that f32 cannot tell from rounding, in nats.
const STILL: f64 = 1e-5;

impl CanaryReport {
    /// Compares a server with the learner, and with the learner before its last update.
    ///
    /// With `s`, `n` and `o` the log-probabilities of server, new and old weights, the server's
    /// progress is the regression coefficient of `s − o` on `n − o`. Its standard error follows from
    /// the residuals. A mean distance alone would miss the stale weights of a small step.
    pub(crate) fn new(
        server: &str,
        served: &[f32],
        learner: &[f32],
        previous: Option<&[f32]>,
        tolerance: f64,
    ) -> Self {
        let pairs = || {
            let pairs = served.iter().zip(learner);
            pairs.map(|(s, n)| (f64::from(*s), f64::from(*n)))
        };
        let tokens = pairs().count();
        let distances = || pairs().map(|(s, n)| (s - n).abs());
        let mean = distances().sum::<f64>() / tokens.max(1) as f64;
        let along = previous.and_then(|previous| {
            let moved: Vec<(f64, f64)> = (pairs().zip(previous))
                .map(|((s, n), o)| (s - f64::from(*o), n - f64::from(*o)))
                .collect();
            let square: f64 = moved.iter().map(|(_, n)| n * n).sum();
            if square < STILL * STILL * tokens as f64 {
                return None;
            }
            let progress = moved.iter().map(|(s, n)| s * n).sum::<f64>() / square;
            let rest: f64 = moved.iter().map(|(s, n)| (s - progress * n).powi(2)).sum();
            let free = tokens.saturating_sub(1).max(1) as f64;
            Some((progress, (rest / free / square).sqrt()))
        });
        Self {
            server: server.into(),
            tokens,
            mean,
            largest: distances().fold(0.0, f64::max),
            tolerance,
            progress: along.map(|(progress, _)| progress),
            progress_error: along.map(|(_, error)| error),
        }
    }

    /// Whether the server has the learner's weights, as far as its log-probabilities tell.
    pub fn holds(&self) -> bool {
        // NaN fails the comparison.
        self.mean <= self.tolerance && !self.is_stale()
    }

    /// Whether the server stayed nearer to the old weights, and that by more than noise explains.
    fn is_stale(&self) -> bool {
        match (self.progress, self.progress_error) {
            (Some(progress), Some(error)) => progress < 0.5 && 1.0 - progress > 4.0 * error,
            _ => false,
        }
    }
}

impl fmt::Display for CanaryReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the log-probabilities of {} canary ids at {} are {:.2e} nats from the learner's in the \
             mean and {:.2e} at most (canary_tolerance {})",
            self.tokens, self.server, self.mean, self.largest, self.tolerance
        )?;
        if let (Some(progress), Some(error)) = (self.progress, self.progress_error) {
            write!(
                f,
                ", {progress:.2} ± {error:.2} of the way from the previous weights to the new ones"
            )?;
        }
        if self.is_stale() {
            write!(f, ": it still serves the previous weights")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers that look random, in (−1, 1).
    fn noise(seed: u32, n: usize) -> Vec<f32> {
        let next = |x: &mut u32| {
            *x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            Some((*x >> 8) as f32 / (1 << 23) as f32 - 1.0)
        };
        let mut x = seed;
        std::iter::from_fn(|| next(&mut x)).take(n).collect()
    }

    fn add(a: &[f32], scale: f32, b: &[f32]) -> Vec<f32> {
        a.iter().zip(b).map(|(a, b)| a + scale * b).collect()
    }

    fn report(served: &[f32], learner: &[f32], tolerance: f64) -> CanaryReport {
        CanaryReport::new("s", served, learner, None, tolerance)
    }

    #[test]
    fn distances_by_hand() {
        let apart = report(&[-1.0, -2.0], &[-1.5, -2.25], 0.3);
        assert_eq!((apart.mean, apart.largest, apart.tokens), (0.375, 0.5, 2));
        assert!(!apart.holds());
        assert!(report(&[-1.0, -2.0], &[-1.5, -2.0], 0.3).holds());
        assert!(!report(&[f32::NAN], &[-1.5], 0.3).holds());
    }

    #[test]
    fn stale_weights_are_told_from_noise() {
        let old = add(&[-5.0; 100], 3.0, &noise(1, 100));
        // The learner's step moves log-probabilities by a thousandth.
        let new = add(&old, 1e-3, &noise(2, 100));
        let serving = |weights: &[f32], size| {
            let served = add(weights, size, &noise(3, 100));
            CanaryReport::new("s", &served, &new, Some(&old), 0.05)
        };
        // Noise of the server in f32, and in bf16.
        for size in [1e-5, 1e-2] {
            let fresh = serving(&new, size);
            assert!(fresh.holds(), "{fresh}");
        }
        let stale = serving(&old, 1e-5);
        assert!(stale.mean < 0.05 && !stale.holds());
        let words = stale.to_string();
        assert!(
            words.contains("still serves the previous weights"),
            "{words}"
        );
        assert!(stale.progress.unwrap().abs() < 0.1);
    }

    #[test]
    fn a_learner_that_stood_still_has_no_progress() {
        let report = CanaryReport::new("s", &[-1.0], &[-1.0], Some(&[-1.0]), 0.1);
        assert_eq!(report.progress, None);
        assert!(report.holds());
    }
}
