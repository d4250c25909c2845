//! Amounts of guidance and their rounding.

use rand::{Rng, RngExt};
use serde::{Deserialize, Serialize};

/// How much of a trace to give. Real valued: it becomes a whole number only when a trace is cut,
/// so that a controller can creep along at 0.3 tokens a step.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Amount {
    /// A number of tokens.
    Tokens(f64),
    /// A part of the trace's tokens, in [0, 1]; 1 is the whole trace, answer included (the cut
    /// then keeps the answer back).
    Fraction(f64),
    /// A number of the cutter's units: tokens, lines, steps or sentences.
    Units(f64),
}

impl Amount {
    /// Nothing at all.
    pub const NONE: Self = Self::Tokens(0.0);

    /// The number, whatever its unit.
    pub fn value(self) -> f64 {
        match self {
            Self::Tokens(x) | Self::Fraction(x) | Self::Units(x) => x,
        }
    }

    /// The unit the number is in.
    pub fn unit(self) -> AmountUnit {
        match self {
            Self::Tokens(_) => AmountUnit::Tokens,
            Self::Fraction(_) => AmountUnit::Fraction,
            Self::Units(_) => AmountUnit::Units,
        }
    }
}

/// The unit of an [`Amount`], for configurations of controllers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AmountUnit {
    /// [`Amount::Tokens`], the unit of the paper and the default.
    #[default]
    Tokens,
    /// [`Amount::Fraction`].
    Fraction,
    /// [`Amount::Units`].
    Units,
}

impl AmountUnit {
    /// An amount in this unit. Numbers that are not finite or below 0 count as 0.
    pub fn of(self, value: f64) -> Amount {
        let value = if value.is_finite() {
            value.max(0.0)
        } else {
            0.0
        };
        match self {
            Self::Tokens => Amount::Tokens(value),
            Self::Fraction => Amount::Fraction(value),
            Self::Units => Amount::Units(value),
        }
    }
}

/// How a real number becomes a whole one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rounding {
    /// Down.
    Floor,
    /// Up.
    Ceil,
    /// To the nearest, halves up.
    Nearest,
    /// Up with probability equal to the fractional part, so that the mean is right. The default.
    #[default]
    Stochastic,
}

impl Rounding {
    /// Rounds `value >= 0`. `draw` is uniform in `[0, 1)` and used by [`Rounding::Stochastic`]
    /// alone. What is not finite or negative becomes 0.
    ///
    /// ```
    /// use g2rpo_guidance::Rounding;
    /// assert_eq!(Rounding::Floor.apply(2.75, 0.0), 2);
    /// assert_eq!(Rounding::Stochastic.apply(2.75, 0.74), 3);
    /// assert_eq!(Rounding::Stochastic.apply(2.75, 0.75), 2);
    /// ```
    pub fn apply(self, value: f64, draw: f64) -> usize {
        if !value.is_finite() || value <= 0.0 {
            return 0;
        }
        // The cast saturates; a length beyond usize is beyond any trace as well.
        let whole = match self {
            Self::Floor => value.floor(),
            Self::Ceil => value.ceil(),
            Self::Nearest => (value + 0.5).floor(),
            Self::Stochastic => value.floor() + f64::from(u8::from(draw < value.fract())),
        };
        whole as usize
    }
}

/// A uniform number in `[0, 1)` from a generator behind a pointer.
pub(crate) fn uniform(rng: &mut dyn Rng) -> f64 {
    rng.random::<f64>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_numbers_become_nothing() {
        for x in [f64::NAN, f64::INFINITY, -1.0] {
            assert_eq!(AmountUnit::Fraction.of(x), Amount::Fraction(0.0));
            assert_eq!(Rounding::Stochastic.apply(x, 0.0), 0);
        }
    }

    #[test]
    fn stochastic_rounding_has_the_right_mean() {
        let draws = 1000;
        let sum: usize = (0..draws)
            .map(|i| Rounding::Stochastic.apply(3.25, f64::from(i) / f64::from(draws)))
            .sum();
        assert_eq!(sum, 3250);
    }
}
