use serde::{Deserialize, Serialize};

use crate::{
    All, AllButOne, Amount, BinomialCosine, Bisection, BisectionConfig, CurveRounds, Cutter,
    Dropout, ExampleId, Fixed, FixedFraction, Irt, IrtConfig, Ladder, LadderRung, LengthController,
    Mixed, NoOne, PerBucket, ProbeThenDecide, Random, Ratio, RatioConfig, Result, Schedule,
    Selector, Staged, Target, TargetConfig, TokenCutter, UnitCutter, ZeroRewardRetry,
};

/// A selector as data.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum SelectorConfig {
    /// [`NoOne`].
    NoOne,
    /// [`All`].
    All,
    /// [`AllButOne`].
    AllButOne,
    /// [`FixedFraction`].
    FixedFraction(FixedFraction),
    /// [`Mixed`]: guided and unguided copies with baselines of their own.
    Mixed(FixedFraction),
    /// [`ZeroRewardRetry`].
    ZeroRewardRetry(ZeroRewardRetry),
    /// [`ProbeThenDecide`].
    ProbeThenDecide(ProbeThenDecide),
    /// [`CurveRounds`].
    CurveRounds(CurveRounds),
    /// [`Ladder`].
    Ladder {
        /// Its rungs.
        rungs: Vec<LadderRung>,
    },
    /// [`Dropout`].
    Dropout {
        /// Probability of leaving guidance out.
        p: f64,
        /// Whether all members lose it together.
        whole_group: bool,
        /// Who is guided otherwise.
        inner: Box<Self>,
    },
}

impl SelectorConfig {
    /// The selector. Settings are checked when it plans, where the group's size is known.
    pub fn build(&self) -> Box<dyn Selector + Send + Sync> {
        match self.clone() {
            Self::NoOne => Box::new(NoOne),
            Self::All => Box::new(All),
            Self::AllButOne => Box::new(AllButOne),
            Self::FixedFraction(selector) => Box::new(selector),
            Self::Mixed(fraction) => Box::new(Mixed(fraction)),
            Self::ZeroRewardRetry(selector) => Box::new(selector),
            Self::ProbeThenDecide(selector) => Box::new(selector),
            Self::CurveRounds(selector) => Box::new(selector),
            Self::Ladder { rungs } => Box::new(Ladder(rungs)),
            Self::Dropout {
                p,
                whole_group,
                inner,
            } => Box::new(Dropout {
                p,
                whole_group,
                inner: inner.build(),
            }),
        }
    }
}

/// A length controller as data.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
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
                crate::error::within("amount", amount.value(), 0.0, f64::MAX, "[0, ∞)")?;
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
}

/// A cutter as data.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum CutterConfig {
    /// [`TokenCutter`].
    Tokens(TokenCutter),
    /// [`UnitCutter`].
    Units(UnitCutter),
}

impl Default for CutterConfig {
    fn default() -> Self {
        Self::Tokens(TokenCutter::default())
    }
}

impl CutterConfig {
    /// The cutter.
    pub fn build(self) -> Box<dyn Cutter + Send + Sync> {
        match self {
            Self::Tokens(cutter) => Box::new(cutter),
            Self::Units(cutter) => Box::new(cutter),
        }
    }
}
