//! From two texts to a comparison: reads both, in the readings that the reference allows.

use crate::comparer::Comparer;
use crate::comparison::{Comparison, Mismatch, Policy, ReferenceError};
use crate::fold::{fold, unwrap};
use crate::form::Form;
use crate::fuel::{Fuel, Stop};
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
    match read(reference, Commas::Thousands, &mut fuel) {
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
    read(reference, Commas::Thousands, &mut Fuel::new(budget))?;
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
        let answer = read(self.answer, Commas::Thousands, self.fuel)?;
        let found = self.compare(gold, &answer);
        if found != Err(Mismatch::Different) && found != Err(Mismatch::SeveralAnswers) {
            return found;
        }
        // Boxes that are joined by "or" may give one value twice, in two ways of writing it.
        if let (Form::List(items, _), Form::Scalar(_) | Form::Quantity(..)) = (&answer, gold)
            && self.answer.matches("\\boxed").count() == items.len()
            && items.iter().all(|item| self.compare(gold, item).is_ok())
        {
            return Ok(());
        }
        // A comma between digits groups thousands, separates, or is a decimal comma; where the
        // reference needs another reading of the answer than the usual one, it may have it.
        let holds_several = matches!(gold, Form::List(..) | Form::Set(_) | Form::Tuple(..));
        let commas = if holds_several {
            Commas::Separate
        } else {
            Commas::Decimal
        };
        if may_be_read(self.answer, commas)
            && let Ok(form) = read(self.answer, commas, self.fuel)
            && self.compare(gold, &form).is_ok()
        {
            return Ok(());
        }
        // A reference that is a number with a comma is that number.
        if holds_several
            && may_be_read(self.reference, Commas::Separate)
            && let Ok(form) = read(self.reference, Commas::Separate, self.fuel)
            && self.compare(&form, &answer).is_ok()
        {
            return Ok(());
        }
        found
    }
}

/// [`parse`], less what says nothing: `\text{}`.
fn read(text: &str, commas: Commas, fuel: &mut Fuel) -> Result<Form, Stop> {
    let form = parse(text, commas, fuel)?;
    if says_nothing(&form) {
        return Err(Stop::Unreadable);
    }
    Ok(form)
}

fn says_nothing(form: &Form) -> bool {
    match form {
        Form::Text(key) => key.is_empty(),
        Form::List(items, _) | Form::Set(items) | Form::Tuple(_, items, _) => {
            items.iter().any(says_nothing)
        }
        _ => false,
    }
}

/// Whether a comma between digits may be something else than the mark of thousands. Nobody writes a
/// number as `000`, so that `1,000` does not hold two.
fn may_be_read(text: &str, commas: Commas) -> bool {
    let mut is_found = false;
    for w in text.as_bytes().windows(4) {
        let is_between = w[0].is_ascii_digit() && w[1] == b',' && w[2].is_ascii_digit();
        if is_between && commas == Commas::Separate && w[2] == b'0' && w[3].is_ascii_digit() {
            return false;
        }
        is_found |= is_between;
    }
    let tail = text.as_bytes().last_chunk::<3>();
    is_found || tail.is_some_and(|w| w[0].is_ascii_digit() && w[1] == b',' && w[2].is_ascii_digit())
}

/// Whether two texts that cannot be read are the same, but for blanks and what surrounds a formula.
/// Every other character may carry the meaning, and what holds no letter or digit has none.
fn same_text(a: &str, b: &str) -> bool {
    let is_short = |text: &str| text.len() <= MAX_BYTES;
    if !is_short(a) || !is_short(b) {
        return a == b;
    }
    let (a, b) = (plain(a), plain(b));
    a == b && says_something(&a)
}

/// Folded and without blanks, but for one between letters or digits.
fn plain(text: &str) -> String {
    let folded = fold(text);
    let mut out = String::with_capacity(folded.len());
    for word in unwrap(&folded).split_whitespace() {
        if out.ends_with(char::is_alphanumeric) && word.starts_with(char::is_alphanumeric) {
            out.push(' ');
        }
        out.push_str(word);
    }
    out
}

/// Whether a letter or digit stands outside the names of commands.
fn says_something(text: &str) -> bool {
    let mut in_command = false;
    text.chars().any(|c| {
        in_command = c == '\\' || (in_command && c.is_alphabetic());
        !in_command && c.is_alphanumeric()
    })
}
