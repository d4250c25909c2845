//! The arithmetic of one group.

use super::{AdvantageEstimator, Baseline, Scale, Singleton, Stratum};

impl AdvantageEstimator {
    /// Writes the advantages of one stratum's scored members.
    pub(super) fn of_stratum(
        &self,
        stratum: &Stratum,
        rewards: &[Option<f64>],
        lengths: Option<&[usize]>,
        batch_std: f64,
        advantages: &mut [f64],
    ) {
        let scored = |rows: &[usize]| -> (Vec<usize>, Vec<f64>) {
            rows.iter().filter_map(|&i| Some((i, rewards[i]?))).unzip()
        };
        let (rows, values) = scored(&stratum.members);
        let (mut reference_rows, mut reference) = scored(&stratum.reference);
        if reference.is_empty() {
            (reference_rows, reference) = (rows.clone(), values.clone());
        }
        if let ([row], [value]) = (rows.as_slice(), values.as_slice()) {
            advantages[*row] = match self.singleton {
                Singleton::Zero => 0.0,
                Singleton::Reward if self.scale == Scale::GroupStd => value / (1.0 + self.eps),
                Singleton::Reward => *value,
            };
            return;
        }
        // Equality, not a small standard deviation: rounding leaves a residue in the latter.
        if is_constant(&values) {
            return;
        }
        let differences = match self.baseline {
            Baseline::Mean => subtract(&values, mean(&reference)),
            Baseline::LengthWeighted => {
                let weights: Vec<f64> = (reference_rows.iter())
                    .map(|&i| lengths.map_or(1.0, |lengths| lengths[i] as f64))
                    .collect();
                subtract(&values, weighted_mean(&reference, &weights))
            }
            Baseline::LeaveOneOut => {
                let n = values.len() as f64;
                let mut differences = subtract(&values, mean(&values));
                differences.iter_mut().for_each(|d| *d *= n / (n - 1.0));
                differences
            }
            Baseline::SecondBest => lead_of_the_best(&values),
            Baseline::PassAtK { k } => pass_at_k(&values, k, self.eps),
        };
        let group_std = std(&reference, self.ddof).unwrap_or(0.0);
        let group_mean = mean(&reference);
        for (place, (&row, &difference)) in rows.iter().zip(&differences).enumerate() {
            let divisor = match self.scale {
                Scale::None | Scale::Whiten => None,
                Scale::GroupStd => Some(group_std),
                Scale::BatchStd => Some(batch_std),
                Scale::LeaveOneOutStd => {
                    let mut others = values.clone();
                    others.remove(place);
                    (!is_constant(&others)).then(|| std(&others, self.ddof).unwrap_or(0.0))
                }
                Scale::GroupMean => Some(group_mean),
            };
            advantages[row] = match divisor.map(|divisor| divisor + self.eps) {
                None => difference,
                // No spread and no eps to stand in for it: there is no scale to speak of.
                Some(0.0) => 0.0,
                Some(divisor) => difference / divisor,
            };
        }
    }
}

/// Whether all values are equal; true of none and of one.
pub(super) fn is_constant(values: &[f64]) -> bool {
    values.windows(2).all(|pair| pair[0] == pair[1])
}

/// Mean, exactly the common value where all are equal; 0 of none.
pub(super) fn mean(values: &[f64]) -> f64 {
    match values {
        [] => 0.0,
        [first, ..] if is_constant(values) => *first,
        // Differences from the first value keep the sum small and lose no digits to a common part.
        [first, ..] => first + values.iter().map(|v| v - first).sum::<f64>() / values.len() as f64,
    }
}

/// Two-pass standard deviation, `None` where `n ≤ ddof`.
pub(super) fn std(values: &[f64], ddof: usize) -> Option<f64> {
    if values.len() <= ddof {
        return None;
    }
    if is_constant(values) {
        return Some(0.0);
    }
    let mean = mean(values);
    let squares: f64 = values.iter().map(|v| (v - mean) * (v - mean)).sum();
    Some((squares / (values.len() - ddof) as f64).sqrt())
}

fn weighted_mean(values: &[f64], weights: &[f64]) -> f64 {
    let total: f64 = weights.iter().sum();
    if total == 0.0 || is_constant(values) {
        return mean(values);
    }
    values.iter().zip(weights).map(|(v, w)| v * w).sum::<f64>() / total
}

fn subtract(values: &[f64], baseline: f64) -> Vec<f64> {
    values.iter().map(|v| v - baseline).collect()
}

fn lead_of_the_best(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[b].total_cmp(&values[a]).then(a.cmp(&b)));
    let mut differences = vec![0.0; values.len()];
    if let [best, second, ..] = order.as_slice() {
        differences[*best] = values[*best] - values[*second];
    }
    differences
}

/// Expected best of `k` members that include this one, minus the expected best of any `k`, over the
/// standard deviation of the latter.
fn pass_at_k(values: &[f64], k: usize, eps: f64) -> Vec<f64> {
    let n = values.len();
    if k > n {
        return vec![0.0; n];
    }
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by(|&a, &b| values[a].total_cmp(&values[b]));
    let sorted: Vec<f64> = order.iter().map(|&i| values[i]).collect();
    // P(the best of k is the one at place j) = C(j, k−1) / C(n, k), places from 0.
    let best_is: Vec<f64> = (0..n).map(|j| choose_ratio(j, k - 1, n, k)).collect();
    let expected: f64 = sorted.iter().zip(&best_is).map(|(v, p)| v * p).sum();
    let variance: f64 = (sorted.iter().zip(&best_is))
        .map(|(v, p)| p * (v - expected) * (v - expected))
        .sum();
    let scale = variance.sqrt() + eps;
    let mut advantages = vec![0.0; n];
    for (place, &member) in order.iter().enumerate() {
        let alone = choose_ratio(place, k - 1, n - 1, k - 1) * sorted[place];
        let beaten: f64 = if k < 2 {
            0.0
        } else {
            (place + 1..n)
                .map(|j| choose_ratio(j - 1, k - 2, n - 1, k - 1) * sorted[j])
                .sum()
        };
        let difference = alone + beaten - expected;
        advantages[member] = if scale > 0.0 { difference / scale } else { 0.0 };
    }
    advantages
}

/// `C(a, b) / C(c, d)` without overflow.
fn choose_ratio(a: usize, b: usize, c: usize, d: usize) -> f64 {
    if b > a {
        return 0.0;
    }
    (ln_choose(a, b) - ln_choose(c, d)).exp()
}

fn ln_choose(n: usize, k: usize) -> f64 {
    let k = k.min(n - k);
    (1..=k)
        .map(|i| ((n - k + i) as f64).ln() - (i as f64).ln())
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use approx::assert_relative_eq;

    #[test]
    fn standard_deviation_survives_a_large_common_part() {
        // The rewards of verl issue 6348, shifted: E[x²] − E[x]² would be noise.
        let values = [1e9 + 1.0, 1e9 + 2.0, 1e9 + 3.0];
        assert_eq!(std(&values, 1), Some(1.0));
        assert_eq!(std(&[0.1 + 0.2; 7], 1), Some(0.0));
        assert_eq!(std(&[1.0], 1), None);
        assert_eq!(mean(&[0.1; 3]), 0.1);
    }

    #[test]
    fn pass_at_k_equals_enumeration() {
        let values = [0.3, 1.0, 0.0, 0.7, 1.0];
        for k in 1..=5 {
            let subsets: Vec<u32> = (0u32..32)
                .filter(|s| s.count_ones() as usize == k)
                .collect();
            let best = |s: u32| {
                (0..5)
                    .filter(|i| s >> i & 1 == 1)
                    .map(|i| values[i])
                    .fold(f64::MIN, f64::max)
            };
            let all: Vec<f64> = subsets.iter().map(|&s| best(s)).collect();
            let (center, spread) = (mean(&all), std(&all, 0).unwrap());
            let got = pass_at_k(&values, k, 1e-3);
            for (i, got) in got.into_iter().enumerate() {
                let with_i: Vec<f64> = (subsets.iter())
                    .filter(|&&s| s >> i & 1 == 1)
                    .map(|&s| best(s))
                    .collect();
                let expected = (mean(&with_i) - center) / (spread + 1e-3);
                assert_relative_eq!(got, expected, epsilon = 1e-12);
            }
        }
    }

    #[test]
    fn pass_at_k_of_binary_rewards_is_the_published_form() {
        // arXiv 2508.10751: R̄ = 1 − C(n₋,k)/C(n,k), σ = √(R̄(1−R̄)), A₊ = (1−R̄)/σ,
        // A₋ = (1 − R̄ − C(n₋−1,k−1)/C(n−1,k−1))/σ. n = 4, one success, k = 2: R̄ = 1/2.
        let got = pass_at_k(&[0.0, 1.0, 0.0, 0.0], 2, 0.0);
        assert_relative_eq!(got[1], 1.0, epsilon = 1e-12);
        assert_relative_eq!(got[0], (0.5 - 2.0 / 3.0) / 0.5, epsilon = 1e-12);
    }

    #[test]
    fn binomials_of_large_groups_do_not_overflow() {
        assert_relative_eq!(choose_ratio(2000, 1000, 2000, 1000), 1.0);
        assert_eq!(choose_ratio(3, 4, 10, 2), 0.0);
        assert_relative_eq!(choose_ratio(5, 2, 5, 1), 2.0, epsilon = 1e-12);
    }
}
