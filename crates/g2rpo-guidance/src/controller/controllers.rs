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
use crate::error::{Result, within};
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
        Ok(match self.clone() {
            Self::Fixed { amount } => {
                within("amount", amount.value(), 0.0, f64::MAX, "[0, ∞)")?;
                Box::new(Fixed(amount))
            }
            Self::Schedule(schedule) => {
                schedule.check()?;
                Box::new(schedule)
            }
            Self::Staged(staged) => {
                staged.check()?;
                Box::new(staged)
            }
            Self::BinomialCosine(schedule) => {
                schedule.check()?;
                Box::new(schedule)
            }
            Self::Random(random) => {
                random.check()?;
                Box::new(random)
            }
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
