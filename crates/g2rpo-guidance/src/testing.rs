//! What the unit tests of several files share.

use crate::feedback::{ExampleId, Record, StepFeedback};

/// A step in which `n` rollouts of one task, all guided by `amount`, earned 1 or 0.
pub(crate) fn step_of(step: u64, amount: f64, successes: u64, n: u64) -> StepFeedback {
    let mut feedback = StepFeedback::new(step);
    for i in 0..n {
        let success = i < successes;
        let record = Record {
            chosen: true,
            amount,
            reward: f64::from(u8::from(success)),
            success,
        };
        feedback.record(ExampleId(0), &record);
    }
    feedback
}

/// A step with one rollout of the given reward.
pub(crate) fn reward_of(step: u64, reward: f64) -> StepFeedback {
    let mut feedback = StepFeedback::new(step);
    let record = Record {
        chosen: true,
        amount: 0.0,
        reward,
        success: reward > 0.5,
    };
    feedback.record(ExampleId(0), &record);
    feedback
}

/// A generator for tests.
pub(crate) fn rng() -> rand_chacha::ChaCha8Rng {
    rand::SeedableRng::seed_from_u64(7)
}
