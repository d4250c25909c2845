//! Reading of hinted log-probabilities: NaN means that the row had no such hint.

use crate::error::{Result, check_finite};

/// A log-probability that may be missing. Infinite ones are refused.
pub(super) fn known(
    what: &'static str,
    row: usize,
    position: usize,
    value: f64,
) -> Result<Option<f64>> {
    if value.is_nan() {
        return Ok(None);
    }
    check_finite(what, row, position, value).map(|()| Some(value))
}

/// Refuses advantages that are not finite.
pub(super) fn check_advantages(advantages: &[f64]) -> Result<()> {
    let mut rows = advantages.iter().enumerate();
    rows.try_for_each(|(row, &value)| check_finite("advantages", row, 0, value))
}
