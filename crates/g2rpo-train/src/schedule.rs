//! Learning rates by the formulas of transformers.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// The learning rate of every step, by the formulas and names of transformers.
///
/// ```
/// use g2rpo_train::{LrSchedule, LrSchedulerType};
/// let schedule = LrSchedule {
///     learning_rate: 1.0,
///     lr_scheduler_type: LrSchedulerType::Linear,
///     warmup_steps: 2.0,
///     num_training_steps: 6,
/// };
/// let lrs: Vec<f64> = (0..6).map(|step| schedule.lr(step)).collect();
/// assert_eq!(lrs, [0.0, 0.5, 1.0, 0.75, 0.5, 0.25]);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LrSchedule {
    /// The highest learning rate. TRL's default for GRPO is 1e-6.
    pub learning_rate: f64,
    /// How it falls after the warm-up. Default: not at all, as how long a run is is not known here;
    /// transformers' is linear.
    pub lr_scheduler_type: LrSchedulerType,
    /// Steps over which the rate rises linearly from 0; a value below 1 is a fraction of the
    /// training steps, rounded up (as in transformers 5). The first step of a warm-up has rate 0.
    pub warmup_steps: f64,
    /// Number of optimiser steps of the run; of no effect on a constant rate. Default 0: not said, which is refused
    /// where the rate depends on it.
    pub num_training_steps: u64,
}

impl Default for LrSchedule {
    fn default() -> Self {
        Self {
            learning_rate: 1e-6,
            lr_scheduler_type: LrSchedulerType::Constant,
            warmup_steps: 0.0,
            num_training_steps: 0,
        }
    }
}

/// How the learning rate falls after the warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LrSchedulerType {
    /// Not at all (with a warm-up, `constant_with_warmup` in transformers).
    #[serde(alias = "constant_with_warmup")]
    Constant,
    /// Along a line to 0 at the last step.
    Linear,
    /// Along half a cosine to 0.
    Cosine,
    /// Along half a cosine to a fraction of the highest rate.
    CosineWithMinLr {
        /// The fraction, in `[0, 1]`.
        min_lr_rate: f64,
    },
}

impl LrSchedule {
    /// The same rate throughout.
    pub fn constant(learning_rate: f64) -> Self {
        Self {
            learning_rate,
            ..Self::default()
        }
    }

    /// Checks the numbers.
    ///
    /// # Errors
    /// [`Error::Config`] naming a field that is negative, not finite, or a fraction outside
    /// `[0, 1]`; and `num_training_steps = 0` where the rate depends on it.
    pub fn check(&self) -> Result<()> {
        let min_lr_rate = match self.lr_scheduler_type {
            LrSchedulerType::CosineWithMinLr { min_lr_rate } => min_lr_rate,
            _ => 0.0,
        };
        for (name, value, max, domain) in [
            ("learning_rate", self.learning_rate, f64::MAX, "[0, ∞)"),
            ("warmup_steps", self.warmup_steps, f64::MAX, "[0, ∞)"),
            ("min_lr_rate", min_lr_rate, 1.0, "[0, 1]"),
        ] {
            if !(0.0..=max).contains(&value) {
                let problem = format!("is outside its domain {domain}");
                return Err(Error::config(name, value, problem));
            }
        }
        let falls = self.lr_scheduler_type != LrSchedulerType::Constant;
        let warms_by_share = self.warmup_steps > 0.0 && self.warmup_steps < 1.0;
        if self.num_training_steps == 0 && (falls || warms_by_share) {
            let problem = "the rate depends on how many optimiser steps the run has: say it, or set a constant rate and \
                           warm-up steps";
            return Err(Error::config("num_training_steps", 0, problem));
        }
        Ok(())
    }

    /// The learning rate of the optimiser step with this index, from 0. Beyond the last step of
    /// training the linear schedule stays at 0, while the cosines rise again, as in transformers.
    pub fn lr(&self, step: u64) -> f64 {
        self.learning_rate * self.factor(step)
    }

    fn factor(&self, step: u64) -> f64 {
        let (step, total) = (step as f64, self.num_training_steps as f64);
        let warmup = if self.warmup_steps < 1.0 {
            (total * self.warmup_steps).ceil()
        } else {
            self.warmup_steps.floor()
        };
        if step < warmup {
            return step / warmup.max(1.0);
        }
        let after = (total - warmup).max(1.0);
        let cosine = 0.5 * (1.0 + (std::f64::consts::PI * (step - warmup) / after).cos());
        match self.lr_scheduler_type {
            LrSchedulerType::Constant => 1.0,
            LrSchedulerType::Linear => ((total - step) / after).max(0.0),
            LrSchedulerType::Cosine => cosine.max(0.0),
            LrSchedulerType::CosineWithMinLr { min_lr_rate } => {
                (cosine * (1.0 - min_lr_rate) + min_lr_rate).max(0.0)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize)]
    struct Case {
        schedule: LrSchedule,
        lrs: Vec<f64>,
    }

    #[test]
    fn equals_transformers() {
        let cases: Vec<Case> =
            serde_json::from_str(include_str!("../../../testdata/learner/schedules.json")).unwrap();
        assert!(cases.len() >= 12);
        for Case { schedule, lrs } in cases {
            schedule.check().unwrap();
            for (step, expected) in lrs.into_iter().enumerate() {
                let got = schedule.lr(step as u64);
                approx::assert_abs_diff_eq!(got, expected, epsilon = 1e-15);
            }
        }
    }

    #[test]
    fn numbers_out_of_range_are_named() {
        let bad = LrSchedule {
            lr_scheduler_type: LrSchedulerType::CosineWithMinLr { min_lr_rate: 1.5 },
            ..LrSchedule::default()
        };
        let told = bad.check().unwrap_err().to_string();
        assert_eq!(told, "min_lr_rate = 1.5: is outside its domain [0, 1]");
        assert!(LrSchedule::constant(f64::NAN).check().is_err());
    }

    #[test]
    fn the_default_goes_on_learning_and_a_fall_needs_its_length() {
        let default = LrSchedule::default();
        default.check().unwrap();
        assert!([0, 1, 1000].map(|step| default.lr(step)) == [1e-6; 3]);
        for endless in [
            LrSchedule {
                lr_scheduler_type: LrSchedulerType::Linear,
                ..default
            },
            LrSchedule {
                warmup_steps: 0.5,
                ..default
            },
        ] {
            let message = endless.check().unwrap_err().to_string();
            assert!(message.starts_with("num_training_steps = 0: "), "{message}");
        }
    }
}
