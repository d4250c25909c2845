//! Detectors that look at prefixes, ids and token budgets.

use crate::detect::view::{Numbers, View};
use crate::trace::cutter::CutReason;

pub(super) fn guided_count(view: &View<'_>) -> Option<Numbers> {
    let stats = view.now;
    let (min, max, expected) = (stats.guided_min?, stats.guided_max?, stats.guided_expected?);
    (min != expected || max != expected).then(|| {
        vec![
            ("guided_min", min as f64),
            ("guided_max", max as f64),
            ("guided_expected", expected as f64),
        ]
    })
}

pub(super) fn guidance_exceeds_trace(view: &View<'_>) -> Option<Numbers> {
    let by_trace = view.now.share_of_cuts(CutReason::CappedByTrace)?;
    let by_answer = view.now.share_of_cuts(CutReason::CappedByAnswer)?;
    (by_trace + by_answer > view.thresholds.at_trace_end).then(|| {
        vec![
            ("capped_by_trace", by_trace),
            ("capped_by_answer", by_answer),
        ]
    })
}

/// Either the budget shortens prefixes, or guided rollouts are truncated where unguided ones are not.
pub(super) fn budget_tight(view: &View<'_>) -> Option<Numbers> {
    let limit = view.thresholds.over_budget;
    let by_budget = view
        .now
        .share_of_cuts(CutReason::CappedByBudget)
        .unwrap_or(0.0);
    let guided = view.now.truncated_guided.unwrap_or(0.0);
    let unguided = view.now.truncated_unguided.unwrap_or(guided);
    (by_budget > limit || guided - unguided > limit).then(|| {
        vec![
            ("capped_by_budget", by_budget),
            ("truncated_guided", guided),
            ("truncated_unguided", unguided),
        ]
    })
}

pub(super) fn no_trace(view: &View<'_>) -> Option<Numbers> {
    let trace = view.now.share_of_cuts(CutReason::NoTrace)?;
    let hint = view.now.share_of_cuts(CutReason::NoHint)?;
    (trace + hint > view.thresholds.missing)
        .then(|| vec![("share_without_trace", trace), ("share_without_hint", hint)])
}

pub(super) fn unequal_budget(view: &View<'_>) -> Option<Numbers> {
    let (guided, unguided) = (view.now.own_tokens_guided?, view.now.own_tokens_unguided?);
    let relative = (guided - unguided).abs() / unguided.max(1.0);
    (relative > view.thresholds.unequal_budget).then(|| {
        vec![
            ("own_tokens_guided", guided),
            ("own_tokens_unguided", unguided),
        ]
    })
}
