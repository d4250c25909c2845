//! What the unit tests of several files share.

use crate::feedback::{ExampleId, Record, StepFeedback};

/// A step of rollouts: task, whether chosen, amount and reward of each; a success is paid more than 0.5.
pub(crate) fn feedback(
    step: u64,
    rollouts: impl IntoIterator<Item = (u64, bool, f64, f64)>,
) -> StepFeedback {
    let mut feedback = StepFeedback::new(step);
    for (task, chosen, amount, reward) in rollouts {
        let record = Record {
            chosen,
            amount,
            reward,
            success: reward > 0.5,
        };
        feedback.record(ExampleId(task), &record);
    }
    feedback
}

/// A step in which `n` rollouts of one task, all guided by `amount`, earned 1 or 0.
pub(crate) fn step_of(step: u64, amount: f64, successes: u64, n: u64) -> StepFeedback {
    let reward = |i| f64::from(u8::from(i < successes));
    feedback(step, (0..n).map(|i| (0, true, amount, reward(i))))
}

/// A generator for tests.
pub(crate) fn rng() -> rand_chacha::ChaCha8Rng {
    rand::SeedableRng::seed_from_u64(7)
}
