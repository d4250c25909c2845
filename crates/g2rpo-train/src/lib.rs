//! The pieces of a G²RPO-A training loop over traits: any engine, any learner, any verifier.
//!
//! A step reads: [`plan_step`], [`g2rpo_rollout::collect`], [`score`], advantages,
//! [`g2rpo_rollout::pack`], [`update`], then the controller observes what came of it. The loop
//! itself belongs to the program that runs it; `examples/gsm8k_tiny` writes it out.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

pub mod data;
mod error;
pub mod evaluate;
mod metrics;
mod plan;
mod plot;
pub mod recipe;
pub mod run;
mod score;
mod state;
mod step_metrics;
mod step_stats;
mod supervised;
mod update;

pub use error::{Error, Result};
pub use evaluate::{EvalSet, Evaluation, evaluate};
pub use metrics::MetricsRow;
pub use plan::{Prepared, StepPlan, current_amount, plan_step, prepare};
pub use plot::{Panel, Series, draw_svg};
pub use run::files::write_atomically;
pub use run::step_log::StepLog as MetricsWriter;
pub use score::{Scores, score};
pub use state::RunState;
pub use step_metrics::step_row;
pub use step_stats::step_stats;
pub use supervised::supervised_step;
pub use update::{Update, UpdateConfig, update};
