//! Which tasks the next step gets: a curriculum in epochs, or the tasks closest to a difficulty.

use g2rpo_guidance::{Curriculum, Difficulty, ExampleId, StepFeedback, TaskFacts};
use g2rpo_rollout::{Purpose, RolloutKey};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{Error, Result};

/// Deals tasks out in epochs: every task once, in the curriculum's order, drawn anew for each
/// epoch. With a [`Difficulty`] instead: the tasks closest to its target.
///
/// Which tasks come next is a function of the seed and of what was dealt out before, so a resumed
/// run goes on where it was, and arms of a comparison that share a seed share their data order.
///
/// ```
/// use g2rpo_guidance::{Curriculum, ExampleId, TaskFacts};
/// use g2rpo_train::TaskOrder;
/// let facts = (0..5).map(|id| TaskFacts { example: ExampleId(id), ..TaskFacts::default() });
/// let mut order = TaskOrder::new(facts.collect(), Curriculum::Shuffled, None, 42)?;
/// let mut seen = order.take(3, &[])?;
/// seen.extend(order.take(2, &seen)?);
/// seen.sort();
/// assert_eq!(seen, [0, 1, 2, 3, 4]);
/// # Ok::<(), g2rpo_train::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct TaskOrder {
    facts: Vec<TaskFacts>,
    curriculum: Curriculum,
    difficulty: Option<Difficulty>,
    seed: u64,
    position: u64,
    /// The epoch that `order` is of.
    epoch: Option<u64>,
    order: Vec<usize>,
}

/// Where a [`TaskOrder`] is.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TaskOrderState {
    /// Tasks dealt out so far.
    pub position: u64,
    /// What [`Difficulty`] has learned.
    pub difficulty: Value,
}

impl TaskOrder {
    /// An order over the tasks in `facts`; what is dealt out are places in it.
    ///
    /// # Errors
    /// [`Error::Config`] without tasks, [`Error::Guidance`] if the curriculum lacks what it orders
    /// by.
    pub fn new(
        mut facts: Vec<TaskFacts>,
        curriculum: Curriculum,
        difficulty: Option<Difficulty>,
        seed: u64,
    ) -> Result<Self> {
        if difficulty.is_none() {
            for (place, facts) in facts.iter_mut().enumerate() {
                facts.example = ExampleId(place as u64);
            }
        }
        if facts.is_empty() {
            return Err(Error::config("tasks", 0, "there is nothing to train on"));
        }
        let mut order = Self {
            facts,
            curriculum,
            difficulty,
            seed,
            position: 0,
            epoch: None,
            order: Vec::new(),
        };
        match &order.difficulty {
            Some(difficulty) => drop(difficulty.choose(&order.facts, 1)?),
            None => order.enter(0)?,
        }
        Ok(order)
    }

    /// The next `n` tasks. With a difficulty those closest to its target that are not in `taken`,
    /// fewer where there are no more.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn take(&mut self, n: usize, taken: &[usize]) -> Result<Vec<usize>> {
        if let Some(difficulty) = &self.difficulty {
            self.position += n as u64;
            let chosen = difficulty.choose(&self.facts, n + taken.len())?;
            let place = |id| self.facts.iter().position(|f| f.example == id);
            return Ok((chosen.into_iter().filter_map(place))
                .filter(|task| !taken.contains(task))
                .take(n)
                .collect());
        }
        let n_tasks = self.facts.len() as u64;
        let mut tasks = Vec::with_capacity(n);
        for _ in 0..n {
            self.enter(self.position / n_tasks)?;
            tasks.push(self.order[(self.position % n_tasks) as usize]);
            self.position += 1;
        }
        Ok(tasks)
    }

    /// Learns from a finished step.
    pub fn observe(&mut self, feedback: &StepFeedback) {
        if let Some(difficulty) = &mut self.difficulty {
            difficulty.observe(feedback);
        }
    }

    /// Passes over all tasks so far.
    pub fn epoch(&self) -> f64 {
        self.position as f64 / self.facts.len() as f64
    }

    /// The tier that the last task dealt out belongs to, where the curriculum has tiers.
    pub fn tier(&self) -> Option<usize> {
        let n = self.facts.len();
        let last = self.position.checked_sub(1)? as usize % n;
        match self.curriculum {
            Curriculum::Tiers { .. } if self.difficulty.is_none() => {
                Some(self.curriculum.tier_of(last, n))
            }
            _ => None,
        }
    }

    /// Where it is.
    pub fn state(&self) -> TaskOrderState {
        TaskOrderState {
            position: self.position,
            difficulty: self.difficulty.as_ref().map_or(Value::Null, |d| d.state()),
        }
    }

    /// Goes on from there.
    ///
    /// # Errors
    /// [`Error::Guidance`] if the state is not one of this order.
    pub fn restore(&mut self, state: TaskOrderState) -> Result<()> {
        if let Some(difficulty) = &mut self.difficulty {
            difficulty.restore(state.difficulty)?;
        }
        self.position = state.position;
        Ok(())
    }

    fn enter(&mut self, epoch: u64) -> Result<()> {
        if self.epoch == Some(epoch) {
            return Ok(());
        }
        let key = RolloutKey {
            run: self.seed,
            step: epoch,
            ..RolloutKey::default()
        };
        let mut rng = key.rng(Purpose::Task);
        // Their places are the ids.
        let order = self.curriculum.order(&self.facts, &mut rng)?;
        self.order = order.into_iter().map(|id| id.0 as usize).collect();
        self.epoch = Some(epoch);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use g2rpo_guidance::{DifficultyConfig, ExampleId, OrderBy, Record};

    fn facts(n: u64) -> Vec<TaskFacts> {
        let one = |id| TaskFacts {
            example: ExampleId(100 + id),
            difficulty: Some((n - id) as f64),
            ..TaskFacts::default()
        };
        (0..n).map(one).collect()
    }

    #[test]
    fn batches_cross_epochs_without_loss_and_epochs_differ() {
        let mut order = TaskOrder::new(facts(10), Curriculum::Shuffled, None, 3).unwrap();
        let dealt: Vec<usize> = (0..5).flat_map(|_| order.take(4, &[]).unwrap()).collect();
        let mut counts = [0; 10];
        dealt.iter().for_each(|&i| counts[i] += 1);
        assert_eq!(counts, [2; 10]);
        assert_ne!(dealt[..10], dealt[10..]);
    }

    #[test]
    fn tiers_go_from_easy_to_hard() {
        let tiers = Curriculum::Tiers {
            by: OrderBy::Difficulty,
            tiers: 2,
        };
        let mut order = TaskOrder::new(facts(4), tiers, None, 0).unwrap();
        let mut easy = order.take(2, &[]).unwrap();
        easy.sort_unstable();
        assert_eq!((easy, order.tier()), (vec![2, 3], Some(0)));
        order.take(1, &[]).unwrap();
        assert_eq!(order.tier(), Some(1));
    }

    #[test]
    fn a_difficulty_chooses_and_follows_the_reward() {
        let config = DifficultyConfig {
            initial: 1.0,
            max: 10.0,
            rate: 5.0,
            ..DifficultyConfig::default()
        };
        let difficulty = Difficulty::new(config).unwrap();
        let mut order = TaskOrder::new(facts(4), Curriculum::Given, Some(difficulty), 0).unwrap();
        assert_eq!(order.take(1, &[]).unwrap(), [3]);
        assert_eq!(order.take(1, &[3]).unwrap(), [2]);
        let mut feedback = StepFeedback::new(0);
        let record = Record {
            chosen: false,
            amount: 0.0,
            reward: 1.0,
            success: true,
        };
        feedback.record(ExampleId(103), &record);
        order.observe(&feedback);
        assert_eq!(order.take(1, &[]).unwrap(), [0], "the target went up");
    }
}
