//! The sources of a method as data.

use crate::defaults::settings;
use crate::source::first::FirstOf;
use crate::source::guidance::{GuidanceSource, Provenance};
use crate::source::own::OwnSuccesses;
use crate::source::written::{Pick, Traces};

settings! {
    /// Whose traces and hints a method uses.
    #[derive(Eq)]
    pub struct SourceConfig {
        /// Authors in order of preference: the first who has written a trace (or hints) for a task is
        /// used. [`Provenance::Own`] also keeps the policy's successes. Default the data set.
        pub order: Vec<Provenance> = vec![Provenance::Gold],
        /// Which of several traces of a task is used, and which of the policy's own are kept.
        pub pick: Pick = Pick::First,
        /// Own successes kept per task, at least 1. Default 4.
        pub capacity: usize = 4,
    }
}

impl SourceConfig {
    /// Whether successes that are offered are kept.
    pub fn learns(&self) -> bool {
        self.order.contains(&Provenance::Own)
    }

    /// The source over what is `written` beforehand: authors that are not in the order are left
    /// out.
    ///
    /// ```
    /// use g2rpo_guidance::{
    ///     ExampleId, GuidanceSource, Pick, Provenance, Query, SourceConfig, Trace, Traces,
    /// };
    /// # use rand::SeedableRng;
    /// # let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(0);
    /// let gold = Traces::gold([Trace::from_tokens(vec![1, 2, 3])]);
    /// let source = SourceConfig::default().build(vec![gold.clone()]);
    /// assert!(source.guidance(&Query::default(), &mut rng).is_some());
    /// let teacher = SourceConfig { order: vec![Provenance::Teacher], ..SourceConfig::default() };
    /// assert!(teacher.build(vec![gold.clone()]).guidance(&Query::default(), &mut rng).is_none());
    ///
    /// // The shortest success of the policy itself, and the data set's solution until there is one.
    /// let order = vec![Provenance::Own, Provenance::Gold];
    /// let own = SourceConfig { order, pick: Pick::Shortest, capacity: 1 };
    /// let mut source = own.build(vec![gold]);
    /// let mut len = |s: &dyn GuidanceSource| s.guidance(&Query::default(), &mut rng).unwrap().trace.unwrap().len();
    /// assert_eq!(len(&source), 3);
    /// source.offer(ExampleId(0), Trace::from_tokens(vec![6, 7, 8, 9]));
    /// source.offer(ExampleId(0), Trace::from_tokens(vec![4, 5]));
    /// assert_eq!(len(&source), 2);
    /// ```
    pub fn build(&self, written: Vec<Traces>) -> Box<dyn GuidanceSource + Send> {
        let pick = self.pick;
        let picked = written.into_iter().map(|traces| {
            let traces = Traces { pick, ..traces };
            let author: (_, Box<dyn GuidanceSource + Send>) = (traces.provenance, Box::new(traces));
            author
        });
        self.build_over(picked.collect())
    }

    /// As [`build`](Self::build), over sources of any kind, each with its author.
    pub fn build_over<'a>(
        &self,
        mut written: Vec<(Provenance, Box<dyn GuidanceSource + Send + 'a>)>,
    ) -> Box<dyn GuidanceSource + Send + 'a> {
        let mut sources: Vec<Box<dyn GuidanceSource + Send + 'a>> = Vec::new();
        for &author in &self.order {
            if author == Provenance::Own {
                sources.push(Box::new(OwnSuccesses::new(self.capacity, self.pick)));
            }
            let by_author = written.extract_if(.., |(by, _)| *by == author);
            sources.extend(by_author.map(|(_, source)| source));
        }
        Box::new(FirstOf(sources))
    }
}
