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
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Incorrect {
    /// No part of the response is an answer under the extraction policy.
    NoAnswer,
    /// The place of the answer is empty: `\boxed{}`, `####` and nothing.
    EmptyAnswer,
    /// A box was opened and never closed, as where a length limit cuts it; there is no other answer.
    UnclosedBox,
    /// The reasoning was opened and never closed, so there is no answer yet.
    UnclosedReasoning,
    /// The answer was read and has another value.
    Different,
    /// The answer is not written in a form that the verifier reads.
    Unreadable,
    /// The answer offers several values where the reference has one.
    SeveralAnswers,
    /// The answer contradicts itself, such as `4 = 5`.
    Contradiction,
    /// Both sides have a unit, and the units do not convert into each other.
    Unit,
    /// Reading or comparing the answer would cost more than one verdict may.
    TooComplex,
    /// The answer could be neither proven equal nor told apart.
    Undecided,
    /// A calculator mark `<<expression=value>>` is malformed or its value is not that of its
    /// expression. Marks are counted from 0.
    CalculatorMark {
        /// Which mark of the response.
        index: usize,
    },
    /// Calculator marks were asked for, and there is none.
    NoCalculatorMark,
    /// The code returned or printed something else. Tests are counted from 0.
    FailedTest {
        /// The first test that failed.
        index: usize,
    },
    /// The code did not define what the tests call.
    MissingFunction {
        /// The name that the tests call.
        name: String,
    },
    /// The code raised an error or died.
    Crashed {
        /// The test that was running; absent when loading the code failed.
        index: Option<usize>,
        /// The exception's class and text on one line of at most a few hundred characters, or the exit status
        /// or signal. Written by the code under test: for people to read, not to decide by.
        error: String,
    },
    /// The code ran out of time.
    Timeout {
        /// The test that was running; absent when loading the code took too long.
        index: Option<usize>,
    },
    /// The code used more memory than it may.
    MemoryLimit {
        /// The test that was running; absent while the code was loaded.
        index: Option<usize>,
    },
    /// The code printed more than it may.
    OutputLimit {
        /// The test that was running; absent while the code was loaded.
        index: Option<usize>,
    },
    /// The result channel held something other than one well-formed frame for each test.
    ForgedFrame {
        /// The test whose frame was expected.
        index: usize,
    },
    /// A rule of the caller's own verifier, in its words.
    Other(&'static str),
}

/// Why a reference cannot decide a response.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unverifiable {
    /// The reference is empty or blank.
    EmptyReference,
    /// The reference is not written in a form that the verifier reads.
    UnreadableReference,
    /// The reference holds several values where the verifier compares one.
    AmbiguousReference,
    /// Reading the reference costs more than one verdict may.
    ReferenceTooComplex,
    /// The reference holds no tests.
    NoTests,
    /// The reference is read, and its tests cannot be run, for this reason.
    Tests(String),
    /// The reference could be neither proven equal to itself nor told apart.
    Undecidable,
    /// A rule of the caller's own verifier, in its words.
    Other(&'static str),
}

/// What failed while a response was being judged.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// The sandbox could not be set up or did not answer. The message says what to do.
    Sandbox(String),
    /// A remote executor did not answer.
    Remote(String),
    /// The verifier panicked; the message is that of the panic.
    Panic(String),
    /// There was no verdict within this time, so that a batch may end.
    Hung(Duration),
    /// A scripted verifier was asked more often than its script is long.
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

impl fmt::Display for Incorrect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let during = |f: &mut fmt::Formatter<'_>, what: &str, index: &Option<usize>| match index {
            Some(i) => write!(f, "{what} in test {i}"),
            None => write!(f, "{what} while loading the code"),
        };
        match self {
            Self::NoAnswer => write!(f, "no answer found"),
            Self::EmptyAnswer => write!(f, "the answer is empty"),
            Self::UnclosedBox => write!(f, "the box is not closed"),
            Self::UnclosedReasoning => write!(f, "the reasoning is not closed"),
            Self::Different => write!(f, "another value"),
            Self::Unreadable => write!(f, "the answer cannot be read"),
            Self::SeveralAnswers => write!(f, "several answers where one is wanted"),
            Self::Contradiction => write!(f, "the answer contradicts itself"),
            Self::Unit => write!(f, "another unit"),
            Self::TooComplex => write!(f, "the answer is too complex"),
            Self::Undecided => write!(f, "equality could not be decided"),
            Self::CalculatorMark { index } => write!(f, "calculator mark {index} is wrong"),
            Self::NoCalculatorMark => write!(f, "no calculator mark"),
            Self::FailedTest { index } => write!(f, "test {index} failed"),
            Self::MissingFunction { name } => {
                write!(f, "the tested function {name} is not defined")
            }
            Self::Crashed { index, error } => {
                during(f, "crashed", index)?;
                write!(f, ": {error}")
            }
            Self::Timeout { index } => during(f, "out of time", index),
            Self::MemoryLimit { index } => during(f, "out of memory", index),
            Self::OutputLimit { index } => during(f, "too much output", index),
            Self::ForgedFrame { index } => write!(f, "malformed result frame at test {index}"),
            Self::Other(why) => f.write_str(why),
        }
    }
}

impl fmt::Display for Unverifiable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::EmptyReference => "the reference is empty",
            Self::UnreadableReference => "the reference cannot be read",
            Self::AmbiguousReference => "the reference holds several values",
            Self::ReferenceTooComplex => "the reference is too complex",
            Self::NoTests => "the reference holds no tests",
            Self::Tests(why) => {
                return write!(f, "the tests of the reference cannot be run: {why}");
            }
            Self::Undecidable => "the reference cannot be compared even with itself",
            Self::Other(why) => why,
        })
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sandbox(why) => write!(f, "sandbox: {why}"),
            Self::Remote(why) => write!(f, "remote executor: {why}"),
            Self::Panic(why) => write!(f, "the verifier panicked: {why}"),
            Self::Hung(limit) => write!(f, "no verdict within {limit:?}"),
            Self::ScriptExhausted => write!(f, "the script of verdicts is exhausted"),
        }
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
