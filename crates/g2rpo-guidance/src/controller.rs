//! How much guidance: the [`LengthController`] trait and its implementations.

mod bisection;
mod bucketed;
mod difficulty;
mod irt;
mod ratio;
mod schedule;
mod target;

use rand::Rng;
use serde::{Deserialize, Serialize};

pub use bisection::{Bisection, BisectionConfig};
pub use bucketed::PerBucket;
pub use difficulty::{Difficulty, DifficultyConfig};
pub use irt::{Irt, IrtConfig};
pub use ratio::{Ratio, RatioConfig, ZeroReward};
pub use schedule::{BinomialCosine, Random, Schedule, Shape, Staged};
pub use target::{Target, TargetConfig};

use crate::{Amount, Error, ExampleId, Result, Snapshot, StepFeedback, error::within};

/// For whom an amount is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Query {
    /// The training step, counted from 0.
    pub step: u64,
    /// The task.
    pub example: ExampleId,
    /// Number of tokens in the task's trace; 0 if it has none.
    pub trace_len: usize,
}

/// Decides how much guidance a guided member gets.
///
/// Once per step and task [`amount`](Self::amount) is asked, and once per step
/// [`observe`](Self::observe) is told what came of it. All randomness comes from the generator
/// that is passed in, so a controller is a function of its configuration, the feedback it has seen
/// and that generator.
///
/// A controller that remembers anything must implement [`state`](Self::state) and
/// [`restore`](Self::restore) as well, or a resumed run will not repeat the uninterrupted one. Ten
/// lines are enough:
///
/// ```
/// use g2rpo_guidance::{Amount, LengthController, Query, Result, Signal, Snapshot, StepFeedback};
/// use rand::Rng;
///
/// /// One token less after every step in which a guided rollout succeeded.
/// struct Retreat(f64);
///
/// impl LengthController for Retreat {
///     fn amount(&self, _: &Query, _: &mut dyn Rng) -> Amount {
///         Amount::Tokens(self.0)
///     }
///     fn observe(&mut self, feedback: &StepFeedback) {
///         let success = Signal::GUIDED_SUCCESS.of(feedback).is_some_and(|s| s.sum > 0.0);
///         self.0 = (self.0 - f64::from(u8::from(success))).max(0.0);
///     }
///     fn state(&self) -> Snapshot {
///         let mut saved = Snapshot::new("retreat");
///         saved.set("length", self.0);
///         saved
///     }
///     fn restore(&mut self, saved: &Snapshot) -> Result<()> {
///         self.0 = saved.check_kind("retreat")?.get_within("length", 0.0, f64::MAX)?;
///         Ok(())
///     }
/// }
///
/// let mut retreat = Retreat(40.0);
/// retreat.observe(&StepFeedback::new(0));
/// let saved = retreat.state();
/// retreat.0 = 1.0;
/// retreat.restore(&saved)?;
/// assert_eq!(retreat.0, 40.0);
/// # Ok::<(), g2rpo_guidance::Error>(())
/// ```
pub trait LengthController {
    /// The amount for one task in one step; all guided members of the group share it.
    fn amount(&self, query: &Query, rng: &mut dyn Rng) -> Amount;

    /// Learns from a finished step.
    fn observe(&mut self, feedback: &StepFeedback);

    /// Everything [`observe`](Self::observe) has changed. The default is for controllers that
    /// nothing changes.
    fn state(&self) -> Snapshot {
        Snapshot::default()
    }

    /// Takes up a saved state.
    ///
    /// # Errors
    /// If the state was saved by another controller or cannot be right; `self` is unchanged then.
    fn restore(&mut self, saved: &Snapshot) -> Result<()> {
        if saved.is_empty() {
            Ok(())
        } else {
            Err(Error::SnapshotKind {
                expected: "a controller without state".to_owned(),
                got: saved.kind().to_owned(),
            })
        }
    }
}

macro_rules! forward {
    ($($pointer:ty),*) => {$(
        impl<C: LengthController + ?Sized> LengthController for $pointer {
            fn amount(&self, query: &Query, rng: &mut dyn Rng) -> Amount {
                (**self).amount(query, rng)
            }
            fn observe(&mut self, feedback: &StepFeedback) {
                (**self).observe(feedback);
            }
            fn state(&self) -> Snapshot {
                (**self).state()
            }
            fn restore(&mut self, saved: &Snapshot) -> Result<()> {
                (**self).restore(saved)
            }
        }
    )*};
}

forward!(&mut C, Box<C>);

/// The same amount always. `Fixed(Amount::NONE)` is plain GRPO.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Fixed(pub Amount);

impl LengthController for Fixed {
    fn amount(&self, _: &Query, _: &mut dyn Rng) -> Amount {
        self.0
    }

    fn observe(&mut self, _: &StepFeedback) {}
}

/// Whether a controller may start at `initial` and move between `min` and `max`.
fn check_lengths(initial: f64, min: f64, max: f64) -> Result<()> {
    within("max", max, 0.0, f64::MAX, "[0, ∞)")?;
    within("min", min, 0.0, max, "[0, max]")?;
    within("initial", initial, min, max, "[min, max]")?;
    Ok(())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::Outcome;

    /// A step in which `n` rollouts of one task, all guided by `amount`, earned `reward` together.
    pub(crate) fn step_of(step: u64, amount: f64, successes: u64, n: u64) -> StepFeedback {
        let mut feedback = StepFeedback::new(step);
        for i in 0..n {
            let success = i < successes;
            let reward = f64::from(u8::from(success));
            feedback.record(
                ExampleId(0),
                &Outcome {
                    guided: true,
                    amount,
                    guidance_tokens: 0,
                    reward,
                    success,
                },
            );
        }
        feedback
    }

    /// A step with one rollout of the given reward.
    pub(crate) fn reward_of(step: u64, reward: f64) -> StepFeedback {
        let mut feedback = StepFeedback::new(step);
        feedback.record(
            ExampleId(0),
            &Outcome {
                guided: true,
                amount: 0.0,
                guidance_tokens: 0,
                reward,
                success: reward > 0.5,
            },
        );
        feedback
    }

    /// A generator for tests.
    pub(crate) fn rng() -> rand_chacha::ChaCha8Rng {
        rand::SeedableRng::seed_from_u64(7)
    }

    #[test]
    fn what_has_no_state_refuses_a_state() {
        let mut fixed = Fixed(Amount::Tokens(3.0));
        assert!(fixed.restore(&fixed.state()).is_ok());
        let mut other = Snapshot::new("ratio");
        other.set("length", 1.0);
        assert_eq!(
            fixed.restore(&other).unwrap_err().to_string(),
            "saved state of `ratio` cannot be restored into `a controller without state`"
        );
    }
}
