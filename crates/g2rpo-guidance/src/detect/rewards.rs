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

pub(super) fn permissive_verifier(view: &View<'_>) -> Option<Numbers> {
    let accepted = view.now.silence_accepted?;
    (accepted > 0).then(|| vec![("tasks_solved_by_silence", accepted as f64)])
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

#[cfg(test)]
mod tests {
    use crate::detect::stats::StepStats;
    use crate::detect::table::Detector;
    use crate::detect::watch::Detectors;
    use crate::detect::watch::tests::goes_off as goes_off_in_a_run;

    fn goes_off(detector: Detector, stats: &StepStats) -> bool {
        let warnings = Detectors::default().observe(stats);
        warnings.iter().any(|w| w.detector == detector)
    }

    #[test]
    fn groups_without_variance() {
        // 16 groups of 8 at 2 % success: 85 % of groups are all wrong by chance alone.
        let stats = |fraction| StepStats {
            group_size: 8,
            success: Some(0.02),
            frac_reward_zero_std: Some(fraction),
            ..StepStats::default()
        };
        assert!(goes_off(Detector::ZeroVariance, &stats(0.875)));
        assert!(!goes_off(Detector::ZeroVariance, &stats(0.25)));
        let warning = &Detectors::default().observe(&stats(0.875))[0];
        assert!((warning.numbers[1].1 - 0.98f64.powi(8)).abs() < 1e-12);
    }

    #[test]
    fn variance_by_identity_alone() {
        let stats = |fraction| StepStats {
            frac_identity_only: Some(fraction),
            success_guided: Some(1.0),
            success_unguided: Some(0.0),
            ..StepStats::default()
        };
        assert!(goes_off(Detector::IdentityOnlyVariance, &stats(0.9)));
        assert!(!goes_off(Detector::IdentityOnlyVariance, &stats(0.1)));
    }

    #[test]
    fn everybody_guided_and_right() {
        let stats = |guided, success| StepStats {
            guided_fraction: Some(guided),
            success_guided: Some(success),
            ..StepStats::default()
        };
        assert!(goes_off(Detector::AllGuidedSaturated, &stats(1.0, 0.98)));
        assert!(!goes_off(Detector::AllGuidedSaturated, &stats(0.25, 0.98)));
        assert!(!goes_off(Detector::AllGuidedSaturated, &stats(1.0, 0.6)));
    }

    #[test]
    fn too_few_successes() {
        let stats = |success| StepStats {
            n_rollouts: 280,
            reward: Some(success),
            success: Some(success),
            ..StepStats::default()
        };
        assert!(goes_off(Detector::ZeroReward, &stats(2.0 / 280.0)));
        assert!(!goes_off(Detector::ZeroReward, &stats(20.0 / 280.0)));
    }

    #[test]
    fn tasks_that_silence_solves() {
        let stats = |n| StepStats {
            silence_accepted: Some(n),
            ..StepStats::default()
        };
        assert!(goes_off(Detector::PermissiveVerifier, &stats(3)));
        assert!(!goes_off(Detector::PermissiveVerifier, &stats(0)));
    }

    #[test]
    fn hints_that_carry_the_success() {
        let stats = |difference| StepStats {
            hint_reliance: Some(difference),
            ..StepStats::default()
        };
        assert!(goes_off(Detector::HintReliance, &stats(-0.7)));
        assert!(!goes_off(Detector::HintReliance, &stats(-0.1)));
        assert!(!goes_off(Detector::HintReliance, &stats(0.7)));
    }

    #[test]
    fn success_that_does_not_carry_over() {
        let run = |guided: f64, unguided: fn(u64) -> f64| {
            goes_off_in_a_run(Detector::RelianceGap, |i| StepStats {
                success_guided: Some(guided),
                success_unguided: Some(unguided(i)),
                ..StepStats::default()
            })
        };
        assert!(run(0.8, |_| 0.05));
        assert!(!run(0.8, |i| 0.05 + 0.002 * i as f64));
        assert!(!run(0.25, |_| 0.05));
    }

    #[test]
    fn a_format_that_is_forgotten() {
        // The reproduction saw 0.43 at weight 0.1 fall to 0 within three steps.
        let run = |fall: &[f64]| {
            goes_off_in_a_run(Detector::FormatCollapse, |i| StepStats {
                format_reward: Some(fall[(i as usize).min(fall.len() - 1)]),
                ..StepStats::default()
            })
        };
        assert!(run(&[0.1, 0.3, 0.43, 0.3, 0.1, 0.0]));
        assert!(!run(&[0.1, 0.3, 0.43, 0.4, 0.38]));
    }
}
