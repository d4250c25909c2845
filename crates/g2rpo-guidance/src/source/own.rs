//! Successful completions of the policy itself, kept as traces.

use std::collections::BTreeMap;
use std::sync::Arc;

use rand::{Rng, RngExt};
use serde_json::Value;

use crate::controller::length::{Query, restored, saved};
use crate::error::Result;
use crate::feedback::ExampleId;
use crate::source::guidance::{Guidance, GuidanceSource, Provenance};
use crate::source::written::Pick;
use crate::trace::solution::Trace;

/// Successful completions of the policy itself, kept from earlier steps (`PrefixRL`, `EvoCoT`).
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct OwnSuccesses {
    capacity: usize,
    pick: Pick,
    store: BTreeMap<ExampleId, Vec<Trace>>,
}

impl OwnSuccesses {
    /// An empty store for `capacity` traces per task (0 counts as 1). `pick` says which is used
    /// and which is kept: [`Pick::Shortest`] and [`Pick::Longest`] keep those, the others keep the
    /// latest.
    pub(crate) fn new(capacity: usize, pick: Pick) -> Self {
        Self {
            capacity: capacity.max(1),
            pick,
            store: BTreeMap::new(),
        }
    }

    /// What is kept for a task.
    pub(crate) fn of(&self, task: ExampleId) -> &[Trace] {
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

    fn offer(&mut self, task: ExampleId, trace: Trace) {
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
                let extra = kept.len().saturating_sub(self.capacity);
                kept.drain(..extra);
            }
        }
        kept.truncate(self.capacity);
    }

    fn state(&self) -> Value {
        saved(&self.store)
    }

    fn restore(&mut self, saved: Value) -> Result<()> {
        self.store = restored("store of own successes", saved)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::rng;

    #[test]
    fn own_successes_survive_a_checkpoint_and_are_not_kept_twice() {
        let mut store = OwnSuccesses::new(2, Pick::First);
        for n in [3, 3, 5, 7] {
            let pieces = vec![(n, "x"); n as usize];
            store.offer(ExampleId(1), Trace::from_pieces(&pieces));
        }
        let text = store.state().to_string();
        let mut back = OwnSuccesses::new(2, Pick::First);
        back.restore(serde_json::from_str(&text).unwrap()).unwrap();
        assert_eq!(back, store);
        let lengths: Vec<_> = back.of(ExampleId(1)).iter().map(Trace::len).collect();
        assert_eq!(lengths, [5, 7]);
        let query = Query {
            example: ExampleId(1),
            ..Query::default()
        };
        let found = back.guidance(&query, &mut rng()).unwrap();
        assert_eq!(
            (found.trace.unwrap().len(), found.provenance),
            (5, Provenance::Own)
        );
        assert!(back.restore(3.into()).is_err());
    }
}
