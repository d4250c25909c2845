//! `AdaBack`'s search for each task's shortest helpful prefix.

use std::collections::BTreeMap;

use rand::Rng;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::controller::amount::{Amount, uniform};
use crate::controller::length::{LengthController, Query, restored, saved};
use crate::defaults::settings;
use crate::error::{POSITIVE, Result, SHARE, bad_state};
use crate::feedback::{ExampleId, StepFeedback, Which};
use crate::signal::{Signal, Statistic};

settings! {
    /// Numbers of `AdaBack`'s search.
    #[derive(Copy)]
    pub struct BisectionConfig {
        /// τ: a group at least this successful is asked to do with less. Default 0.5; the paper finds
        /// .1 to .9 alike.
        pub threshold: f64 = 0.5,
        /// Probability that a group gets no guidance at all. Default 0.1.
        pub unguided: f64 = 0.1,
        /// Weight of the past in the bounds that tasks start from. Default 0.9 (not published).
        pub decay: f64 = 0.9,
        /// An interval narrower than this whose upper end fails opens up to the whole trace again, so
        /// that one lucky success does not keep a task at a length it cannot solve. Default 0, as
        /// published: never.
        pub reopen_below: f64 = 0.0,
        /// What is compared with the threshold.
        pub statistic: Statistic = Statistic::Reward,
    }
}

/// `AdaBack`'s per-task search for the shortest prefix that still helps (arXiv 2506.18110).
///
/// Every task has an interval of fractions, `ρ ~ U[ρmin, ρmax]` is drawn for each group, and
///
/// ```text
/// reward < τ:  ρmin ← ρ          reward ≥ τ:  ρmax ← ρ, ρmin ← 0
/// ```
///
/// A task not seen before starts from a running mean of the intervals of all others. One group in
/// ten gets nothing (ρ = 0): its success narrows the interval to nothing, its failure says little
/// and changes nothing.
///
/// The controller learns from the amount that each guided stratum was given, so all guided members
/// of a group must share it, as [`plan_group`](crate::plan_group) has it.
#[derive(Debug, Clone, PartialEq)]
pub struct Bisection {
    config: BisectionConfig,
    state: Intervals,
}

/// What is known of all tasks and of each: the interval of its fraction.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Intervals {
    global: (f64, f64),
    tasks: BTreeMap<ExampleId, (f64, f64)>,
}

impl Bisection {
    /// Knows nothing of any task.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) for numbers outside their domain.
    pub fn new(config: BisectionConfig) -> Result<Self> {
        POSITIVE.check("threshold", config.threshold)?;
        SHARE.check("unguided", config.unguided)?;
        SHARE.check("decay", config.decay)?;
        SHARE.check("reopen_below", config.reopen_below)?;
        Ok(Self {
            config,
            state: Intervals {
                global: (0.0, 1.0),
                tasks: BTreeMap::new(),
            },
        })
    }

    /// The interval a task's next fraction is drawn from.
    ///
    /// ```
    /// use g2rpo_guidance::{Bisection, BisectionConfig, ExampleId};
    /// let mut search = Bisection::new(BisectionConfig::default())?;
    /// let task = ExampleId(3);
    /// search.step(task, 0.5, 1.0);
    /// assert_eq!(search.interval(task), (0.0, 0.5));
    /// search.step(task, 0.25, 0.0);
    /// assert_eq!(search.interval(task), (0.25, 0.5));
    /// # Ok::<(), g2rpo_guidance::Error>(())
    /// ```
    pub fn interval(&self, task: ExampleId) -> (f64, f64) {
        let Intervals { global, tasks } = &self.state;
        tasks.get(&task).copied().unwrap_or(*global)
    }

    /// One group of `task` at the fraction `rho`, with the given mean reward.
    pub fn step(&mut self, task: ExampleId, rho: f64, reward: f64) {
        if !reward.is_finite() || !rho.is_finite() {
            return;
        }
        let rho = rho.clamp(0.0, 1.0);
        let (min, max) = if reward >= self.config.threshold {
            (0.0, rho)
        } else if rho > 0.0 {
            let max = self.interval(task).1.max(rho);
            let hopeless = max - rho < self.config.reopen_below;
            (rho, if hopeless { 1.0 } else { max })
        } else {
            return;
        };
        let Intervals { global, tasks } = &mut self.state;
        tasks.insert(task, (min, max));
        let keep = self.config.decay;
        global.0 = keep * global.0 + (1.0 - keep) * min;
        global.1 = keep * global.1 + (1.0 - keep) * max;
    }
}

impl LengthController for Bisection {
    fn amount(&self, query: &Query, rng: &mut dyn Rng) -> Amount {
        // Both draws happen always, so that a task's fraction does not depend on the branch.
        let (unguided, position) = (uniform(rng), uniform(rng));
        if unguided < self.config.unguided {
            return Amount::Fraction(0.0);
        }
        let (min, max) = self.interval(query.example);
        Amount::Fraction(min + (max - min) * position)
    }

    fn observe(&mut self, feedback: &StepFeedback) {
        let signal = Signal {
            which: Which::Guided,
            statistic: self.config.statistic,
        };
        for (&task, strata) in &feedback.examples {
            for stratum in strata.iter().filter(|s| s.chosen) {
                let mut one = StepFeedback::new(feedback.step);
                one.examples.entry(task).or_default().push(*stratum);
                if let Some(estimate) = signal.of(&one) {
                    self.step(task, stratum.amount, estimate.mean());
                }
            }
        }
    }

    fn state(&self) -> Value {
        saved(&self.state)
    }

    fn restore(&mut self, saved: Value) -> Result<()> {
        let state: Intervals = restored("bisection", saved)?;
        let bad = |(min, max): &&(f64, f64)| !(0.0 <= *min && min <= max && *max <= 1.0);
        if let Some((min, max)) = state.tasks.values().chain([&state.global]).find(bad) {
            let problem = format!("[{min}, {max}] is no interval in [0, 1]");
            return bad_state("bisection", problem);
        }
        self.state = state;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{rng, step_of};

    const TASK: ExampleId = ExampleId(0);

    #[test]
    fn the_interval_closes_in_and_opens_downwards() {
        let mut search = Bisection::new(BisectionConfig::default()).unwrap();
        search.observe(&step_of(0, 0.6, 0, 8));
        assert_eq!(search.interval(TASK), (0.6, 1.0));
        search.observe(&step_of(1, 0.8, 8, 8));
        assert_eq!(search.interval(TASK), (0.0, 0.8));
        // Half of them is enough, at the published threshold.
        search.observe(&step_of(2, 0.2, 4, 8));
        assert_eq!(search.interval(TASK), (0.0, 0.2));
        search.observe(&step_of(3, 0.0, 0, 8));
        assert_eq!(search.interval(TASK), (0.0, 0.2));
        search.observe(&step_of(4, 0.0, 8, 8));
        assert_eq!(search.interval(TASK), (0.0, 0.0));
    }

    #[test]
    fn a_tenth_of_groups_gets_nothing_and_the_rest_stays_inside() {
        let mut search = Bisection::new(BisectionConfig::default()).unwrap();
        search.step(TASK, 0.75, 1.0);
        search.step(TASK, 0.5, 0.0);
        let mut rng = rng();
        let draws: Vec<f64> = (0..2000)
            .map(|_| search.amount(&Query::default(), &mut rng).value())
            .collect();
        let none = draws.iter().filter(|x| **x == 0.0).count();
        // 200 ± 4 standard deviations of 13.4.
        assert!((146..=254).contains(&none), "{none}");
        assert!(draws.iter().all(|x| *x == 0.0 || (0.5..0.75).contains(x)));
    }

    #[test]
    fn a_hopeless_interval_opens_again_if_asked() {
        let config = BisectionConfig {
            reopen_below: 0.05,
            ..BisectionConfig::default()
        };
        let mut search = Bisection::new(config).unwrap();
        search.step(TASK, 0.5, 1.0);
        search.step(TASK, 0.48, 0.0);
        assert_eq!(search.interval(TASK), (0.48, 1.0));
    }

    #[test]
    fn a_broken_state_is_refused_and_changes_nothing() {
        let mut search = Bisection::new(BisectionConfig::default()).unwrap();
        search.step(TASK, 0.5, 1.0);
        let before = search.clone();
        let mut saved = search.state();
        saved["tasks"]["7"] = serde_json::json!([0.9, 0.1]);
        assert!(search.restore(saved).is_err());
        assert_eq!(search, before);
        let mut fresh = Bisection::new(BisectionConfig::default()).unwrap();
        fresh.restore(before.state()).unwrap();
        assert_eq!(fresh, before);
    }
}
