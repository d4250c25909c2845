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

pub(super) fn negative_guidance(view: &View<'_>) -> Option<Numbers> {
    let share = view.now.guidance_negative_share?;
    (share > view.thresholds.negative_guidance).then(|| vec![("negative_share", share)])
}

pub(super) fn guidance_dominates(view: &View<'_>) -> Option<Numbers> {
    let ratio = view.now.guidance_weight_ratio?;
    (ratio > view.thresholds.guidance_weight).then(|| vec![("guidance_over_own", ratio)])
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

#[cfg(test)]
mod tests {
    use crate::detect::stats::StepStats;
    use crate::detect::table::Detector;
    use crate::detect::watch::tests::goes_off;

    #[test]
    fn unguided_members_always_below_the_mean() {
        let run = |advantage, guided| {
            goes_off(Detector::UnguidedPushedDown, |_| StepStats {
                advantage_unguided: Some(advantage),
                success_guided: Some(guided),
                ..StepStats::default()
            })
        };
        // 2 of 8 guided and always right, the others wrong: advantages 1.62 and -0.54.
        assert!(run(-0.54, 1.0));
        assert!(!run(-0.54, 0.5));
        assert!(!run(-0.05, 1.0));
    }

    #[test]
    fn guidance_tokens_that_are_unlearnt_or_take_over() {
        let negative = |share| {
            goes_off(Detector::NegativeGuidance, |_| StepStats {
                guidance_negative_share: Some(share),
                ..StepStats::default()
            })
        };
        assert!(negative(0.45) && !negative(0.1));
        let dominates = |ratio| {
            goes_off(Detector::GuidanceDominates, |_| StepStats {
                guidance_weight_ratio: Some(ratio),
                ..StepStats::default()
            })
        };
        assert!(dominates(3.0) && !dominates(0.2));
    }

    #[test]
    fn guidance_the_policy_would_never_say() {
        let improbable = |guidance| {
            goes_off(Detector::ImprobablePrefix, |_| StepStats {
                logp_guidance: Some(guidance),
                logp_own: Some(-0.4),
                ..StepStats::default()
            })
        };
        assert!(improbable(-3.1) && !improbable(-1.2));
    }

    #[test]
    fn entropy_that_vanishes() {
        let run = |last: f64| {
            goes_off(Detector::EntropyCollapse, |i| StepStats {
                entropy: Some(1.2 + (last - 1.2) * i.min(60) as f64 / 60.0),
                ..StepStats::default()
            })
        };
        assert!(run(0.1));
        assert!(!run(0.7));
    }
}
