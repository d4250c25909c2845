//! Guided rollouts for reinforcement learning on language models: where guidance comes from, how
//! it is cut, who gets it, how much, and what to warn about.
//!
//! Five independent choices make a method (docs/algorithm.md has the table):
//!
//! | choice | trait | examples |
//! |---|---|---|
//! | from where | [`GuidanceSource`] | [`Traces`], the policy's own successes, one before the other ([`SourceConfig`]) |
//! | how much | [`LengthController`] | [`Ratio`] (G²RPO-A), [`Target`], [`Bisection`], [`Irt`], [`Schedule`] |
//! | who | [`Selector`] | [`FixedFraction`], [`ZeroRewardRetry`], [`Ladder`], [`CurveRounds`] |
//! | cut where | [`Cutter`] | [`UnitCutter`] |
//! | put where | – | [`Placement`], [`ThinkTag`], [`HintTemplate`] |
//!
//! [`Method`] holds all of them, and the loss and the advantages beside them, as one value that can
//! be printed, changed by key and saved; [`Method::preset`] has published methods by name.
//!
//! [`plan_group`] joins the choices for one group; after scoring, the records go into a
//! [`StepFeedback`] for the controller and into [`StepStats`] for the [`Detectors`]. The crate knows
//! no tokenizer, no model and no verifier: traces are ids with (if known) their text, and every
//! random number comes from a generator that the caller keys.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod controller;
mod curriculum;
mod defaults;
mod detect;
mod error;
mod feedback;
mod method;
mod plan;
mod selector;
mod signal;
mod source;
#[cfg(test)]
mod testing;
mod trace;

pub use controller::amount::{Amount, AmountUnit, Rounding};
pub use controller::bisection::{Bisection, BisectionConfig};
pub use controller::bucketed::PerBucket;
pub use controller::controllers::ControllerConfig;
pub use controller::irt::{Irt, IrtConfig};
pub use controller::length::{LengthController, Query};
pub use controller::ratio::{Ratio, RatioConfig, ZeroReward};
pub use controller::schedule::{BinomialCosine, Fixed, Random, Schedule, Shape, Staged};
pub use controller::target::{Target, TargetConfig};
pub use curriculum::difficulty::{Difficulty, DifficultyConfig};
pub use curriculum::order::{Curriculum, OrderBy, TaskFacts};
pub use detect::stats::StepStats;
pub use detect::table::Detector;
pub use detect::view::Thresholds;
pub use detect::watch::{Detectors, Warning};
pub use error::{Error, Result};
pub use feedback::{ExampleId, Record, StepFeedback, Stratum, Which};
pub use method::settings::{DynamicSampling, Method, Overlong, ScoreContext};
pub use plan::{Given, GroupPlan, MemberPlan, Next, Parts, plan_group, revise_group};
pub use selector::fraction::FixedFraction;
pub use selector::member::{GroupContext, Level, Member, Played, Revision, Selector};
pub use selector::probe::{Ladder, LadderRung, ProbeThenDecide};
pub use selector::retry::{Retry, ZeroRewardRetry};
pub use selector::rounds::CurveRounds;
pub use selector::selectors::SelectorConfig;
pub use selector::wrap::Dropout;
pub use signal::{Estimate, Signal, Smoothing, Statistic, Steering};
pub use source::guidance::{Guidance, GuidanceSource, Provenance};
pub use source::placement::{HintTemplate, Placement};
pub use source::sources::SourceConfig;
pub use source::think::ThinkTag;
pub use source::written::{Pick, Traces};
pub use trace::answer::AnswerMarkers;
pub use trace::budget::Budget;
pub use trace::cut::{Caps, Cut, CutLimits, Passes, cut};
pub use trace::cutter::{CutReason, Cutter, Proposal, Snap, Unit, UnitCutter};
pub use trace::inspect::{PrefixProblems, inspect_prefix};
pub use trace::protect::Protected;
pub use trace::solution::Trace;
