//! Grade-school answers: one number behind `####`.

use std::ops::Range;

use crate::calculator;
use crate::extract::{Anchor, Extraction, Found, Reasoning};
use crate::numeral::Numeral;
use crate::verdict::{Incorrect, Unverifiable, Verdict};
use crate::verifier::Verifier;

/// Grade-school answers: the number behind `####` (Cobbe et al. 2021, arXiv 2110.14168).
///
/// The reference is a GSM8K answer (solution and `#### 72`), or the bare number. Numbers are
/// compared as exact decimals: `5.0` is 5, `1,234` is 1234, `$18` is 18, a final period is dropped.
/// Units, fractions and percent signs are not read. Lines behind the answer do not count, unless they
/// announce another one.
///
/// ```
/// use g2rpo_verify::{Gsm8k, Verifier};
///
/// let gsm8k = Gsm8k::default();
/// assert!(gsm8k.verify("48/2 = 24, 48+24 = 72\n#### 72", "#### 72").is_correct());
/// assert!(!gsm8k.verify("#### 72 or 73", "72").is_correct());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Gsm8k {
    /// Where the answer is looked for.
    pub extraction: Gsm8kExtraction,
    /// What is asked of the calculator marks `<<48/2=24>>` of the response.
    pub calculator_marks: CalculatorMarks,
}

/// Where [`Gsm8k`] looks for the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Gsm8kExtraction {
    /// What the line behind the last `####` states must be one number. What TRL and verl users call
    /// strict, without the hole that a number with a tail (`5/6`, `5 or 6`) counts as its first part.
    #[default]
    Strict,
    /// The line behind the last `####` must hold exactly one number, among any words; without a `####`
    /// the last number of the response counts. For models that were not taught the format:
    /// a response that ends in the right number by accident passes.
    Flexible,
}

/// What [`Gsm8k`] asks of calculator marks, the `<<expression=value>>` of GSM8K's solutions.
///
/// Both sides are exact fractions with `+ - * / //`, brackets, decimals and percent; so `1/3=0.33`
/// is wrong, as it is nowhere in GSM8K. All 27,998 marks of its train and test sets are right.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum CalculatorMarks {
    /// They are not looked at.
    #[default]
    Ignore,
    /// Every one must be right; there may be none.
    Correct,
    /// Every one must be right, and there must be at least one. 8,679 of GSM8K's 8,792 solutions
    /// have one. Makes it rare that a weak model is paid for a lucky number.
    Required,
}

impl Verifier for Gsm8k {
    fn verify(&self, response: &str, reference: &str) -> Verdict {
        let gold = match read_reference(reference) {
            Ok(gold) => gold,
            Err(why) => return why.into(),
        };
        let verdict = match self.find(response) {
            Ok(found) => match Numeral::read(undressed(&found.answer)) {
                Some(number) if number == gold => self.check_marks(response),
                Some(_) => Incorrect::Different.into(),
                None => Incorrect::Unreadable.into(),
            }
            .at(found.span),
            Err(why) => why.into(),
        };
        debug_assert!(
            verdict
                .span
                .clone()
                .is_none_or(|s| response.get(s).is_some())
        );
        verdict
    }

    fn parallelism(&self) -> usize {
        1
    }

    fn check_reference(&self, reference: &str) -> Result<(), Unverifiable> {
        read_reference(reference).map(drop)
    }
}

impl Gsm8k {
    fn find<'r>(&self, response: &'r str) -> Result<Found<'r>, Incorrect> {
        // Most responses end in the number, and nothing has to be looked for.
        if let Some(at) = response.rfind("####") {
            let tail = response[at + 4..].trim_ascii();
            if Numeral::read(tail).is_some() {
                let start = response.len() - response[at + 4..].trim_ascii_start().len();
                return Ok(Found::at(response, start..start + tail.len()));
            }
        }
        let is_flexible = self.extraction == Gsm8kExtraction::Flexible;
        let Some(found) = tail(response) else {
            let last = numbers(response).last().filter(|_| is_flexible);
            return last
                .map(|span| Found::at(response, span))
                .ok_or(Incorrect::NoAnswer);
        };
        if found.span.is_empty() {
            return Err(Incorrect::EmptyAnswer);
        }
        let found = if is_flexible {
            let mut numbers = numbers(&response[found.span.clone()]);
            let only = numbers.next().ok_or(Incorrect::NoAnswer)?;
            if numbers.next().is_some() {
                return Err(Incorrect::SeveralAnswers);
            }
            let start = found.span.start;
            Found::at(response, start + only.start..start + only.end)
        } else {
            found
        };
        if is_contradicted(&found, &response[found.span.end..]) {
            return Err(Incorrect::SeveralAnswers);
        }
        Ok(found)
    }

    fn check_marks(&self, response: &str) -> Verdict {
        if self.calculator_marks == CalculatorMarks::Ignore {
            return Verdict::correct();
        }
        let mut count = 0;
        for (index, mark) in calculator::marks(response).enumerate() {
            if !mark.is_some_and(calculator::holds) {
                return Incorrect::CalculatorMark { index }.into();
            }
            count += 1;
        }
        if count == 0 && self.calculator_marks == CalculatorMarks::Required {
            return Incorrect::NoCalculatorMark.into();
        }
        Verdict::correct()
    }
}

/// Looks for anchors in all of a text.
const fn anywhere(anchors: Vec<Anchor>) -> Extraction {
    let reasoning = Reasoning::Ignore;
    Extraction { reasoning, anchors }
}

/// What stands behind the last `####`.
fn tail(response: &str) -> Option<Found<'_>> {
    anywhere(vec![Anchor::Hashes])
        .candidates(response)
        .ok()?
        .next()
}

/// A number without the delimiters of a formula or the box around it.
fn undressed(text: &str) -> &str {
    let mut inner = text.trim();
    while let Some(less) = [("$", "$"), ("\\(", "\\)"), ("\\boxed{", "}")]
        .iter()
        .find_map(|(open, close)| inner.strip_prefix(*open)?.strip_suffix(*close))
    {
        inner = less.trim();
    }
    inner
}

/// Whether a later line announces another number.
fn is_contradicted(found: &Found<'_>, behind: &str) -> bool {
    let Ok(later) = anywhere(vec![Anchor::Boxed, Anchor::Phrase]).answer(behind) else {
        return false;
    };
    let mut values = numbers(&later.answer).map(|span| Numeral::read(&later.answer[span]));
    let same = values.next().flatten() == Numeral::read(undressed(&found.answer));
    !same || values.next().is_some()
}

fn read_reference(reference: &str) -> Result<Numeral<'_>, Unverifiable> {
    let answer = reference
        .rfind("####")
        .map_or(reference, |at| &reference[at + 4..])
        .trim();
    if answer.is_empty() {
        return Err(Unverifiable::EmptyReference);
    }
    Numeral::read(answer).ok_or(Unverifiable::UnreadableReference)
}

/// Ranges of maximal runs of digits, commas and periods with a sign or currency sign before them.
fn numbers(text: &str) -> impl Iterator<Item = Range<usize>> + '_ {
    let bytes = text.as_bytes();
    let mut at = 0;
    std::iter::from_fn(move || {
        let first = at + bytes[at..].iter().position(u8::is_ascii_digit)?;
        let length = bytes[first..]
            .iter()
            .position(|b| !b.is_ascii_digit() && *b != b',' && *b != b'.')
            .unwrap_or(bytes.len() - first);
        let mut end = first + length;
        while matches!(bytes[end - 1], b',' | b'.') {
            end -= 1;
        }
        let mut start = first;
        // A minus between two digits is a subtraction or a range, not a sign.
        for prefix in [".", "\\$", "$", "€", "£", "-", "\u{2212}"] {
            if let Some(head) = text[..start].strip_suffix(prefix) {
                let is_minus = matches!(prefix, "-" | "\u{2212}");
                if !is_minus || !head.trim_end().ends_with(|c: char| c.is_ascii_digit()) {
                    start -= prefix.len();
                }
            }
        }
        at = first + length;
        Some(start..end)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verdict::Outcome;

    fn strict(response: &str, reference: &str) -> Verdict {
        Gsm8k::default().verify(response, reference)
    }

    fn flexible(response: &str, reference: &str) -> Verdict {
        Gsm8k {
            extraction: Gsm8kExtraction::Flexible,
            ..Gsm8k::default()
        }
        .verify(response, reference)
    }

    #[test]
    fn strict_takes_the_whole_tail() {
        for good in [
            "#### 72",
            "x\n####72.",
            "#### 5\n#### $72.00\n",
            "#### +72",
            "####  72 ",
            "#### $72$",
            "#### \\boxed{72}",
            "#### $\\boxed{72}$.",
        ] {
            assert!(strict(good, "a #### 72").is_correct(), "{good}");
        }
        for bad in [
            "72",
            "#### 72 apples",
            "#### 72/1",
            "#### 72 or 73",
            "#### 72\n#### 73",
            "#### 7 2",
            "### 72",
            "####",
            "#### -72",
            "#### 72%",
            "#### 72, 73",
            "#### 72#",
            "#### \\boxed{73}",
            "#### \\boxed{72",
            "#### \\boxed{72} or 73",
            "#### $72$ $73$",
        ] {
            assert_eq!(strict(bad, "72").reward(), Some(0.0), "{bad}");
        }
    }

    #[test]
    fn flexible_takes_one_number_of_the_tail_or_the_last_of_all() {
        for good in [
            "#### 1,072 apples",
            "It is $1,072.",
            "1 2 3 1072",
            "#### **1072**",
            "a-1072b 1072",
        ] {
            assert!(flexible(good, "1072").is_correct(), "{good}");
        }
        for bad in [
            "#### 1072 or 1073",
            "none",
            "1072 then 3",
            "#### \n",
            "-1072",
            "#### 1072/2",
        ] {
            assert!(!flexible(bad, "1072").is_correct(), "{bad}");
        }
        assert!(flexible("so 5-3", "3").is_correct());
        assert!(flexible("it is -$3.50", "-3.5").is_correct());
        assert!(flexible("costs .5", "0.5").is_correct());
    }

    #[test]
    fn the_span_is_what_was_graded() {
        let response = "so\n#### $1,000 ";
        assert_eq!(&response[strict(response, "1000").span.unwrap()], "$1,000");
        let response = "it is −7.";
        assert_eq!(&response[flexible(response, "-7").span.unwrap()], "−7");
    }

    #[test]
    fn references_are_validated() {
        let gsm8k = Gsm8k::default();
        assert_eq!(gsm8k.check_reference("a\n#### 1,234"), Ok(()));
        assert_eq!(
            gsm8k.check_reference(" "),
            Err(Unverifiable::EmptyReference)
        );
        assert_eq!(
            gsm8k.check_reference("a ####"),
            Err(Unverifiable::EmptyReference)
        );
        assert_eq!(
            gsm8k.check_reference("#### five"),
            Err(Unverifiable::UnreadableReference)
        );
        assert_eq!(strict("####", "").reward(), None);
    }

    #[test]
    fn calculator_marks_must_be_right_when_asked() {
        let ask = |marks, response| {
            let gsm8k = Gsm8k {
                calculator_marks: marks,
                ..Gsm8k::default()
            };
            gsm8k.verify(response, "72").outcome
        };
        let wrong = "<<48/2=24>>24 <<48+24=73>> #### 72";
        assert_eq!(ask(CalculatorMarks::Ignore, wrong), Outcome::Correct);
        assert_eq!(
            ask(CalculatorMarks::Correct, wrong),
            Outcome::Incorrect(Incorrect::CalculatorMark { index: 1 })
        );
        assert_eq!(ask(CalculatorMarks::Correct, "#### 72"), Outcome::Correct);
        assert_eq!(
            ask(CalculatorMarks::Required, "#### 72"),
            Outcome::Incorrect(Incorrect::NoCalculatorMark)
        );
        assert_eq!(
            ask(CalculatorMarks::Required, "<<48+24=72>>72 #### 72"),
            Outcome::Correct
        );
        assert_eq!(
            ask(CalculatorMarks::Correct, "<<48+24=72 #### 72"),
            Outcome::Incorrect(Incorrect::CalculatorMark { index: 0 })
        );
    }
}
