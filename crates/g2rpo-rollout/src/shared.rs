//! One policy behind two handles: an engine to sample with and a learner to train.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use g2rpo_core::{
    Learner, Result as CoreResult, Scoring, Sequences, TokenGrads, TokenOutputs, UpdateStats,
    WhichPolicy,
};

use crate::engine::{Completion, Finished, Request, RolloutEngine, SamplingParams};
use crate::ranks::{Collective, DataParallel, RankedError};

/// A policy that samples and learns, to be handed out twice; every clone is the same policy.
///
/// ```
/// use g2rpo_core::Learner;
/// use g2rpo_rollout::{Shared, TabularPolicy};
/// let mut learner = Shared::new(TabularPolicy::new(4, 1));
/// let engine = learner.clone();
/// learner.apply(1.0)?;
/// assert_eq!(engine.get().probabilities(&[0]), [0.25; 4]);
/// # Ok::<(), g2rpo_rollout::Error>(())
/// ```
#[derive(Debug, Default)]
pub struct Shared<P>(Arc<Mutex<P>>);

impl<P> Clone for Shared<P> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<P> Shared<P> {
    /// The first handle of a policy.
    pub fn new(policy: P) -> Self {
        Self(Arc::new(Mutex::new(policy)))
    }

    /// The policy itself. Other handles wait until the guard is dropped, those of the same thread
    /// for ever: let go of it at once.
    pub fn get(&self) -> MutexGuard<'_, P> {
        // A panic elsewhere is that thread's to report.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<P: RolloutEngine> RolloutEngine for Shared<P> {
    type Error = P::Error;

    fn generate(
        &mut self,
        requests: &[Request],
        params: &SamplingParams,
    ) -> Result<Vec<Completion>, Self::Error> {
        self.get().generate(requests, params)
    }

    fn generate_each(
        &mut self,
        requests: &[Request],
        params: &SamplingParams,
        finished: &mut Finished<'_>,
    ) -> Result<Vec<Completion>, Self::Error> {
        self.get().generate_each(requests, params, finished)
    }
}

impl<P: Learner> Learner for Shared<P> {
    type Error = P::Error;

    fn token_logps(
        &mut self,
        sequences: &Sequences,
        policy: WhichPolicy,
        scoring: &Scoring,
    ) -> Result<TokenOutputs, Self::Error> {
        self.get().token_logps(sequences, policy, scoring)
    }

    fn accumulate(
        &mut self,
        sequences: &Sequences,
        scoring: &Scoring,
        loss: &mut dyn FnMut(&TokenOutputs) -> CoreResult<TokenGrads>,
    ) -> Result<(), Self::Error> {
        self.get().accumulate(sequences, scoring, loss)
    }

    fn apply(&mut self, lr: f64) -> Result<UpdateStats, Self::Error> {
        self.get().apply(lr)
    }
}

impl<P: DataParallel> DataParallel for Shared<P> {
    fn sum_gradient(&mut self, ranks: &dyn Collective) -> Result<(), RankedError<Self::Error>> {
        self.get().sum_gradient(ranks)
    }

    fn fingerprint(&self) -> Result<u64, Self::Error> {
        self.get().fingerprint()
    }
}
