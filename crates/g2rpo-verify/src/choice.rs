//! Multiple-choice answers: the letter of an option.

use std::ops::Range;

use crate::extract::{Anchor, Extraction, stated};
use crate::verdict::{Incorrect, Unverifiable, Verdict};
use crate::verifier::Verifier;

/// Multiple-choice answers: a letter from A to J, `B`, `(B)`, `\text{(B)}`, `(B) the text`.
///
/// The answer is found by an [`Extraction`] policy. One that names several options is wrong.
///
/// ```
/// use g2rpo_verify::{MultipleChoice, Verifier};
///
/// let choice = MultipleChoice::default();
/// assert!(choice.verify("The answer is (B).", "B").is_correct());
/// assert!(!choice.verify("The answer is (A) or (B).", "B").is_correct());
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MultipleChoice {
    /// Where the answer is looked for.
    pub extraction: Extraction,
}

impl Verifier for MultipleChoice {
    fn verify(&self, response: &str, reference: &str) -> Verdict {
        if let Err(why) = self.check_reference(reference) {
            return why.into();
        }
        let mut candidates = match self.extraction.candidates(response) {
            Ok(candidates) => candidates.filter(|found| !found.span.is_empty()),
            Err(why) => return why.into(),
        };
        let Some(first) = candidates.next() else {
            let Some((letter, span)) = self.named(response) else {
                return Incorrect::NoAnswer.into();
            };
            let verdict = match letter_of_gold(reference) == Some(letter) {
                true => Verdict::correct(),
                false => Verdict::incorrect(Incorrect::Different),
            };
            return verdict.at(span);
        };
        // A box may hold a formula of the reasoning; what is announced behind it is the choice.
        let mut letter = any_case(&first.answer);
        let mut span = first.span;
        if letter.is_none()
            && let Some((found, behind)) =
                candidates.find_map(|f| Some((any_case(&f.answer)?, f.span)))
        {
            (letter, span) = (Some(found), behind);
        }
        let verdict = match letter {
            None if names_several(&response[span.clone()]) => {
                Verdict::incorrect(Incorrect::SeveralAnswers)
            }
            None => Verdict::incorrect(Incorrect::Unreadable),
            found if found == bare(reference).and_then(|bare| alone(&upper(&bare))) => {
                Verdict::correct()
            }
            Some(_) => Verdict::incorrect(Incorrect::Different),
        };
        verdict.at(span)
    }

    fn parallelism(&self) -> usize {
        1
    }

    fn check_reference(&self, reference: &str) -> Result<(), Unverifiable> {
        match bare(reference).and_then(|bare| alone(&upper(&bare))) {
            Some(_) => Ok(()),
            None if reference.trim().is_empty() => Err(Unverifiable::EmptyReference),
            None => Err(Unverifiable::UnreadableReference),
        }
    }
}

impl MultipleChoice {
    /// The one option that a response without an announced answer names: all of it is `(C)`, or "The correct option is
    /// C", "Option C is correct".
    fn named(&self, response: &str) -> Option<(char, Range<usize>)> {
        let from = (self.extraction.anchors.contains(&Anchor::Phrase))
            .then(|| self.extraction.region(response).ok())??;
        let text = &response[from..];
        if let Some(letter) = bare(text).and_then(|bare| alone(&bare)) {
            return Some((letter, from..response.len()));
        }
        let mut named: Option<(char, Range<usize>)> = None;
        for noun in ["option", "choice"] {
            let folded = text.to_ascii_lowercase();
            for (at, _) in folded.match_indices(noun) {
                let Some((letter, span)) = named_at(text, at, at + noun.len()) else {
                    continue;
                };
                if named.as_ref().is_some_and(|(other, _)| *other != letter) {
                    return None;
                }
                named = Some((letter, from + span.start..from + span.end));
            }
        }
        named
    }
}

/// The letter that a sentence with the noun at `at` calls right: "the correct option is C", "Option C is correct".
fn named_at(text: &str, at: usize, behind: usize) -> Option<(char, Range<usize>)> {
    let rest = text[behind..].trim_start_matches([' ', '*']);
    let before = text[..at].trim_end_matches([' ', '*']);
    let ends_in = |words: &[&str]| {
        (words.iter()).any(|word| {
            let start = before.len().checked_sub(word.len());
            start
                .and_then(|start| before.get(start..))
                .is_some_and(|end| end.eq_ignore_ascii_case(word))
        })
    };
    if let Some(content) = rest
        .strip_prefix("is ")
        .or_else(|| rest.strip_prefix("is:"))
        && ends_in(&["correct", "right", "best"])
    {
        let span = stated(text, text.len() - content.len())?;
        let letter = any_case(&text[span.clone()])?;
        return Some((letter, span));
    }
    // "I doubt that option C is correct" names none.
    let begins = before.is_empty()
        || before.ends_with(['.', '!', '\n', ':', ','])
        || ends_in(&["so", "thus", "therefore", "hence"]);
    let (label, claim) = rest.split_at(rest.bytes().take(12).position(|b| b == b' ')?);
    let claim = claim.strip_prefix(" is ")?;
    let letter = alone(label.trim_matches('*').trim())?;
    let claim = claim.trim_start_matches("the ").trim_start_matches('*');
    let is_right = ["correct", "right", "best"]
        .iter()
        .find_map(|word| claim.strip_prefix(word))?;
    let end = (is_right.char_indices().take(400)).find(|(_, c)| *c == '\n');
    let end = end.or_else(|| is_right.char_indices().nth(400));
    let tail = &is_right[..end.map_or(is_right.len(), |(at, _)| at)];
    let offers = tail.split(|c: char| !c.is_alphanumeric()).any(|word| {
        single(word).is_some_and(|other| other != letter && other != 'I')
            || ["if", "unless", "but", "or", "not"].contains(&word)
    });
    let start = text.len() - rest.len();
    (begins && !offers && !is_right.starts_with(char::is_alphanumeric))
        .then_some((letter, start..start + label.len()))
}

/// The letter that an answer chooses, also as `b`, `(b)`, `b) the text`.
fn any_case(text: &str) -> Option<char> {
    letter_of_answer(text).or_else(|| letter_of_answer(&upper(&bare(text)?)))
}

/// The text with its first letter in upper case, if that letter stands alone and is set off as a label.
fn upper(bare: &str) -> String {
    let at = usize::from(bare.starts_with('('));
    match bare.as_bytes().get(at..) {
        Some([b @ b'a'..=b'j']) => char::from(b.to_ascii_uppercase()).to_string(),
        Some([b @ b'a'..=b'j', b')' | b'.' | b':', ..]) => {
            format!(
                "{}{}{}",
                &bare[..at],
                char::from(b.to_ascii_uppercase()),
                &bare[at + 1..]
            )
        }
        _ => bare.to_owned(),
    }
}

/// The letter of a multiple-choice reference: `B`, `(B)`, `\text{(B)}`, `B.`
pub(crate) fn letter_of_gold(text: &str) -> Option<char> {
    alone(&bare(text)?)
}

/// A letter that stands by itself, but for brackets and a final sign.
fn alone(bare: &str) -> Option<char> {
    let letter = bare
        .strip_prefix('(')
        .and_then(|b| b.strip_suffix(')'))
        .unwrap_or(bare)
        .trim_end_matches(['.', ')', ':'])
        .trim();
    single(letter)
}

/// The letter that an answer chooses: a letter alone, or one that a sign sets off from what the option says. An
/// answer that names a second option beside it chooses none.
pub(crate) fn letter_of_answer(text: &str) -> Option<char> {
    let mut bare = bare(text)?;
    for word in ["option ", "choice ", "answer "] {
        if let Some(rest) = bare
            .get(..word.len())
            .filter(|w| w.eq_ignore_ascii_case(word))
        {
            bare = bare[rest.len()..].to_owned();
        }
    }
    if let Some(letter) = alone(&bare) {
        return Some(letter);
    }
    let (letter, rest) = match bare.strip_prefix('(') {
        Some(inner) => inner.split_once(')')?,
        None => {
            let end = bare.find([')', '.', ':', ',', ' '])?;
            let is_set_off = !bare[end..].starts_with([',', ' '])
                || bare[end..].starts_with(" - ")
                || bare[end..].starts_with(" – ");
            if !is_set_off {
                return None;
            }
            (&bare[..end], &bare[end + 1..])
        }
    };
    if !rest.is_empty()
        && !rest.starts_with([' ', '~', '$', '\\', '}', '*', ':', '.', ',', '-', '–'])
    {
        return None;
    }
    let letter = single(letter.trim())?;
    (!names_another(rest, letter)).then_some(letter)
}

/// Whether an answer begins with an option and names another: `(A) or (B)`.
fn names_several(text: &str) -> bool {
    let Some(bare) = bare(text) else { return false };
    let mut chars = bare.trim_start_matches('(').chars();
    (chars.next().filter(|c| matches!(c, 'A'..='J')))
        .is_some_and(|letter| names_another(chars.as_str(), letter))
}

/// Letters A to J stand for options.
fn single(text: &str) -> Option<char> {
    let mut chars = text.chars();
    match (chars.next(), chars.next()) {
        (Some(c @ 'A'..='J'), None) => Some(c),
        _ => None,
    }
}

/// Without TeX text commands, dollars, stars and braces. Long texts choose nothing.
fn bare(text: &str) -> Option<String> {
    if text.len() > 512 {
        return None;
    }
    let mut out = text.trim().to_owned();
    for noise in [
        "\\textbf", "\\text", "\\mathrm", "\\mathbf", "\\boxed", "\\rm", "\\bf", "\\(", "\\)",
        "\\[", "\\]", "$", "**",
    ] {
        out = out.replace(noise, "");
    }
    let out = out
        .replace(['{', '}'], "")
        .replace("\\ ", " ")
        .replace('~', " ");
    Some(out.trim().trim_end_matches('.').trim().to_owned())
}

/// Whether what stands behind a chosen letter offers another option: `(D)`, `or D`, `, D`. Capitals that belong to
/// the option's text do not: "Vitamin C", "I and II only", "Both A and B", "A pretty girl".
fn names_another(text: &str, chosen: char) -> bool {
    let mut words: Vec<(usize, &str)> = Vec::new();
    let mut at = 0;
    for word in text.split(|c: char| !c.is_alphanumeric()) {
        if !word.is_empty() {
            words.push((at, word));
        }
        at += word.len()
            + text[at + word.len()..]
                .chars()
                .next()
                .map_or(0, char::len_utf8);
    }
    for (i, &(at, word)) in words.iter().enumerate() {
        if single(word).is_none_or(|letter| letter == chosen) {
            continue;
        }
        let (before, behind) = (text[..at].trim_end(), &text[at + word.len()..]);
        let previous = i.checked_sub(1).map(|i| words[i].1);
        // A lone `I` is a Roman numeral or a pronoun; nine options are rare.
        let is_numeral = word == "I";
        let is_labelled = behind.starts_with(')')
            && (before.ends_with('(')
                || text[..at].ends_with(char::is_whitespace)
                || before.is_empty())
            || behind.starts_with(':');
        let is_last = behind.trim_start_matches([')', ' ']).is_empty();
        let is_joined = match previous {
            // "Hepatitis B or C", "Either A or B" are what an option says.
            Some(or) if or.eq_ignore_ascii_case("or") => i < 3 || single(words[i - 2].1).is_none(),
            Some("and") => words[..i - 1]
                .last()
                .is_none_or(|(_, w)| single(w).is_none()),
            None => {
                before.trim_matches(['.', ':', ' ']).is_empty()
                    && (is_last || behind.starts_with(" is "))
                    || before.ends_with([',', '/', '&', ';', '-', '–', '—'])
            }
            Some(word) => {
                before.ends_with([',', '/', '&', ';']) && single(word).is_none() && is_last
            }
        };
        if is_labelled || is_joined && !is_numeral {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_letter_is_a_choice() {
        for text in [
            "B",
            "(B)",
            "B.",
            "\\text{(B)}",
            "\\textbf{(B)} 5",
            "(B) 5",
            "B) the second",
            "B: x+1",
            "Option B",
            "**(B)**",
            "$\\text{B}$",
            "\\textbf{(B)}\\ 12",
        ] {
            assert_eq!(letter_of_answer(text), Some('B'), "{text}");
        }
    }

    #[test]
    fn hedges_and_words_are_none() {
        for text in [
            "A, B",
            "(A) or (B)",
            "A or B",
            "(A)(B)",
            "AB",
            "Because",
            "B+1",
            "(A) 5, (B) 6",
            "",
            "x",
            "b",
            "K",
        ] {
            assert_eq!(letter_of_answer(text), None, "{text}");
        }
    }
}
