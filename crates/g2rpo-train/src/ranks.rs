//! Verdicts on which all ranks of a run agree.

use std::sync::Arc;

use g2rpo_rollout::ranks::{Collective, fingerprint, share};
use g2rpo_verify::{Fault, Incorrect, Outcome, Unverifiable, Verdict, Verifier};

/// Lets every rank verify every answer, and takes the word of one rank where they differ.
///
/// Most verifiers always say the same, and cost little beside sampling. One that runs code under a time limit may
/// not; then the rank that the answer is dealt to is right, so that all ranks pay, plan and learn alike. When the
/// ranks cannot speak to each other, all verdicts are faults, and the next call of the engine or the learner
/// returns the error. It stands around all other wrappers: every rank must make its calls in the same order.
#[derive(Debug)]
pub struct RankedVerifier<V> {
    verifier: V,
    ranks: Arc<dyn Collective>,
}

impl<V> RankedVerifier<V> {
    /// A verifier that every rank has.
    pub fn new(verifier: V, ranks: Arc<dyn Collective>) -> Self {
        Self { verifier, ranks }
    }
}

impl<V: Verifier> Verifier for RankedVerifier<V> {
    fn verify(&self, response: &str, reference: &str) -> Verdict {
        if self.ranks.size() == 1 {
            return self.verifier.verify(response, reference);
        }
        self.verify_batch(&[(response, reference)])
            .pop()
            .unwrap_or_else(|| Fault::ScriptExhausted.into())
    }

    fn verify_batch(&self, pairs: &[(&str, &str)]) -> Vec<Verdict> {
        let own = self.verifier.verify_batch(pairs);
        let classes = own.iter().map(|verdict| class(&verdict.outcome)).collect();
        let shared = share(&*self.ranks, "verdicts", fingerprint(pairs), Ok(classes));
        let shared = match shared {
            Ok(shared) => shared,
            Err(error) => {
                let fault = || Fault::Remote(error.to_string()).into();
                return pairs.iter().map(|_| fault()).collect();
            }
        };
        let agreed = |(i, verdict): (usize, Verdict)| {
            let right = shared[i % shared.len()].get(i).copied();
            if right == Some(class(&verdict.outcome)) {
                verdict
            } else {
                of_class(right)
            }
        };
        own.into_iter().enumerate().map(agreed).collect()
    }

    /// All ranks must ask about the same answers in the same order.
    fn parallelism(&self) -> usize {
        match self.ranks.size() {
            1 => self.verifier.parallelism(),
            _ => 0,
        }
    }

    fn check_reference(&self, reference: &str) -> Result<(), Unverifiable> {
        self.verifier.check_reference(reference)
    }
}

/// What a verdict means for training, as a number.
fn class(outcome: &Outcome) -> f64 {
    match outcome {
        Outcome::Correct => 0.0,
        Outcome::Incorrect(_) => 1.0,
        Outcome::Unverifiable(_) => 2.0,
        Outcome::Fault(_) => 3.0,
    }
}

/// A verdict of another rank, whose reason is known there.
fn of_class(class: Option<f64>) -> Verdict {
    const WHY: &str = "another rank says so";
    match class {
        Some(0.0) => Verdict::correct(),
        Some(1.0) => Incorrect::Other(WHY).into(),
        Some(2.0) => Unverifiable::Other(WHY).into(),
        _ => Fault::Remote(WHY.into()).into(),
    }
}
