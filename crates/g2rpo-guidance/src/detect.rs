//! Named warnings computed from step statistics.

mod catalog;
mod length;
mod loss;
mod reward;
mod stats;
mod tokens;

use std::collections::{BTreeMap, VecDeque};
use std::fmt;

use serde::{Deserialize, Serialize};

pub use catalog::Detector;
pub use stats::StepStats;

/// A detector that went off.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Warning {
    /// Which one.
    pub detector: Detector,
    /// The step in which it did.
    pub step: u64,
    /// The numbers that set it off, by name.
    pub numbers: Vec<(&'static str, f64)>,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (", self.detector)?;
        for (i, (name, value)) in self.numbers.iter().enumerate() {
            let comma = if i > 0 { ", " } else { "" };
            write!(f, "{comma}{name} {}", (value * 1e4).round() / 1e4)?;
        }
        write!(f, "): {}", self.detector.advice())
    }
}

/// When detectors go off.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Thresholds {
    /// Steps that detectors of states look back. Default 20.
    pub window: usize,
    /// Steps that detectors of slow trends look back. Default 100.
    pub trend: usize,
    /// Share of groups with equal rewards. Default 0.8.
    pub zero_variance: f64,
    /// Share of groups whose rewards differ only with guidance. Default 0.5.
    pub identity_only: f64,
    /// Success that counts as saturated. Default 0.95.
    pub saturated: f64,
    /// Expected successes in a step below which its reward says little. Default 5.
    pub min_successes: f64,
    /// Share of the window's steps at a bound. Default 0.8.
    pub pinned: f64,
    /// Share of the window's changes that turn round. Default 0.6.
    pub turning: f64,
    /// Mean |Δ log ℓ| of changes that counts as a jump. Default 0.5.
    pub jump: f64,
    /// Guided success above which, and unguided success below one minus which, a constant length
    /// is stalled. Default 0.9.
    pub stalled: f64,
    /// Smallest difference between guided and unguided success that counts as reliance.
    /// Default 0.3.
    pub reliance: f64,
    /// Mean advantage of unguided members, negated, that counts as pushed down. Default 0.2.
    pub pushed_down: f64,
    /// Relative change of the length at a change of tier. Default 0.2.
    pub tier_change: f64,
    /// Share of guided members that may be stopped by the trace's end, or have no trace.
    /// Default 0.5 and a tenth of it.
    pub at_trace_end: f64,
    /// Share of guided members that may run into the budget. Default 0.1.
    pub over_budget: f64,
    /// Share of the guidance tokens' weight that may be negative. Default 0.3.
    pub negative_guidance: f64,
    /// Weight of guidance tokens over that of own tokens. Default 1.
    pub guidance_weight: f64,
    /// Difference of mean log-probabilities between own and guidance tokens, in nats. Default 2.
    pub improbable: f64,
    /// Relative difference of sampled tokens between guided and unguided rollouts. Default 0.25.
    pub unequal_budget: f64,
    /// Part of its highest entropy that the policy may fall to. Default 0.3.
    pub entropy: f64,
    /// Fall of the mean format reward from its height. Default 0.2.
    pub format_fall: f64,
    /// Steps that a condition must be gone before it warns again as new. Default 10.
    pub quiet: u64,
    /// Steps after which a condition that lasts warns again; 0 for never. Default 200.
    pub remind: u64,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self {
            window: 20,
            trend: 100,
            zero_variance: 0.8,
            identity_only: 0.5,
            saturated: 0.95,
            min_successes: 5.0,
            pinned: 0.8,
            turning: 0.6,
            jump: 0.5,
            stalled: 0.9,
            reliance: 0.3,
            pushed_down: 0.2,
            tier_change: 0.2,
            at_trace_end: 0.5,
            over_budget: 0.1,
            negative_guidance: 0.3,
            guidance_weight: 1.0,
            improbable: 2.0,
            unequal_budget: 0.25,
            entropy: 0.3,
            format_fall: 0.2,
            quiet: 10,
            remind: 200,
        }
    }
}

/// Watches the statistics of a run.
///
/// A condition that lasts warns once, then every [`Thresholds::remind`] steps. State and
/// thresholds serialise, so that a resumed run warns when the uninterrupted one would have.
///
/// ```
/// use g2rpo_guidance::{Detector, Detectors, StepStats};
/// let mut detectors = Detectors::default();
/// let stats = StepStats { n_rollouts: 64, reward: Some(0.0), success: Some(0.0), ..StepStats::default() };
/// assert_eq!(detectors.observe(&stats)[0].detector, Detector::ZeroReward);
/// assert!(detectors.observe(&StepStats { step: 1, ..stats }).is_empty());
/// ```
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Detectors {
    /// When detectors go off.
    pub thresholds: Thresholds,
    history: VecDeque<StepStats>,
    active: BTreeMap<Detector, Active>,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Active {
    warned: u64,
    seen: u64,
}

/// The numbers that set a detector off.
type Numbers = Vec<(&'static str, f64)>;

/// What a check may look at: the thresholds and the last steps, the present one last.
struct View<'a> {
    thresholds: &'a Thresholds,
    now: &'a StepStats,
    history: &'a VecDeque<StepStats>,
}

impl View<'_> {
    /// A number of each of the last `window` steps; nothing unless all of them have it.
    fn window<T>(&self, get: impl Fn(&StepStats) -> Option<T>) -> Option<Vec<T>> {
        self.last(self.thresholds.window, get)
    }

    /// As [`Self::window`], over the steps of a slow trend.
    fn trend<T>(&self, get: impl Fn(&StepStats) -> Option<T>) -> Option<Vec<T>> {
        self.last(self.thresholds.trend, get)
    }

    fn last<T>(&self, n: usize, get: impl Fn(&StepStats) -> Option<T>) -> Option<Vec<T>> {
        let start = self.history.len().checked_sub(n.max(2))?;
        self.history.range(start..).map(get).collect()
    }
}

type Check = fn(&View<'_>) -> Option<Numbers>;

fn check(detector: Detector) -> Check {
    match detector {
        Detector::ZeroVariance => reward::zero_variance,
        Detector::IdentityOnlyVariance => reward::identity_only_variance,
        Detector::AllGuidedSaturated => reward::all_guided_saturated,
        Detector::ZeroReward => reward::zero_reward,
        Detector::InvalidReward => reward::invalid_reward,
        Detector::PermissiveVerifier => reward::permissive_verifier,
        Detector::RelianceGap => reward::reliance_gap,
        Detector::FormatCollapse => reward::format_collapse,
        Detector::ControllerBlind => length::controller_blind,
        Detector::LengthPinned => length::pinned,
        Detector::LengthOscillating => length::oscillating,
        Detector::LengthStalled => length::stalled,
        Detector::CurriculumConfound => length::curriculum_confound,
        Detector::GuidedCount => tokens::guided_count,
        Detector::GuidanceExceedsTrace => tokens::guidance_exceeds_trace,
        Detector::AnswerInPrefix => tokens::answer_in_prefix,
        Detector::BudgetTight => tokens::budget_tight,
        Detector::NoTrace => tokens::no_trace,
        Detector::BrokenTags => tokens::broken_tags,
        Detector::PadIsEos => tokens::pad_is_eos,
        Detector::Retokenization => tokens::retokenization,
        Detector::UnequalBudget => tokens::unequal_budget,
        Detector::UnguidedPushedDown => loss::unguided_pushed_down,
        Detector::NegativeGuidance => loss::negative_guidance,
        Detector::GuidanceDominates => loss::guidance_dominates,
        Detector::ImprobablePrefix => loss::improbable_prefix,
        Detector::EntropyCollapse => loss::entropy_collapse,
    }
}

impl Detectors {
    /// With thresholds of one's own.
    pub fn new(thresholds: Thresholds) -> Self {
        Self {
            thresholds,
            ..Self::default()
        }
    }

    /// Looks at a finished step and says what is wrong, leaving out what was said lately.
    pub fn observe(&mut self, stats: &StepStats) -> Vec<Warning> {
        self.history.push_back(stats.clone());
        let keep = self.thresholds.window.max(self.thresholds.trend).max(2);
        while self.history.len() > keep {
            self.history.pop_front();
        }
        let view = View {
            thresholds: &self.thresholds,
            now: stats,
            history: &self.history,
        };
        let found: Vec<_> = (Detector::ALL.iter())
            .filter_map(|&detector| Some((detector, check(detector)(&view)?)))
            .collect();
        (found.into_iter())
            .filter(|(detector, _)| self.is_news(*detector, stats.step))
            .map(|(detector, numbers)| Warning {
                detector,
                step: stats.step,
                numbers,
            })
            .collect()
    }

    fn is_news(&mut self, detector: Detector, step: u64) -> bool {
        let Thresholds { quiet, remind, .. } = self.thresholds;
        let news = self.active.get(&detector).is_none_or(|last| {
            let lasting = step.saturating_sub(last.seen) <= quiet;
            !lasting || (remind > 0 && step.saturating_sub(last.warned) >= remind)
        });
        let entry = self.active.entry(detector).or_insert(Active {
            warned: step,
            seen: step,
        });
        entry.seen = step;
        if news {
            entry.warned = step;
        }
        news
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether a detector goes off within 120 steps of a run.
    pub(super) fn goes_off(detector: Detector, mut step: impl FnMut(u64) -> StepStats) -> bool {
        let mut detectors = Detectors::default();
        (0..120).any(|i| {
            let stats = StepStats { step: i, ..step(i) };
            (detectors.observe(&stats).iter()).any(|w| w.detector == detector)
        })
    }

    #[test]
    fn nothing_known_sets_nothing_off() {
        for detector in Detector::ALL {
            assert!(!goes_off(*detector, |_| StepStats::default()), "{detector}");
        }
    }

    fn silent_reward(step: u64) -> StepStats {
        StepStats {
            step,
            n_rollouts: 64,
            reward: Some(0.0),
            success: Some(0.0),
            ..StepStats::default()
        }
    }

    #[test]
    fn what_lasts_warns_once_and_reminds() {
        let thresholds = Thresholds {
            remind: 50,
            ..Thresholds::default()
        };
        let mut detectors = Detectors::new(thresholds);
        let steps: Vec<u64> = (0..120)
            .filter(|&s| !detectors.observe(&silent_reward(s)).is_empty())
            .collect();
        assert_eq!(steps, [0, 50, 100]);
    }

    #[test]
    fn what_was_gone_for_long_is_news() {
        let mut detectors = Detectors::default();
        assert_eq!(detectors.observe(&silent_reward(0)).len(), 1);
        assert_eq!(detectors.observe(&silent_reward(10)).len(), 0);
        assert_eq!(detectors.observe(&silent_reward(30)).len(), 1);
    }

    #[test]
    fn state_survives_serialisation() {
        let mut detectors = Detectors::default();
        detectors.observe(&silent_reward(0));
        let text = serde_json::to_string(&detectors).unwrap();
        let mut back: Detectors = serde_json::from_str(&text).unwrap();
        assert_eq!(back, detectors);
        assert!(back.observe(&silent_reward(1)).is_empty());
    }

    #[test]
    fn a_warning_reads_well() {
        let warning = &Detectors::default().observe(&silent_reward(3))[0];
        assert!(
            warning
                .to_string()
                .starts_with("zero_reward (reward 0, expected_successes 0): Too few")
        );
    }
}
