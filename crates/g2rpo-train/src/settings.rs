//! What a run needs beside the method.

use g2rpo_guidance::Method;
use g2rpo_rollout::SamplingParams;

use crate::ahead::Ahead;
use crate::check;
use crate::error::{Error, Result};
use crate::schedule::LrSchedule;
use crate::step::update::UpdateConfig;

/// What a run needs beside the method: how much, how fast, from which seed.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainerConfig {
    /// Seed of everything random. Default 0.
    pub seed: u64,
    /// Tasks of a step; each gives a group of `num_generations` rollouts. Default 8.
    pub prompts_per_step: usize,
    /// How rollouts are drawn. Its temperature is that of the learner's log-probabilities as well.
    pub sampling: SamplingParams,
    /// How a batch of rollouts is used for updates.
    pub update: UpdateConfig,
    /// How far rollouts are ahead of the learner. Default: not at all.
    pub ahead: Ahead,
    /// The learning rate of every optimiser step. Default: 1e-6 throughout.
    pub schedule: LrSchedule,
    /// Whether the verifier is asked about guided prefixes, so that none passes by itself: one more
    /// verdict for each group. Default true.
    pub verify_prefixes: bool,
}

impl TrainerConfig {
    /// Whether a run of this method can do what both say: all that [`Trainer::new`](crate::Trainer)
    /// refuses before it looks at tasks, engine and learner. A loop by hand asks it as well.
    ///
    /// ```
    /// use g2rpo_guidance::Method;
    /// use g2rpo_train::TrainerConfig;
    /// let mut config = TrainerConfig { prompts_per_step: 4, ..TrainerConfig::default() };
    /// config.update.steps_per_generation = 5;
    /// let error = config.check(&Method::preset("grpo", 10)?).unwrap_err().to_string();
    /// assert!(error.starts_with("steps_per_generation = 5: is more than prompts_per_step = 4"));
    /// # Ok::<(), g2rpo_guidance::Error>(())
    /// ```
    ///
    /// # Errors
    /// In one sentence, the setting, its value and what is wrong with it.
    pub fn check(&self, method: &Method) -> Result<()> {
        self.update.check(method)?;
        self.schedule.check()?;
        let prompts = self.prompts_per_step;
        check::estimator(method, prompts)?;
        if prompts == 0 {
            let problem = "a step needs at least one task";
            return Err(Error::config("prompts_per_step", 0, problem));
        }
        let steps = self.update.steps_per_generation;
        if steps > prompts {
            let problem = format!(
                "is more than prompts_per_step = {prompts}: a group is never split over optimiser steps"
            );
            return Err(Error::config("steps_per_generation", steps, problem));
        }
        let temperature = self.sampling.temperature;
        if !(temperature.is_finite() && temperature > 0.0) {
            let problem = "must be above 0 and finite: greedy rollouts of a group are all the same";
            return Err(Error::config("temperature", temperature, problem));
        }
        self.sampling.check()?;
        Ok(())
    }
}

impl Default for TrainerConfig {
    fn default() -> Self {
        Self {
            seed: 0,
            prompts_per_step: 8,
            sampling: SamplingParams::default(),
            update: UpdateConfig::default(),
            ahead: Ahead::default(),
            schedule: LrSchedule::default(),
            verify_prefixes: true,
        }
    }
}
