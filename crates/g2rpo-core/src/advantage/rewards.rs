//! Rewards as they come in: checked, summed, and rid of rounding noise.

use crate::error::{Error, Result, check_len};
use crate::settings::ANY;

/// Squares of larger rewards, summed over a batch, leave the range of f64.
const MAX_REWARD: f64 = 1e150;

/// Refuses rewards that no estimator can use; NaN means "not scored".
pub(super) fn checked_rewards(rewards: &[Option<f64>]) -> Result<Vec<Option<f64>>> {
    (rewards.iter().enumerate())
        .map(|(row, reward)| match reward {
            Some(value) if value.is_nan() => Ok(None),
            Some(value) if value.abs() > MAX_REWARD => Err(Error::Reward {
                row,
                value: *value,
                expected: "at most 1e150 in magnitude, or None for a completion without score",
            }),
            reward => Ok(*reward),
        })
        .collect()
}

/// Refuses what only extreme rewards, weights and a vanishing scale can bring about.
pub(super) fn check_finite(advantages: &[f64], rewards: &[Option<f64>]) -> Result<()> {
    match advantages.iter().position(|a| !a.is_finite()) {
        None => Ok(()),
        Some(row) => Err(Error::Reward {
            row,
            value: rewards[row].unwrap_or_default(),
            expected: "a difference from the baseline that the scale can divide; raise eps",
        }),
    }
}

/// How far numbers may be apart that are equal in mathematics, for each unit of the terms they are
/// sums of: a rounding of half a unit in the last place for every number, product and sum.
pub(super) fn rounding_noise(n_terms: usize) -> f64 {
    (4 * n_terms + 4) as f64 * f64::EPSILON
}

/// Makes numbers equal that differ by no more than their noise: 0.1 + 0.2 is 0.3. What is computed
/// from them may then rely on equality, and a group that is constant in mathematics is constant.
pub(super) fn remove_noise(rows: &[usize], noise: &[f64], values: &mut [Option<f64>]) {
    let mut scored: Vec<(f64, usize)> = (rows.iter())
        .filter_map(|&row| Some((values[row]?, row)))
        .collect();
    scored.sort_by(|a, b| a.0.total_cmp(&b.0));
    let noise = rows.iter().map(|&row| noise[row]).fold(0.0, f64::max);
    let (mut last, mut common) = (f64::NEG_INFINITY, f64::NEG_INFINITY);
    for (value, row) in scored {
        if value - last > noise {
            common = value;
        }
        last = value;
        values[row] = Some(common);
    }
}

/// Weighted sum over reward functions per completion; functions that gave `None` or NaN are left
/// out, and a completion that all left out is `None`, not 0.
///
/// # Errors
/// [`Error::Length`] if weights and functions differ in number or functions in length;
/// [`Error::Config`] for a weight that is not finite.
///
/// ```
/// use g2rpo_core::weighted_rewards;
/// let rewards = [vec![Some(1.0), None], vec![Some(0.5), None]];
/// assert_eq!(weighted_rewards(&rewards, &[1.0, 2.0])?, [Some(2.0), None]);
/// # Ok::<(), g2rpo_core::Error>(())
/// ```
pub fn weighted_rewards(rewards: &[Vec<Option<f64>>], weights: &[f64]) -> Result<Vec<Option<f64>>> {
    check_len("reward weights", weights.len(), rewards.len())?;
    let n = rewards.first().map_or(0, Vec::len);
    for (rewards, &weight) in rewards.iter().zip(weights) {
        check_len("rewards of one function", rewards.len(), n)?;
        ANY.check("reward weight", weight)?;
    }
    Ok((0..n)
        .map(|i| {
            let terms = (rewards.iter().zip(weights))
                .filter_map(|(rewards, weight)| Some(rewards[i].filter(|r| !r.is_nan())? * weight));
            terms.reduce(|a, b| a + b)
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_noise_is_removed() {
        let mut values = [0.1 + 0.2, 1.0, 0.3, 0.3 + 1e-12].map(Some);
        let noise = values.map(|v| v.unwrap() * rounding_noise(1));
        remove_noise(&[0, 1, 2, 3], &noise, &mut values);
        assert_eq!(values, [0.3, 1.0, 0.3, 0.3 + 1e-12].map(Some));
        // Members of other groups are left alone.
        let mut values = [0.1 + 0.2, 0.3].map(Some);
        remove_noise(&[0], &noise, &mut values);
        assert_eq!(values[0], Some(0.1 + 0.2));
    }
}
