use super::compare::{Comparer, Policy};
use super::fold::{fold, text_key, unwrap};
use super::form::Form;
use super::fuel::{Fuel, Stop};
use super::parse::{Commas, MAX_BYTES, parse};
use crate::{Extraction, Incorrect, Unverifiable, Verdict, Verifier, choice};

/// Mathematical answers, in LaTeX or plain text.
///
/// The answer is found by an [`Extraction`] policy, read by a parser that must understand all of
/// it, and compared exactly: rationals, residues modulo primes, numbers with error bounds. Nothing
/// is evaluated as code, no clock is read, no thread is started, and the same input always has the
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
            fuel: 20_000,
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
        let mut fuel = Fuel::new(self.fuel);
        let gold = parse(reference, Commas::Thousands, &mut fuel)?;
        self.same(reference, &gold, answer, &mut fuel)
    }

    fn same(
        &self,
        reference: &str,
        gold: &Form,
        answer: &str,
        fuel: &mut Fuel,
    ) -> Result<(), Incorrect> {
        if let Some(letter) = choice::letter_of_gold(reference) {
            match choice::letter_of_answer(answer) {
                Some(found) if found == letter => return Ok(()),
                Some(_) => return Err(Incorrect::Different),
                None => {}
            }
        }
        let read = parse(answer, Commas::Thousands, fuel)?;
        let policy = self.policy;
        let compare = |gold: &Form, answer: &Form, fuel: &mut Fuel| {
            Comparer { policy, fuel }.answers(gold, answer)
        };
        let verdict = compare(gold, &read, fuel);
        if verdict != Err(Incorrect::Different) && verdict != Err(Incorrect::SeveralAnswers) {
            return verdict;
        }
        // Boxes that are joined by "or" may give one value twice, in two ways of writing it.
        if let (Form::List { items, .. }, Form::Scalar(_) | Form::Quantity { .. }) = (&read, gold)
            && answer.matches("\\boxed").count() == items.len()
            && items.iter().all(|item| compare(gold, item, fuel).is_ok())
        {
            return Ok(());
        }
        // A comma between digits groups thousands, separates, or is a decimal comma; where the
        // reference needs another reading than the usual one, it may have it.
        if has_ambiguous_comma(answer) {
            let commas = match gold {
                Form::List { .. } | Form::Set(_) | Form::Tuple { .. } => Commas::Separate,
                _ => Commas::Decimal,
            };
            if let Ok(form) = parse(answer, commas, fuel)
                && compare(gold, &form, fuel).is_ok()
            {
                return Ok(());
            }
        }
        if has_ambiguous_comma(reference)
            && matches!(read, Form::List { .. } | Form::Set(_))
            && let Ok(form) = parse(reference, Commas::Separate, fuel)
            && compare(&form, &read, fuel).is_ok()
        {
            return Ok(());
        }
        verdict
    }

    fn gold<'r>(&self, reference: &'r str) -> Result<&'r str, Unverifiable> {
        let bare = reference.trim();
        let bare = if bare.contains("\\boxed") || bare.contains("\\fbox") {
            match Extraction::strict().find(bare) {
                Ok(span) => &bare[span],
                Err(_) => return Err(Unverifiable::EmptyReference),
            }
        } else if let Some(at) = bare.rfind("####") {
            bare[at + 4..].trim()
        } else {
            bare
        };
        if unwrap(bare).is_empty() {
            return Err(Unverifiable::EmptyReference);
        }
        Ok(bare)
    }
}

fn has_ambiguous_comma(text: &str) -> bool {
    text.as_bytes()
        .windows(3)
        .any(|w| w[0].is_ascii_digit() && w[1] == b',' && w[2].is_ascii_digit())
}

/// Whether two texts are the same answer however unreadable they are.
fn same_text(a: &str, b: &str) -> bool {
    let is_short = |text: &str| text.len() <= MAX_BYTES;
    a == b || (is_short(a) && is_short(b) && key(a) == key(b))
}

fn key(text: &str) -> String {
    let folded = fold(text);
    let mut key = text_key(unwrap(&folded));
    key.retain(|c| !c.is_whitespace());
    key
}

impl Verifier for MathVerifier {
    fn verify(&self, response: &str, reference: &str) -> Verdict {
        let reference = match self.gold(reference) {
            Ok(reference) => reference,
            Err(why) => return why.into(),
        };
        let span = match self.extraction.find(response) {
            Ok(span) => span,
            Err(why) => return why.into(),
        };
        let answer = &response[span.clone()];
        let mut fuel = Fuel::new(self.fuel);
        let verdict = match parse(reference, Commas::Thousands, &mut fuel) {
            Ok(gold) => match self.same(reference, &gold, answer, &mut fuel) {
                Ok(()) => Verdict::correct(),
                Err(why) => why.into(),
            },
            Err(_) if same_text(reference, answer) => Verdict::correct(),
            Err(Stop::Unreadable) => Unverifiable::UnreadableReference.into(),
            Err(Stop::TooComplex) => Unverifiable::ReferenceTooComplex.into(),
        };
        verdict.at(span)
    }

    fn check_reference(&self, reference: &str) -> Result<(), Unverifiable> {
        let reference = self.gold(reference)?;
        let mut fuel = Fuel::new(self.fuel);
        match parse(reference, Commas::Thousands, &mut fuel) {
            Ok(_) => Ok(()),
            Err(Stop::Unreadable) => Err(Unverifiable::UnreadableReference),
            Err(Stop::TooComplex) => Err(Unverifiable::ReferenceTooComplex),
        }
    }
}
