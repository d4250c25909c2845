//! Watching a run: which detectors go off, and which of them are news.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::detect::lengths::AROUND_TIER;
use crate::detect::stats::StepStats;
use crate::detect::table::Detector;
use crate::detect::view::{Thresholds, View};

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
///
/// Again in every step:
///
/// ```
/// use g2rpo_guidance::{Detectors, StepStats, Thresholds};
/// let mut detectors = Detectors::new(Thresholds { remind: 1, ..Thresholds::default() });
/// let stats = StepStats { n_rollouts: 64, reward: Some(0.0), success: Some(0.0), ..StepStats::default() };
/// assert_eq!(detectors.observe(&stats).len(), 1);
/// assert_eq!(detectors.observe(&StepStats { step: 1, ..stats }).len(), 1);
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
        let keep = (self.thresholds.window.max(self.thresholds.trend)).max(AROUND_TIER);
        while self.history.len() > keep {
            self.history.pop_front();
        }
        let view = View {
            thresholds: &self.thresholds,
            now: stats,
            history: &self.history,
        };
        let found: Vec<_> = (Detector::ALL.iter())
            .filter_map(|&detector| Some((detector, detector.check(&view)?)))
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
        let warned = self.active.get(&detector).map_or(step, |last| last.warned);
        let warned = if news { step } else { warned };
        self.active.insert(detector, Active { warned, seen: step });
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
        let text = Detectors::default().observe(&silent_reward(3))[0].to_string();
        let begin = "zero_reward (reward 0, expected_successes 0): Too few";
        assert!(text.starts_with(begin), "{text}");
    }
}
