use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// Names a task for good: usually its index in the data set.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct ExampleId(pub u64);

impl fmt::Display for ExampleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What one rollout was given and what it earned.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Outcome {
    /// Whether the selector chose this member to be guided, even if the amount was 0 or the task
    /// had no trace. A controller that has come down to 0 thus still sees its own stratum.
    pub guided: bool,
    /// The number the controller asked for, in its own unit; 0 for unguided members.
    pub amount: f64,
    /// Guidance tokens actually given.
    pub guidance_tokens: usize,
    /// The accuracy reward (or whatever reward the controller should steer on).
    pub reward: f64,
    /// Whether the verifier accepted the completion.
    pub success: bool,
}

/// Sums over the rollouts of one task that were treated alike.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Stratum {
    /// See [`Outcome::guided`].
    pub guided: bool,
    /// The amount all of them were given, in the controller's unit.
    pub amount: f64,
    /// Number of rollouts with a finite reward.
    pub n: u64,
    /// How many of them succeeded.
    pub successes: u64,
    /// Sum of rewards.
    pub reward_sum: f64,
    /// Sum of squared rewards.
    pub reward_sq_sum: f64,
    /// Smallest reward; 0 when `n` is 0.
    pub reward_min: f64,
    /// Largest reward; 0 when `n` is 0.
    pub reward_max: f64,
    /// Sum of guidance tokens given.
    pub guidance_tokens: u64,
    /// Rollouts whose reward was NaN or infinite; they enter no other sum.
    pub invalid: u64,
}

impl Stratum {
    /// Whether all rewards are equal (true for fewer than two rollouts).
    pub fn is_constant(&self) -> bool {
        self.n < 2 || self.reward_min == self.reward_max
    }

    fn add(&mut self, outcome: &Outcome) {
        if !outcome.reward.is_finite() {
            self.invalid += 1;
            return;
        }
        if self.n == 0 {
            (self.reward_min, self.reward_max) = (outcome.reward, outcome.reward);
        }
        self.n += 1;
        self.successes += u64::from(outcome.success);
        self.reward_sum += outcome.reward;
        self.reward_sq_sum += outcome.reward * outcome.reward;
        self.reward_min = self.reward_min.min(outcome.reward);
        self.reward_max = self.reward_max.max(outcome.reward);
        self.guidance_tokens += outcome.guidance_tokens as u64;
    }

    /// Joins two sets of rollouts; the amount becomes their mean.
    pub(crate) fn merge(&mut self, other: &Self) {
        let total = self.n + other.n;
        if other.n > 0 {
            self.amount =
                (self.amount * self.n as f64 + other.amount * other.n as f64) / total as f64;
            if self.n == 0 {
                (self.reward_min, self.reward_max) = (other.reward_min, other.reward_max);
            }
            self.reward_min = self.reward_min.min(other.reward_min);
            self.reward_max = self.reward_max.max(other.reward_max);
        }
        self.n = total;
        self.successes += other.successes;
        self.reward_sum += other.reward_sum;
        self.reward_sq_sum += other.reward_sq_sum;
        self.guidance_tokens += other.guidance_tokens;
        self.invalid += other.invalid;
    }
}

/// The strata of one task in one step.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ExampleFeedback {
    /// One entry per treatment, in the order of first appearance.
    pub strata: Vec<Stratum>,
}

impl ExampleFeedback {
    /// All rollouts of this task that `which` admits, joined.
    pub fn pooled(&self, which: Which) -> Stratum {
        let mut sum = Stratum {
            guided: which == Which::Guided,
            ..Stratum::default()
        };
        for stratum in self.strata.iter().filter(|s| which.admits(s)) {
            sum.merge(stratum);
        }
        sum
    }
}

/// Everything a controller may learn from a step: sufficient statistics per task and stratum,
/// never only a mean.
///
/// ```
/// use g2rpo_guidance::{ExampleId, Outcome, StepFeedback, Which};
/// let mut feedback = StepFeedback::new(7);
/// let task = ExampleId(3);
/// for (guided, reward) in [(true, 1.0), (true, 0.0), (false, 0.0), (false, 0.0)] {
///     let amount = if guided { 40.0 } else { 0.0 };
///     feedback.record(task, &Outcome { guided, amount, guidance_tokens: amount as usize, reward, success: reward > 0.5 });
/// }
/// assert_eq!(feedback.pooled(Which::Guided).successes, 1);
/// assert_eq!(feedback.pooled(Which::All).reward_sum, 1.0);
/// ```
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct StepFeedback {
    /// The training step, counted from 0.
    pub step: u64,
    /// What happened to each task. Ordered, so that sums do not depend on the order of rollouts
    /// of different tasks.
    pub examples: BTreeMap<ExampleId, ExampleFeedback>,
}

impl StepFeedback {
    /// Nothing seen yet.
    pub fn new(step: u64) -> Self {
        Self {
            step,
            examples: BTreeMap::new(),
        }
    }

    /// Adds one rollout.
    pub fn record(&mut self, example: ExampleId, outcome: &Outcome) {
        let strata = &mut self.examples.entry(example).or_default().strata;
        let same = |s: &Stratum| {
            s.guided == outcome.guided && s.amount.to_bits() == outcome.amount.to_bits()
        };
        let index = strata.iter().position(same).unwrap_or_else(|| {
            strata.push(Stratum {
                guided: outcome.guided,
                amount: outcome.amount,
                ..Stratum::default()
            });
            strata.len() - 1
        });
        strata[index].add(outcome);
    }

    /// All rollouts of the step that `which` admits, joined.
    pub fn pooled(&self, which: Which) -> Stratum {
        let mut sum = Stratum {
            guided: which == Which::Guided,
            ..Stratum::default()
        };
        for example in self.examples.values() {
            sum.merge(&example.pooled(which));
        }
        sum
    }

    /// The part of this feedback about the tasks that `keep` admits.
    #[must_use]
    pub fn filter(&self, mut keep: impl FnMut(ExampleId) -> bool) -> Self {
        Self {
            step: self.step,
            examples: (self.examples.iter())
                .filter(|(id, _)| keep(**id))
                .map(|(id, e)| (*id, e.clone()))
                .collect(),
        }
    }
}

/// Which rollouts a number is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Which {
    /// Guided and unguided ones together, as in the paper's released code.
    #[default]
    All,
    /// Guided ones.
    Guided,
    /// Unguided ones.
    Unguided,
}

impl Which {
    fn admits(self, stratum: &Stratum) -> bool {
        match self {
            Self::All => true,
            Self::Guided => stratum.guided,
            Self::Unguided => !stratum.guided,
        }
    }
}

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

    /// The statistic, or nothing if no rollout of that kind was seen.
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
                    let pool = example.pooled(self.which);
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
        (n > 0).then_some(Estimate { sum, n: n as f64 })
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

    pub(crate) fn check(self) -> crate::Result<()> {
        use crate::error::within;
        match self {
            Self::None => {}
            Self::Beta { a, b } => {
                within("smoothing.a", a, f64::MIN_POSITIVE, f64::MAX, "(0, ∞)")?;
                within("smoothing.b", b, f64::MIN_POSITIVE, f64::MAX, "(0, ∞)")?;
            }
            Self::Ema { decay } => {
                within("smoothing.decay", decay, 0.0, 1.0 - f64::EPSILON, "[0, 1)")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feedback(rows: &[(u64, bool, f64)]) -> StepFeedback {
        let mut f = StepFeedback::new(0);
        for &(id, guided, reward) in rows {
            let outcome = Outcome {
                guided,
                amount: if guided { 5.0 } else { 0.0 },
                guidance_tokens: 5 * usize::from(guided),
                reward,
                success: reward > 0.5,
            };
            f.record(ExampleId(id), &outcome);
        }
        f
    }

    #[test]
    fn signals_by_hand() {
        let f = feedback(&[
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
        let f = feedback(&[
            (1, true, f64::NAN),
            (1, true, 1.0),
            (1, false, f64::INFINITY),
        ]);
        let all = f.pooled(Which::All);
        assert_eq!((all.n, all.invalid, all.reward_sum), (1, 2, 1.0));
        assert_eq!(
            Signal {
                which: Which::Unguided,
                ..Signal::default()
            }
            .of(&f),
            None
        );
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
