//! The length controllers as data.

use serde::{Deserialize, Serialize};

use crate::controller::amount::Amount;
use crate::controller::bisection::{Bisection, BisectionConfig};
use crate::controller::bucketed::PerBucket;
use crate::controller::irt::{Irt, IrtConfig};
use crate::controller::length::LengthController;
use crate::controller::ratio::{Ratio, RatioConfig};
use crate::controller::schedule::{BinomialCosine, Fixed, Random, Schedule, Staged};
use crate::controller::target::{Target, TargetConfig};
use crate::error::{NON_NEGATIVE, Result};
use crate::feedback::ExampleId;

/// A length controller as data.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum ControllerConfig {
    /// [`Fixed`].
    Fixed {
        /// The amount.
        amount: Amount,
    },
    /// [`Schedule`].
    Schedule(Schedule),
    /// [`Staged`].
    Staged(Staged),
    /// [`BinomialCosine`].
    BinomialCosine(BinomialCosine),
    /// [`Random`].
    Random(Random),
    /// [`Ratio`].
    Ratio(RatioConfig),
    /// [`Target`].
    Target(TargetConfig),
    /// A [`Target`] for each task.
    TargetPerTask(TargetConfig),
    /// [`Bisection`].
    Bisection(BisectionConfig),
    /// [`Irt`].
    Irt(IrtConfig),
}

impl ControllerConfig {
    /// The controller, at its start.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) for numbers outside their domain.
    pub fn build(&self) -> Result<Box<dyn LengthController + Send>> {
        match self {
            Self::Fixed { amount } => NON_NEGATIVE.check("amount", amount.value()),
            Self::Schedule(schedule) => schedule.check(),
            Self::Staged(staged) => staged.check(),
            Self::BinomialCosine(schedule) => schedule.check(),
            Self::Random(random) => random.check(),
            // These check themselves.
            _ => Ok(()),
        }?;
        Ok(match self.clone() {
            Self::Fixed { amount } => Box::new(Fixed(amount)),
            Self::Schedule(schedule) => Box::new(schedule),
            Self::Staged(staged) => Box::new(staged),
            Self::BinomialCosine(schedule) => Box::new(schedule),
            Self::Random(random) => Box::new(random),
            Self::Ratio(config) => Box::new(Ratio::new(config)?),
            Self::Target(config) => Box::new(Target::new(config)?),
            Self::TargetPerTask(config) => {
                Box::new(PerBucket::new(Target::new(config)?, |id: ExampleId| id.0))
            }
            Self::Bisection(config) => Box::new(Bisection::new(config)?),
            Self::Irt(config) => Box::new(Irt::new(config)?),
        })
    }

    /// Whether it gives nothing, whatever happens and in whatever step.
    pub(crate) fn gives_nothing(&self) -> bool {
        match self {
            Self::Fixed { amount } => amount.value() == 0.0,
            Self::Schedule(s) => {
                let start = if s.steps == 0 { 0.0 } else { s.start };
                [start, s.end, s.after.unwrap_or(0.0)] == [0.0; 3]
            }
            Self::Staged(staged) => staged.stages.iter().all(|stage| stage.1 == 0.0),
            Self::BinomialCosine(b) => b.steps == 0 || (b.p_high, b.p_low) == (0.0, 0.0),
            Self::Random(random) => random.high == 0.0,
            Self::Ratio(ratio) => ratio.max == 0.0,
            Self::Target(target) | Self::TargetPerTask(target) => target.max == 0.0,
            Self::Bisection(bisection) => bisection.unguided == 1.0,
            Self::Irt(_) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_outside_their_domain_are_named() {
        for case in r#"
            {"kind": "ratio", "initial": 4000} initial = 4000 is outside its domain [min, max]
            {"kind": "ratio", "min": -1} min = -1 is outside its domain [0, max]
            {"kind": "ratio", "window": 0} window = 0 is outside its domain [1, ∞)
            {"kind": "ratio", "every": 0} every = 0 is outside its domain [1, ∞)
            {"kind": "ratio", "gain": 0} gain = 0 is outside its domain (0, ∞)
            {"kind": "target", "target": 1.5} target = 1.5 is outside its domain [0, 1]
            {"kind": "target", "initial": 2} initial = 2 is outside its domain [min, max]
            {"kind": "irt", "target": 1.5} target = 1.5 is outside its domain [0, 1]
            {"kind": "irt", "decay": -0.1} decay = -0.1 is outside its domain [0, 1]
        "#
        .trim()
        .lines()
        {
            let (config, message) = case.trim().split_once("} ").unwrap();
            let config: ControllerConfig = serde_json::from_str(&format!("{config}}}")).unwrap();
            assert_eq!(config.build().err().unwrap().to_string(), message);
        }
        let nan = f64::NAN;
        let ratio = RatioConfig {
            max: nan,
            ..RatioConfig::paper()
        };
        let target = TargetConfig {
            rate: nan,
            ..TargetConfig::default()
        };
        let irt = IrtConfig {
            population: nan,
            ..IrtConfig::default()
        };
        assert!(
            Ratio::new(ratio).is_err() && Target::new(target).is_err() && Irt::new(irt).is_err()
        );
    }
}
