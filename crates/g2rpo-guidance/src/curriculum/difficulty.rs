//! A choice of tasks whose difficulty follows the reward.

use serde_json::Value;

use crate::controller::length::{length_within, restored, saved};
use crate::curriculum::order::TaskFacts;
use crate::defaults::settings;
use crate::error::{ANY, Domain, Error, NON_NEGATIVE, Result};
use crate::feedback::{ExampleId, StepFeedback};
use crate::signal::Signal;

settings! {
    /// Numbers of `AdaRFT`'s rule; the defaults are the paper's (arXiv 2504.05520).
    #[derive(Copy)]
    pub struct DifficultyConfig {
        /// T₀, the first target.
        pub initial: f64 = 0.0,
        /// Smallest difficulty there is.
        pub min: f64 = 0.0,
        /// Largest difficulty there is.
        pub max: f64 = 100.0,
        /// η: the largest change in one step, in units of difficulty.
        pub rate: f64 = 50.0,
        /// α: how sharply the step follows the error.
        pub sharpness: f64 = 2.0,
        /// β: the mean reward to aim for.
        pub target: f64 = 0.5,
    }
}

/// Chooses tasks: those closest to a target difficulty that follows the mean reward `R` of a step,
///
/// ```text
/// T' = clamp(T + η · tanh(α · (R - β)), min, max)
/// ```
///
/// ```
/// use g2rpo_guidance::{Difficulty, DifficultyConfig, ExampleId, TaskFacts};
/// let mut difficulty = Difficulty::new(DifficultyConfig { initial: 40.0, ..DifficultyConfig::default() })?;
/// let task = |id, difficulty| TaskFacts { example: ExampleId(id), difficulty: Some(difficulty), ..TaskFacts::default() };
/// let tasks = [task(0, 10.0), task(1, 45.0), task(2, 90.0)];
/// assert_eq!(difficulty.choose(&tasks, 2)?, [ExampleId(1), ExampleId(0)]);
/// difficulty.step(1.0);
/// assert!((difficulty.target() - (40.0 + 50.0 * 1.0f64.tanh())).abs() < 1e-12);
/// # Ok::<(), g2rpo_guidance::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Difficulty {
    config: DifficultyConfig,
    target: f64,
}

impl Difficulty {
    /// Starts at `config.initial`.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) for numbers outside their domain.
    pub fn new(config: DifficultyConfig) -> Result<Self> {
        ANY.check("max", config.max)?;
        Domain(-f64::MAX, config.max, "(-∞, max]").check("min", config.min)?;
        Domain(config.min, config.max, "[min, max]").check("initial", config.initial)?;
        NON_NEGATIVE.check("rate", config.rate)?;
        NON_NEGATIVE.check("sharpness", config.sharpness)?;
        ANY.check("target", config.target)?;
        Ok(Self {
            config,
            target: config.initial,
        })
    }

    /// The present target difficulty.
    pub fn target(&self) -> f64 {
        self.target
    }

    /// One step with the given mean reward; NaN and infinities are ignored.
    pub fn step(&mut self, reward: f64) {
        if reward.is_finite() {
            let c = &self.config;
            let change = c.rate * (c.sharpness * (reward - c.target)).tanh();
            self.target = (self.target + change).clamp(c.min, c.max);
        }
    }

    /// Learns from a finished step: [`step`](Self::step) with its mean reward, if there was one.
    pub fn observe(&mut self, feedback: &StepFeedback) {
        if let Some(reward) = Signal::REWARD.of(feedback) {
            self.step(reward.mean());
        }
    }

    /// The `n` tasks closest to the target, closest first, ties by number; all of them if there
    /// are fewer.
    ///
    /// # Errors
    /// [`Error::NoDifficulty`] naming the first task whose difficulty is not known.
    pub fn choose(&self, tasks: &[TaskFacts], n: usize) -> Result<Vec<ExampleId>> {
        let mut distances = Vec::with_capacity(tasks.len());
        for task in tasks {
            let difficulty = task.difficulty.filter(|d| d.is_finite());
            let difficulty = difficulty.ok_or(Error::NoDifficulty {
                example: task.example,
                by: "difficulty",
            })?;
            distances.push(((difficulty - self.target).abs(), task.example));
        }
        distances.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        Ok(distances.into_iter().take(n).map(|(_, id)| id).collect())
    }

    /// Everything that [`step`](Self::step) has changed.
    pub fn state(&self) -> Value {
        saved(&self.target)
    }

    /// Takes up a saved state.
    ///
    /// # Errors
    /// [`Error::State`] if the state was saved by something else or lies outside the bounds.
    pub fn restore(&mut self, saved: Value) -> Result<()> {
        let target = restored("target difficulty", saved)?;
        let (min, max) = (self.config.min, self.config.max);
        length_within("target difficulty", target, min, max)?;
        self.target = target;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_target_follows_the_reward_within_its_range() {
        let mut difficulty = Difficulty::new(DifficultyConfig::default()).unwrap();
        difficulty.step(0.5);
        assert_eq!(difficulty.target(), 0.0);
        difficulty.step(f64::NAN);
        for _ in 0..9 {
            difficulty.step(1.0);
        }
        assert_eq!(difficulty.target(), 100.0);
        difficulty.step(0.0);
        assert!((difficulty.target() - (100.0 - 50.0 * 1.0f64.tanh())).abs() < 1e-12);
        let mut fresh = Difficulty::new(DifficultyConfig::default()).unwrap();
        fresh.restore(difficulty.state()).unwrap();
        assert_eq!(fresh, difficulty);
    }

    #[test]
    fn a_task_without_difficulty_is_named() {
        let difficulty = Difficulty::new(DifficultyConfig::default()).unwrap();
        let task = |id, difficulty| TaskFacts {
            example: ExampleId(id),
            difficulty,
            ..TaskFacts::default()
        };
        let tied = [task(5, Some(1.0)), task(3, Some(1.0))];
        assert_eq!(difficulty.choose(&tied, 9).unwrap(), [3, 5].map(ExampleId));
        for missing in [None, Some(f64::NAN)] {
            let error = difficulty
                .choose(&[tied[0], task(4, missing)], 1)
                .unwrap_err();
            let expected = "task 4 has no difficulty to be ordered by";
            assert_eq!(error.to_string(), expected);
        }
    }
}
