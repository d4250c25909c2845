//! The contract of verifiers, and batches of them on threads.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::verdict::{Fault, Unverifiable, Verdict};

/// Judges a response against a reference: any text in, a verdict out, in bounded time.
///
/// Closures are verifiers, and so are boxed, shared and borrowed verifiers. What a closure returns
/// may be anything that converts into a [`Verdict`], a `bool` among them.
///
/// ```
/// use g2rpo_verify::Verifier;
///
/// let exact = |response: &str, reference: &str| response.trim() == reference.trim();
/// assert!(exact.verify(" 42", "42").is_correct());
/// let boxed: Box<dyn Verifier> = Box::new(exact);
/// assert_eq!(boxed.verify("41", "42").reward(), Some(0.0));
/// ```
pub trait Verifier: Send + Sync {
    /// The verdict about `response`, the text that the model wrote after the prompt.
    ///
    /// `reference` is the data set's answer column, in the format that the verifier documents.
    fn verify(&self, response: &str, reference: &str) -> Verdict;

    /// Verdicts about `(response, reference)` pairs, in their order.
    ///
    /// Equal to calling [`verify`](Self::verify) on each; a verifier overrides it where starting
    /// up costs more than one verdict. [`verify_parallel`] spreads a batch over threads.
    fn verify_batch(&self, pairs: &[(&str, &str)]) -> Vec<Verdict> {
        pairs
            .iter()
            .map(|(response, reference)| self.verify(response, reference))
            .collect()
    }

    /// How many pairs [`verify`](Self::verify) may be asked about at the same time, each by itself, as answers come in.
    ///
    /// 0, the default, is for verifiers that want all pairs of a step at once, in order: where starting up costs more
    /// than a verdict, or calls depend on each other.
    fn parallelism(&self) -> usize {
        0
    }

    /// Whether `reference` can decide a response at all. Call it when a data set is loaded, or let
    /// [`check_references`] do so for a whole data set.
    ///
    /// # Errors
    /// The reason why every response to this reference would be unverifiable.
    fn check_reference(&self, reference: &str) -> Result<(), Unverifiable> {
        if reference.trim().is_empty() {
            Err(Unverifiable::EmptyReference)
        } else {
            Ok(())
        }
    }
}

impl<F, V> Verifier for F
where
    F: Fn(&str, &str) -> V + Send + Sync,
    V: Into<Verdict>,
{
    fn verify(&self, response: &str, reference: &str) -> Verdict {
        self(response, reference).into()
    }

    fn parallelism(&self) -> usize {
        1
    }
}

macro_rules! forward {
    ($($pointer:ty),*) => {$(
        impl Verifier for $pointer {
            fn verify(&self, response: &str, reference: &str) -> Verdict {
                (**self).verify(response, reference)
            }

            fn verify_batch(&self, pairs: &[(&str, &str)]) -> Vec<Verdict> {
                (**self).verify_batch(pairs)
            }

            fn parallelism(&self) -> usize {
                (**self).parallelism()
            }

            fn check_reference(&self, reference: &str) -> Result<(), Unverifiable> {
                (**self).check_reference(reference)
            }
        }
    )*};
}
forward!(Box<dyn Verifier>, Arc<dyn Verifier>, &dyn Verifier);

/// Verdicts about `(response, reference)` pairs, in their order, computed on `threads` threads.
///
/// Every pair has the verifier's own budget, so one expensive response cannot eat that of
/// another. A verifier that panics yields [`Fault::Panic`] for that pair alone. `threads` below 2
/// runs on the calling thread.
///
/// ```
/// use g2rpo_verify::{Gsm8k, verify_parallel};
///
/// let pairs = [("#### 72", "72"), ("#### 71", "72")];
/// let verdicts = verify_parallel(&Gsm8k::default(), &pairs, 2);
/// assert!(verdicts[0].is_correct() && !verdicts[1].is_correct());
/// ```
#[must_use]
pub fn verify_parallel(
    verifier: &(impl Verifier + ?Sized),
    pairs: &[(&str, &str)],
    threads: usize,
) -> Vec<Verdict> {
    let one = |&(response, reference): &(&str, &str)| judged(verifier, response, reference);
    let threads = threads.min(pairs.len());
    if threads < 2 {
        return pairs.iter().map(one).collect();
    }
    let next = AtomicUsize::new(0);
    let mut found: Vec<(usize, Verdict)> = std::thread::scope(|scope| {
        let work = || {
            let mut mine = Vec::new();
            loop {
                let i = next.fetch_add(1, Ordering::Relaxed);
                let Some(pair) = pairs.get(i) else {
                    return mine;
                };
                mine.push((i, one(pair)));
            }
        };
        let handles: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
        let mut all = work();
        for handle in handles {
            all.extend(handle.join().unwrap_or_default());
        }
        all
    });
    found.sort_unstable_by_key(|(i, _)| *i);
    found.into_iter().map(|(_, verdict)| verdict).collect()
}

/// The verdict; of a verifier that panics, a fault.
pub(crate) fn judged(
    verifier: &(impl Verifier + ?Sized),
    response: &str,
    reference: &str,
) -> Verdict {
    let verdict = catch_unwind(AssertUnwindSafe(|| verifier.verify(response, reference)));
    verdict.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
        Fault::Panic(text.unwrap_or_else(|| "no message".to_owned())).into()
    })
}

/// Which references of a data set cannot decide a response, and why.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct ReferenceReport {
    /// How many references were checked.
    pub total: usize,
    /// Row, counted from 0, and reason of each that cannot be verified.
    pub unverifiable: Vec<(usize, Unverifiable)>,
}

impl ReferenceReport {
    /// The share that cannot be verified, between 0 and 1; 0 for an empty data set.
    #[must_use]
    pub fn unverifiable_share(&self) -> f64 {
        if self.total == 0 {
            0.0
        } else {
            self.unverifiable.len() as f64 / self.total as f64
        }
    }
}

/// Checks every reference of a data set. Rows that are reported should be left out of training:
/// all their rewards would be masked.
///
/// ```
/// use g2rpo_verify::{Gsm8k, check_references};
///
/// let report = check_references(&Gsm8k::default(), ["72", "", "#### 1,000"]);
/// assert_eq!(report.unverifiable.len(), 1);
/// assert_eq!(report.unverifiable[0].0, 1);
/// ```
pub fn check_references<'a>(
    verifier: &(impl Verifier + ?Sized),
    references: impl IntoIterator<Item = &'a str>,
) -> ReferenceReport {
    let mut report = ReferenceReport {
        total: 0,
        unverifiable: Vec::new(),
    };
    for reference in references {
        if let Err(why) = verifier.check_reference(reference) {
            report.unverifiable.push((report.total, why));
        }
        report.total += 1;
    }
    report
}

/// A test double: answers with the verdicts it was given, in their order, whatever it is asked.
///
/// ```
/// use g2rpo_verify::{ScriptedVerifier, Verdict, Verifier};
///
/// let verifier = ScriptedVerifier::new([true, false].map(Verdict::from));
/// assert!(verifier.verify("anything", "at all").is_correct());
/// assert!(!verifier.verify("the same", "again").is_correct());
/// assert_eq!(verifier.seen()[1], ("the same".to_owned(), "again".to_owned()));
/// ```
#[derive(Debug, Default)]
pub struct ScriptedVerifier {
    state: Mutex<Script>,
}

#[derive(Debug, Default)]
struct Script {
    verdicts: VecDeque<Verdict>,
    seen: Vec<(String, String)>,
}

impl ScriptedVerifier {
    /// Answers with these verdicts; when they are used up, with [`Fault::ScriptExhausted`].
    pub fn new(verdicts: impl IntoIterator<Item = Verdict>) -> Self {
        Self {
            state: Mutex::new(Script {
                verdicts: verdicts.into_iter().collect(),
                seen: Vec::new(),
            }),
        }
    }

    /// The `(response, reference)` pairs it was asked about so far.
    #[must_use]
    pub fn seen(&self) -> Vec<(String, String)> {
        self.lock().seen.clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Script> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Verifier for ScriptedVerifier {
    fn verify(&self, response: &str, reference: &str) -> Verdict {
        let mut script = self.lock();
        script
            .seen
            .push((response.to_owned(), reference.to_owned()));
        script
            .verdicts
            .pop_front()
            .unwrap_or_else(|| Fault::ScriptExhausted.into())
    }

    fn check_reference(&self, _reference: &str) -> Result<(), Unverifiable> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verdict::Outcome;

    fn same(response: &str, reference: &str) -> bool {
        response == reference
    }

    #[test]
    fn functions_closures_and_pointers_are_verifiers() {
        fn ask(v: impl Verifier) -> bool {
            v.verify("a", "a").is_correct()
        }
        let boxed: Box<dyn Verifier> = Box::new(same);
        let borrowed: &dyn Verifier = &same;
        let shared: Arc<dyn Verifier> = Arc::new(|_: &str, _: &str| Verdict::correct());
        assert!(ask(same) && ask(borrowed) && ask(shared) && ask(boxed));
    }

    #[test]
    fn batches_keep_their_order_on_any_number_of_threads() {
        let texts: Vec<String> = (0..101).map(|i| (i % 3).to_string()).collect();
        let pairs: Vec<(&str, &str)> = texts.iter().map(|t| (t.as_str(), "1")).collect();
        let want = same.verify_batch(&pairs);
        for threads in [0, 1, 2, 7, 500] {
            assert_eq!(verify_parallel(&same, &pairs, threads), want);
        }
        assert!(verify_parallel(&same, &[], 4).is_empty());
    }

    #[test]
    fn a_panic_faults_its_own_pair_only() {
        let touchy = |response: &str, _: &str| {
            assert!(response != "bad", "cannot read {response}");
            true
        };
        for threads in [1, 2] {
            let got = verify_parallel(&touchy, &[("ok", ""), ("bad", ""), ("ok", "")], threads);
            assert!(got[0].is_correct() && got[2].is_correct());
            assert_eq!(
                got[1].outcome,
                Outcome::Fault(Fault::Panic("cannot read bad".to_owned()))
            );
        }
    }

    #[test]
    fn an_exhausted_script_is_masked() {
        assert_eq!(ScriptedVerifier::default().verify("", "").reward(), None);
    }

    #[test]
    fn blank_references_are_reported() {
        let report = check_references(&same, ["a", " \n", "b", ""]);
        assert_eq!(report.unverifiable_share(), 0.5);
        assert_eq!(check_references(&same, []).unverifiable_share(), 0.0);
    }
}
