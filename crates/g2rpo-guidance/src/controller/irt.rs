//! Amounts by the response curve of each task.

use std::collections::BTreeMap;

use rand::Rng;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::controller::amount::Amount;
use crate::controller::curve::ResponseCurve;
use crate::controller::length::{LengthController, Query, restored, saved};
use crate::defaults::settings;
use crate::error::{NON_NEGATIVE, Result, SHARE, bad_state};
use crate::feedback::{ExampleId, StepFeedback};

settings! {
    /// Numbers of the rule that follows a response curve. All are this project's.
    #[derive(Copy)]
    pub struct IrtConfig {
        /// The share of successes to aim for, in (0, 1). Default 0.5, as in SEELE.
        pub target: f64 = 0.5,
        /// What a rollout still counts after one more step of its task, in [0, 1]. Default 0.7: the
        /// policy that was seen is not the one that is asked.
        pub decay: f64 = 0.7,
        /// Rollouts of other tasks, at most, that speak for a task as its own do; at least 0. Default
        /// 8. With 0 every task starts from the middle.
        pub population: f64 = 8.0,
    }
}

/// Gives each task the fraction at which its response curve says that `target` succeed: SEELE's
/// rule (arXiv 2509.06923) with steps in the place of its rounds within one step, for which see
/// [`CurveRounds`](crate::CurveRounds).
///
/// The curve has SEELE's three parameters, `P(x) = c + (1 - c) / (1 + exp(-a (x - b)))`; it is the mean
/// over a grid of them, each weighted by how well it explains what was seen.
///
/// A task's curve is learnt from its own rollouts, guided and unguided, which age by `decay`, and
/// from a few rollouts' worth of all tasks together. Fractions are noted to a twentieth.
///
/// ```
/// use g2rpo_guidance::*;
/// let mut irt = Irt::new(IrtConfig::default())?;
/// let before = irt.fraction(ExampleId(0));
/// let mut feedback = StepFeedback::new(0);
/// let failed = Record { chosen: true, amount: before, reward: 0.0, success: false };
/// feedback.record(ExampleId(0), &failed);
/// irt.observe(&feedback);
/// assert!(irt.fraction(ExampleId(0)) > before);
/// // What is hard for one task is expected to be hard for others, a little less so.
/// let other = irt.fraction(ExampleId(1));
/// assert!(before < other && other < irt.fraction(ExampleId(0)));
/// # Ok::<(), Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Irt {
    config: IrtConfig,
    state: Counts,
}

/// What was seen of all tasks and of each.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Counts {
    all: Seen,
    tasks: BTreeMap<ExampleId, Seen>,
}

/// Steps in which fractions are noted.
const STEPS: usize = 20;

/// Aged counts of rollouts and successes at 0, 1/20, …, 1.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Seen {
    n: [f64; STEPS + 1],
    successes: [f64; STEPS + 1],
}

impl Seen {
    fn age(&mut self, decay: f64) {
        (self.n.iter_mut().chain(&mut self.successes)).for_each(|count| *count *= decay);
    }

    fn add(&mut self, fraction: f64, n: f64, successes: f64) {
        let at = (fraction.clamp(0.0, 1.0) * STEPS as f64).round() as usize;
        self.n[at] += n;
        self.successes[at] += successes;
    }

    fn scaled(&self, factor: f64) -> impl Iterator<Item = (f64, f64, f64)> + '_ {
        (self.n.iter().zip(&self.successes).enumerate())
            .filter(|(_, (n, _))| **n > 0.0)
            .map(move |(i, (n, s))| (i as f64 / STEPS as f64, n * factor, s * factor))
    }
}

impl Irt {
    /// Knows nothing of any task.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) for numbers outside their domain.
    pub fn new(config: IrtConfig) -> Result<Self> {
        SHARE.check("target", config.target)?;
        SHARE.check("decay", config.decay)?;
        NON_NEGATIVE.check("population", config.population)?;
        Ok(Self {
            config,
            state: Counts::default(),
        })
    }

    /// The curve of a task as it is known now.
    fn curve(&self, task: ExampleId) -> ResponseCurve {
        let Counts { all, tasks } = &self.state;
        let known: f64 = all.n.iter().sum();
        let shared = if known > self.config.population {
            self.config.population / known
        } else {
            1.0
        };
        let own = tasks.get(&task).into_iter().flat_map(|own| own.scaled(1.0));
        ResponseCurve::fit(all.scaled(shared).chain(own))
    }

    /// The fraction of the trace that a task's guided members get next.
    pub fn fraction(&self, task: ExampleId) -> f64 {
        self.curve(task).fraction_for(self.config.target)
    }
}

impl LengthController for Irt {
    fn amount(&self, query: &Query, _: &mut dyn Rng) -> Amount {
        Amount::Fraction(self.fraction(query.example))
    }

    fn observe(&mut self, feedback: &StepFeedback) {
        if feedback.examples.is_empty() {
            return;
        }
        let Counts { all, tasks } = &mut self.state;
        all.age(self.config.decay);
        for (&task, strata) in &feedback.examples {
            let own = tasks.entry(task).or_default();
            own.age(self.config.decay);
            for stratum in strata {
                let (n, successes) = (stratum.n as f64, stratum.successes as f64);
                own.add(stratum.amount, n, successes);
                all.add(stratum.amount, n, successes);
            }
        }
    }

    fn state(&self) -> Value {
        saved(&self.state)
    }

    fn restore(&mut self, saved: Value) -> Result<()> {
        let state: Counts = restored("response curve", saved)?;
        let counts = |seen: &Seen| seen.n.into_iter().chain(seen.successes);
        let all = state.tasks.values().chain([&state.all]);
        let negative = all.flat_map(counts).find(|count| *count < 0.0);
        if let Some(count) = negative {
            return bad_state("response curve", format!("{count} is no count"));
        }
        self.state = state;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{rng, step_of};
    use serde_json::json;

    const TASK: ExampleId = ExampleId(0);

    #[test]
    fn a_steady_task_is_held_at_its_target() {
        // Succeeds from 0.6 of the trace on, never below.
        let mut irt = Irt::new(IrtConfig::default()).unwrap();
        let query = Query::default();
        for step in 0..40 {
            let amount = irt.amount(&query, &mut rng()).value();
            irt.observe(&step_of(step, amount, if amount < 0.6 { 0 } else { 8 }, 8));
        }
        let fraction = irt.fraction(TASK);
        assert!((0.5..0.7).contains(&fraction), "{fraction}");
    }

    #[test]
    fn old_failures_are_forgotten() {
        let mut irt = Irt::new(IrtConfig::default()).unwrap();
        for step in 0..10 {
            irt.observe(&step_of(step, 0.5, 0, 8));
        }
        assert!(irt.fraction(TASK) > 0.6);
        for step in 10..40 {
            let amount = irt.fraction(TASK);
            irt.observe(&step_of(step, amount, 8, 8));
        }
        assert_eq!(irt.fraction(TASK), 0.0);
    }

    #[test]
    fn a_broken_state_is_refused_and_changes_nothing() {
        let mut irt = Irt::new(IrtConfig::default()).unwrap();
        irt.observe(&step_of(0, 0.5, 3, 8));
        let before = irt.clone();
        let seen = |n, successes| json!({"n": n, "successes": successes});
        let (zeros, negative) = (vec![0.0; 21], vec![-1.0; 21]);
        for (name, broken) in [
            ("all", seen(vec![1.0], vec![1.0])),
            ("all", seen(negative, zeros.clone())),
            ("tasks", json!({"x": seen(zeros.clone(), zeros)})),
            ("other", json!(1)),
        ] {
            let mut saved = irt.state();
            saved[name] = broken;
            assert!(irt.restore(saved).is_err(), "{name}");
            assert_eq!(irt, before);
        }
        let mut fresh = Irt::new(IrtConfig::default()).unwrap();
        fresh.restore(before.state()).unwrap();
        assert_eq!(fresh, before);
    }

    #[test]
    fn without_rollouts_nothing_moves() {
        let mut irt = Irt::new(IrtConfig::default()).unwrap();
        irt.observe(&step_of(0, 0.5, 3, 8));
        let before = irt.clone();
        irt.observe(&StepFeedback::new(1));
        assert_eq!(irt, before);
    }
}
