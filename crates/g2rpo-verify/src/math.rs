//! Mathematical answers: found in a response, and compared by g2rpo-math.

use g2rpo_math::{
    Comparison, DEFAULT_BUDGET, Mismatch, Policy, ReferenceError, check_reference, compare_with,
};

use crate::choice::{letter_of_answer, letter_of_gold};
use crate::extract::{Extraction, Found, is_modifier, word_at};
use crate::numeral;
use crate::verdict::{Incorrect, Unverifiable, Verdict};
use crate::verifier::Verifier;

/// Mathematical answers, in LaTeX or plain text.
///
/// The answer is found by an [`Extraction`] policy, read by a parser that must understand all of
/// it, and compared exactly by [`g2rpo_math`]: rationals, residues modulo primes, numbers with error bounds.
/// Nothing is evaluated as code, no clock is read, no thread is started, and the same input always has the
/// same verdict. A verdict has a budget of counted work; what exceeds it is wrong, not masked.
///
/// The reference is the answer alone (`\frac{1}{2}`), or a text with a `\boxed{…}` or `####`.
///
/// ```
/// use g2rpo_verify::{MathVerifier, Verifier};
///
/// let math = MathVerifier::default();
/// assert!(math.verify("So it is $\\boxed{0.5}$.", "\\frac{1}{2}").is_correct());
/// assert!(math.verify("\\boxed{(x+1)^2}", "x^2+2x+1").is_correct());
/// assert!(!math.verify("\\boxed{5 \\text{ or } 6}", "5").is_correct());
/// assert_eq!(math.verify("\\boxed{5}", " ").reward(), None);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MathVerifier {
    /// Where the answer is looked for.
    pub extraction: Extraction,
    /// What counts as the same answer.
    pub policy: Policy,
    /// Work that one verdict may cost. The default, 20,000 units, is a few milliseconds at most.
    pub fuel: u64,
}

impl Default for MathVerifier {
    fn default() -> Self {
        Self {
            extraction: Extraction::default(),
            policy: Policy::default(),
            fuel: DEFAULT_BUDGET,
        }
    }
}

impl MathVerifier {
    /// The preset for MATH (Hendrycks et al. 2021, arXiv 2103.03874): a box or nothing.
    #[must_use]
    pub fn math() -> Self {
        Self {
            extraction: Extraction::strict(),
            ..Self::default()
        }
    }

    /// Compares two answers that are already extracted.
    ///
    /// # Errors
    /// Why they are not the same. Reasons about the reference are reported as if they were the
    /// answer's; [`Verifier::check_reference`] tells them apart.
    pub fn compare(&self, reference: &str, answer: &str) -> Result<(), Incorrect> {
        match self.comparison(reference, answer) {
            Comparison::Equal => Ok(()),
            Comparison::Unequal(why) => Err(why.into()),
            Comparison::NoReference(ReferenceError::TooComplex) => Err(Incorrect::TooComplex),
            Comparison::NoReference(_) => Err(Incorrect::Unreadable),
        }
    }

    /// An option is chosen by its letter, whatever text stands beside it; all else is compared.
    fn comparison(&self, reference: &str, answer: &str) -> Comparison {
        if let Some(letter) = letter_of_gold(reference)
            && let Some(found) = letter_of_answer(answer)
        {
            return if found == letter {
                Comparison::Equal
            } else {
                Comparison::Unequal(Mismatch::Different)
            };
        }
        let compared = compare_with(answer, reference, self.policy, self.fuel);
        match compared {
            Comparison::Equal if self.is_changed(reference, answer) => {
                Comparison::Unequal(Mismatch::Different)
            }
            Comparison::Unequal(_) => match numeral::from_words(text_of(answer)) {
                Some(numeral) => self.comparison(reference, &numeral),
                None => compared,
            },
            _ => compared,
        }
    }

    /// Whether an answer equals the reference only without a word that changes its value: `5 squared` for 5.
    fn is_changed(&self, reference: &str, answer: &str) -> bool {
        let mut at = 0;
        while let Some(next) = answer[at..].find(char::is_alphabetic) {
            at += next;
            let word = word_at(&answer[at..]);
            let is_command = answer[..at].ends_with('\\');
            if is_modifier(word) && !is_command {
                let folded = reference.to_ascii_lowercase();
                let head = answer[..at].trim_end().trim_end_matches("\\text{");
                let head =
                    head.trim_end_matches(|c: char| c.is_whitespace() || "(,-~\\".contains(c));
                return !folded.contains(&word.to_ascii_lowercase())
                    && compare_with(head, reference, self.policy, self.fuel).is_equal();
            }
            at += word.len();
        }
        false
    }

    /// The answer within a reference; blank where a mark stands before nothing.
    fn gold(reference: &str) -> &str {
        let bare = reference.trim();
        if bare.contains("\\boxed") || bare.contains("\\fbox") {
            let span = Extraction::strict().find(bare);
            span.map_or("", |span| &bare[span])
        } else if let Some(at) = bare.rfind("####") {
            bare[at + 4..].trim()
        } else {
            bare
        }
    }
}

/// What a text command around all of an answer holds.
fn text_of(answer: &str) -> &str {
    let inner = answer
        .strip_prefix("\\text{")
        .and_then(|text| text.strip_suffix('}'));
    inner.unwrap_or(answer)
}

/// Whether prose states a number and another in brackets: `8 (9)`, which a formula multiplies.
fn is_bracketed_twice(found: &Found<'_>) -> bool {
    let is_number = |text: &str| {
        let digits = text.trim_start_matches(['$', '-', '+', '−']);
        !digits.is_empty()
            && digits
                .bytes()
                .all(|b| b.is_ascii_digit() || matches!(b, b',' | b'.'))
    };
    let parts = found
        .answer
        .strip_suffix(')')
        .and_then(|a| a.split_once('('));
    found.is_stated
        && parts.is_some_and(|(head, inner)| {
            head.ends_with(char::is_whitespace)
                && is_number(head.trim_end())
                && is_number(inner.trim())
        })
}

impl From<Mismatch> for Incorrect {
    fn from(why: Mismatch) -> Self {
        match why {
            Mismatch::SeveralAnswers => Self::SeveralAnswers,
            Mismatch::Contradiction => Self::Contradiction,
            Mismatch::Unit => Self::Unit,
            Mismatch::Unreadable => Self::Unreadable,
            Mismatch::TooComplex => Self::TooComplex,
            Mismatch::Undecided => Self::Undecided,
            _ => Self::Different,
        }
    }
}

impl From<ReferenceError> for Unverifiable {
    fn from(why: ReferenceError) -> Self {
        match why {
            ReferenceError::Empty => Self::EmptyReference,
            ReferenceError::TooComplex => Self::ReferenceTooComplex,
            _ => Self::UnreadableReference,
        }
    }
}

impl Verifier for MathVerifier {
    fn verify(&self, response: &str, reference: &str) -> Verdict {
        let reference = Self::gold(reference);
        let found = match self.extraction.answer(response) {
            Ok(found) => found,
            Err(why) => {
                return match check_reference(reference, self.fuel) {
                    Err(none @ ReferenceError::Empty) => Unverifiable::from(none).into(),
                    _ => why.into(),
                };
            }
        };
        // In prose brackets behind a number are a second one: "8 (9)".
        let mut comparison = match is_bracketed_twice(&found) {
            true => Comparison::Unequal(Mismatch::SeveralAnswers),
            false => self.comparison(reference, &found.answer),
        };
        // "The answer is 5!" is 5, said loudly, or a factorial: prose does not tell.
        if comparison == Comparison::Unequal(Mismatch::Different)
            && found.ends_in_exclamation(response)
        {
            let factorial = self.comparison(reference, &format!("{}!", found.answer));
            if factorial.is_equal() {
                comparison = factorial;
            }
        }
        let verdict = match comparison {
            Comparison::Equal => Verdict::correct(),
            Comparison::Unequal(why) => Incorrect::from(why).into(),
            Comparison::NoReference(why) => Unverifiable::from(why).into(),
        };
        verdict.at(found.span)
    }

    fn parallelism(&self) -> usize {
        1
    }

    fn check_reference(&self, reference: &str) -> Result<(), Unverifiable> {
        let gold = Self::gold(reference);
        check_reference(gold, self.fuel)?;
        // What does not compare with itself would refuse every response.
        match compare_with(gold, gold, self.policy, self.fuel) {
            Comparison::Equal => Ok(()),
            Comparison::NoReference(why) => Err(why.into()),
            Comparison::Unequal(Mismatch::TooComplex) => Err(Unverifiable::ReferenceTooComplex),
            Comparison::Unequal(_) => Err(Unverifiable::Undecidable),
        }
    }
}
