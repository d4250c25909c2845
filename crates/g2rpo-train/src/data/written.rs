//! The solutions and hints of a data set as guidance, encoded when they are asked for.

use std::sync::Arc;

use g2rpo_guidance::{Guidance, GuidanceSource, Provenance, Query, SourceConfig, Traces};
use rand::Rng;

use crate::data::dataset::Dataset;

impl Dataset<'_> {
    /// Solutions and hints of all tasks, and what was added to them, as a method's source of guidance.
    pub fn source(&self, config: &SourceConfig) -> Box<dyn GuidanceSource + Send + '_> {
        let mut written: Vec<(Provenance, Box<dyn GuidanceSource + Send + '_>)> =
            vec![(Provenance::Gold, Box::new(Written(self)))];
        for traces in &self.others {
            let pick = config.pick;
            let traces = Traces {
                pick,
                ..traces.clone()
            };
            written.push((traces.provenance, Box::new(traces)));
        }
        config.build_over(written)
    }
}

/// What a data set's own author has written for its tasks.
struct Written<'d, 'a>(&'d Dataset<'a>);

impl GuidanceSource for Written<'_, '_> {
    /// A task that cannot be read or encoded has none; who plans for it meets the error.
    fn guidance(&self, query: &Query, _: &mut dyn Rng) -> Option<Guidance> {
        let place = self.0.tasks().place_of(query.example.0)?;
        let item = self.0.item(place).ok()?;
        let hints: Vec<Arc<str>> = item.task.hints.iter().map(|h| Arc::from(&**h)).collect();
        let trace = item.trace.clone();
        (trace.is_some() || !hints.is_empty()).then_some(Guidance {
            trace,
            hints,
            provenance: Provenance::Gold,
        })
    }
}
