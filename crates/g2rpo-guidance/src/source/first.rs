//! Several sources in order of preference.

use rand::Rng;
use serde_json::Value;

use crate::controller::length::{Query, restored};
use crate::error::{Result, bad_state};
use crate::feedback::ExampleId;
use crate::source::guidance::{Guidance, GuidanceSource};
use crate::trace::solution::Trace;

/// Several sources in order of preference: the first that knows a trace gives it, the first that
/// knows hints gives them. Successes are offered to all of them.
pub(crate) struct FirstOf<'a>(pub(crate) Vec<Box<dyn GuidanceSource + Send + 'a>>);

impl std::fmt::Debug for FirstOf<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "FirstOf({} sources)", self.0.len())
    }
}

impl GuidanceSource for FirstOf<'_> {
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

    fn offer(&mut self, task: ExampleId, trace: Trace) {
        for source in &mut self.0 {
            source.offer(task, trace.clone());
        }
    }

    fn state(&self) -> Value {
        self.0.iter().map(|source| source.state()).collect()
    }

    fn restore(&mut self, saved: Value) -> Result<()> {
        let what = "list of sources";
        let states: Vec<Value> = restored(what, saved)?;
        if states.len() != self.0.len() {
            let (got, expected) = (states.len(), self.0.len());
            let problem = format!("it holds {got} states for {expected} sources");
            return bad_state(what, problem);
        }
        let before: Vec<Value> = self.0.iter().map(|source| source.state()).collect();
        for (i, state) in states.into_iter().enumerate() {
            if let Err(error) = self.0[i].restore(state) {
                for (source, state) in self.0.iter_mut().zip(before).take(i) {
                    source.restore(state)?;
                }
                return Err(error);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use super::*;
    use crate::source::guidance::Provenance;
    use crate::source::own::OwnSuccesses;
    use crate::source::written::{Pick, Traces};
    use crate::testing::rng;

    fn sources() -> FirstOf<'static> {
        let hints = Traces {
            hints: BTreeMap::from([(ExampleId(0), vec![Arc::from("think")])]),
            provenance: Provenance::Teacher,
            ..Traces::default()
        };
        let gold = Traces::gold([Trace::from_tokens(vec![1; 6])]);
        let own = OwnSuccesses::new(1, Pick::First);
        FirstOf(vec![Box::new(own), Box::new(hints), Box::new(gold)])
    }

    #[test]
    fn sources_fill_in_for_each_other() {
        let found = sources().guidance(&Query::default(), &mut rng()).unwrap();
        assert_eq!(found.trace.unwrap().len(), 6);
        assert_eq!((found.hints.len(), found.provenance), (1, Provenance::Gold));
    }

    #[test]
    fn what_one_has_learned_is_saved_with_all() {
        let mut learned = sources();
        learned.offer(ExampleId(0), Trace::from_tokens(vec![7, 8]));
        let mut fresh = sources();
        fresh.restore(learned.state()).unwrap();
        let found = fresh.guidance(&Query::default(), &mut rng()).unwrap();
        assert_eq!(found.trace.unwrap().tokens(), [7, 8]);
        let before = fresh.state();
        let mut broken = before.clone();
        broken[2] = 1.into();
        assert!(fresh.restore(broken).is_err());
        assert!(fresh.restore(Value::Null).is_err());
        assert_eq!(fresh.state(), before);
    }
}
