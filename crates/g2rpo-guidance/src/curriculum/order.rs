//! The order in which tasks are met.

use rand::Rng;
use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};

use crate::error::{AT_LEAST_1, Error, Result};
use crate::feedback::ExampleId;

/// What is known about a task before training.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct TaskFacts {
    /// The task.
    pub example: ExampleId,
    /// A difficulty field of the data set; larger is harder.
    pub difficulty: Option<f64>,
    /// Tokens of the worked solution; longer counts as harder.
    pub trace_len: Option<usize>,
    /// Share of unguided attempts that succeeded; smaller is harder.
    pub pass_rate: Option<f64>,
}

/// What tasks are ordered by, easy ones first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OrderBy {
    /// The data set's difficulty field.
    #[default]
    Difficulty,
    /// The length of the worked solution.
    TraceLength,
    /// The measured pass rate.
    PassRate,
}

impl OrderBy {
    /// The name in messages, as in configurations.
    fn name(self) -> &'static str {
        match self {
            Self::Difficulty => "difficulty",
            Self::TraceLength => "trace_length",
            Self::PassRate => "pass_rate",
        }
    }
}

/// The order in which tasks are met.
///
/// The order follows from the tasks and the generator alone, not from the method: give guided run
/// and baseline the same [`TaskFacts`] and the same generator, or the comparison is between orders.
///
/// ```
/// use g2rpo_guidance::{Curriculum, ExampleId, TaskFacts};
/// # use rand::SeedableRng;
/// # let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(0);
/// let task = |id, difficulty| TaskFacts { example: ExampleId(id), difficulty: Some(difficulty), ..TaskFacts::default() };
/// let tasks = [task(0, 5.0), task(1, 2.0), task(2, 9.0)];
/// let order = Curriculum::Continuous(Default::default()).order(&tasks, &mut rng)?;
/// assert_eq!(order, [1, 0, 2].map(ExampleId));
/// # Ok::<(), g2rpo_guidance::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Curriculum {
    /// As given.
    Given,
    /// Shuffled.
    #[default]
    Shuffled,
    /// Strictly from easy to hard; equally hard tasks as given.
    Continuous(OrderBy),
    /// From easy to hard in this many tiers of equal size (the last may be smaller), shuffled
    /// within each. The paper's data has five.
    Tiers {
        /// What decides.
        by: OrderBy,
        /// Number of tiers, at least 1.
        tiers: usize,
    },
}

impl Curriculum {
    /// The tasks in the order of one pass.
    ///
    /// # Errors
    /// [`Error::Config`] for 0 tiers; [`Error::NoDifficulty`] naming the first task that lacks
    /// what it should be ordered by.
    pub fn order(self, tasks: &[TaskFacts], rng: &mut dyn Rng) -> Result<Vec<ExampleId>> {
        let mut order: Vec<ExampleId> = tasks.iter().map(|t| t.example).collect();
        match self {
            Self::Given => {}
            Self::Shuffled => order.shuffle(rng),
            Self::Continuous(by) => order = sorted(tasks, by)?,
            Self::Tiers { by, tiers } => {
                AT_LEAST_1.check("tiers", tiers as f64)?;
                order = sorted(tasks, by)?;
                let size = order.len().div_ceil(tiers).max(1);
                order.chunks_mut(size).for_each(|tier| tier.shuffle(rng));
            }
        }
        Ok(order)
    }

    /// The tier of each task in the order that [`order`](Self::order) gives, for the log; all 0
    /// unless the curriculum has tiers.
    pub fn tier_of(self, position: usize, n_tasks: usize) -> usize {
        match self {
            Self::Tiers { tiers, .. } if tiers > 0 => position / n_tasks.div_ceil(tiers).max(1),
            _ => 0,
        }
    }
}

fn sorted(tasks: &[TaskFacts], by: OrderBy) -> Result<Vec<ExampleId>> {
    let hardness = |task: &TaskFacts| {
        let value = match by {
            OrderBy::Difficulty => task.difficulty,
            OrderBy::TraceLength => task.trace_len.map(|n| n as f64),
            OrderBy::PassRate => task.pass_rate.map(|p| -p),
        };
        (value.filter(|v| !v.is_nan())).ok_or(Error::NoDifficulty {
            example: task.example,
            by: by.name(),
        })
    };
    let mut keyed = Vec::with_capacity(tasks.len());
    for task in tasks {
        keyed.push((hardness(task)?, task.example));
    }
    keyed.sort_by(|a, b| a.0.total_cmp(&b.0));
    Ok(keyed.into_iter().map(|(_, id)| id).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::rng;

    fn tasks() -> Vec<TaskFacts> {
        (0..10)
            .map(|i| TaskFacts {
                example: ExampleId(i),
                difficulty: Some((i % 5) as f64),
                trace_len: Some(100 - i as usize),
                pass_rate: Some(i as f64 / 10.0),
            })
            .collect()
    }

    #[test]
    fn each_key_orders_as_it_says() {
        let order = |curriculum: Curriculum| curriculum.order(&tasks(), &mut rng()).unwrap();
        let by = |key| order(Curriculum::Continuous(key));
        assert_eq!(by(OrderBy::Difficulty)[..4], [0, 5, 1, 6].map(ExampleId));
        assert_eq!(by(OrderBy::TraceLength)[0], ExampleId(9));
        assert_eq!(by(OrderBy::PassRate)[0], ExampleId(9));
        assert_eq!(order(Curriculum::Given)[3], ExampleId(3));
    }

    #[test]
    fn tiers_are_shuffled_within_and_not_across() {
        let curriculum = Curriculum::Tiers {
            by: OrderBy::TraceLength,
            tiers: 2,
        };
        let order = curriculum.order(&tasks(), &mut rng()).unwrap();
        assert!(order[..5].iter().all(|id| id.0 >= 5));
        assert_ne!(order[..5], [9, 8, 7, 6, 5].map(ExampleId));
        let tiers: Vec<usize> = (0..10).map(|i| curriculum.tier_of(i, 10)).collect();
        assert_eq!(tiers, [0, 0, 0, 0, 0, 1, 1, 1, 1, 1]);
    }

    #[test]
    fn the_same_generator_gives_the_same_order() {
        let order = || Curriculum::Shuffled.order(&tasks(), &mut rng()).unwrap();
        assert_eq!(order(), order());
    }

    #[test]
    fn a_task_without_the_key_is_named() {
        let mut tasks = tasks();
        tasks[3].pass_rate = None;
        let by = Curriculum::Continuous(OrderBy::PassRate);
        let error = by.order(&tasks, &mut rng()).unwrap_err().to_string();
        assert_eq!(error, "task 3 has no pass_rate to be ordered by");
        let none = Curriculum::Tiers {
            by: OrderBy::Difficulty,
            tiers: 0,
        };
        assert!(none.order(&tasks, &mut rng()).is_err());
    }
}
