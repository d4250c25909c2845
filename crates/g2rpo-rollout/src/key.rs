//! The key that names every random draw of a rollout.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Names one rollout for good: every random draw made for it is a function of this key, of what
/// the draw is for and of the position, so a rollout does not change with the company it is
/// batched with, with the number of workers, or when a run is resumed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct RolloutKey {
    /// Seed of the run.
    pub run: u64,
    /// Training step, or any number that tells evaluations apart from it.
    pub step: u64,
    /// Index of the group (the task) within the step.
    pub group: u32,
    /// Index of the member within the group.
    pub member: u32,
}

/// What a draw is for. Streams of different purposes are independent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u64)]
pub enum Purpose {
    /// The token at a position.
    Token = 0,
    /// Decisions about guidance (who is guided, how a fractional length is rounded).
    Guidance = 1,
    /// The choice of tasks.
    Task = 2,
}

impl RolloutKey {
    /// A uniform number in `[0, 1)` with 53 random bits, for the token at `position` (0 is the
    /// first sampled token).
    ///
    /// ```
    /// use g2rpo_rollout::RolloutKey;
    /// let key = RolloutKey { run: 1, step: 2, group: 3, member: 4 };
    /// assert_eq!(key.uniform(5), key.uniform(5));
    /// assert_ne!(key.uniform(5), key.uniform(6));
    /// ```
    pub fn uniform(&self, position: usize) -> f64 {
        let mut rng = self.rng(Purpose::Token);
        // A draw of one f64 takes two 32-bit words.
        rng.set_word_pos(2 * position as u128);
        rng.random()
    }

    /// A generator for the given purpose, always starting at the same place.
    pub fn rng(&self, purpose: Purpose) -> ChaCha8Rng {
        let mut seed = [0; 32];
        seed[..8].copy_from_slice(&self.run.to_le_bytes());
        seed[8..16].copy_from_slice(&self.step.to_le_bytes());
        seed[16..20].copy_from_slice(&self.group.to_le_bytes());
        seed[20..24].copy_from_slice(&self.member.to_le_bytes());
        seed[24..].copy_from_slice(&(purpose as u64).to_le_bytes());
        ChaCha8Rng::from_seed(seed)
    }

    /// A 63-bit summary, for engines that take one integer as seed.
    pub fn to_seed(&self) -> i64 {
        (self.rng(Purpose::Token).random::<u64>() >> 1) as i64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_and_position_changes_the_draw() {
        let key = RolloutKey::default();
        let others = [
            RolloutKey { run: 1, ..key },
            RolloutKey { step: 1, ..key },
            RolloutKey { group: 1, ..key },
            RolloutKey { member: 1, ..key },
        ];
        let first = key.uniform(0);
        assert!(others.iter().all(|k| k.uniform(0) != first));
        assert_ne!(key.uniform(1), first);
    }

    #[test]
    fn random_access_equals_the_stream() {
        let key = RolloutKey {
            run: 9,
            step: 8,
            group: 7,
            member: 6,
        };
        let mut rng = key.rng(Purpose::Token);
        for position in 0..40 {
            assert_eq!(key.uniform(position), rng.random::<f64>());
        }
    }
}
