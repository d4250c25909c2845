//! Reading of hinted log-probabilities: NaN means that the row had no such hint.

use crate::error::{Error, Result};

/// A log-probability that may be missing. Infinite ones are refused.
pub(super) fn known(
    what: &'static str,
    row: usize,
    position: usize,
    value: f64,
) -> Result<Option<f64>> {
    if value.is_infinite() {
        return Err(Error::NotFinite {
            what,
            row,
            position,
            value,
        });
    }
    Ok((!value.is_nan()).then_some(value))
}

/// Refuses advantages that are not finite.
pub(super) fn check_advantages(advantages: &[f64]) -> Result<()> {
    match advantages.iter().position(|a| !a.is_finite()) {
        None => Ok(()),
        Some(row) => Err(Error::NotFinite {
            what: "advantages",
            row,
            position: 0,
            value: advantages[row],
        }),
    }
}
