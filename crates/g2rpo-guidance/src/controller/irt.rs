use std::collections::BTreeMap;

use rand::Rng;
use serde::{Deserialize, Serialize};

use super::{LengthController, Query};
use crate::{Amount, ExampleId, ResponseCurve, Result, Snapshot, StepFeedback, error::within};

/// Numbers of the rule that follows a response curve. All are this project's.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct IrtConfig {
    /// The share of successes to aim for, in (0, 1). Default 0.5, as in SEELE.
    pub target: f64,
    /// What a rollout still counts after one more step of its task, in [0, 1]. Default 0.7: the
    /// policy that was seen is not the one that is asked.
    pub decay: f64,
    /// Rollouts of other tasks, at most, that speak for a task as its own do; at least 0. Default
    /// 8. With 0 every task starts from the middle.
    pub population: f64,
}

impl Default for IrtConfig {
    fn default() -> Self {
        Self {
            target: 0.5,
            decay: 0.7,
            population: 8.0,
        }
    }
}

/// Gives each task the fraction at which its [`ResponseCurve`] says that `target` succeed: SEELE's
/// rule (arXiv 2509.06923) with steps in the place of its rounds within one step, for which see
/// [`CurveRounds`](crate::CurveRounds).
///
/// A task's curve is learnt from its own rollouts, guided and unguided, which age by `decay`, and
/// from a few rollouts' worth of all tasks together. Fractions are noted to a twentieth.
///
/// ```
/// use g2rpo_guidance::*;
/// let mut irt = Irt::new(IrtConfig::default())?;
/// let before = irt.fraction(ExampleId(0));
/// let mut feedback = StepFeedback::new(0);
/// let failed = Outcome { guided: true, amount: before, guidance_tokens: 9, reward: 0.0, success: false };
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
    all: Seen,
    tasks: BTreeMap<ExampleId, Seen>,
}

/// Steps in which fractions are noted.
const STEPS: usize = 20;
const KIND: &str = "irt";
const ALL: &str = "all";

/// Aged counts of rollouts and successes at 0, 1/20, …, 1.
#[derive(Debug, Clone, PartialEq)]
struct Seen {
    n: [f64; STEPS + 1],
    successes: [f64; STEPS + 1],
}

impl Seen {
    const NOTHING: Self = Self {
        n: [0.0; STEPS + 1],
        successes: [0.0; STEPS + 1],
    };

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
        within("target", config.target, 0.0, 1.0, "[0, 1]")?;
        within("decay", config.decay, 0.0, 1.0, "[0, 1]")?;
        within("population", config.population, 0.0, f64::MAX, "[0, ∞)")?;
        Ok(Self {
            config,
            all: Seen::NOTHING,
            tasks: BTreeMap::new(),
        })
    }

    /// The curve of a task as it is known now.
    pub fn curve(&self, task: ExampleId) -> ResponseCurve {
        let known: f64 = self.all.n.iter().sum();
        let shared = if known > self.config.population {
            self.config.population / known
        } else {
            1.0
        };
        let own = self.tasks.get(&task).unwrap_or(&Seen::NOTHING);
        ResponseCurve::fit(self.all.scaled(shared).chain(own.scaled(1.0)))
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
        self.all.age(self.config.decay);
        for (&task, example) in &feedback.examples {
            let own = self.tasks.entry(task).or_insert(Seen::NOTHING);
            own.age(self.config.decay);
            for stratum in &example.strata {
                let (n, successes) = (stratum.n as f64, stratum.successes as f64);
                own.add(stratum.amount, n, successes);
                self.all.add(stratum.amount, n, successes);
            }
        }
    }

    fn state(&self) -> Snapshot {
        let mut saved = Snapshot::new(KIND);
        let mut set = |name: &str, seen: &Seen| {
            saved.set_series(name, seen.n.into_iter().chain(seen.successes));
        };
        set(ALL, &self.all);
        for (task, seen) in &self.tasks {
            set(&task.to_string(), seen);
        }
        saved
    }

    fn restore(&mut self, saved: &Snapshot) -> Result<()> {
        let saved = saved.check_kind(KIND)?;
        let seen = |name: &str| {
            let counts = saved.get_series(name)?;
            let fits = counts.len() == 2 * (STEPS + 1) && counts.iter().all(|c| *c >= 0.0);
            if !fits {
                return Err(saved.bad(name, "not a list of 42 counts"));
            }
            let (n, successes) = counts.split_at(STEPS + 1);
            Ok(Seen {
                n: std::array::from_fn(|i| n[i]),
                successes: std::array::from_fn(|i| successes[i]),
            })
        };
        let all = seen(ALL)?;
        let mut tasks = BTreeMap::new();
        for name in saved.series_names().filter(|n| *n != ALL) {
            let id = name
                .parse()
                .map_err(|_| saved.bad(name, "not the number of a task"))?;
            tasks.insert(ExampleId(id), seen(name)?);
        }
        (self.all, self.tasks) = (all, tasks);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{rng, step_of};
    use super::*;

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
        assert!(
            (0.5..0.7).contains(&irt.fraction(TASK)),
            "{}",
            irt.fraction(TASK)
        );
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
        for (name, counts) in [
            ("all", vec![1.0; 41]),
            ("0", vec![-1.0; 42]),
            ("x", vec![0.0; 42]),
        ] {
            let mut saved = irt.state();
            saved.set_series(name, counts);
            assert!(irt.restore(&saved).is_err(), "{name}");
            assert_eq!(irt, before);
        }
        let mut fresh = Irt::new(IrtConfig::default()).unwrap();
        fresh.restore(&before.state()).unwrap();
        assert_eq!(fresh, before);
    }

    #[test]
    fn without_rollouts_nothing_moves() {
        let mut irt = Irt::new(IrtConfig::default()).unwrap();
        irt.observe(&step_of(0, 0.5, 3, 8));
        let before = irt.clone();
        irt.observe(&StepFeedback::new(1));
        assert_eq!(irt, before);
        for bad in [
            IrtConfig {
                target: 1.5,
                ..IrtConfig::default()
            },
            IrtConfig {
                decay: -0.1,
                ..IrtConfig::default()
            },
            IrtConfig {
                population: f64::NAN,
                ..IrtConfig::default()
            },
        ] {
            assert!(Irt::new(bad).is_err());
        }
    }
}
