//! Means and deviations of few numbers, exact where the numbers are equal.

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

/// Mean by weights; the plain one where all weights are 0.
pub(super) fn weighted_mean(values: &[f64], weights: &[f64]) -> f64 {
    let total: f64 = weights.iter().sum();
    if total == 0.0 || is_constant(values) {
        return mean(values);
    }
    values.iter().zip(weights).map(|(v, w)| v * w).sum::<f64>() / total
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn standard_deviation_survives_a_large_common_part() {
        // The rewards of verl issue 6348, shifted: E[x²] − E[x]² would be noise.
        let values = [1e9 + 1.0, 1e9 + 2.0, 1e9 + 3.0];
        assert_eq!(std(&values, 1), Some(1.0));
        assert_eq!(std(&[0.1 + 0.2; 7], 1), Some(0.0));
        assert_eq!(std(&[1.0], 1), None);
        assert_eq!(mean(&[0.1; 3]), 0.1);
    }
}
