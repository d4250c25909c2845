//! What is known about two values, and how far error bounds tell.

use crate::complex::{Arithmetic, Complex};
use crate::fuel::{Stop, known};

/// What is known about two expressions or values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Equality {
    Equal,
    Different,
    /// Neither could be shown.
    Undecided,
}

impl Equality {
    pub(crate) const fn of(equal: bool) -> Self {
        if equal { Self::Equal } else { Self::Different }
    }
}

/// Bits of the numerical rungs: the second is for what the first leaves open.
pub(crate) const PRECISIONS: [usize; 2] = [192, 768];

/// Bits in common that make two values equal, below the smallest part that either was added from.
const COMMON_BITS: f64 = 66.0;

/// Whether two values are the same or not, if their error bounds tell.
pub(crate) fn told_apart(
    x: &Complex,
    y: &Complex,
    arithmetic: &mut Arithmetic<'_>,
) -> Result<Option<Equality>, Stop> {
    let difference = known(arithmetic.sub(x, y))?;
    Ok(difference.and_then(|difference| {
        let is_fine = difference.error < x.least.min(y.least) - COMMON_BITS;
        if difference.magnitude() > difference.error + 3.0 {
            Some(Equality::Different)
        } else {
            is_fine.then_some(Equality::Equal)
        }
    }))
}
