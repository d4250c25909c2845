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

pub(super) fn answer_in_prefix(view: &View<'_>) -> Option<Numbers> {
    let n = view.now.prefixes_with_answer?;
    (n > 0).then(|| vec![("prefixes_with_answer", n as f64)])
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

pub(super) fn broken_tags(view: &View<'_>) -> Option<Numbers> {
    let n = view.now.prefixes_with_broken_tags?;
    (n > 0).then(|| vec![("prefixes_with_broken_tags", n as f64)])
}

pub(super) fn stop_in_prefix(view: &View<'_>) -> Option<Numbers> {
    let n = view.now.prefixes_with_stop?;
    (n > 0).then(|| vec![("prefixes_with_stop", n as f64)])
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::detect::stats::StepStats;
    use crate::detect::table::Detector;
    use crate::detect::watch::Detectors;

    fn goes_off(detector: Detector, stats: &StepStats) -> bool {
        (Detectors::default().observe(stats).iter()).any(|w| w.detector == detector)
    }

    fn cuts(counts: &[(CutReason, u64)]) -> StepStats {
        StepStats {
            cuts: BTreeMap::from_iter(counts.iter().copied()),
            ..StepStats::default()
        }
    }

    #[test]
    fn guided_members_out_of_step_with_groups() {
        // The released pattern of twelve over groups of ten: 0, 1 or 2 guided members.
        let stats = |min, max| StepStats {
            guided_min: Some(min),
            guided_max: Some(max),
            guided_expected: Some(2),
            ..StepStats::default()
        };
        assert!(goes_off(Detector::GuidedCount, &stats(0, 2)));
        assert!(!goes_off(Detector::GuidedCount, &stats(2, 2)));
    }

    #[test]
    fn prefixes_stopped_by_trace_or_missing_it() {
        let long = cuts(&[
            (CutReason::CappedByAnswer, 30),
            (CutReason::CappedByTrace, 5),
            (CutReason::Exact, 29),
        ]);
        assert!(goes_off(Detector::GuidanceExceedsTrace, &long));
        let fine = cuts(&[(CutReason::CappedByAnswer, 10), (CutReason::Exact, 54)]);
        assert!(!goes_off(Detector::GuidanceExceedsTrace, &fine));
        assert!(goes_off(
            Detector::NoTrace,
            &cuts(&[(CutReason::NoTrace, 8), (CutReason::Exact, 56)])
        ));
        assert!(!goes_off(
            Detector::NoTrace,
            &cuts(&[(CutReason::NoTrace, 1), (CutReason::Exact, 63)])
        ));
    }

    #[test]
    fn budgets_too_tight_for_guidance() {
        let capped = cuts(&[(CutReason::CappedByBudget, 16), (CutReason::Exact, 48)]);
        assert!(goes_off(Detector::BudgetTight, &capped));
        let truncated = |guided, unguided| StepStats {
            truncated_guided: Some(guided),
            truncated_unguided: Some(unguided),
            ..StepStats::default()
        };
        assert!(goes_off(Detector::BudgetTight, &truncated(0.4, 0.05)));
        assert!(!goes_off(Detector::BudgetTight, &truncated(0.4, 0.38)));
    }

    #[test]
    fn prefixes_that_hold_what_they_must_not() {
        let answer = |n| StepStats {
            prefixes_with_answer: Some(n),
            ..StepStats::default()
        };
        assert!(goes_off(Detector::AnswerInPrefix, &answer(1)));
        assert!(!goes_off(Detector::AnswerInPrefix, &answer(0)));
        let tags = |n| StepStats {
            prefixes_with_broken_tags: Some(n),
            ..StepStats::default()
        };
        assert!(goes_off(Detector::BrokenTags, &tags(2)));
        assert!(!goes_off(Detector::BrokenTags, &tags(0)));
    }

    #[test]
    fn prefixes_that_end_a_sequence() {
        let stop = |n| StepStats {
            prefixes_with_stop: Some(n),
            ..StepStats::default()
        };
        assert!(goes_off(Detector::StopInPrefix, &stop(1)));
        assert!(!goes_off(Detector::StopInPrefix, &stop(0)));
    }

    #[test]
    fn rollouts_of_unequal_cost() {
        let stats = |guided| StepStats {
            own_tokens_guided: Some(guided),
            own_tokens_unguided: Some(240.0),
            ..StepStats::default()
        };
        assert!(goes_off(Detector::UnequalBudget, &stats(90.0)));
        assert!(!goes_off(Detector::UnequalBudget, &stats(200.0)));
    }
}
