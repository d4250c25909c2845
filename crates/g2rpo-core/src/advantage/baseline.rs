//! The arithmetic of one group.

use super::estimator::{AdvantageEstimator, Baseline, Scale, Singleton};
use super::grouping::Stratum;
use super::statistics::{is_constant, mean, std, weighted_mean};

impl AdvantageEstimator {
    /// Writes the advantages of one stratum's scored members.
    pub(super) fn of_stratum(
        &self,
        stratum: &Stratum,
        rewards: &[Option<f64>],
        lengths: Option<&[usize]>,
        batch_std: Option<f64>,
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
        // Unguided members that all fail have no scale; the whole group has one.
        let group_std = match std(&reference, self.ddof) {
            Some(std) if std > 0.0 => Some(std),
            _ => std(&values, self.ddof),
        };
        let group_mean = match mean(&reference) {
            0.0 => mean(&values),
            mean => mean,
        };
        for (place, (&row, &difference)) in rows.iter().zip(&differences).enumerate() {
            let scale = match self.scale {
                Scale::None | Scale::Whiten => {
                    advantages[row] = difference;
                    continue;
                }
                Scale::GroupStd => group_std,
                Scale::BatchStd => batch_std,
                Scale::LeaveOneOutStd => {
                    let mut others = values.clone();
                    others.remove(place);
                    if is_constant(&others) {
                        advantages[row] = difference;
                        continue;
                    }
                    std(&others, self.ddof)
                }
                Scale::GroupMean => Some(group_mean),
            };
            advantages[row] = self.scaled(difference, scale);
        }
    }
}

impl AdvantageEstimator {
    /// A difference over a scale. Where there is none to speak of, as `n ≤ ddof` or nothing spreads and
    /// no eps stands in for it, 0.
    pub(super) fn scaled(&self, difference: f64, scale: Option<f64>) -> f64 {
        match scale.map(|scale| scale + self.eps) {
            None | Some(0.0) => 0.0,
            Some(divisor) => difference / divisor,
        }
    }
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
///
/// Rewards are measured from the best one, so that a group whose every `k` members hold a best one
/// has expectation, deviation and differences of exactly 0.
fn pass_at_k(values: &[f64], k: usize, eps: f64) -> Vec<f64> {
    let n = values.len();
    let mut advantages = vec![0.0; n];
    if k > n {
        return advantages;
    }
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by(|&a, &b| values[a].total_cmp(&values[b]));
    let best = order.last().map_or(0.0, |&i| values[i]);
    let below: Vec<f64> = order.iter().map(|&i| values[i] - best).collect();
    // P(the best of any k is the one at place j) = C(j, k−1) / C(n, k).
    let is_best = shares(n, k);
    let expected: f64 = below.iter().zip(&is_best).map(|(v, p)| v * p).sum();
    let variance: f64 = (below.iter().zip(&is_best))
        .map(|(v, p)| p * (v - expected) * (v - expected))
        .sum();
    let scale = variance.sqrt() + eps;
    if scale == 0.0 {
        return advantages;
    }
    // Of k − 1 companions: P(the best is at place j of the n − 1 others).
    let companion = if k > 1 {
        shares(n - 1, k - 1)
    } else {
        Vec::new()
    };
    for (place, &member) in order.iter().enumerate() {
        // The others in order: those below `place`, then those above, one place further down.
        let beaten: f64 = (place + 1..n)
            .map(|j| companion.get(j - 1).unwrap_or(&0.0) * below[j])
            .sum();
        let alone: f64 = companion.iter().take(place).sum();
        let alone = if k > 1 { alone } else { 1.0 };
        advantages[member] = (alone * below[place] + beaten - expected) / scale;
    }
    advantages
}

/// `C(j, k−1) / C(n, k)` for places `j` of `n`: how likely the highest of `k` drawn is there.
fn shares(n: usize, k: usize) -> Vec<f64> {
    let mut shares = vec![0.0; n];
    let mut share = k as f64 / n as f64;
    for j in (k - 1..n).rev() {
        shares[j] = share;
        share *= (j + 1 - k) as f64 / j.max(1) as f64;
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::*;
    use approx::assert_relative_eq;

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
    fn shares_of_large_groups_add_up() {
        assert_eq!(shares(4, 2), [0.0, 1.0 / 6.0, 1.0 / 3.0, 0.5]);
        for (n, k) in [(1, 1), (7, 7), (2000, 1000), (2000, 1)] {
            let sum: f64 = shares(n, k).iter().sum();
            assert_relative_eq!(sum, 1.0, epsilon = 1e-12);
        }
    }

    #[test]
    fn where_every_draw_holds_a_best_one_there_is_no_advantage() {
        for (values, k) in [(&[1.0, 1.0, 1.0, 1.0, 0.0][..], 2), (&[0.1, 0.7, 0.3], 3)] {
            assert!(pass_at_k(values, k, 0.0).iter().all(|&a| a == 0.0));
        }
    }
}
