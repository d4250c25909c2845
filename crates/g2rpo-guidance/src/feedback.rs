//! The records of a step: what each rollout was given and what it earned, summed per task and treatment.

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
pub struct Record {
    /// Whether the selector chose this member to be guided, even if the amount was 0 or the task
    /// had no trace. A controller that has come down to 0 thus still sees its own stratum.
    pub chosen: bool,
    /// The number the controller asked for, in its own unit; 0 for members that were not chosen.
    pub amount: f64,
    /// The accuracy reward (or whatever reward the controller should steer on).
    pub reward: f64,
    /// Whether the verifier accepted the completion.
    pub success: bool,
}

/// Sums over the rollouts of one task that were treated alike.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Stratum {
    /// See [`Record::chosen`].
    pub chosen: bool,
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
    /// Rollouts whose reward was NaN or infinite; they enter no other sum.
    pub invalid: u64,
}

impl Stratum {
    /// Whether all rewards are equal (true for fewer than two rollouts).
    pub fn is_constant(&self) -> bool {
        self.n < 2 || self.reward_min == self.reward_max
    }

    fn add(&mut self, record: &Record) {
        if !record.reward.is_finite() {
            self.invalid += 1;
            return;
        }
        if self.n == 0 {
            (self.reward_min, self.reward_max) = (record.reward, record.reward);
        }
        self.n += 1;
        self.successes += u64::from(record.success);
        self.reward_sum += record.reward;
        self.reward_sq_sum += record.reward * record.reward;
        self.reward_min = self.reward_min.min(record.reward);
        self.reward_max = self.reward_max.max(record.reward);
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
        self.invalid += other.invalid;
    }
}

/// Everything a controller may learn from a step: sufficient statistics per task and stratum,
/// never only a mean.
///
/// ```
/// use g2rpo_guidance::{ExampleId, Record, StepFeedback, Stratum, Which};
/// let mut feedback = StepFeedback::new(7);
/// let task = ExampleId(3);
/// for (chosen, reward) in [(true, 1.0), (true, 0.0), (false, 0.0), (false, 0.0)] {
///     let amount = if chosen { 40.0 } else { 0.0 };
///     feedback.record(task, &Record { chosen, amount, reward, success: reward > 0.5 });
/// }
/// assert_eq!(feedback.pooled(Which::Guided).successes, 1);
/// assert_eq!(feedback.pooled(Which::All).reward_sum, 1.0);
/// // The step's only task was treated in two ways.
/// let strata: &[Stratum] = &feedback.examples[&task];
/// assert_eq!((strata[0].amount, strata[1].amount), (40.0, 0.0));
/// ```
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct StepFeedback {
    /// The training step, counted from 0.
    pub step: u64,
    /// What happened to each task: a stratum for every treatment, in the order of first appearance.
    /// Tasks are ordered, so that sums do not depend on the order of rollouts of different tasks.
    pub examples: BTreeMap<ExampleId, Vec<Stratum>>,
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
    pub fn record(&mut self, example: ExampleId, record: &Record) {
        let strata = self.examples.entry(example).or_default();
        let same = |s: &Stratum| {
            s.chosen == record.chosen && s.amount.to_bits() == record.amount.to_bits()
        };
        let index = strata.iter().position(same).unwrap_or_else(|| {
            strata.push(Stratum {
                chosen: record.chosen,
                amount: record.amount,
                ..Stratum::default()
            });
            strata.len() - 1
        });
        strata[index].add(record);
    }

    /// All rollouts of the step that `which` admits, joined.
    pub fn pooled(&self, which: Which) -> Stratum {
        let mut sum = which.pool(&[]);
        for strata in self.examples.values() {
            sum.merge(&which.pool(strata));
        }
        sum
    }
}

/// Which rollouts a number is about, by whether they were chosen to be guided ([`Record::chosen`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Which {
    /// Both together, as in the paper's released code.
    #[default]
    All,
    /// Those that were chosen.
    Guided,
    /// The others.
    Unguided,
}

impl Which {
    /// Those of `strata` that it admits, joined.
    pub(crate) fn pool(self, strata: &[Stratum]) -> Stratum {
        let mut sum = Stratum {
            chosen: self == Self::Guided,
            ..Stratum::default()
        };
        for stratum in strata.iter().filter(|s| self.admits(s)) {
            sum.merge(stratum);
        }
        sum
    }

    fn admits(self, stratum: &Stratum) -> bool {
        match self {
            Self::All => true,
            Self::Guided => stratum.chosen,
            Self::Unguided => !stratum.chosen,
        }
    }
}
