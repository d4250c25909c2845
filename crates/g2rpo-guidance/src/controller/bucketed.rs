//! A controller for each bucket of tasks.

use std::collections::BTreeMap;
use std::fmt;

use rand::Rng;
use serde_json::Value;

use crate::controller::amount::Amount;
use crate::controller::length::{LengthController, Query, restored, saved};
use crate::error::Result;
use crate::feedback::{ExampleId, StepFeedback};
use crate::signal::Steering;

/// A controller for each bucket of tasks: each level of difficulty, each source, or each task.
///
/// A bucket's controller starts as a copy of the prototype when the bucket is first observed, and
/// sees the feedback of its own tasks only, so a change of the mix of tasks is not read as a
/// change of skill.
///
/// ```
/// use g2rpo_guidance::{ExampleId, PerBucket, Target, TargetConfig};
/// let target = Target::new(TargetConfig::default())?;
/// // One state for even tasks, one for odd ones; `|id| id.0` gives each task its own.
/// let controller = PerBucket::new(target, |id: ExampleId| id.0 % 2);
/// # let _ = controller;
/// # Ok::<(), g2rpo_guidance::Error>(())
/// ```
#[derive(Clone)]
pub struct PerBucket<C, F> {
    prototype: C,
    bucket_of: F,
    buckets: BTreeMap<u64, C>,
}

impl<C: LengthController + Clone, F: Fn(ExampleId) -> u64> PerBucket<C, F> {
    /// `bucket_of` must be the same function when a state is restored.
    pub fn new(prototype: C, bucket_of: F) -> Self {
        Self {
            prototype,
            bucket_of,
            buckets: BTreeMap::new(),
        }
    }
}

impl<C: fmt::Debug, F> fmt::Debug for PerBucket<C, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PerBucket")
            .field("prototype", &self.prototype)
            .field("buckets", &self.buckets)
            .finish_non_exhaustive()
    }
}

impl<C: LengthController + Clone, F: Fn(ExampleId) -> u64> LengthController for PerBucket<C, F> {
    fn amount(&self, query: &Query, rng: &mut dyn Rng) -> Amount {
        let bucket = (self.bucket_of)(query.example);
        let controller = self.buckets.get(&bucket).unwrap_or(&self.prototype);
        controller.amount(query, rng)
    }

    fn observe(&mut self, feedback: &StepFeedback) {
        let mut parts: BTreeMap<u64, StepFeedback> = BTreeMap::new();
        for (&id, example) in &feedback.examples {
            let part = parts.entry((self.bucket_of)(id));
            let part = part.or_insert_with(|| StepFeedback::new(feedback.step));
            part.examples.insert(id, example.clone());
        }
        for (bucket, part) in parts {
            let controller = self.buckets.entry(bucket);
            controller
                .or_insert_with(|| self.prototype.clone())
                .observe(&part);
        }
    }

    fn steering(&self) -> Option<Steering> {
        self.prototype.steering()
    }

    fn state(&self) -> Value {
        let states = self.buckets.iter().map(|(bucket, c)| (*bucket, c.state()));
        saved(&states.collect::<BTreeMap<u64, Value>>())
    }

    fn restore(&mut self, saved: Value) -> Result<()> {
        let mut buckets = BTreeMap::new();
        for (bucket, state) in restored::<BTreeMap<u64, Value>>("controller per bucket", saved)? {
            let mut controller = self.prototype.clone();
            controller.restore(state)?;
            buckets.insert(bucket, controller);
        }
        self.buckets = buckets;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::target::{Target, TargetConfig};
    use crate::testing::{feedback, rng};

    fn controller() -> PerBucket<Target, impl Fn(ExampleId) -> u64> {
        let target = Target::new(TargetConfig::default()).unwrap();
        PerBucket::new(target, |id: ExampleId| id.0 / 10)
    }

    fn observe(c: &mut impl LengthController, rows: &[(u64, f64)]) {
        let rollout = |&(task, reward): &(u64, f64)| (task, true, 0.5, reward);
        c.observe(&feedback(0, rows.iter().map(rollout)));
    }

    #[test]
    fn buckets_go_their_own_ways() {
        let mut c = controller();
        for _ in 0..5 {
            observe(&mut c, &[(1, 1.0), (2, 1.0), (11, 0.0)]);
        }
        let amount = |id| {
            let query = Query {
                example: ExampleId(id),
                ..Query::default()
            };
            c.amount(&query, &mut rng()).value()
        };
        assert!(amount(1) < 0.5 && amount(1) == amount(9));
        assert!(amount(15) > 0.5);
        assert_eq!(amount(25), 0.5);
    }

    #[test]
    fn state_comes_back_bucket_by_bucket() {
        let mut c = controller();
        observe(&mut c, &[(1, 1.0), (11, 0.0)]);
        let mut fresh = controller();
        fresh.restore(c.state()).unwrap();
        assert_eq!(fresh.state(), c.state());
        assert_eq!(fresh.buckets, c.buckets);
        assert!(fresh.restore(serde_json::json!({"length": 1})).is_err());
    }
}
