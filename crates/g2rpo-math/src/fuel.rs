//! The budget of one comparison, as counted work.

/// Why reading or comparing stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    /// The text is not in the grammar.
    Unreadable,
    /// It would cost more than one verdict may: fuel, depth or length.
    TooComplex,
}

/// # Errors
/// [`Stop::Unreadable`] where a condition does not hold without which a text is not in the grammar.
pub(crate) const fn readable(holds: bool) -> Result<(), Stop> {
    if holds { Ok(()) } else { Err(Stop::Unreadable) }
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

/// Why a computation ended without a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Halt {
    /// There is none: it is undefined, out of range, or of another kind than was asked for.
    NoValue,
    /// The budget is spent.
    Stop(Stop),
}

/// What a computation came to that may have no value.
pub(crate) type Maybe<T> = Result<T, Halt>;

impl From<Stop> for Halt {
    fn from(stop: Stop) -> Self {
        Self::Stop(stop)
    }
}

/// Tells a missing value, with which a comparison goes on, from the end of the budget.
pub(crate) fn known<T>(found: Maybe<T>) -> Result<Option<T>, Stop> {
    match found {
        Ok(value) => Ok(Some(value)),
        Err(Halt::NoValue) => Ok(None),
        Err(Halt::Stop(stop)) => Err(stop),
    }
}
