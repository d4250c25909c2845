//! Named warnings computed from the statistics of a step.

mod lengths;
mod losses;
mod prefixes;
mod rewards;
pub(crate) mod stats;
pub(crate) mod table;
pub(crate) mod view;
pub(crate) mod watch;
