//! Advantages of groups of completions.

mod baseline;
mod estimate;
mod estimator;
mod grouping;
mod report;
mod rewards;
mod several;
mod statistics;

pub use estimator::{AdvantageEstimator, Baseline, Scale, Singleton, Strata};
pub use report::{Advantages, GroupStats};
pub use rewards::weighted_rewards;
pub use several::MultiObjectiveAggregation;
