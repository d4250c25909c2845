//! Guided rollouts for reinforcement learning on language models: where guidance comes from, how
//! it is cut, who gets it, how much, and what to warn about.
//!
//! Five independent choices make a method (docs/algorithm.md has the table):
//!
//! | choice | trait | examples |
//! |---|---|---|
//! | from where | [`GuidanceSource`] | [`Traces`], [`OwnSuccesses`], [`Hints`], closures |
//! | how much | [`LengthController`] | [`Ratio`] (G²RPO-A), [`Target`], [`Bisection`], [`Irt`], [`Schedule`] |
//! | who | [`Selector`] | [`FixedFraction`], [`All`], [`ZeroRewardRetry`], [`Ladder`], [`CurveRounds`] |
//! | cut where | [`Cutter`] | [`TokenCutter`], [`UnitCutter`] |
//! | put where | – | [`Placement`], [`ThinkTag`], [`HintTemplate`] |
//!
//! [`Method::preset`] has published methods by name.
//!
//! [`plan_group`] joins them for one group; after scoring, the outcomes go into a [`StepFeedback`]
//! for the controller and into [`StepStats`] for the [`Detectors`]. The crate knows no tokenizer,
//! no model and no verifier: traces are ids with (if known) their text, and every random number
//! comes from a generator that the caller keys.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod amount;
mod answer;
mod budget;
mod controller;
mod curriculum;
mod curve;
mod cut;
mod cutter;
mod detect;
mod error;
mod feedback;
mod inspect;
mod method;
mod place;
mod plan;
mod protect;
mod selector;
mod snapshot;
mod source;
mod trace;

pub use amount::{Amount, AmountUnit, Rounding};
pub use answer::AnswerMarkers;
pub use budget::Budget;
pub use controller::{
    BinomialCosine, Bisection, BisectionConfig, Difficulty, DifficultyConfig, Fixed, Irt,
    IrtConfig, LengthController, PerBucket, Query, Random, Ratio, RatioConfig, Schedule, Shape,
    Staged, Target, TargetConfig, ZeroReward,
};
pub use curriculum::{Curriculum, OrderBy, TaskFacts};
pub use curve::ResponseCurve;
pub use cut::{Cut, CutLimits, Passes, cut};
pub use cutter::{CutReason, Cutter, Proposal, Snap, TokenCutter, Unit, UnitCutter};
pub use detect::{Detector, Detectors, StepStats, Thresholds, Warning};
pub use error::{Error, Result};
pub use feedback::{
    Estimate, ExampleFeedback, ExampleId, Outcome, Signal, Smoothing, Statistic, StepFeedback,
    Stratum, Which,
};
pub use inspect::{PrefixProblems, inspect_prefix};
pub use method::{
    BuiltMethod, ControllerConfig, CutterConfig, Method, ScoreContext, SelectorConfig, TokenLoss,
};
pub use place::{HintTemplate, ThinkTag};
pub use plan::{GroupPlan, MemberPlan, Next, Parts, plan_group, revise_group};
pub use protect::Protected;
pub use selector::{
    All, AllButOne, CurveRounds, Dropout, FixedFraction, GroupContext, Ladder, LadderRung, Level,
    Member, Mixed, NoOne, Played, ProbeThenDecide, Retry, Revision, Selector, ZeroRewardRetry,
};
pub use snapshot::Snapshot;
pub use source::{
    FirstOf, Guidance, GuidanceSource, Hints, OwnSuccesses, Pick, Placement, Provenance, Traces,
};
pub use trace::Trace;

/// Id of a token in a model's vocabulary.
pub type TokenId = u32;
