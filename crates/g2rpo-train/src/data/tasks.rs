//! Where the tasks of a data set are: in memory, in a file that is read when one is wanted, or a choice of others.

use std::collections::HashMap;

use g2rpo_rollout::Task;

use crate::data::spot::Spot;
use crate::error::{Error, Result};

/// Tasks by their place, from 0. What is asked of all of them is known without the tasks themselves.
pub trait TaskStore: Send + Sync {
    /// Number of tasks.
    fn len(&self) -> usize;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What is known of a task beforehand.
    ///
    /// # Panics
    /// If there is no such task, as indexing does.
    fn sketch(&self, place: usize) -> Sketch;

    /// Where a task stands in the file that it is from. By default its id, from 1.
    ///
    /// # Panics
    /// If there is no such task, as indexing does.
    fn spot(&self, place: usize) -> Spot {
        Spot::Row(self.sketch(place).id as usize + 1)
    }

    /// A task.
    ///
    /// # Errors
    /// If it has to be read and cannot be, or is another than before.
    ///
    /// # Panics
    /// If there is no such task, as indexing does.
    fn task(&self, place: usize) -> Result<Task>;

    /// The place of the task with this id.
    fn place_of(&self, id: u64) -> Option<usize>;
}

/// What is known of a task without the task.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sketch {
    /// Its id.
    pub id: u64,
    /// Its difficulty.
    pub difficulty: Option<f64>,
    /// Share of attempts that succeeded before training.
    pub pass_rate: Option<f64>,
    /// Bytes of its question.
    pub question_len: usize,
    /// Equal for questions that differ in blanks and case alone.
    pub question_key: u64,
    /// Whether it has a worked solution.
    pub has_solution: bool,
    /// How many hints it has.
    pub hints: usize,
}

impl Sketch {
    /// What is known of this task.
    pub fn of(task: &Task) -> Self {
        Self {
            id: task.id,
            difficulty: task.difficulty,
            pass_rate: task.pass_rate,
            question_len: task.question.len(),
            question_key: question_key(&task.question),
            has_solution: task.solution.is_some(),
            hints: task.hints.len(),
        }
    }
}

fn question_key(question: &str) -> u64 {
    let mut plain = Vec::with_capacity(question.len());
    for letter in question.chars().filter(|c| !c.is_whitespace()) {
        // Most letters are, and a million questions are compared before a run.
        if letter.is_ascii() {
            plain.push(letter.to_ascii_lowercase() as u8);
        } else {
            let lower = letter.to_lowercase();
            lower.for_each(|c| plain.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()));
        }
    }
    fnv(plain)
}

/// FNV-1a, the same in every build: a run that goes on compares it.
pub(crate) fn fnv(bytes: impl IntoIterator<Item = u8>) -> u64 {
    bytes.into_iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// Equal for stores that hold problems with the same questions in the same order.
pub(crate) fn fingerprint(tasks: &dyn TaskStore) -> u64 {
    let keys = (0..tasks.len()).map(|place| tasks.sketch(place).question_key);
    fnv(keys.flat_map(u64::to_le_bytes))
}

/// Tasks in memory.
#[derive(Debug, Clone, Default)]
pub struct Listed {
    tasks: Vec<Task>,
    places: HashMap<u64, usize>,
}

impl Listed {
    /// These tasks.
    ///
    /// # Errors
    /// [`Error::Task`] with the index of a task that has the id of another.
    pub fn new(tasks: Vec<Task>) -> Result<Self> {
        let mut places = HashMap::with_capacity(tasks.len());
        for (task, named) in tasks.iter().enumerate() {
            if let Some(other) = places.insert(named.id, task) {
                let problem = format!("has the id {} of task {other}", named.id);
                return Err(Error::Task { task, problem });
            }
        }
        Ok(Self { tasks, places })
    }
}

impl TaskStore for Listed {
    fn len(&self) -> usize {
        self.tasks.len()
    }

    fn sketch(&self, place: usize) -> Sketch {
        Sketch::of(&self.tasks[place])
    }

    fn task(&self, place: usize) -> Result<Task> {
        Ok(self.tasks[place].clone())
    }

    fn place_of(&self, id: u64) -> Option<usize> {
        self.places.get(&id).copied()
    }
}

/// Some of the tasks of a store, in its order.
pub struct Chosen {
    store: Box<dyn TaskStore>,
    /// Places in the store, rising.
    places: Vec<usize>,
}

impl Chosen {
    /// The tasks for whose place `keep` says so.
    pub fn new(store: Box<dyn TaskStore>, keep: impl FnMut(&usize) -> bool) -> Self {
        let places = (0..store.len()).filter(keep).collect();
        Self { store, places }
    }
}

impl std::fmt::Debug for Chosen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Chosen({} tasks)", self.places.len())
    }
}

impl TaskStore for Chosen {
    fn len(&self) -> usize {
        self.places.len()
    }

    fn sketch(&self, place: usize) -> Sketch {
        self.store.sketch(self.places[place])
    }

    fn spot(&self, place: usize) -> Spot {
        self.store.spot(self.places[place])
    }

    fn task(&self, place: usize) -> Result<Task> {
        self.store.task(self.places[place])
    }

    fn place_of(&self, id: u64) -> Option<usize> {
        let place = self.store.place_of(id)?;
        self.places.binary_search(&place).ok()
    }
}

/// Some of `n` places, evenly spread: all of them where there are no more than `most`.
pub(crate) fn spread(n: usize, most: usize) -> impl Iterator<Item = usize> {
    let chosen = n.min(most);
    (0..chosen).map(move |i| (i as u128 * n as u128 / chosen as u128) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tasks() -> Listed {
        let task = |id| Task {
            id,
            question: format!("Q {id}"),
            ..Task::default()
        };
        Listed::new([7, 3, 9, 4].map(task).to_vec()).unwrap()
    }

    #[test]
    fn a_choice_has_its_own_places() {
        let some = Chosen::new(Box::new(tasks()), |place| *place != 1);
        let chosen = Chosen::new(Box::new(some), |place| *place > 0);
        let ids: Vec<u64> = (0..chosen.len()).map(|i| chosen.sketch(i).id).collect();
        assert_eq!(ids, [9, 4]);
        assert_eq!(chosen.task(1).unwrap().question, "Q 4");
        let places = [3, 4, 7, 9].map(|id| chosen.place_of(id));
        assert_eq!(places, [None, Some(1), None, Some(0)]);
    }

    #[test]
    fn questions_are_the_same_whatever_their_blanks_and_case() {
        let asked = ["What is\n 1+1?", "what IS 1 + 1?"].map(question_key);
        assert_eq!(asked[0], asked[1]);
        assert_ne!(question_key("1+1?"), question_key("1+2?"));
    }

    #[test]
    fn places_are_spread_evenly() {
        assert_eq!(spread(3, 9).collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!(spread(10, 4).collect::<Vec<_>>(), [0, 2, 5, 7]);
        assert_eq!(spread(0, 4).count(), 0);
    }
}
