//! Detectors that look at the length and its controller.

use crate::detect::view::{Numbers, View};

pub(super) fn controller_blind(view: &View<'_>) -> Option<Numbers> {
    let signals = view.window(|s| s.steered.then_some(s.signal))?;
    let steps = signals.len() as f64;
    let first = signals.first()?;
    let constant = signals.iter().all(|s| s == first);
    // A signal at 1 or 0 may be honest; one that never moves in between is rarely so, and one that
    // is 0 throughout is what a mistaken reward key looks like.
    match first {
        _ if !constant => None,
        None => Some(vec![("steps_without_signal", steps)]),
        Some(value) => Some(vec![("constant_signal", *value), ("steps", steps)]),
    }
}

pub(super) fn pinned(view: &View<'_>) -> Option<Numbers> {
    let steps = view.window(|s| Some((s.length?, s.length_min?, s.length_max?)))?;
    // A fixed length has its bounds where it is.
    if steps.iter().any(|(_, min, max)| min >= max) {
        return None;
    }
    let share = |at: &dyn Fn(&(f64, f64, f64)) -> bool| {
        steps.iter().filter(|s| at(s)).count() as f64 / steps.len() as f64
    };
    let (at_max, at_min) = (share(&|s| s.0 >= s.2), share(&|s| s.0 <= s.1));
    // A length that came down because it is no longer needed is where it should be.
    let alone = view.now.success_unguided.or(view.now.success);
    if at_min > at_max && alone.is_some_and(|s| s >= 0.5) {
        return None;
    }
    (at_max.max(at_min) >= view.thresholds.pinned)
        .then(|| vec![("share_at_max", at_max), ("share_at_min", at_min)])
}

pub(super) fn oscillating(view: &View<'_>) -> Option<Numbers> {
    // A twentieth of the largest length is as good as nothing: a token more or less there is no jump.
    let lengths = view.window(|s| Some(s.length?.max(0.05 * s.length_max?).max(1e-9)))?;
    let changes: Vec<f64> = (lengths.windows(2))
        .map(|w| w[1].ln() - w[0].ln())
        .filter(|change| *change != 0.0)
        .collect();
    if changes.len() < 3 {
        return None;
    }
    let turns = changes.windows(2).filter(|w| w[0] * w[1] < 0.0).count();
    let turning = turns as f64 / (changes.len() - 1) as f64;
    let jump = changes.iter().map(|c| c.abs()).sum::<f64>() / changes.len() as f64;
    (turning > view.thresholds.turning && jump > view.thresholds.jump)
        .then(|| vec![("share_of_turns", turning), ("mean_abs_log_change", jump)])
}

pub(super) fn stalled(view: &View<'_>) -> Option<Numbers> {
    let steps = view.window(|s| Some((s.length?, s.success_guided?, s.success_unguided?)))?;
    let high = view.thresholds.stalled;
    let (first, n) = (steps.first()?.0, steps.len() as f64);
    let still = steps
        .iter()
        .all(|s| (s.0 - first).abs() <= 0.02 * first.abs());
    let guided = steps.iter().map(|s| s.1).sum::<f64>() / n;
    let unguided = steps.iter().map(|s| s.2).sum::<f64>() / n;
    (still && first > 0.0 && guided > high && unguided < 1.0 - high).then(|| {
        vec![
            ("length", first),
            ("success_guided", guided),
            ("success_unguided", unguided),
        ]
    })
}

/// Steps that are looked at around a change of tier.
pub(super) const AROUND_TIER: usize = 6;

/// The length moved by more than a little within five steps of a change of tier.
pub(super) fn curriculum_confound(view: &View<'_>) -> Option<Numbers> {
    let steps = view.last(AROUND_TIER, |s| Some((s.tier?, s.length?)))?;
    let change = steps.windows(2).position(|w| w[0].0 != w[1].0)?;
    let ((from, before), (to, _)) = (steps[change], steps[change + 1]);
    let after = steps.last()?.1;
    let relative = (after - before).abs() / before.max(1e-9);
    (relative > view.thresholds.tier_change).then(|| {
        vec![
            ("tier_from", from as f64),
            ("tier_to", to as f64),
            ("length_before", before),
            ("length_after", after),
        ]
    })
}
