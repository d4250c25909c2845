use rand::seq::SliceRandom;

use crate::{Purpose, RolloutKey};

/// One problem with its worked solution.
#[derive(Debug, Clone, PartialEq)]
pub struct Task {
    /// Names the task within its data set; guidance state and feedback are kept under it.
    pub id: u64,
    /// What is asked.
    pub question: String,
    /// The ground-truth solution text that guidance is cut from, answer line included.
    pub solution: String,
    /// What the verifier compares with.
    pub reference: String,
    /// Larger is harder; the number of solution steps where nothing better is known.
    pub difficulty: f64,
}

/// Deals tasks out in epochs: every task once, in an order drawn anew for each epoch, then again.
///
/// Which tasks a step gets is a function of the seed and the step alone, so a resumed run goes on
/// where it was, and arms of a comparison that share a seed share their data order.
///
/// ```
/// use g2rpo_rollout::TaskSampler;
/// let sampler = TaskSampler::new(5, 42);
/// let mut seen: Vec<usize> = (0..5).flat_map(|step| sampler.batch(step, 1)).collect();
/// seen.sort();
/// assert_eq!(seen, [0, 1, 2, 3, 4]);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TaskSampler {
    n_tasks: usize,
    seed: u64,
}

impl TaskSampler {
    /// Deals out the indices `0..n_tasks`.
    pub fn new(n_tasks: usize, seed: u64) -> Self {
        Self { n_tasks, seed }
    }

    /// Task indices of one step of `n` prompts, steps counted from 0. Empty when there are no
    /// tasks. `n` must be the same at every step of a run for epochs to be whole.
    pub fn batch(&self, step: u64, n: usize) -> Vec<usize> {
        if self.n_tasks == 0 {
            return Vec::new();
        }
        let first = step * n as u64;
        let mut epoch = None;
        let mut order = Vec::new();
        (first..first + n as u64)
            .map(|i| {
                let this = i / self.n_tasks as u64;
                if epoch != Some(this) {
                    epoch = Some(this);
                    order = self.order(this);
                }
                order[(i % self.n_tasks as u64) as usize]
            })
            .collect()
    }

    fn order(&self, epoch: u64) -> Vec<usize> {
        let key = RolloutKey {
            run: self.seed,
            step: epoch,
            ..RolloutKey::default()
        };
        let mut order: Vec<usize> = (0..self.n_tasks).collect();
        order.shuffle(&mut key.rng(Purpose::Task));
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_cross_epochs_without_loss() {
        let sampler = TaskSampler::new(10, 3);
        let mut counts = [0; 10];
        for step in 0..5 {
            for i in sampler.batch(step, 4) {
                counts[i] += 1;
            }
        }
        assert_eq!(counts, [2; 10]);
    }

    #[test]
    fn epochs_differ_and_seeds_differ() {
        let a = TaskSampler::new(50, 3);
        assert_ne!(a.batch(0, 50), a.batch(1, 50));
        assert_ne!(a.batch(0, 50), TaskSampler::new(50, 4).batch(0, 50));
        assert_eq!(a.batch(7, 9), a.batch(7, 9));
        assert!(TaskSampler::new(0, 3).batch(0, 4).is_empty());
    }
}
