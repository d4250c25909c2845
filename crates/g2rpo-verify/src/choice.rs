use crate::{Extraction, Incorrect, Unverifiable, Verdict, Verifier};

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
        let span = match self.extraction.find(response) {
            Ok(span) => span,
            Err(why) => return why.into(),
        };
        let verdict = match letter_of_answer(&response[span.clone()]) {
            None => Verdict::incorrect(Incorrect::Unreadable),
            found if found == letter_of_gold(reference) => Verdict::correct(),
            Some(_) => Verdict::incorrect(Incorrect::Different),
        };
        verdict.at(span)
    }

    fn check_reference(&self, reference: &str) -> Result<(), Unverifiable> {
        match letter_of_gold(reference) {
            Some(_) => Ok(()),
            None if reference.trim().is_empty() => Err(Unverifiable::EmptyReference),
            None => Err(Unverifiable::UnreadableReference),
        }
    }
}

/// The letter of a multiple-choice reference: `B`, `(B)`, `\text{(B)}`, `B.`
pub(crate) fn letter_of_gold(text: &str) -> Option<char> {
    let bare = bare(text)?;
    let letter = bare
        .strip_prefix('(')
        .and_then(|b| b.strip_suffix(')'))
        .unwrap_or(&bare)
        .trim_end_matches(['.', ')', ':'])
        .trim();
    single(letter)
}

/// The letter that an answer chooses: a letter alone, or one that a bracket, period or colon sets
/// off from what the option says. An answer that names two options chooses none.
pub(crate) fn letter_of_answer(text: &str) -> Option<char> {
    if let Some(letter) = letter_of_gold(text) {
        return Some(letter);
    }
    let mut bare = bare(text)?;
    for word in ["option ", "choice ", "answer "] {
        if let Some(rest) = bare
            .get(..word.len())
            .filter(|w| w.eq_ignore_ascii_case(word))
        {
            bare = bare[rest.len()..].to_owned();
        }
    }
    if let Some(letter) = single(bare.trim()) {
        return Some(letter);
    }
    let (letter, rest) = match bare.strip_prefix('(') {
        Some(inner) => inner.split_once(')')?,
        None => {
            let end = bare.find([')', '.', ':'])?;
            (&bare[..end], &bare[end + 1..])
        }
    };
    if !rest.is_empty() && !rest.starts_with([' ', '~', '$', '\\', '}', '*', ':', '.']) {
        return None;
    }
    let letter = single(letter.trim())?;
    (!mentions_option(rest)).then_some(letter)
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
        "\\textbf", "\\text", "\\mathrm", "\\mathbf", "\\boxed", "\\rm", "\\bf", "$", "**",
    ] {
        out = out.replace(noise, "");
    }
    let out = out.replace(['{', '}'], "").replace("\\ ", " ");
    Some(out.trim().trim_end_matches('.').trim().to_owned())
}

/// Whether another option is named: `(C)`, or a lone capital between A and J.
fn mentions_option(text: &str) -> bool {
    text.split(|c: char| !c.is_alphanumeric())
        .any(|word| single(word).is_some())
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
