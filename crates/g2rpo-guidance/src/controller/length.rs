//! The trait of length controllers, and how their states are saved.

use rand::Rng;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::controller::amount::Amount;
use crate::error::{Domain, NON_NEGATIVE, Result, bad_state};
use crate::feedback::{ExampleId, StepFeedback};
use crate::signal::Steering;

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
/// and that generator. A schedule needs `amount` alone.
///
/// A controller that remembers anything must implement [`state`](Self::state) and
/// [`restore`](Self::restore) as well, or a resumed run will not repeat the uninterrupted one:
///
/// ```
/// use g2rpo_guidance::{Amount, Error, LengthController, Query, Result, Signal, StepFeedback};
/// use rand::Rng;
/// use serde_json::Value;
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
///     fn state(&self) -> Value {
///         self.0.into()
///     }
///     fn restore(&mut self, saved: Value) -> Result<()> {
///         let problem = || Error::State { what: "retreat", problem: format!("{saved} is no length") };
///         self.0 = saved.as_f64().filter(|l| *l >= 0.0).ok_or_else(problem)?;
///         Ok(())
///     }
/// }
///
/// let mut retreat = Retreat(40.0);
/// retreat.observe(&StepFeedback::new(0));
/// let saved = retreat.state();
/// retreat.0 = 1.0;
/// retreat.restore(saved)?;
/// assert_eq!(retreat.0, 40.0);
/// # Ok::<(), g2rpo_guidance::Error>(())
/// ```
pub trait LengthController {
    /// The amount for one task in one step; all guided members of the group share it.
    fn amount(&self, query: &Query, rng: &mut dyn Rng) -> Amount;

    /// Learns from a finished step. The default learns nothing.
    fn observe(&mut self, _feedback: &StepFeedback) {}

    /// What the controller steers on, and between which bounds. The default is for controllers
    /// that read no signal of the whole step.
    fn steering(&self) -> Option<Steering> {
        None
    }

    /// Everything [`observe`](Self::observe) has changed. The default is for controllers that
    /// nothing changes.
    fn state(&self) -> Value {
        Value::Null
    }

    /// Takes up a saved state.
    ///
    /// # Errors
    /// [`Error::State`](crate::Error::State) if the state was saved by another controller or cannot be right; `self` is
    /// unchanged then.
    fn restore(&mut self, saved: Value) -> Result<()> {
        no_state("controller without state", &saved)
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
            fn steering(&self) -> Option<Steering> {
                (**self).steering()
            }
            fn state(&self) -> Value {
                (**self).state()
            }
            fn restore(&mut self, saved: Value) -> Result<()> {
                (**self).restore(saved)
            }
        }
    )*};
}

forward!(&mut C, Box<C>);

/// Refuses a state for something that has none.
pub(crate) fn no_state(what: &'static str, saved: &Value) -> Result<()> {
    if saved.is_null() {
        return Ok(());
    }
    bad_state(what, format!("{saved} was saved by something else"))
}

/// A state as JSON. The numbers of all states here are finite, and keys are names or numbers, so
/// nothing can fail; a state that did would be refused when it is restored.
pub(crate) fn saved(state: &impl Serialize) -> Value {
    serde_json::to_value(state).unwrap_or_default()
}

/// The state from JSON, or why it is not one.
pub(crate) fn restored<S: DeserializeOwned>(what: &'static str, saved: Value) -> Result<S> {
    serde_json::from_value(saved).or_else(|problem| bad_state(what, problem))
}

/// Whether a saved number lies where the configuration lets it move.
pub(crate) fn length_within(what: &'static str, length: f64, min: f64, max: f64) -> Result<()> {
    if length >= min && length <= max {
        return Ok(());
    }
    bad_state(what, format!("{length} is outside [{min}, {max}]"))
}

/// Whether a controller may start at `initial` and move between `min` and `max`.
pub(crate) fn check_lengths(initial: f64, min: f64, max: f64) -> Result<()> {
    NON_NEGATIVE.check("max", max)?;
    Domain(0.0, max, "[0, max]").check("min", min)?;
    Domain(min, max, "[min, max]").check("initial", initial)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_state_refuses_a_state() {
        struct Nothing;
        impl LengthController for Nothing {
            fn amount(&self, _: &Query, _: &mut dyn Rng) -> Amount {
                Amount::NONE
            }
        }
        assert!(Nothing.restore(Nothing.state()).is_ok());
        assert_eq!(
            Nothing.restore(1.5.into()).unwrap_err().to_string(),
            "saved state of a controller without state: 1.5 was saved by something else"
        );
    }
}
