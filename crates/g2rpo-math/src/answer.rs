//! From two texts to a comparison: reads both, in the readings that the reference allows.

use crate::compare::Comparer;
use crate::comparison::{Comparison, Mismatch, Policy, ReferenceError};
use crate::fold::{fold, text_key, unwrap};
use crate::form::Form;
use crate::fuel::Fuel;
use crate::parse::{Commas, MAX_BYTES, parse};

/// What [`compare`] may spend: a few milliseconds at most.
pub const DEFAULT_BUDGET: u64 = 20_000;

/// Compares an answer with its reference, both in LaTeX or plain text, by the default [`Policy`]
/// and [`DEFAULT_BUDGET`].
///
/// ```
/// use g2rpo_math::{Comparison, Mismatch, compare};
///
/// assert!(compare("0.5", "\\frac{1}{2}").is_equal());
/// assert!(compare("(x+1)^2", "x^2+2x+1").is_equal());
/// assert_eq!(compare("5, 6", "5"), Comparison::Unequal(Mismatch::SeveralAnswers));
/// ```
#[must_use]
pub fn compare(answer: &str, reference: &str) -> Comparison {
    compare_with(answer, reference, Policy::default(), DEFAULT_BUDGET)
}

/// [`compare`] with choices of one's own. `budget` is counted in units of about a microsecond of
/// unoptimised arithmetic, and spent the same way on every machine.
///
/// ```
/// use g2rpo_math::{Policy, compare_with};
///
/// let rounded = Policy { rounded_reference: true, ..Policy::default() };
/// assert!(compare_with("\\pi", "3.14", rounded, 20_000).is_equal());
/// assert!(!compare_with("\\pi", "3.15", rounded, 20_000).is_equal());
/// ```
#[must_use]
pub fn compare_with(answer: &str, reference: &str, policy: Policy, budget: u64) -> Comparison {
    if unwrap(reference).is_empty() {
        return Comparison::NoReference(ReferenceError::Empty);
    }
    let mut fuel = Fuel::new(budget);
    match parse(reference, Commas::Thousands, &mut fuel) {
        Ok(gold) => {
            let mut reading = Reading {
                answer,
                reference,
                policy,
                fuel: &mut fuel,
            };
            match reading.same(&gold) {
                Ok(()) => Comparison::Equal,
                Err(why) => Comparison::Unequal(why),
            }
        }
        Err(_) if same_text(reference, answer) => Comparison::Equal,
        Err(stop) => Comparison::NoReference(stop.into()),
    }
}

/// Whether answers can be compared with a reference at all, within `budget`.
///
/// # Errors
/// Why they cannot.
///
/// ```
/// use g2rpo_math::{DEFAULT_BUDGET, ReferenceError, check_reference};
///
/// assert_eq!(check_reference("[0, 1)", DEFAULT_BUDGET), Ok(()));
/// assert_eq!(check_reference(" ", DEFAULT_BUDGET), Err(ReferenceError::Empty));
/// assert_eq!(check_reference("\\frac{1}{", DEFAULT_BUDGET), Err(ReferenceError::Unreadable));
/// ```
pub fn check_reference(reference: &str, budget: u64) -> Result<(), ReferenceError> {
    if unwrap(reference).is_empty() {
        return Err(ReferenceError::Empty);
    }
    parse(reference, Commas::Thousands, &mut Fuel::new(budget))?;
    Ok(())
}

/// An answer that is read in the ways that its reference allows.
struct Reading<'a> {
    answer: &'a str,
    reference: &'a str,
    policy: Policy,
    fuel: &'a mut Fuel,
}

impl Reading<'_> {
    fn compare(&mut self, gold: &Form, answer: &Form) -> Result<(), Mismatch> {
        let comparer = &mut Comparer {
            policy: self.policy,
            fuel: self.fuel,
        };
        comparer.answers(gold, answer)
    }

    fn same(&mut self, gold: &Form) -> Result<(), Mismatch> {
        let read = parse(self.answer, Commas::Thousands, self.fuel)?;
        let found = self.compare(gold, &read);
        if found != Err(Mismatch::Different) && found != Err(Mismatch::SeveralAnswers) {
            return found;
        }
        // Boxes that are joined by "or" may give one value twice, in two ways of writing it.
        if let (Form::List { items, .. }, Form::Scalar(_) | Form::Quantity { .. }) = (&read, gold)
            && self.answer.matches("\\boxed").count() == items.len()
            && items.iter().all(|item| self.compare(gold, item).is_ok())
        {
            return Ok(());
        }
        // A comma between digits groups thousands, separates, or is a decimal comma; where the
        // reference needs another reading than the usual one, it may have it.
        if has_ambiguous_comma(self.answer) {
            let commas = match gold {
                Form::List { .. } | Form::Set(_) | Form::Tuple { .. } => Commas::Separate,
                _ => Commas::Decimal,
            };
            if let Ok(form) = parse(self.answer, commas, self.fuel)
                && self.compare(gold, &form).is_ok()
            {
                return Ok(());
            }
        }
        if has_ambiguous_comma(self.reference)
            && matches!(read, Form::List { .. } | Form::Set(_))
            && let Ok(form) = parse(self.reference, Commas::Separate, self.fuel)
            && self.compare(&form, &read).is_ok()
        {
            return Ok(());
        }
        found
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
