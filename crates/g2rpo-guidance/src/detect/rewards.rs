//! Detectors that look at rewards.

use crate::detect::view::{Numbers, View};

/// Share of groups with equal rewards, beside what independent rollouts at this success would give.
pub(super) fn zero_variance(view: &View<'_>) -> Option<Numbers> {
    let fraction = view.now.frac_reward_zero_std?;
    let mut numbers = vec![("frac_reward_zero_std", fraction)];
    if let (Some(p), g @ 2..) = (view.now.success, view.now.group_size) {
        let g = g as i32;
        numbers.push(("expected", p.powi(g) + (1.0 - p).powi(g)));
    }
    (fraction >= view.thresholds.zero_variance).then_some(numbers)
}

pub(super) fn identity_only_variance(view: &View<'_>) -> Option<Numbers> {
    let fraction = view.now.frac_identity_only?;
    (fraction >= view.thresholds.identity_only).then(|| {
        let mut numbers = vec![("frac_identity_only", fraction)];
        numbers.extend(view.now.success_guided.map(|s| ("success_guided", s)));
        numbers.extend(view.now.success_unguided.map(|s| ("success_unguided", s)));
        numbers
    })
}

pub(super) fn all_guided_saturated(view: &View<'_>) -> Option<Numbers> {
    let success = view.now.success_guided?;
    let all = view.now.guided_fraction? >= 1.0;
    (all && success > view.thresholds.saturated).then(|| vec![("success_guided", success)])
}

pub(super) fn zero_reward(view: &View<'_>) -> Option<Numbers> {
    let reward = view.now.reward?;
    let expected = view.now.success? * view.now.n_rollouts as f64;
    (reward == 0.0 || expected < view.thresholds.min_successes)
        .then(|| vec![("reward", reward), ("expected_successes", expected)])
}

pub(super) fn hint_reliance(view: &View<'_>) -> Option<Numbers> {
    let difference = view.now.hint_reliance?;
    (difference < -view.thresholds.hint_reliance)
        .then(|| vec![("logp_without_minus_with_hint", difference)])
}

/// Guided success stays ahead of unguided success over a slow trend, and the latter does not rise.
pub(super) fn reliance_gap(view: &View<'_>) -> Option<Numbers> {
    let steps = view.trend(|s| Some((s.success_guided?, s.success_unguided?)))?;
    let (first, second) = steps.split_at(steps.len() / 2);
    let mean = |part: &[(f64, f64)], get: fn(&(f64, f64)) -> f64| {
        part.iter().map(get).sum::<f64>() / part.len() as f64
    };
    let gap = |s: &(f64, f64)| s.0 - s.1;
    let (gap_before, gap_now) = (mean(first, gap), mean(second, gap));
    let (before, now) = (mean(first, |s| s.1), mean(second, |s| s.1));
    // Two points are what noise over fifty steps leaves.
    let stuck = gap_now >= gap_before - 0.02 && now <= before + 0.02;
    (stuck && gap_now > view.thresholds.reliance).then(|| {
        vec![
            ("gap_before", gap_before),
            ("gap_now", gap_now),
            ("unguided_before", before),
            ("unguided_now", now),
        ]
    })
}

pub(super) fn format_collapse(view: &View<'_>) -> Option<Numbers> {
    let now = view.now.format_reward?;
    let recent = view.history.iter().rev().take(view.thresholds.window);
    let height = recent.filter_map(|s| s.format_reward).fold(now, f64::max);
    (height - now > view.thresholds.format_fall)
        .then(|| vec![("format_reward_before", height), ("format_reward", now)])
}
