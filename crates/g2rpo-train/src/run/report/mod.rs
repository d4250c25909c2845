//! The report of runs: one page of HTML that needs nothing else, and what their telemetry says went
//! wrong.

pub(crate) mod chart;
pub mod checks;
pub mod page;
pub mod record;
