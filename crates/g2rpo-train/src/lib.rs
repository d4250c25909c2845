//! The training loop over traits: any engine, any learner, any verifier.
//!
//! A [`Trainer`] runs a [`Method`](g2rpo_guidance::Method) on a [`Dataset`]. The pieces of its step
//! are functions over plain data, in [`step`]: plan, generate, grade, revise, rows, rescore,
//! advantages, update, report. A loop written by hand from them gives the same numbers.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod ahead;
mod check;
pub mod data;
mod error;
pub mod evaluate;
mod metrics;
mod plot;
mod ranks;
pub mod recipe;
mod roller;
pub mod run;
mod schedule;
mod settings;
mod state;
pub mod step;
mod supervised;
mod trainer;

pub use ahead::{Ahead, StalenessCorrection};
pub use data::dataset::{Dataset, Item};
pub use data::order::{TaskOrder, TaskOrderState};
pub use error::{Error, Result};
pub use evaluate::{EvalConfig, Evaluation, evaluate};
pub use metrics::MetricsRow;
pub use plot::{Panel, Series, draw_svg};
pub use ranks::RankedVerifier;
pub use run::files::write_atomically;
pub use run::step_log::StepLog;
pub use schedule::{LrSchedule, LrSchedulerType};
pub use settings::TrainerConfig;
pub use state::RunState;
pub use step::context::token_advantages;
pub use step::generate::generate;
pub use step::grade::{Judge, grade};
pub use step::group::{Grade, Group, Member, StepKey, feedback};
pub use step::learn::advantages;
pub use step::mismatch::Mismatch;
pub use step::plan::Planner;
pub use step::play::play;
pub use step::report::{SampleRow, Seconds, Staleness, StepReport};
pub use step::rescore::rescore;
pub use step::rows::Rows;
pub use step::update::{Update, UpdateConfig, update};
pub use supervised::supervised_step;
pub use trainer::Trainer;
