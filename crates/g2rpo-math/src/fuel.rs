//! The budget of one comparison, as counted work.

/// Why reading or comparing stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    /// The text is not in the grammar.
    Unreadable,
    /// It would cost more than one verdict may: fuel, depth or length.
    TooComplex,
}

/// The budget of one verdict: counted work, so that the same input always stops at the same place,
/// on any machine. A unit is about a microsecond of unoptimised arithmetic.
#[derive(Debug, Clone)]
pub(crate) struct Fuel(u64);

impl Fuel {
    pub(crate) const fn new(units: u64) -> Self {
        Self(units)
    }

    pub(crate) const fn spend(&mut self, units: u64) -> Result<(), Stop> {
        match self.0.checked_sub(units) {
            Some(left) => {
                self.0 = left;
                Ok(())
            }
            None => {
                self.0 = 0;
                Err(Stop::TooComplex)
            }
        }
    }
}

/// The value in an `Option`, or a return of `Ok(None)`: there is none.
macro_rules! known {
    ($e:expr) => {
        match $e {
            Some(value) => value,
            None => return Ok(None),
        }
    };
}
pub(crate) use known;
