//! What a check may look at, and the thresholds it compares with.

use std::collections::VecDeque;

use crate::defaults::settings;
use crate::detect::stats::StepStats;

settings! {
    /// When detectors go off.
    pub struct Thresholds {
        /// Steps that detectors of states look back. Default 20.
        pub window: usize = 20,
        /// Steps that detectors of slow trends look back. Default 100.
        pub trend: usize = 100,
        /// Share of groups with equal rewards. Default 0.8.
        pub zero_variance: f64 = 0.8,
        /// Share of groups whose rewards differ only with guidance. Default 0.5.
        pub identity_only: f64 = 0.5,
        /// Success that counts as saturated. Default 0.95.
        pub saturated: f64 = 0.95,
        /// Expected successes in a step below which its reward says little. Default 5.
        pub min_successes: f64 = 5.0,
        /// Share of the window's steps at a bound. Default 0.8.
        pub pinned: f64 = 0.8,
        /// Share of the window's changes that turn round. Default 0.6.
        pub turning: f64 = 0.6,
        /// Mean |Δ log ℓ| of changes that counts as a jump. Default 0.5.
        pub jump: f64 = 0.5,
        /// Guided success above which, and unguided success below one minus which, a constant length
        /// is stalled. Default 0.9.
        pub stalled: f64 = 0.9,
        /// Smallest difference between guided and unguided success that counts as reliance.
        /// Default 0.3.
        pub reliance: f64 = 0.3,
        /// Mean advantage of unguided members, negated, that counts as pushed down. Default 0.2.
        pub pushed_down: f64 = 0.2,
        /// Relative change of the length at a change of tier. Default 0.2.
        pub tier_change: f64 = 0.2,
        /// Share of guided members that may be stopped by the trace's end. Default 0.5.
        pub at_trace_end: f64 = 0.5,
        /// Share of guided members that may lack a trace or hint. Default 0.05.
        pub missing: f64 = 0.05,
        /// Mean difference of log-probability per token between a hinted success without and with its
        /// hint, negated, in nats. Default 0.3, HiLL's temperature.
        pub hint_reliance: f64 = 0.3,
        /// Share of guided members that may run into the budget. Default 0.1.
        pub over_budget: f64 = 0.1,
        /// Share of the guidance tokens' weight that may be negative. Default 0.3.
        pub negative_guidance: f64 = 0.3,
        /// Weight of guidance tokens over that of own tokens. Default 1.
        pub guidance_weight: f64 = 1.0,
        /// Difference of mean log-probabilities between own and guidance tokens, in nats. Default 2.
        pub improbable: f64 = 2.0,
        /// Relative difference of sampled tokens between guided and unguided rollouts. Default 0.25.
        pub unequal_budget: f64 = 0.25,
        /// Part of its highest entropy that the policy may fall to. Default 0.3.
        pub entropy: f64 = 0.3,
        /// Fall of the mean format reward from its height. Default 0.2.
        pub format_fall: f64 = 0.2,
        /// Steps that a condition must be gone before it warns again as new. Default 10.
        pub quiet: u64 = 10,
        /// Steps after which a condition that lasts warns again; 0 for never. Default 200.
        pub remind: u64 = 200,
    }
}

/// The numbers that set a detector off.
pub(super) type Numbers = Vec<(&'static str, f64)>;

/// A number that is known and above its threshold, by name.
pub(super) fn above(name: &'static str, value: Option<f64>, threshold: f64) -> Option<Numbers> {
    let value = value.filter(|value| *value > threshold)?;
    Some(vec![(name, value)])
}

/// What a check may look at: the thresholds and the last steps, the present one last.
pub(super) struct View<'a> {
    pub(super) thresholds: &'a Thresholds,
    pub(super) now: &'a StepStats,
    pub(super) history: &'a VecDeque<StepStats>,
}

impl View<'_> {
    /// A number of each of the last `window` steps; nothing unless all of them have it.
    pub(super) fn window<T>(&self, get: impl Fn(&StepStats) -> Option<T>) -> Option<Vec<T>> {
        self.last(self.thresholds.window, get)
    }

    /// As [`Self::window`], over the steps of a slow trend.
    pub(super) fn trend<T>(&self, get: impl Fn(&StepStats) -> Option<T>) -> Option<Vec<T>> {
        self.last(self.thresholds.trend, get)
    }

    pub(super) fn last<T>(
        &self,
        n: usize,
        get: impl Fn(&StepStats) -> Option<T>,
    ) -> Option<Vec<T>> {
        let start = self.history.len().checked_sub(n.max(2))?;
        self.history.range(start..).map(get).collect()
    }
}
