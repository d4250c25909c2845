//! What a controller steers on: a statistic of some of a step's rollouts, and how it is smoothed.

use serde::{Deserialize, Serialize};

use crate::controller::amount::AmountUnit;
use crate::error::{Domain, POSITIVE, Result};
use crate::feedback::{StepFeedback, Stratum, Which};

/// What is measured on these rollouts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Statistic {
    /// Mean reward.
    #[default]
    Reward,
    /// Share of successes.
    Success,
    /// Share of tasks whose rewards are not all equal, i.e. that give a gradient.
    MixedGroups,
    /// Mean over tasks of the rewards' standard deviation (ddof 0).
    RewardStd,
}

/// A statistic of some rollouts, the thing a controller steers on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct Signal {
    /// Which rollouts.
    pub which: Which,
    /// What about them.
    pub statistic: Statistic,
}

/// A sum and the count it is over.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    /// The sum: of rewards, of successes, of mixed groups, of standard deviations.
    pub sum: f64,
    /// What the sum is divided by to give the mean; at least 1.
    pub n: f64,
}

impl Estimate {
    /// `sum / n`.
    pub fn mean(self) -> f64 {
        self.sum / self.n
    }
}

impl Signal {
    /// Mean reward of all rollouts, the paper's signal.
    pub const REWARD: Self = Self {
        which: Which::All,
        statistic: Statistic::Reward,
    };

    /// Share of guided rollouts that succeed.
    pub const GUIDED_SUCCESS: Self = Self {
        which: Which::Guided,
        statistic: Statistic::Success,
    };

    /// The statistic, or nothing if no rollout of that kind was seen (or the sum overflows).
    ///
    /// ```
    /// use g2rpo_guidance::{Estimate, ExampleId, Record, Signal, Statistic, StepFeedback, Which};
    /// let mut feedback = StepFeedback::new(0);
    /// for (task, reward) in [(1, 1.0), (1, 0.0), (2, 0.0), (2, 0.0)] {
    ///     let record = Record { chosen: true, amount: 8.0, reward, success: reward == 1.0 };
    ///     feedback.record(ExampleId(task), &record);
    /// }
    /// let of = |which, statistic| Signal { which, statistic }.of(&feedback);
    /// assert_eq!(of(Which::Guided, Statistic::Success), Some(Estimate { sum: 1.0, n: 4.0 }));
    /// // One task of two has rewards that differ.
    /// assert_eq!(of(Which::All, Statistic::MixedGroups).unwrap().mean(), 0.5);
    /// assert_eq!(of(Which::Unguided, Statistic::Reward), None);
    /// ```
    pub fn of(self, feedback: &StepFeedback) -> Option<Estimate> {
        let (sum, n) = match self.statistic {
            Statistic::Reward | Statistic::Success => {
                let pool = feedback.pooled(self.which);
                let sum = match self.statistic {
                    Statistic::Reward => pool.reward_sum,
                    _ => pool.successes as f64,
                };
                (sum, pool.n)
            }
            Statistic::MixedGroups | Statistic::RewardStd => {
                let mut sum = 0.0;
                let mut n = 0;
                for example in feedback.examples.values() {
                    let pool = self.which.pool(example);
                    if pool.n == 0 {
                        continue;
                    }
                    n += 1;
                    sum += match self.statistic {
                        Statistic::MixedGroups => f64::from(u8::from(!pool.is_constant())),
                        _ => std_of(&pool),
                    };
                }
                (sum, n)
            }
        };
        // A sum beyond all numbers says nothing, and no state could hold it.
        (n > 0 && sum.is_finite()).then_some(Estimate { sum, n: n as f64 })
    }
}

fn std_of(pool: &Stratum) -> f64 {
    if pool.is_constant() {
        return 0.0;
    }
    let n = pool.n as f64;
    let mean = pool.reward_sum / n;
    (pool.reward_sq_sum / n - mean * mean).max(0.0).sqrt()
}

/// What a controller steers on and between which bounds, for the log and the detectors.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Steering {
    /// What it reads.
    pub signal: Signal,
    /// The smallest amount it gives.
    pub min: f64,
    /// The largest amount it gives.
    pub max: f64,
    /// The unit of both.
    pub unit: AmountUnit,
}

/// What is done to a signal before a controller uses it.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Smoothing {
    /// The mean as it is.
    #[default]
    None,
    /// `(sum + a) / (n + a + b)`: the posterior mean under a Beta(a, b) prior, for signals in
    /// [0, 1]. Never 0 or 1, so that a ratio of two of them is finite.
    Beta {
        /// Pseudo-successes, above 0.
        a: f64,
        /// Pseudo-failures, above 0.
        b: f64,
    },
    /// `decay · previous + (1 - decay) · mean`, starting at the first mean.
    Ema {
        /// Weight of the past, in [0, 1).
        decay: f64,
    },
}

impl Smoothing {
    /// The smoothed value; `previous` is what this function returned last time.
    pub fn apply(self, estimate: Estimate, previous: Option<f64>) -> f64 {
        match self {
            Self::None => estimate.mean(),
            Self::Beta { a, b } => (estimate.sum + a) / (estimate.n + a + b),
            Self::Ema { decay } => match previous {
                None => estimate.mean(),
                Some(previous) => decay * previous + (1.0 - decay) * estimate.mean(),
            },
        }
    }

    /// The smoothed value of a step's signal, if there is one; it becomes the previous one.
    pub(crate) fn follow(
        self,
        signal: Signal,
        feedback: &StepFeedback,
        previous: &mut Option<f64>,
    ) -> Option<f64> {
        let value = self.apply(signal.of(feedback)?, *previous);
        *previous = Some(value);
        *previous
    }

    pub(crate) fn check(self) -> Result<()> {
        match self {
            Self::None => {}
            Self::Beta { a, b } => {
                POSITIVE.check("smoothing.a", a)?;
                POSITIVE.check("smoothing.b", b)?;
            }
            Self::Ema { decay } => {
                Domain(0.0, 1.0 - f64::EPSILON, "[0, 1)").check("smoothing.decay", decay)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::feedback;

    fn of(rows: &[(u64, bool, f64)]) -> StepFeedback {
        let amount = |chosen| if chosen { 5.0 } else { 0.0 };
        let rollout = |&(task, chosen, reward)| (task, chosen, amount(chosen), reward);
        feedback(0, rows.iter().map(rollout))
    }

    #[test]
    fn signals_by_hand() {
        let f = of(&[
            (1, true, 1.0),
            (1, true, 1.0),
            (1, false, 0.0),
            (1, false, 0.0),
            (2, true, 0.0),
            (2, false, 0.1),
        ]);
        let value = |which, statistic| Signal { which, statistic }.of(&f).unwrap().mean();
        assert!((value(Which::All, Statistic::Reward) - 2.1 / 6.0).abs() < 1e-15);
        assert_eq!(value(Which::Guided, Statistic::Success), 2.0 / 3.0);
        assert_eq!(value(Which::All, Statistic::MixedGroups), 1.0);
        assert_eq!(value(Which::Guided, Statistic::MixedGroups), 0.0);
        // Standard deviations 0.5 and 0.05.
        assert!((value(Which::All, Statistic::RewardStd) - 0.275).abs() < 1e-12);
    }

    #[test]
    fn a_reward_that_is_no_number_is_counted_and_left_out() {
        let f = of(&[
            (1, true, f64::NAN),
            (1, true, 1.0),
            (1, false, f64::INFINITY),
        ]);
        let all = f.pooled(Which::All);
        assert_eq!((all.n, all.invalid, all.reward_sum), (1, 2, 1.0));
        let unguided = Signal {
            which: Which::Unguided,
            ..Signal::default()
        };
        assert_eq!(unguided.of(&f), None);
    }

    #[test]
    fn smoothing_by_hand() {
        let e = Estimate { sum: 1.0, n: 2.0 };
        assert_eq!(Smoothing::None.apply(e, Some(9.0)), 0.5);
        assert_eq!(Smoothing::Beta { a: 1.0, b: 1.0 }.apply(e, None), 0.5);
        assert_eq!(Smoothing::Beta { a: 1.0, b: 5.0 }.apply(e, None), 0.25);
        assert_eq!(Smoothing::Ema { decay: 0.75 }.apply(e, Some(0.1)), 0.2);
        assert!(Smoothing::Ema { decay: 1.0 }.check().is_err());
        assert!(Smoothing::Beta { a: 0.0, b: 1.0 }.check().is_err());
    }
}
