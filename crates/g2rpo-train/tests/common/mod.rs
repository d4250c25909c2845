//! Combination locks: tasks, a tokenizer of letters, and a table as policy; no tensor library.

use g2rpo_guidance::Method;
use g2rpo_rollout::{
    Encoding, Error, SamplingParams, Shared, TabularPolicy, Task, TokenId, Tokenizer,
};
use g2rpo_train::{Dataset, LrSchedule, Trainer, TrainerConfig};

/// Letters of a lock's code.
pub(crate) const LETTERS: u32 = 4;
/// Positions of a lock.
pub(crate) const LENGTH: usize = 6;
/// Seed of the runs.
pub(crate) const SEED: u64 = 11;

/// `a` to `d` are the ids 0 to 3; `0` asks for lock number 0 and so on.
pub(crate) struct Letters;

impl Tokenizer for Letters {
    fn encode(&self, text: &str) -> Result<Encoding, Error> {
        let id = |b: u8| match b {
            b'a'..=b'd' => Ok(u32::from(b - b'a')),
            b'0'..=b'9' => Ok(LETTERS + u32::from(b - b'0')),
            _ => Err(Error::Tokenizer(format!(
                "{:?} is no letter",
                char::from(b)
            ))),
        };
        Ok(Encoding {
            ids: text.bytes().map(id).collect::<Result<_, _>>()?,
            offsets: (0..text.len()).map(|i| i..i + 1).collect(),
        })
    }

    fn decode(&self, ids: &[TokenId]) -> Result<String, Error> {
        Ok(ids.iter().map(|&id| char::from(b'a' + id as u8)).collect())
    }
}

/// Four locks with their codes as solutions.
pub(crate) fn tasks() -> Vec<Task> {
    let lock = |(id, code): (usize, &str)| Task {
        id: id as u64,
        question: id.to_string(),
        reference: code.into(),
        solution: Some(code.into()),
        difficulty: Some(LENGTH as f64),
        ..Task::default()
    };
    let codes = ["abcdab", "bbacda", "cdabba", "dacbcd"];
    codes.into_iter().enumerate().map(lock).collect()
}

/// The locks as a data set.
pub(crate) fn data() -> Dataset<'static> {
    Dataset::with_template(tasks(), &Letters, "{question}").unwrap()
}

/// A uniform policy that sees the lock's number and all letters so far.
pub(crate) fn policy() -> Shared<TabularPolicy> {
    Shared::new(TabularPolicy::new(LETTERS as usize + 10, LENGTH + 1))
}

/// Whether the answer is the code.
pub(crate) fn opens(answer: &str, code: &str) -> bool {
    answer == code
}

/// Four locks a step, at a rate that a table bears.
pub(crate) fn config() -> TrainerConfig {
    TrainerConfig {
        seed: SEED,
        prompts_per_step: 4,
        sampling: SamplingParams::default(),
        schedule: LrSchedule::constant(20.0),
        ..TrainerConfig::default()
    }
}

/// A method on groups of eight for locks.
pub(crate) fn method(name: &str) -> Method {
    (Method::preset(name, 40).unwrap())
        .set("num_generations", 8)
        .unwrap()
        .set("max_completion_length", LENGTH)
        .unwrap()
}

pub(crate) type Locks<'a> = Trainer<'a, Shared<TabularPolicy>, Shared<TabularPolicy>>;

/// A trainer on the locks.
pub(crate) fn trainer<'a>(data: &'a Dataset<'a>, method: Method) -> Locks<'a> {
    let policy = policy();
    Trainer::new(method, data, policy.clone(), policy, opens, config()).unwrap()
}
