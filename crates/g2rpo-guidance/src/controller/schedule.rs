//! Amounts that depend on the step and chance alone.

use std::f64::consts::PI;

use rand::{Rng, RngExt};
use serde::{Deserialize, Serialize};

use crate::controller::amount::{Amount, AmountUnit, uniform};
use crate::controller::length::{LengthController, Query};
use crate::defaults::settings;
use crate::error::{AT_LEAST_1, Domain, NON_NEGATIVE, POSITIVE, Result, SHARE};

/// The same amount always. `Fixed(Amount::NONE)` is plain GRPO.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Fixed(pub Amount);

impl LengthController for Fixed {
    fn amount(&self, _: &Query, _: &mut dyn Rng) -> Amount {
        self.0
    }
}

/// How a schedule goes from its start to its end; `t` runs from 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Shape {
    /// `start + (end - start) · t`.
    #[default]
    Linear,
    /// `end + (start - end) · (1 + cos πt) / 2`.
    Cosine,
    /// `start + (end - start) · t^exponent`. When the amount falls, an exponent above 1 stays high
    /// for long (concave) and one below 1 drops early (convex).
    Power {
        /// Above 0.
        exponent: f64,
    },
}

settings! {
    /// An amount that depends on the step alone; by default linear from the whole trace to nothing in
    /// 1000 steps.
    ///
    /// ```
    /// use g2rpo_guidance::{AmountUnit, Schedule, Shape};
    /// let linear = Schedule { start: 40.0, end: 0.0, steps: 100, ..Schedule::default() };
    /// assert_eq!(linear.value(25), 30.0);
    /// assert_eq!(linear.value(500), 0.0);
    /// // Prefix-RFT's: 95 % to 5 % of the trace.
    /// let cosine = Schedule { shape: Shape::Cosine, start: 0.95, end: 0.05, unit: AmountUnit::Fraction, ..linear };
    /// assert!((cosine.value(50) - 0.5).abs() < 1e-15);
    /// ```
    #[derive(Copy)]
    pub struct Schedule {
        /// The way between the ends.
        pub shape: Shape = Shape::Linear,
        /// Amount at step 0.
        pub start: f64 = 1.0,
        /// Amount at step `steps`.
        pub end: f64 = 0.0,
        /// Number of steps from start to end; 0 means the end from the beginning.
        pub steps: u64 = 1000,
        /// Amount behind step `steps`; `None` stays at `end`.
        pub after: Option<f64> = None,
        /// The unit of the amounts.
        pub unit: AmountUnit = AmountUnit::Fraction,
    }
}

impl Schedule {
    /// Checks the numbers.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) for amounts below 0 and exponents of 0 or less.
    pub fn check(&self) -> Result<()> {
        NON_NEGATIVE.check("start", self.start)?;
        NON_NEGATIVE.check("end", self.end)?;
        NON_NEGATIVE.check("after", self.after.unwrap_or(0.0))?;
        if let Shape::Power { exponent } = self.shape {
            POSITIVE.check("exponent", exponent)?;
        }
        Ok(())
    }

    /// The amount at a step.
    pub fn value(&self, step: u64) -> f64 {
        if let (Some(after), true) = (self.after, step > self.steps) {
            return after;
        }
        if step >= self.steps {
            return self.end;
        }
        let t = step as f64 / self.steps as f64;
        let Self { start, end, .. } = *self;
        match self.shape {
            Shape::Linear => start + (end - start) * t,
            Shape::Cosine => end + (start - end) * 0.5 * (1.0 + (PI * t).cos()),
            Shape::Power { exponent } => start + (end - start) * t.powf(exponent),
        }
    }
}

impl LengthController for Schedule {
    fn amount(&self, query: &Query, _: &mut dyn Rng) -> Amount {
        self.unit.of(self.value(query.step))
    }
}

/// Constant amounts, stage after stage (`QuestA`: half of the trace, then a quarter).
///
/// ```
/// use g2rpo_guidance::{AmountUnit, Staged};
/// let questa = Staged { stages: vec![(0, 0.5), (500, 0.25)], unit: AmountUnit::Fraction };
/// assert_eq!((questa.value(499), questa.value(500)), (0.5, 0.25));
/// ```
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Staged {
    /// First step and amount of each stage, in order of steps. Nothing before the first stage.
    pub stages: Vec<(u64, f64)>,
    /// The unit of the amounts.
    #[serde(default)]
    pub unit: AmountUnit,
}

impl Staged {
    /// Checks the stages.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) for amounts below 0 and steps that do not rise.
    pub fn check(&self) -> Result<()> {
        for &(_, amount) in &self.stages {
            NON_NEGATIVE.check("stages.amount", amount)?;
        }
        for pair in self.stages.windows(2) {
            let (before, step) = (pair[0].0 as f64, pair[1].0 as f64);
            Domain(before + 1.0, f64::MAX, "above the stage before").check("stages.step", step)?;
        }
        Ok(())
    }

    /// The amount at a step.
    pub fn value(&self, step: u64) -> f64 {
        let stage = self.stages.iter().rev().find(|s| s.0 <= step);
        stage.map_or(0.0, |s| s.1)
    }
}

impl LengthController for Staged {
    fn amount(&self, query: &Query, _: &mut dyn Rng) -> Amount {
        self.unit.of(self.value(query.step))
    }
}

settings! {
    /// A uniform amount, drawn anew for every group: variety without adaptation. Over a fraction of
    /// the trace, any by default, this is the mixture of R3 (arXiv 2402.05808).
    #[derive(Copy)]
    pub struct Random {
        /// Smallest amount.
        pub low: f64 = 0.0,
        /// Largest amount.
        pub high: f64 = 1.0,
        /// The unit of the amounts.
        pub unit: AmountUnit = AmountUnit::Fraction,
    }
}

impl Random {
    /// Checks the numbers.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) unless `0 <= low <= high`.
    pub fn check(&self) -> Result<()> {
        NON_NEGATIVE.check("high", self.high)?;
        Domain(0.0, self.high, "[0, high]").check("low", self.low)
    }
}

impl LengthController for Random {
    fn amount(&self, _: &Query, rng: &mut dyn Rng) -> Amount {
        self.unit
            .of(self.low + (self.high - self.low) * uniform(rng))
    }
}

settings! {
    /// UFT's length (arXiv 2505.16984): the trace is divided into `slices` equal parts, and the number
    /// of parts given is `Binomial(slices, p_t)` with `p_t` falling as a cosine; after that nothing.
    #[derive(Copy)]
    pub struct BinomialCosine {
        /// Most parts; a trace with fewer tokens has as many parts as tokens. UFT: 5.
        pub slices: usize = 5,
        /// Probability at step 0. UFT: 0.95.
        pub p_high: f64 = 0.95,
        /// Probability at step `steps`. UFT: 0.05.
        pub p_low: f64 = 0.05,
        /// Steps with guidance; none is given from then on. UFT: 300 of 500.
        pub steps: u64 = 300,
    }
}

impl BinomialCosine {
    /// Checks the numbers.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) for probabilities outside [0, 1].
    pub fn check(&self) -> Result<()> {
        SHARE.check("p_high", self.p_high)?;
        SHARE.check("p_low", self.p_low)?;
        AT_LEAST_1.check("slices", self.slices as f64)
    }

    /// The probability at a step; 0 from `steps` on.
    pub fn probability(&self, step: u64) -> f64 {
        if step >= self.steps {
            return 0.0;
        }
        let t = step as f64 / self.steps as f64;
        self.p_low + 0.5 * (self.p_high - self.p_low) * (1.0 + (PI * t).cos())
    }
}

impl LengthController for BinomialCosine {
    fn amount(&self, query: &Query, rng: &mut dyn Rng) -> Amount {
        let p = self.probability(query.step);
        let slices = match query.trace_len {
            0 => self.slices,
            n => self.slices.min(n),
        };
        let given = (0..slices).filter(|_| rng.random::<f64>() < p).count();
        match slices {
            0 => Amount::Fraction(0.0),
            _ => Amount::Fraction(given as f64 / slices as f64),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::rng;

    #[test]
    fn a_schedule_of_no_steps_is_at_its_end() {
        let at_once = Schedule {
            shape: Shape::Cosine,
            steps: 0,
            ..Schedule::default()
        };
        assert_eq!(at_once.value(0), 0.0);
    }

    #[test]
    fn binomial_has_the_mean_of_its_cosine() {
        let uft = BinomialCosine::default();
        assert!((uft.probability(150) - 0.5).abs() < 1e-12);
        assert_eq!(uft.probability(300), 0.0);
        let mut rng = rng();
        let query = Query {
            step: 150,
            trace_len: 60,
            ..Query::default()
        };
        let n = 4000;
        let sum: f64 = (0..n).map(|_| uft.amount(&query, &mut rng).value()).sum();
        // Standard error of the mean: sqrt(.25 / 5 / 4000) = 0.0035.
        assert!((sum / f64::from(n) - 0.5).abs() < 0.014);
        let short = Query {
            trace_len: 2,
            ..query
        };
        assert!((0..50).all(|_| [0.0, 0.5, 1.0].contains(&uft.amount(&short, &mut rng).value())));
    }

    #[test]
    fn stages_begin_where_they_say() {
        let staged = |stages| Staged {
            stages,
            unit: AmountUnit::Units,
        };
        assert_eq!(staged(vec![(5, 2.0)]).value(4), 0.0);
        assert!(staged(vec![(0, 2.0), (7, 1.0)]).check().is_ok());
        assert!(staged(vec![(7, 2.0), (7, 1.0)]).check().is_err());
        assert!(staged(vec![(0, -2.0)]).check().is_err());
    }

    #[test]
    fn random_stays_between_its_ends() {
        let random = Random {
            low: 2.0,
            high: 5.0,
            unit: AmountUnit::Tokens,
        };
        let mut rng = rng();
        let draws: Vec<f64> = (0..200)
            .map(|_| random.amount(&Query::default(), &mut rng).value())
            .collect();
        assert!(draws.iter().all(|x| (2.0..5.0).contains(x)));
        assert!(draws.iter().any(|x| *x < 2.3) && draws.iter().any(|x| *x > 4.7));
    }
}
