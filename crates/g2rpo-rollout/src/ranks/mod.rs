//! Several processes that train one policy: who there is, what they say to each other, and an engine and a learner
//! that divide their work.
//!
//! Every rank runs the same loop on the same tasks, and plans and grades the whole batch. Only the two expensive
//! parts are divided: [`RankedEngine`] samples this rank's groups and shares the completions, [`RankedLearner`]
//! scores this rank's rows, shares what it found, and sums gradients before every update. What is decided from a
//! batch (advantages, quantiles, controllers, curricula, clipping) is decided from the whole of it on every rank,
//! so no formula knows of ranks, and the result is that of one process to rounding.

mod collective;
mod engine;
mod learner;
mod local;
mod share;

pub use collective::{Collective, RankError, Solo, Values};
pub use engine::RankedEngine;
pub use learner::{DataParallel, RankedError, RankedLearner};
pub use local::Local;
pub use share::{fingerprint, share};
