//! What is known about a task, and the trait of what knows it.

use std::sync::Arc;

use rand::Rng;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::controller::length::{Query, no_state};
use crate::error::Result;
use crate::feedback::ExampleId;
use crate::trace::solution::Trace;

/// What a source knows about a task.
#[derive(Debug, Clone, PartialEq, Default)]
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
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Provenance {
    /// The data set.
    #[default]
    Gold,
    /// Another model.
    Teacher,
    /// The policy itself.
    Own,
    /// Somebody else.
    User,
}

/// Finds guidance for a task.
///
/// ```
/// use std::sync::Arc;
/// use g2rpo_guidance::{ExampleId, Guidance, GuidanceSource, Provenance, Query, Trace};
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
/// let query = Query { example: ExampleId(3), ..Query::default() };
/// let found = Counting.guidance(&query, &mut rng).unwrap();
/// assert_eq!(found.trace.unwrap().tokens(), [1, 2, 3]);
/// ```
pub trait GuidanceSource {
    /// Guidance for the task, or nothing if there is none.
    fn guidance(&self, query: &Query, rng: &mut dyn Rng) -> Option<Guidance>;

    /// Takes a successful completion of the policy. Offer unguided ones: a guided one begins with
    /// somebody else's tokens. The default forgets it.
    fn offer(&mut self, _task: ExampleId, _trace: Trace) {}

    /// Everything [`offer`](Self::offer) has changed: what is kept decides what is given, so it
    /// belongs into a checkpoint. The default is for sources that nothing changes.
    fn state(&self) -> Value {
        Value::Null
    }

    /// Takes up a saved state.
    ///
    /// # Errors
    /// [`Error::State`](crate::Error::State) if the state was saved by another source or cannot be
    /// right; `self` is unchanged then.
    fn restore(&mut self, saved: Value) -> Result<()> {
        no_state("source without state", &saved)
    }
}

macro_rules! forward {
    ($($pointer:ty),*) => {$(
        impl<S: GuidanceSource + ?Sized> GuidanceSource for $pointer {
            fn guidance(&self, query: &Query, rng: &mut dyn Rng) -> Option<Guidance> {
                (**self).guidance(query, rng)
            }
            fn offer(&mut self, task: ExampleId, trace: Trace) {
                (**self).offer(task, trace);
            }
            fn state(&self) -> Value {
                (**self).state()
            }
            fn restore(&mut self, saved: Value) -> Result<()> {
                (**self).restore(saved)
            }
        }
    )*};
}

forward!(&mut S, Box<S>);
