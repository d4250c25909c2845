//! What a comparison may find, and what counts as the same answer.

use std::fmt;

use crate::fuel::Stop;

/// What was found about an answer and its reference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    /// The answer is the same as the reference.
    Equal,
    /// It is not, or could not be shown to be.
    Unequal(Mismatch),
    /// The reference cannot decide anything.
    NoReference(ReferenceError),
}

impl Comparison {
    /// Whether the answer is the same as the reference.
    #[must_use]
    pub fn is_equal(self) -> bool {
        self == Self::Equal
    }
}

/// Why an answer is not the same as a reference that can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Mismatch {
    /// The answer was read and has another value, or is another kind of thing.
    Different,
    /// The answer offers several values where the reference has one.
    SeveralAnswers,
    /// The answer contradicts itself, such as `4 = 5`.
    Contradiction,
    /// Both sides have a unit, and the units do not convert into each other.
    Unit,
    /// The answer is not written in a form that can be read.
    Unreadable,
    /// Reading or comparing would cost more than the budget.
    TooComplex,
    /// The answer could be neither proven equal nor told apart.
    Undecided,
}

/// Why nothing can be compared with a reference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReferenceError {
    /// It is empty or blank.
    Empty,
    /// It is not written in a form that can be read.
    Unreadable,
    /// Reading it would cost more than the budget.
    TooComplex,
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Equal => f.write_str("equal"),
            Self::Unequal(why) => write!(f, "{why}"),
            Self::NoReference(why) => write!(f, "{why}"),
        }
    }
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Different => "another value",
            Self::SeveralAnswers => "several values where the reference has one",
            Self::Contradiction => "the answer contradicts itself",
            Self::Unit => "the units do not convert into each other",
            Self::Unreadable => "the answer cannot be read",
            Self::TooComplex => "the comparison would cost more than its budget",
            Self::Undecided => "neither proven equal nor told apart",
        })
    }
}

impl fmt::Display for ReferenceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "the reference is empty",
            Self::Unreadable => "the reference cannot be read",
            Self::TooComplex => "reading the reference would cost more than the budget",
        })
    }
}

impl std::error::Error for Mismatch {}

impl std::error::Error for ReferenceError {}

impl From<Stop> for Mismatch {
    fn from(stop: Stop) -> Self {
        match stop {
            Stop::Unreadable => Self::Unreadable,
            Stop::TooComplex => Self::TooComplex,
        }
    }
}

impl From<Stop> for ReferenceError {
    fn from(stop: Stop) -> Self {
        match stop {
            Stop::Unreadable => Self::Unreadable,
            Stop::TooComplex => Self::TooComplex,
        }
    }
}

/// What counts as the same answer, where mathematics alone does not say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// A decimal with this many significant digits or more equals an exact value that rounds to it
    /// at its printed places: `0.333333` for 1/3. `None` asks for equality. Math-Verify rounds both
    /// to six places instead, which makes all numbers below 5·10⁻⁷ equal; the default is six digits.
    pub rounded_digits: Option<u32>,
    /// A decimal reference equals an exact answer that rounds to it at its printed places, however
    /// few they are: `3.14` accepts π. Off by default.
    pub rounded_reference: bool,
    /// A unit on one side only is ignored: `5` for `5 cm`. On by default. Two units must convert
    /// into each other in any case.
    pub missing_unit: bool,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            rounded_digits: Some(6),
            rounded_reference: false,
            missing_unit: true,
        }
    }
}
