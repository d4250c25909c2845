//! Named warnings computed from step statistics.

mod length;
mod reward;
mod stats;

use std::collections::{BTreeMap, VecDeque};
use std::fmt;

use serde::{Deserialize, Serialize};

pub use stats::StepStats;

/// What can go wrong with guidance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Detector {
    /// Most groups have equal rewards and give no gradient.
    ZeroVariance,
    /// Rewards differ between guided and unguided members, but not among either.
    IdentityOnlyVariance,
    /// Every member is guided, and nearly all succeed.
    AllGuidedSaturated,
    /// Next to no rollout succeeds.
    ZeroReward,
    /// A reward was NaN or infinite.
    InvalidReward,
    /// The controller's signal is missing or never moves.
    ControllerBlind,
    /// The length sits at a bound.
    LengthPinned,
    /// The length jumps up and down.
    LengthOscillating,
    /// Guided rollouts always succeed, unguided ones never, and the length does not move.
    LengthStalled,
}

impl Detector {
    /// The name in logs, in `snake_case`.
    pub fn name(self) -> &'static str {
        self.entry().0
    }

    /// What to do about it.
    pub fn advice(self) -> &'static str {
        self.entry().1
    }

    fn entry(self) -> (&'static str, &'static str) {
        match self {
            Self::ZeroVariance => (
                "zero_variance",
                "Groups of equal rewards teach nothing: choose easier or harder tasks, change the guidance length, or sample larger groups.",
            ),
            Self::IdentityOnlyVariance => (
                "identity_only_variance",
                "The only lesson is that guided is good and unguided is bad: shorten the guidance, guide every member, or give guided and unguided members baselines of their own.",
            ),
            Self::AllGuidedSaturated => (
                "all_guided_saturated",
                "Guidance solves the tasks: shorten it, or leave some members unguided.",
            ),
            Self::ZeroReward => (
                "zero_reward",
                "Too few successes to learn or to steer from: lengthen the guidance, sample more rollouts, or use easier tasks; the ratio rule shortens guidance in this state.",
            ),
            Self::InvalidReward => (
                "invalid_reward",
                "Such rewards were left out of every sum: check the reward function.",
            ),
            Self::ControllerBlind => (
                "controller_blind",
                "The controller cannot adapt: check that the reward it reads is the one the verifier writes.",
            ),
            Self::LengthPinned => (
                "length_pinned",
                "The controller wants to go beyond its bounds: widen them, or use a controller with a set-point.",
            ),
            Self::LengthOscillating => (
                "length_oscillating",
                "The reward answers too steeply to the length: damp the rule (gain below 1, longer window), smooth its signal, or use a controller with a set-point.",
            ),
            Self::LengthStalled => (
                "length_stalled",
                "A ratio of equal rewards is 1, whatever they are: use a controller with a set-point, or a schedule that falls.",
            ),
        }
    }
}

impl fmt::Display for Detector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

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
    /// Steps that detectors of trends look back. Default 20.
    pub window: usize,
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
    /// Steps that a condition must be gone before it warns again as new. Default 10.
    pub quiet: u64,
    /// Steps after which a condition that lasts warns again; 0 for never. Default 200.
    pub remind: u64,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self {
            window: 20,
            zero_variance: 0.8,
            identity_only: 0.5,
            saturated: 0.95,
            min_successes: 5.0,
            pinned: 0.8,
            turning: 0.6,
            jump: 0.5,
            stalled: 0.9,
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
        if self.history.len() < self.thresholds.window.max(2) {
            return None;
        }
        self.history.iter().map(get).collect()
    }
}

type Check = fn(&View<'_>) -> Option<Numbers>;

const CHECKS: &[(Detector, Check)] = &[
    (Detector::ZeroVariance, reward::zero_variance),
    (
        Detector::IdentityOnlyVariance,
        reward::identity_only_variance,
    ),
    (Detector::AllGuidedSaturated, reward::all_guided_saturated),
    (Detector::ZeroReward, reward::zero_reward),
    (Detector::InvalidReward, reward::invalid_reward),
    (Detector::ControllerBlind, length::controller_blind),
    (Detector::LengthPinned, length::pinned),
    (Detector::LengthOscillating, length::oscillating),
    (Detector::LengthStalled, length::stalled),
];

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
        while self.history.len() > self.thresholds.window.max(2) {
            self.history.pop_front();
        }
        let view = View {
            thresholds: &self.thresholds,
            now: stats,
            history: &self.history,
        };
        let found: Vec<_> = (CHECKS.iter())
            .filter_map(|(detector, check)| Some((*detector, check(&view)?)))
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
