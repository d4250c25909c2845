//! Detectors that look at what the loss does with guidance.

use crate::detect::view::{Numbers, View};

pub(super) fn unguided_pushed_down(view: &View<'_>) -> Option<Numbers> {
    let steps = view.window(|s| Some((s.advantage_unguided?, s.success_guided?)))?;
    let n = steps.len() as f64;
    let guided = steps.iter().map(|s| s.1).sum::<f64>() / n;
    let always = steps.iter().all(|s| s.0 < -view.thresholds.pushed_down);
    (always && guided > view.thresholds.stalled).then(|| {
        let advantage = steps.iter().map(|s| s.0).sum::<f64>() / n;
        vec![
            ("advantage_unguided", advantage),
            ("success_guided", guided),
        ]
    })
}

pub(super) fn improbable_prefix(view: &View<'_>) -> Option<Numbers> {
    let (guidance, own) = (view.now.logp_guidance?, view.now.logp_own?);
    (own - guidance > view.thresholds.improbable)
        .then(|| vec![("logp_guidance", guidance), ("logp_own", own)])
}

pub(super) fn entropy_collapse(view: &View<'_>) -> Option<Numbers> {
    let now = view.now.entropy?;
    let height = view
        .history
        .iter()
        .filter_map(|s| s.entropy)
        .fold(now, f64::max);
    (now < view.thresholds.entropy * height)
        .then(|| vec![("entropy_before", height), ("entropy", now)])
}
