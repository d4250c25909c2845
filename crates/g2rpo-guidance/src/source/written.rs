//! Traces and hints that are known beforehand.

use std::collections::BTreeMap;
use std::sync::Arc;

use rand::{Rng, RngExt};
use serde::{Deserialize, Serialize};

use crate::controller::length::Query;
use crate::feedback::ExampleId;
use crate::source::guidance::{Guidance, GuidanceSource, Provenance};
use crate::trace::solution::Trace;

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

/// Traces and hints of one author, known beforehand.
#[derive(Debug, Clone, Default)]
pub struct Traces {
    /// The traces of each task.
    pub traces: BTreeMap<ExampleId, Vec<Arc<Trace>>>,
    /// The hints of each task, from the weakest to the strongest.
    pub hints: BTreeMap<ExampleId, Vec<Arc<str>>>,
    /// Which of several traces is used.
    pub pick: Pick,
    /// Who wrote them.
    pub provenance: Provenance,
}

impl Traces {
    /// One gold trace for each task, in order of task numbers from 0.
    ///
    /// ```
    /// use g2rpo_guidance::{ExampleId, Trace, Traces};
    /// let gold = Traces::gold([Trace::from_tokens(vec![1, 2]), Trace::from_tokens(vec![3])]);
    /// assert_eq!(gold.traces[&ExampleId(1)][0].tokens(), [3]);
    /// ```
    pub fn gold(traces: impl IntoIterator<Item = Trace>) -> Self {
        let numbered = (0..).map(ExampleId).zip(traces);
        Self {
            traces: numbered.map(|(id, t)| (id, vec![Arc::new(t)])).collect(),
            ..Self::default()
        }
    }

    fn picked(&self, task: ExampleId, rng: &mut dyn Rng) -> Option<Arc<Trace>> {
        let traces = self.traces.get(&task)?;
        let trace = match self.pick {
            Pick::First => traces.first(),
            Pick::Random if traces.is_empty() => None,
            Pick::Random => traces.get(rng.random_range(0..traces.len())),
            Pick::Shortest => traces.iter().min_by_key(|t| t.len()),
            Pick::Longest => traces.iter().rev().max_by_key(|t| t.len()),
        };
        trace.cloned()
    }
}

impl GuidanceSource for Traces {
    fn guidance(&self, query: &Query, rng: &mut dyn Rng) -> Option<Guidance> {
        let trace = self.picked(query.example, rng);
        let hints = self.hints.get(&query.example).cloned().unwrap_or_default();
        (trace.is_some() || !hints.is_empty()).then_some(Guidance {
            trace,
            hints,
            provenance: self.provenance,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::rng;

    #[test]
    fn the_right_one_of_several_is_picked() {
        let trace = |n: u32| Arc::new(Trace::from_tokens((0..n).collect()));
        let given = |pick, task| {
            let source = Traces {
                traces: BTreeMap::from([
                    (ExampleId(0), vec![trace(4), trace(2), trace(9)]),
                    (ExampleId(2), vec![]),
                ]),
                pick,
                ..Traces::default()
            };
            let query = Query {
                example: ExampleId(task),
                ..Query::default()
            };
            let found = source.guidance(&query, &mut rng())?;
            found.trace.map(|t| t.len())
        };
        assert_eq!(given(Pick::First, 0), Some(4));
        assert_eq!(given(Pick::Shortest, 0), Some(2));
        assert_eq!(given(Pick::Longest, 0), Some(9));
        assert!([4, 2, 9].contains(&given(Pick::Random, 0).unwrap()));
        for pick in [Pick::First, Pick::Random, Pick::Shortest, Pick::Longest] {
            assert_eq!(given(pick, 1), None);
            assert_eq!(given(pick, 2), None);
        }
    }
}
