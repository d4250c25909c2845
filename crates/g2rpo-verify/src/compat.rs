//! Two bugs of a published reward function, for runs that are compared with it.

use crate::math::MathVerifier;
use crate::verdict::{Incorrect, Outcome, Unverifiable, Verdict};
use crate::verifier::Verifier;

/// **Not for training.** Reproduces two bugs of the reference code of G²RPO-A (repository
/// T-Lab-CUHKSZ/G2RPO-A, commit 0d98af8, `accuracy_reward`), so that a run can be compared with it:
///
/// * a reference that cannot be read is *paid* with reward 1 instead of being masked;
/// * the arguments of Math-Verify are exchanged, so its one-sided rules apply to the wrong side: an
///   equation as reference counts as its right-hand side, and a pair of coordinates as reference
///   matches a list in any order; an inequality as reference is not matched by an interval.
///
/// Everything else is judged by the [`MathVerifier`] inside.
#[derive(Debug, Clone, Default)]
pub struct ReferenceCodeBugsPaidAndSwapped {
    /// Judges what the two bugs leave alone.
    pub inner: MathVerifier,
}

impl Verifier for ReferenceCodeBugsPaidAndSwapped {
    fn verify(&self, response: &str, reference: &str) -> Verdict {
        let verdict = self.inner.verify(response, reference);
        let answer = verdict.span.clone().and_then(|span| response.get(span));
        match (&verdict.outcome, answer) {
            (Outcome::Unverifiable(_), _) => Verdict {
                outcome: Outcome::Correct,
                ..verdict
            },
            (
                Outcome::Incorrect(Incorrect::Different | Incorrect::SeveralAnswers),
                Some(answer),
            ) if self.paid_when_swapped(reference, answer) => Verdict {
                outcome: Outcome::Correct,
                ..verdict
            },
            (Outcome::Correct, Some(answer)) if lost_when_swapped(reference, answer) => Verdict {
                outcome: Outcome::Incorrect(Incorrect::Different),
                ..verdict
            },
            _ => verdict,
        }
    }

    fn parallelism(&self) -> usize {
        self.inner.parallelism()
    }

    fn check_reference(&self, _reference: &str) -> Result<(), Unverifiable> {
        Ok(())
    }
}

impl ReferenceCodeBugsPaidAndSwapped {
    fn paid_when_swapped(&self, reference: &str, answer: &str) -> bool {
        let same = |a: &str, b: &str| self.inner.compare(a, b).is_ok();
        if !is_order(reference)
            && !is_order(answer)
            && !answer.contains('=')
            && let Some((_, right)) = reference.rsplit_once('=')
        {
            return same(right.trim(), answer);
        }
        let pair = reference
            .trim()
            .strip_prefix('(')
            .and_then(|r| r.strip_suffix(')'));
        pair.is_some_and(|items| !answer.contains(['(', '[', '{']) && same(items, answer))
    }
}

/// An interval is not found equal to an inequality that it is compared with as the "gold".
fn lost_when_swapped(reference: &str, answer: &str) -> bool {
    is_order(reference) && !is_order(answer) && answer.trim_start().starts_with(['(', '[', '\\'])
}

fn is_order(text: &str) -> bool {
    ["<", ">", "\\le", "\\ge", "≤", "≥"]
        .iter()
        .any(|sign| text.replace("\\left", "").contains(sign))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paid(response: &str, reference: &str) -> bool {
        ReferenceCodeBugsPaidAndSwapped::default()
            .verify(response, reference)
            .is_correct()
    }

    #[test]
    fn the_two_bugs_are_there_and_only_here() {
        let sound = MathVerifier::default();
        for (reference, answer) in [
            ("", "5"),
            ("\\sum_k k", "5"),
            ("x^2+y^2=1", "1"),
            ("(1,2)", "2,1"),
        ] {
            let response = format!("\\boxed{{{answer}}}");
            assert!(paid(&response, reference), "{reference} {answer}");
            assert_ne!(
                sound.verify(&response, reference).reward(),
                Some(1.0),
                "{reference}"
            );
        }
        assert!(!paid("\\boxed{(2,\\infty)}", "x>2"));
        assert!(sound.verify("\\boxed{(2,\\infty)}", "x>2").is_correct());
    }

    #[test]
    fn ordinary_answers_are_judged_as_usual() {
        assert!(paid("\\boxed{0.5}", "\\frac12"));
        assert!(!paid("\\boxed{6}", "5"));
        assert!(!paid("no answer", "5"));
    }
}
