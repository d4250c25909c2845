use serde::{Deserialize, Serialize};

use crate::{ExampleId, Result, Snapshot, error::within};

/// Numbers of `AdaRFT`'s rule; the defaults are the paper's (arXiv 2504.05520).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DifficultyConfig {
    /// T₀, the first target.
    pub initial: f64,
    /// Smallest difficulty there is.
    pub min: f64,
    /// Largest difficulty there is.
    pub max: f64,
    /// η: the largest change in one step, in units of difficulty.
    pub rate: f64,
    /// α: how sharply the step follows the error.
    pub sharpness: f64,
    /// β: the mean reward to aim for.
    pub target: f64,
}

impl Default for DifficultyConfig {
    fn default() -> Self {
        Self {
            initial: 0.0,
            min: 0.0,
            max: 100.0,
            rate: 50.0,
            sharpness: 2.0,
            target: 0.5,
        }
    }
}

/// Chooses tasks instead of lengths: those closest to a target difficulty that follows the reward,
///
/// ```text
/// T' = clamp(T + η · tanh(α · (R - β)), min, max)
/// ```
///
/// ```
/// use g2rpo_guidance::{Difficulty, DifficultyConfig, ExampleId};
/// let mut difficulty = Difficulty::new(DifficultyConfig { initial: 40.0, ..DifficultyConfig::default() })?;
/// let tasks = [(ExampleId(0), 10.0), (ExampleId(1), 45.0), (ExampleId(2), 90.0)];
/// assert_eq!(difficulty.choose(&tasks, 2), [ExampleId(1), ExampleId(0)]);
/// difficulty.step(1.0);
/// assert!((difficulty.target() - (40.0 + 50.0 * 1.0f64.tanh())).abs() < 1e-12);
/// # Ok::<(), g2rpo_guidance::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Difficulty {
    config: DifficultyConfig,
    target: f64,
}

const KIND: &str = "difficulty";

impl Difficulty {
    /// Starts at `config.initial`.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) for numbers outside their domain.
    pub fn new(config: DifficultyConfig) -> Result<Self> {
        within("max", config.max, -f64::MAX, f64::MAX, "(-∞, ∞)")?;
        within("min", config.min, -f64::MAX, config.max, "(-∞, max]")?;
        within(
            "initial",
            config.initial,
            config.min,
            config.max,
            "[min, max]",
        )?;
        within("rate", config.rate, 0.0, f64::MAX, "[0, ∞)")?;
        within("sharpness", config.sharpness, 0.0, f64::MAX, "[0, ∞)")?;
        within("target", config.target, -f64::MAX, f64::MAX, "(-∞, ∞)")?;
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

    /// The `n` tasks closest to the target, closest first, ties by number. Tasks whose difficulty
    /// is not a number are left out; if there are fewer than `n`, all are returned.
    pub fn choose(&self, tasks: &[(ExampleId, f64)], n: usize) -> Vec<ExampleId> {
        let mut tasks: Vec<(f64, ExampleId)> = (tasks.iter())
            .filter(|(_, d)| d.is_finite())
            .map(|&(id, d)| ((d - self.target).abs(), id))
            .collect();
        tasks.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        tasks.into_iter().take(n).map(|(_, id)| id).collect()
    }

    /// Everything that [`step`](Self::step) has changed.
    pub fn state(&self) -> Snapshot {
        let mut saved = Snapshot::new(KIND);
        saved.set("target", self.target);
        saved
    }

    /// Takes up a saved state.
    ///
    /// # Errors
    /// If the state was saved by something else or lies outside the bounds.
    pub fn restore(&mut self, saved: &Snapshot) -> Result<()> {
        let c = &self.config;
        self.target = saved.check_kind(KIND)?.get_within("target", c.min, c.max)?;
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
        fresh.restore(&difficulty.state()).unwrap();
        assert_eq!(fresh, difficulty);
    }

    #[test]
    fn tasks_without_difficulty_are_left_out() {
        let difficulty = Difficulty::new(DifficultyConfig::default()).unwrap();
        let tasks = [
            (ExampleId(5), 1.0),
            (ExampleId(4), f64::NAN),
            (ExampleId(3), 1.0),
        ];
        assert_eq!(difficulty.choose(&tasks, 9), [ExampleId(3), ExampleId(5)]);
    }
}
