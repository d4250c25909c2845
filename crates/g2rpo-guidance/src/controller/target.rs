//! The set-point rule: the length is held where a share of the guided rollouts succeeds.

use rand::Rng;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::controller::amount::{Amount, AmountUnit};
use crate::controller::length::{
    LengthController, Query, check_lengths, length_within, restored, saved,
};
use crate::defaults::settings;
use crate::error::{NON_NEGATIVE, Result, SHARE};
use crate::feedback::StepFeedback;
use crate::signal::{Signal, Smoothing, Steering};

settings! {
    /// Numbers of the set-point rule.
    ///
    /// The form is `AdaRFT`'s (arXiv 2504.05520) applied to guidance; the defaults were chosen on the
    /// combination lock (docs/results/adaptive_guidance.md).
    #[derive(Copy)]
    pub struct TargetConfig {
        /// Unit of all lengths here.
        pub unit: AmountUnit = AmountUnit::Fraction,
        /// ℓ₀, the first length.
        pub initial: f64 = 0.5,
        /// Smallest length. Default 0: guidance can end.
        pub min: f64 = 0.0,
        /// ℓmax, the largest length.
        pub max: f64 = 1.0,
        /// p*, the share of successes to aim for, in (0, 1). Default 0.5, where a group most often
        /// holds both outcomes.
        pub target: f64 = 0.5,
        /// η: the largest change in one step, as a part of `max`. Default 0.1.
        pub rate: f64 = 0.1,
        /// κ: how sharply the step follows the error. Default 2.
        pub sharpness: f64 = 2.0,
        /// What is held at the target. Default the success of guided rollouts: that of unguided ones
        /// stays 0 for as long as guidance is needed, and would only wind the length up.
        pub signal: Signal = Signal::GUIDED_SUCCESS,
        /// Smoothing of the signal. Default Beta(1, 1).
        pub smoothing: Smoothing = Smoothing::Beta { a: 1.0, b: 1.0 },
    }
}

/// A controller with a set-point:
///
/// ```text
/// ℓ' = clamp(ℓ + η · ℓmax · tanh(κ · (p* - p̂)), min, max)
/// ```
///
/// Bounded change per step, no special case at reward 0, and 0 is within reach. A step without
/// any rollout of the signal's kind changes nothing.
///
/// ```
/// use g2rpo_guidance::{Target, TargetConfig};
/// let mut target = Target::new(TargetConfig { initial: 0.5, ..TargetConfig::default() })?;
/// target.step(0.5);
/// assert_eq!(target.length(), 0.5);
/// target.step(0.0);
/// assert!((target.length() - (0.5 + 0.1 * 1.0f64.tanh())).abs() < 1e-15);
/// # Ok::<(), g2rpo_guidance::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Target {
    config: TargetConfig,
    state: Reached,
}

/// Where the rule has come to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Reached {
    length: f64,
    smoothed: Option<f64>,
}

impl Target {
    /// Starts at `config.initial`.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) for numbers outside their domain.
    pub fn new(config: TargetConfig) -> Result<Self> {
        check_lengths(config.initial, config.min, config.max)?;
        SHARE.check("target", config.target)?;
        SHARE.check("rate", config.rate)?;
        NON_NEGATIVE.check("sharpness", config.sharpness)?;
        config.smoothing.check()?;
        Ok(Self {
            config,
            state: Reached {
                length: config.initial,
                smoothed: None,
            },
        })
    }

    /// The present length, in the configured unit.
    pub fn length(&self) -> f64 {
        self.state.length
    }

    /// One step with the given share of successes. NaN and infinities are ignored.
    pub fn step(&mut self, success: f64) {
        if !success.is_finite() {
            return;
        }
        let c = &self.config;
        let change = c.rate * c.max * (c.sharpness * (c.target - success)).tanh();
        self.state.length = (self.state.length + change).clamp(c.min, c.max);
    }
}

impl LengthController for Target {
    fn amount(&self, _: &Query, _: &mut dyn Rng) -> Amount {
        self.config.unit.of(self.state.length)
    }

    fn observe(&mut self, feedback: &StepFeedback) {
        let c = &self.config;
        let value = (c.smoothing).follow(c.signal, feedback, &mut self.state.smoothed);
        value.into_iter().for_each(|value| self.step(value));
    }

    fn steering(&self) -> Option<Steering> {
        let c = &self.config;
        Some(Steering {
            signal: c.signal,
            min: c.min,
            max: c.max,
            unit: c.unit,
        })
    }

    fn state(&self) -> Value {
        saved(&self.state)
    }

    fn restore(&mut self, saved: Value) -> Result<()> {
        let state: Reached = restored("target", saved)?;
        length_within("target", state.length, self.config.min, self.config.max)?;
        self.state = state;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_guided_rollouts_nothing_moves() {
        let mut target = Target::new(TargetConfig::default()).unwrap();
        let before = target.clone();
        target.observe(&StepFeedback::new(0));
        target.step(f64::NAN);
        assert_eq!(target, before);
    }
}
