//! Where guidance comes from: the [`GuidanceSource`] trait and its implementations.

use std::collections::BTreeMap;
use std::sync::Arc;

use rand::{Rng, RngExt};
use serde::{Deserialize, Serialize};

use crate::{ExampleId, Query, Trace};

/// What a source knows about a task.
#[derive(Debug, Clone, PartialEq)]
pub struct Guidance {
    /// The worked solution to cut from, if there is one.
    pub trace: Option<Arc<Trace>>,
    /// Hints for the prompt, from the weakest to the strongest; [`Level::Hint`](crate::Level::Hint)
    /// counts them from 0.
    pub hints: Vec<Arc<str>>,
    /// Who wrote it.
    pub provenance: Provenance,
}

impl Guidance {
    /// A trace without hints.
    pub fn trace(trace: Arc<Trace>, provenance: Provenance) -> Self {
        Self {
            trace: Some(trace),
            hints: Vec::new(),
            provenance,
        }
    }
}

/// Who wrote a piece of guidance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Provenance {
    /// The data set.
    #[default]
    Gold,
    /// Another model.
    Teacher,
    /// The policy itself, in an earlier step.
    Own,
    /// Somebody else.
    User,
}

/// Where guidance is put.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Placement {
    /// At the start of the completion, spliced as ids; the policy continues it (G²RPO-A).
    #[default]
    AssistantPrefix,
    /// In the prompt, as text; the policy answers from the beginning (GHPO, UFT, `QuestA`).
    PromptHint,
}

/// Finds guidance for a task.
///
/// Closures are sources. Ten lines make one of a type of one's own:
///
/// ```
/// use std::sync::Arc;
/// use g2rpo_guidance::{Guidance, GuidanceSource, Provenance, Query, Trace};
/// use rand::Rng;
///
/// /// Counts from 1 to the number of the task.
/// struct Counting;
///
/// impl GuidanceSource for Counting {
///     fn guidance(&self, query: &Query, _: &mut dyn Rng) -> Option<Guidance> {
///         let tokens = (1..=query.example.0 as u32).collect();
///         Some(Guidance::trace(Arc::new(Trace::from_tokens(tokens)), Provenance::User))
///     }
/// }
/// # use rand::SeedableRng;
/// # let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(0);
/// let query = Query { example: g2rpo_guidance::ExampleId(3), ..Query::default() };
/// let found = Counting.guidance(&query, &mut rng).unwrap();
/// assert_eq!(found.trace.unwrap().tokens(), [1, 2, 3]);
/// ```
pub trait GuidanceSource {
    /// Guidance for the task, or nothing if there is none.
    fn guidance(&self, query: &Query, rng: &mut dyn Rng) -> Option<Guidance>;
}

impl<F: Fn(&Query, &mut dyn Rng) -> Option<Guidance>> GuidanceSource for F {
    fn guidance(&self, query: &Query, rng: &mut dyn Rng) -> Option<Guidance> {
        self(query, rng)
    }
}

/// Which of several traces of a task is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pick {
    /// The first.
    #[default]
    First,
    /// Any, drawn anew for every group.
    Random,
    /// The one with the fewest tokens.
    Shortest,
    /// The one with the most tokens.
    Longest,
}

/// Traces known beforehand, one or several per task.
#[derive(Debug, Clone, Default)]
pub struct Traces {
    /// The traces of each task.
    pub traces: BTreeMap<ExampleId, Vec<Arc<Trace>>>,
    /// Which one is used.
    pub pick: Pick,
    /// Who wrote them.
    pub provenance: Provenance,
}

impl Traces {
    /// One gold trace for each task, in order of task numbers from 0.
    pub fn gold(traces: impl IntoIterator<Item = Trace>) -> Self {
        let numbered = (0..).map(ExampleId).zip(traces);
        Self {
            traces: numbered.map(|(id, t)| (id, vec![Arc::new(t)])).collect(),
            ..Self::default()
        }
    }
}

impl GuidanceSource for Traces {
    fn guidance(&self, query: &Query, rng: &mut dyn Rng) -> Option<Guidance> {
        let traces = self.traces.get(&query.example)?;
        let trace = match self.pick {
            Pick::First => traces.first(),
            Pick::Random if traces.is_empty() => None,
            Pick::Random => traces.get(rng.random_range(0..traces.len())),
            Pick::Shortest => traces.iter().min_by_key(|t| t.len()),
            Pick::Longest => traces.iter().rev().max_by_key(|t| t.len()),
        };
        Some(Guidance::trace(Arc::clone(trace?), self.provenance))
    }
}

/// Hints for the prompt, from the weakest to the strongest, for each task.
#[derive(Debug, Clone, Default)]
pub struct Hints {
    /// The hints of each task.
    pub hints: BTreeMap<ExampleId, Vec<Arc<str>>>,
    /// Who wrote them.
    pub provenance: Provenance,
}

impl GuidanceSource for Hints {
    fn guidance(&self, query: &Query, _: &mut dyn Rng) -> Option<Guidance> {
        Some(Guidance {
            trace: None,
            hints: self.hints.get(&query.example)?.clone(),
            provenance: self.provenance,
        })
    }
}

/// Successful completions of the policy itself, kept from earlier steps (`PrefixRL`, `EvoCoT`).
///
/// Serialise it with a checkpoint: what is stored decides what is given.
///
/// ```
/// use g2rpo_guidance::{ExampleId, OwnSuccesses, Pick, Trace};
/// let mut store = OwnSuccesses::new(1, Pick::Shortest);
/// let task = ExampleId(0);
/// store.offer(task, Trace::from_tokens(vec![1, 2, 3]));
/// store.offer(task, Trace::from_tokens(vec![4, 5]));
/// store.offer(task, Trace::from_tokens(vec![6, 7, 8, 9]));
/// assert_eq!(store.of(task)[0].tokens(), [4, 5]);
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OwnSuccesses {
    /// Traces kept per task, at least 1.
    pub capacity: usize,
    /// Which one is used, and which is kept: [`Pick::Shortest`] and [`Pick::Longest`] keep those,
    /// the others keep the latest.
    pub pick: Pick,
    store: BTreeMap<ExampleId, Vec<Trace>>,
}

impl Default for OwnSuccesses {
    /// The four shortest.
    fn default() -> Self {
        Self::new(4, Pick::Shortest)
    }
}

impl OwnSuccesses {
    /// An empty store for `capacity` traces per task (0 counts as 1).
    pub fn new(capacity: usize, pick: Pick) -> Self {
        Self {
            capacity,
            pick,
            store: BTreeMap::new(),
        }
    }

    /// Takes a successful completion. Only unguided ones teach anything new: a guided one begins
    /// with somebody else's tokens.
    pub fn offer(&mut self, task: ExampleId, trace: Trace) {
        let kept = self.store.entry(task).or_default();
        if kept.contains(&trace) {
            return;
        }
        kept.push(trace);
        // Stable, so that of two equally long traces the older stays.
        match self.pick {
            Pick::Shortest => kept.sort_by_key(Trace::len),
            Pick::Longest => kept.sort_by_key(|t| std::cmp::Reverse(t.len())),
            Pick::First | Pick::Random => {
                let extra = kept.len().saturating_sub(self.capacity.max(1));
                kept.drain(..extra);
            }
        }
        kept.truncate(self.capacity.max(1));
    }

    /// What is kept for a task.
    pub fn of(&self, task: ExampleId) -> &[Trace] {
        self.store.get(&task).map_or(&[], Vec::as_slice)
    }
}

impl GuidanceSource for OwnSuccesses {
    fn guidance(&self, query: &Query, rng: &mut dyn Rng) -> Option<Guidance> {
        let kept = self.of(query.example);
        let index = match self.pick {
            Pick::Random if !kept.is_empty() => rng.random_range(0..kept.len()),
            _ => 0,
        };
        let trace = Arc::new(kept.get(index)?.clone());
        Some(Guidance::trace(trace, Provenance::Own))
    }
}

/// Several sources in order of preference: the first that knows a trace gives it, the first that
/// knows hints gives them.
#[derive(Default)]
pub struct FirstOf(pub Vec<Box<dyn GuidanceSource>>);

impl std::fmt::Debug for FirstOf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "FirstOf({} sources)", self.0.len())
    }
}

impl GuidanceSource for FirstOf {
    fn guidance(&self, query: &Query, rng: &mut dyn Rng) -> Option<Guidance> {
        let mut best: Option<Guidance> = None;
        for source in &self.0 {
            let Some(found) = source.guidance(query, rng) else {
                continue;
            };
            match &mut best {
                None => best = Some(found),
                Some(best) => {
                    if best.trace.is_none() && found.trace.is_some() {
                        best.trace = found.trace;
                        best.provenance = found.provenance;
                    }
                    if best.hints.is_empty() {
                        best.hints = found.hints;
                    }
                }
            }
        }
        best
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::tests::rng;

    fn trace(n: u32) -> Arc<Trace> {
        Arc::new(Trace::from_tokens((0..n).collect()))
    }

    fn given(source: &dyn GuidanceSource, task: u64) -> Option<usize> {
        let query = Query {
            example: ExampleId(task),
            ..Query::default()
        };
        source.guidance(&query, &mut rng())?.trace.map(|t| t.len())
    }

    #[test]
    fn the_right_one_of_several_is_picked() {
        let source = |pick| Traces {
            traces: BTreeMap::from([
                (ExampleId(0), vec![trace(4), trace(2), trace(9)]),
                (ExampleId(2), vec![]),
            ]),
            pick,
            ..Traces::default()
        };
        assert_eq!(given(&source(Pick::First), 0), Some(4));
        assert_eq!(given(&source(Pick::Shortest), 0), Some(2));
        assert_eq!(given(&source(Pick::Longest), 0), Some(9));
        assert!([4, 2, 9].contains(&given(&source(Pick::Random), 0).unwrap()));
        for pick in [Pick::First, Pick::Random, Pick::Shortest, Pick::Longest] {
            assert_eq!(given(&source(pick), 1), None);
            assert_eq!(given(&source(pick), 2), None);
        }
    }

    #[test]
    fn own_successes_survive_a_checkpoint_and_are_not_kept_twice() {
        let mut store = OwnSuccesses::new(2, Pick::First);
        for n in [3, 3, 5, 7] {
            store.offer(
                ExampleId(1),
                Trace::from_pieces(&vec![(n, "x"); n as usize]),
            );
        }
        let text = serde_json::to_string(&store).unwrap();
        let back: OwnSuccesses = serde_json::from_str(&text).unwrap();
        assert_eq!(back, store);
        assert_eq!(
            back.of(ExampleId(1))
                .iter()
                .map(Trace::len)
                .collect::<Vec<_>>(),
            [5, 7]
        );
        assert_eq!(given(&back, 1), Some(5));
    }

    #[test]
    fn sources_fill_in_for_each_other() {
        let own = OwnSuccesses::default();
        let hints = Hints {
            hints: BTreeMap::from([(ExampleId(0), vec![Arc::from("think")])]),
            ..Hints::default()
        };
        let gold = |_: &Query, _: &mut dyn Rng| Some(Guidance::trace(trace(6), Provenance::Gold));
        let both = FirstOf(vec![Box::new(own), Box::new(hints), Box::new(gold)]);
        let found = both.guidance(&Query::default(), &mut rng()).unwrap();
        assert_eq!(found.trace.unwrap().len(), 6);
        assert_eq!((found.hints.len(), found.provenance), (1, Provenance::Gold));
    }
}
