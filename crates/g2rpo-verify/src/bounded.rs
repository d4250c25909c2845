//! A verifier whose batches end in time, whatever the verifier inside does.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use crate::verdict::{Fault, Unverifiable, Verdict};
use crate::verifier::{Verifier, judged};

/// Judges a batch within a wall-clock time: what has no verdict by then is a [`Fault::Hung`], and a panic is a
/// [`Fault::Panic`] of one pair. Both are masked, and a training loop counts them.
///
/// For verifiers of one's own that may hang or panic, such as those that ask a service. The verifiers of this crate
/// are bounded by themselves; around them it bounds the sum. A response must not be able to make a verifier hang, or
/// it can have itself masked: the time is for the machinery, so choose it several times what a batch takes.
///
/// A thread that hangs cannot be ended and stays until the process ends; those that are left work for no later batch.
///
/// ```
/// use std::time::Duration;
/// use g2rpo_verify::{Bounded, Verifier};
///
/// let slow = |response: &str, reference: &str| {
///     if response == "hang" {
///         std::thread::sleep(Duration::from_secs(1000));
///     }
///     response == reference
/// };
/// let bounded = Bounded::new(slow, Duration::from_millis(200), 2);
/// let verdicts = bounded.verify_batch(&[("5", "5"), ("hang", "5"), ("6", "5")]);
/// let rewards: Vec<_> = verdicts.iter().map(|verdict| verdict.reward()).collect();
/// assert_eq!(rewards, [Some(1.0), None, Some(0.0)]);
/// ```
#[derive(Clone)]
pub struct Bounded {
    inner: Arc<dyn Verifier>,
    limit: Duration,
    threads: usize,
}

impl Bounded {
    /// Bounds each batch to `limit`, judged on `threads` threads, of which there is at least one.
    #[must_use]
    pub fn new(inner: impl Verifier + 'static, limit: Duration, threads: usize) -> Self {
        Self {
            inner: Arc::new(inner),
            limit,
            threads: threads.max(1),
        }
    }
}

impl std::fmt::Debug for Bounded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bounded")
            .field("limit", &self.limit)
            .field("threads", &self.threads)
            .finish_non_exhaustive()
    }
}

impl Verifier for Bounded {
    fn verify(&self, response: &str, reference: &str) -> Verdict {
        let mut verdicts = self.verify_batch(&[(response, reference)]);
        verdicts
            .pop()
            .unwrap_or_else(|| Fault::Hung(self.limit).into())
    }

    fn verify_batch(&self, pairs: &[(&str, &str)]) -> Vec<Verdict> {
        let end = Instant::now() + self.limit;
        // Owned, as a thread that hangs outlives this call.
        let owned: Arc<[(String, String)]> = pairs
            .iter()
            .map(|&(response, reference)| (response.to_owned(), reference.to_owned()))
            .collect();
        let next = Arc::new(AtomicUsize::new(0));
        let (sender, receiver) = mpsc::channel();
        for _ in 0..self.threads.min(pairs.len()) {
            let (pairs, next, sender) = (owned.clone(), next.clone(), sender.clone());
            let verifier = self.inner.clone();
            std::thread::spawn(move || {
                while Instant::now() < end
                    && let i = next.fetch_add(1, Ordering::Relaxed)
                    && let Some((response, reference)) = pairs.get(i)
                {
                    let verdict = judged(&*verifier, response, reference);
                    if sender.send((i, verdict)).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        let mut verdicts = vec![Verdict::fault(Fault::Hung(self.limit)); pairs.len()];
        while let Ok((i, verdict)) =
            receiver.recv_timeout(end.saturating_duration_since(Instant::now()))
        {
            verdicts[i] = verdict;
        }
        verdicts
    }

    /// Each answer that is judged by itself has the limit for itself.
    fn parallelism(&self) -> usize {
        self.threads
    }

    fn check_reference(&self, reference: &str) -> Result<(), Unverifiable> {
        self.inner.check_reference(reference)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verdict::Outcome;

    #[test]
    fn a_panic_and_a_hang_are_faults_of_one_pair_each() {
        let verifier = |response: &str, reference: &str| {
            match response {
                "panic" => panic!("broken"),
                "hang" => std::thread::sleep(Duration::from_secs(600)),
                _ => {}
            }
            response == reference
        };
        let bounded = Bounded::new(verifier, Duration::from_secs(4), 2);
        let began = Instant::now();
        let verdicts =
            bounded.verify_batch(&[("1", "1"), ("panic", "1"), ("hang", "1"), ("2", "1")]);
        assert!(began.elapsed() < Duration::from_secs(30));
        assert!(verdicts[0].is_correct() && verdicts[3].reward() == Some(0.0));
        assert_eq!(
            verdicts[1].outcome,
            Outcome::Fault(Fault::Panic("broken".to_owned()))
        );
        let hung = Fault::Hung(Duration::from_secs(4));
        assert_eq!(verdicts[2].outcome, Outcome::Fault(hung));
    }

    #[test]
    fn nothing_to_judge_takes_no_time() {
        let bounded = Bounded::new(|_: &str, _: &str| true, Duration::from_secs(600), 0);
        assert_eq!(bounded.verify_batch(&[]), []);
        assert!(bounded.verify("", "").is_correct());
    }
}
