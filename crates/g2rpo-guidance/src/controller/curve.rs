//! How success depends on the part of the trace that is given.

/// Slopes, places and chance rates that a curve may have; each triple is as likely as any other
/// before anything is seen.
const SLOPES: [f64; 4] = [4.0, 8.0, 16.0, 32.0];
const CHANCES: [f64; 3] = [0.0, 0.05, 0.25];
/// Places from -0.25 (solved without guidance) to 1.25 (not solved with all of it).
const N_PLACES: usize = 31;

/// Share of successes as a function of the part of the trace that is given.
///
/// The item-response curve of SEELE (arXiv 2509.06923), with the three parameters slope `a`, place
/// `b` and chance `c`:
///
/// ```text
/// P(x) = c + (1 - c) / (1 + exp(-a (x - b)))
/// ```
///
/// Three parameters have no stable best fit to a handful of rollouts, so the curve is the mean over
/// all parameters of a grid (`a` of 4, 8, 16, 32; `b` from -0.25 to 1.25 in steps of 0.05; `c` of
/// 0, 0.05, 0.25), each weighted by how well it explains what was seen. It rises with `x` always.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ResponseCurve {
    /// One weight per triple of the grid, in the order of [`grid`]; they sum to 1.
    weights: Vec<f64>,
}

impl ResponseCurve {
    /// Learns from triples of fraction, rollouts and successes. Numbers of rollouts may be
    /// fractions, for evidence that has aged. Triples with a number that is not finite or below 0
    /// are left out; successes beyond the rollouts count as all of them.
    pub(crate) fn fit(observations: impl IntoIterator<Item = (f64, f64, f64)>) -> Self {
        let seen: Vec<(f64, f64, f64)> = (observations.into_iter())
            .filter(|(x, n, s)| [x, n, s].iter().all(|v| v.is_finite() && **v >= 0.0))
            .map(|(x, n, s)| (x, n, s.min(n)))
            .collect();
        let likelihood = |point: Point| -> f64 {
            let of_one = |&(x, n, s): &(f64, f64, f64)| {
                // A triple that excludes what happened keeps a little weight.
                let p = point.success(x).clamp(1e-6, 1.0 - 1e-6);
                s * p.ln() + (n - s) * (1.0 - p).ln()
            };
            seen.iter().map(of_one).sum()
        };
        let mut weights: Vec<f64> = grid().map(likelihood).collect();
        let best = weights.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        weights.iter_mut().for_each(|w| *w = (*w - best).exp());
        let total: f64 = weights.iter().sum();
        weights.iter_mut().for_each(|w| *w /= total);
        Self { weights }
    }

    /// Expected share of successes when `fraction` of the trace is given, in (0, 1).
    pub(crate) fn success(&self, fraction: f64) -> f64 {
        (grid().zip(&self.weights))
            .map(|(point, w)| w * point.success(fraction))
            .sum()
    }

    /// The smallest fraction in [0, 1] at which the expected share reaches `target`, to 1e-6; 1 if
    /// none does.
    pub(crate) fn fraction_for(&self, target: f64) -> f64 {
        if self.success(0.0) >= target {
            return 0.0;
        }
        if self.success(1.0) < target {
            return 1.0;
        }
        let (mut low, mut high) = (0.0, 1.0);
        for _ in 0..20 {
            let middle = f64::midpoint(low, high);
            if self.success(middle) < target {
                low = middle;
            } else {
                high = middle;
            }
        }
        high
    }
}

#[derive(Clone, Copy)]
struct Point {
    slope: f64,
    place: f64,
    chance: f64,
}

impl Point {
    fn success(self, fraction: f64) -> f64 {
        let odds = (-self.slope * (fraction - self.place)).exp();
        self.chance + (1.0 - self.chance) / (1.0 + odds)
    }
}

fn grid() -> impl Iterator<Item = Point> {
    (SLOPES.into_iter()).flat_map(|slope| {
        (0..N_PLACES).flat_map(move |i| {
            let place = 0.05 * i as f64 - 0.25;
            (CHANCES.into_iter()).map(move |chance| Point {
                slope,
                place,
                chance,
            })
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(serde::Deserialize)]
    struct Vectors {
        response_curve: Case,
    }

    #[derive(serde::Deserialize)]
    struct Case {
        observations: Vec<Vec<(f64, f64, f64)>>,
        points: Vec<f64>,
        successes: Vec<Vec<f64>>,
    }

    #[test]
    fn curves_follow_their_formula() {
        let json = include_str!("../../../../testdata/guidance/trajectories.json");
        let case = serde_json::from_str::<Vectors>(json)
            .unwrap()
            .response_curve;
        assert_eq!(case.observations.len(), case.successes.len());
        for (observations, successes) in case.observations.into_iter().zip(case.successes) {
            let curve = ResponseCurve::fit(observations.iter().copied());
            for (&x, want) in case.points.iter().zip(successes) {
                let got = curve.success(x);
                assert!((got - want).abs() < 1e-12, "{observations:?} at {x}: {got}");
            }
        }
    }

    #[test]
    fn half_succeed_where_the_curve_says() {
        // Eight failures with nothing, eight successes with half of the trace.
        let curve = ResponseCurve::fit([(0.0, 8.0, 0.0), (0.5, 8.0, 8.0)]);
        let half = curve.fraction_for(0.5);
        assert!(0.1 < half && half < 0.4);
        assert!((curve.success(half) - 0.5).abs() < 1e-4);
    }

    #[test]
    fn evidence_moves_the_curve_and_it_always_rises() {
        let nothing = ResponseCurve::fit([]);
        let hard = ResponseCurve::fit([(0.5, 16.0, 0.0)]);
        let easy = ResponseCurve::fit([(0.5, 16.0, 16.0)]);
        let xs = || (0..=20).map(|i| f64::from(i) / 20.0);
        for curve in [&nothing, &hard, &easy] {
            let values: Vec<f64> = xs().map(|x| curve.success(x)).collect();
            assert!(values.windows(2).all(|w| w[0] < w[1]), "{values:?}");
            assert!((curve.weights.iter().sum::<f64>() - 1.0).abs() < 1e-12);
        }
        assert!(xs().all(|x| hard.success(x) < nothing.success(x)));
        assert!(xs().all(|x| easy.success(x) > nothing.success(x)));
    }

    #[test]
    fn what_is_always_or_never_solved_ends_at_the_bounds() {
        let solved = ResponseCurve::fit([(0.0, 64.0, 60.0)]);
        assert_eq!(solved.fraction_for(0.5), 0.0);
        let hopeless = ResponseCurve::fit([(1.0, 64.0, 0.0)]);
        assert_eq!(hopeless.fraction_for(0.5), 1.0);
    }

    #[test]
    fn a_known_curve_is_found_again() {
        // P(x) = σ(16 (x - 0.6)) at eight places, 400 rollouts each.
        let truth = |x: f64| 1.0 / (1.0 + (-16.0 * (x - 0.6)).exp());
        let seen = (1..=8).map(|i| f64::from(i) / 8.0);
        let curve = ResponseCurve::fit(seen.map(|x| (x, 400.0, (400.0 * truth(x)).round())));
        for x in [0.1, 0.5, 0.6, 0.9] {
            assert!((curve.success(x) - truth(x)).abs() < 0.02, "{x}");
        }
        assert!((curve.fraction_for(0.5) - 0.6).abs() < 0.01);
    }

    #[test]
    fn mad_observations_are_left_out() {
        let mad = [
            (f64::NAN, 1.0, 1.0),
            (0.5, f64::INFINITY, 0.0),
            (0.5, 1.0, -1.0),
        ];
        assert_eq!(ResponseCurve::fit(mad), ResponseCurve::fit([]));
        let beyond = ResponseCurve::fit([(0.5, 2.0, 9.0)]);
        assert_eq!(beyond, ResponseCurve::fit([(0.5, 2.0, 2.0)]));
        let huge = ResponseCurve::fit([(0.5, 1e300, 1.0)]);
        assert!(huge.success(0.5).is_finite());
    }
}
