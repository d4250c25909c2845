//! What a verifier says about a response, and why.

use std::fmt;
use std::ops::Range;
use std::time::Duration;

/// What a verifier says about one response.
///
/// ```
/// use g2rpo_verify::{Incorrect, Verdict};
///
/// assert_eq!(Verdict::correct().reward(), Some(1.0));
/// assert_eq!(Verdict::incorrect(Incorrect::NoAnswer).reward(), Some(0.0));
/// assert_eq!(Verdict::from(true), Verdict::correct());
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// The decision and its reason.
    pub outcome: Outcome,
    /// Bytes of the response that were graded, always on character boundaries; absent when nothing
    /// was found to grade or the verifier does not look at a part.
    pub span: Option<Range<usize>>,
}

/// The decision of a [`Verdict`].
///
/// Exhaustive on purpose: whoever trains on verdicts must say what happens to each kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The response is right: reward 1.
    Correct,
    /// The response is wrong, or does not say what was asked: reward 0.
    Incorrect(Incorrect),
    /// The reference cannot decide it. The sample is masked, never paid.
    Unverifiable(Unverifiable),
    /// The machinery failed, which says nothing about the response. Masked, never paid.
    Fault(Fault),
}

/// Why a response is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Incorrect {
    /// No part of the response is an answer under the extraction policy.
    #[error("no answer found")]
    NoAnswer,
    /// The place of the answer is empty: `\boxed{}`, `####` and nothing.
    #[error("the answer is empty")]
    EmptyAnswer,
    /// A box was opened and never closed, as where a length limit cuts it; there is no other answer.
    #[error("the box is not closed")]
    UnclosedBox,
    /// The reasoning was opened and never closed, so there is no answer yet.
    #[error("the reasoning is not closed")]
    UnclosedReasoning,
    /// The answer was read and has another value.
    #[error("another value")]
    Different,
    /// The answer is not written in a form that the verifier reads.
    #[error("the answer cannot be read")]
    Unreadable,
    /// The answer offers several values where the reference has one.
    #[error("several answers where one is wanted")]
    SeveralAnswers,
    /// The answer contradicts itself, such as `4 = 5`.
    #[error("the answer contradicts itself")]
    Contradiction,
    /// Both sides have a unit, and the units do not convert into each other.
    #[error("another unit")]
    Unit,
    /// Reading or comparing the answer would cost more than one verdict may.
    #[error("the answer is too complex")]
    TooComplex,
    /// The answer could be neither proven equal nor told apart.
    #[error("equality could not be decided")]
    Undecided,
    /// A calculator mark `<<expression=value>>` is malformed or its value is not that of its
    /// expression. Marks are counted from 0.
    #[error("calculator mark {index} is wrong")]
    CalculatorMark {
        /// Which mark of the response.
        index: usize,
    },
    /// Calculator marks were asked for, and there is none.
    #[error("no calculator mark")]
    NoCalculatorMark,
    /// The code returned or printed something else. Tests are counted from 0.
    #[error("test {index} failed")]
    FailedTest {
        /// The first test that failed.
        index: usize,
    },
    /// The code did not define what the tests call.
    #[error("the tested function {name} is not defined")]
    MissingFunction {
        /// The name that the tests call.
        name: String,
    },
    /// The code raised an error or died.
    #[error("{}: {error}", during("crashed", *index))]
    Crashed {
        /// The test that was running; absent when loading the code failed.
        index: Option<usize>,
        /// The exception's class and text on one line of at most a few hundred characters, or the exit status
        /// or signal. Written by the code under test: for people to read, not to decide by.
        error: String,
    },
    /// The code ran out of time.
    #[error("{}", during("out of time", *index))]
    Timeout {
        /// The test that was running; absent when loading the code took too long.
        index: Option<usize>,
    },
    /// The code used more memory than it may.
    #[error("{}", during("out of memory", *index))]
    MemoryLimit {
        /// The test that was running; absent while the code was loaded.
        index: Option<usize>,
    },
    /// The code printed more than it may.
    #[error("{}", during("too much output", *index))]
    OutputLimit {
        /// The test that was running; absent while the code was loaded.
        index: Option<usize>,
    },
    /// The result channel held something other than one well-formed frame for each test.
    #[error("malformed result frame at test {index}")]
    ForgedFrame {
        /// The test whose frame was expected.
        index: usize,
    },
    /// A rule of the caller's own verifier, in its words.
    #[error("{0}")]
    Other(&'static str),
}

/// Why a reference cannot decide a response.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unverifiable {
    /// The reference is empty or blank.
    #[error("the reference is empty")]
    EmptyReference,
    /// The reference is not written in a form that the verifier reads.
    #[error("the reference cannot be read")]
    UnreadableReference,
    /// The reference holds several values where the verifier compares one.
    #[error("the reference holds several values")]
    AmbiguousReference,
    /// Reading the reference costs more than one verdict may.
    #[error("the reference is too complex")]
    ReferenceTooComplex,
    /// The reference holds no tests.
    #[error("the reference holds no tests")]
    NoTests,
    /// The reference is read, and its tests cannot be run, for this reason.
    #[error("the tests of the reference cannot be run: {0}")]
    Tests(String),
    /// The reference could be neither proven equal to itself nor told apart.
    #[error("the reference cannot be compared even with itself")]
    Undecidable,
    /// A rule of the caller's own verifier, in its words.
    #[error("{0}")]
    Other(&'static str),
}

/// What failed while a response was being judged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// The sandbox could not be set up or did not answer. The message says what to do.
    #[error("sandbox: {0}")]
    Sandbox(String),
    /// A remote executor did not answer.
    #[error("remote executor: {0}")]
    Remote(String),
    /// The verifier panicked; the message is that of the panic.
    #[error("the verifier panicked: {0}")]
    Panic(String),
    /// There was no verdict within this time, so that a batch may end.
    #[error("no verdict within {0:?}")]
    Hung(Duration),
    /// A scripted verifier was asked more often than its script is long.
    #[error("the script of verdicts is exhausted")]
    ScriptExhausted,
}

impl Verdict {
    /// A right answer.
    #[must_use]
    pub const fn correct() -> Self {
        Self {
            outcome: Outcome::Correct,
            span: None,
        }
    }

    /// A wrong answer.
    #[must_use]
    pub const fn incorrect(why: Incorrect) -> Self {
        Self {
            outcome: Outcome::Incorrect(why),
            span: None,
        }
    }

    /// A reference that cannot decide.
    #[must_use]
    pub const fn unverifiable(why: Unverifiable) -> Self {
        Self {
            outcome: Outcome::Unverifiable(why),
            span: None,
        }
    }

    /// A failure of the machinery.
    #[must_use]
    pub const fn fault(why: Fault) -> Self {
        Self {
            outcome: Outcome::Fault(why),
            span: None,
        }
    }

    /// The same verdict about the given bytes of the response.
    #[must_use]
    pub fn at(mut self, span: Range<usize>) -> Self {
        self.span = Some(span);
        self
    }

    /// 1 for a right answer, 0 for a wrong one, nothing where the sample must be masked.
    #[must_use]
    pub const fn reward(&self) -> Option<f64> {
        match self.outcome {
            Outcome::Correct => Some(1.0),
            Outcome::Incorrect(_) => Some(0.0),
            Outcome::Unverifiable(_) | Outcome::Fault(_) => None,
        }
    }

    /// Whether the answer is right.
    #[must_use]
    pub const fn is_correct(&self) -> bool {
        matches!(self.outcome, Outcome::Correct)
    }
}

impl From<bool> for Verdict {
    /// `false` becomes [`Incorrect::Different`].
    fn from(correct: bool) -> Self {
        if correct {
            Self::correct()
        } else {
            Self::incorrect(Incorrect::Different)
        }
    }
}

impl From<Incorrect> for Verdict {
    fn from(why: Incorrect) -> Self {
        Self::incorrect(why)
    }
}

impl From<Unverifiable> for Verdict {
    fn from(why: Unverifiable) -> Self {
        Self::unverifiable(why)
    }
}

impl From<Fault> for Verdict {
    fn from(why: Fault) -> Self {
        Self::fault(why)
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.outcome {
            Outcome::Correct => write!(f, "correct"),
            Outcome::Incorrect(why) => write!(f, "incorrect: {why}"),
            Outcome::Unverifiable(why) => write!(f, "unverifiable: {why}"),
            Outcome::Fault(why) => write!(f, "fault: {why}"),
        }
    }
}

/// What went wrong, and where: in a test, counted from 0, or before the first.
fn during(what: &str, index: Option<usize>) -> String {
    match index {
        Some(i) => format!("{what} in test {i}"),
        None => format!("{what} while loading the code"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_right_answer_is_paid() {
        assert_eq!(Verdict::correct().reward(), Some(1.0));
        assert_eq!(Verdict::from(Incorrect::Different).reward(), Some(0.0));
        assert_eq!(Verdict::from(Unverifiable::NoTests).reward(), None);
        assert_eq!(Verdict::from(Fault::ScriptExhausted).reward(), None);
    }

    #[test]
    fn every_verdict_says_why() {
        let text = Verdict::from(Incorrect::Timeout { index: Some(3) }).to_string();
        assert_eq!(text, "incorrect: out of time in test 3");
        let text = Verdict::from(Unverifiable::EmptyReference).to_string();
        assert_eq!(text, "unverifiable: the reference is empty");
    }
}
