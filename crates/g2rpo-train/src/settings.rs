//! What a run needs beside the method.

use g2rpo_rollout::SamplingParams;

use crate::ahead::Ahead;
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
