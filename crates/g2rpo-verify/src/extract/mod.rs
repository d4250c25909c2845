//! Where in a response the answer stands.

mod announce;
mod boxed;
mod marks;
mod statement;
mod words;

use std::borrow::Cow;
use std::ops::Range;

use self::boxed::last_box;
pub(crate) use self::statement::stated;
pub(crate) use self::words::{is_modifier, word_at};
use crate::verdict::Incorrect;

/// Where in a response the answer is looked for.
///
/// The anchors are tried in their order; the first kind that occurs decides, and of several
/// occurrences the last counts, so a retracted answer is replaced by its correction.
///
/// ```
/// use g2rpo_verify::Extraction;
///
/// let response = "<think>Is it \\boxed{4}?</think> No, it is $\\boxed{\\frac{1}{2}}$.";
/// let span = Extraction::default().find(response)?;
/// assert_eq!(&response[span], "\\frac{1}{2}");
/// # Ok::<(), g2rpo_verify::Incorrect>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extraction {
    /// What `<think>…</think>` means for the answer.
    pub reasoning: Reasoning,
    /// Marks of an answer, in the order in which they are tried.
    pub anchors: Vec<Anchor>,
}

/// What `<think>…</think>` means for the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Reasoning {
    /// The tags are ordinary text.
    Ignore,
    /// The answer stands behind the last `</think>`; reasoning that was opened and not closed has
    /// no answer. Responses without tags are read whole.
    #[default]
    AfterLast,
    /// As above, and a response without `</think>` has no answer. For models whose prompt opens
    /// the reasoning.
    Required,
}

/// A mark by which an answer is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Anchor {
    /// The last complete `\boxed{…}` or `\fbox{…}`. Boxes joined by nothing but a comma, `and` or
    /// `or` are one answer with several values.
    Boxed,
    /// The contents of the last `<answer>…</answer>`.
    AnswerTag,
    /// What the line behind the last `####` states. Where the line is a heading without a number, the
    /// phrase behind it counts.
    Hashes,
    /// What follows the last "answer is", "answer:", a heading "Final answer" and the like: to the end of
    /// the sentence, or to a clause that only explains it.
    Phrase,
    /// The last formula between `$…$`, `\(…\)` or `\[…\]`.
    LastFormula,
    /// The last number.
    LastNumber,
}

impl Default for Extraction {
    /// Everything that says it is the answer; not the last formula or number.
    fn default() -> Self {
        Self {
            reasoning: Reasoning::AfterLast,
            anchors: vec![
                Anchor::Boxed,
                Anchor::AnswerTag,
                Anchor::Hashes,
                Anchor::Phrase,
            ],
        }
    }
}

impl Extraction {
    /// A box or nothing.
    #[must_use]
    pub fn strict() -> Self {
        Self {
            anchors: vec![Anchor::Boxed],
            ..Self::default()
        }
    }

    /// Everything, down to the last number. A response that ends in the right number by accident
    /// passes: use it to score base models, not to train.
    #[must_use]
    pub fn flexible() -> Self {
        let mut all = Self::default();
        all.anchors
            .extend([Anchor::LastFormula, Anchor::LastNumber]);
        all
    }

    /// The bytes of the answer, without blanks and emphasis around it.
    ///
    /// # Errors
    /// [`Incorrect::NoAnswer`], [`Incorrect::EmptyAnswer`], [`Incorrect::UnclosedBox`] or
    /// [`Incorrect::UnclosedReasoning`].
    pub fn find(&self, response: &str) -> Result<Range<usize>, Incorrect> {
        self.answer(response).map(|found| found.span)
    }

    /// The answer.
    pub(crate) fn answer<'r>(&self, response: &'r str) -> Result<Found<'r>, Incorrect> {
        match self.candidates(response)?.next() {
            Some(found) if !found.span.is_empty() => Ok(found),
            Some(_) => Err(Incorrect::EmptyAnswer),
            None => {
                let text = &response[self.region(response)?..];
                let is_open = self.anchors.contains(&Anchor::Boxed)
                    && ["\\boxed{", "\\fbox{"]
                        .iter()
                        .any(|box_| text.contains(box_));
                Err(if is_open {
                    Incorrect::UnclosedBox
                } else {
                    Incorrect::NoAnswer
                })
            }
        }
    }

    /// What each kind of anchor finds, in their order, as far as it stands behind what the kinds
    /// before found: the first is the answer, others are for those who cannot use it.
    pub(crate) fn candidates<'r>(
        &self,
        response: &'r str,
    ) -> Result<impl Iterator<Item = Found<'r>>, Incorrect> {
        let from = self.region(response)?;
        let text = &response[from..];
        let mut end = 0;
        Ok(self.anchors.iter().filter_map(move |anchor| {
            let found = self.found(text, *anchor)?;
            let is_behind = found.span.start >= end;
            end = end.max(found.span.end);
            let span = from + found.span.start..from + found.span.end;
            is_behind.then_some(Found { span, ..found })
        }))
    }

    fn found<'r>(&self, text: &'r str, anchor: Anchor) -> Option<Found<'r>> {
        let mut is_stated = false;
        let range = match anchor {
            Anchor::Boxed => return last_box(text).map(|range| boxed(text, range)),
            Anchor::AnswerTag => last_tag(text)?,
            Anchor::Hashes => {
                let hashes = last_hashes(text)?;
                let phrase = self
                    .anchors
                    .contains(&Anchor::Phrase)
                    .then(|| last_phrase(text))
                    .flatten();
                if is_heading(text, &hashes, phrase.as_ref()) {
                    return None;
                }
                is_stated = true;
                hashes
            }
            Anchor::Phrase => {
                is_stated = true;
                last_phrase(text)?
            }
            Anchor::LastFormula => return last_formula(text).map(|range| bare(text, range)),
            Anchor::LastNumber => return last_number(text).map(|range| bare(text, range)),
        };
        let answer = match marks::plain(&text[range.clone()]) {
            Cow::Borrowed(plain) => Cow::Borrowed(&plain[marks::trimmed(plain, 0..plain.len())]),
            Cow::Owned(plain) => {
                Cow::Owned(plain[marks::trimmed(&plain, 0..plain.len())].to_owned())
            }
        };
        let span = marks::trimmed(text, range);
        Some(Found {
            span,
            answer,
            is_stated,
        })
    }

    pub(crate) fn region(&self, response: &str) -> Result<usize, Incorrect> {
        const CLOSE: &str = "</think>";
        if self.reasoning == Reasoning::Ignore {
            return Ok(0);
        }
        let start = match response.rfind(CLOSE) {
            Some(at) => at + CLOSE.len(),
            None if self.reasoning == Reasoning::Required => {
                return Err(Incorrect::UnclosedReasoning);
            }
            None => 0,
        };
        if response[start..].contains("<think>") {
            return Err(Incorrect::UnclosedReasoning);
        }
        Ok(start)
    }
}

/// A span without blanks around it, graded as it stands.
fn bare(text: &str, range: Range<usize>) -> Found<'_> {
    let part = &text[range.clone()];
    let start = range.start + (part.len() - part.trim_start().len());
    Found::at(text, start..start + part.trim().len())
}

/// The contents of a box. A percent sign may stand behind the brace: `\boxed{5}\%`.
fn boxed(text: &str, range: Range<usize>) -> Found<'_> {
    let behind = text[range.end..].strip_prefix('}').unwrap_or_default();
    let behind = behind
        .strip_prefix('$')
        .unwrap_or(behind)
        .trim_start_matches("\\,")
        .trim_start_matches("\\ ");
    let inner = &text[range.clone()];
    let labelled = range.start + inner.len() - without_label(inner).len();
    let mut found = bare(text, labelled..range.end);
    if behind.starts_with(['%']) || behind.starts_with("\\%") {
        found.answer = Cow::Owned(format!("{}\\%", found.answer));
    }
    found
}

/// A box without a label that says what is in it: `\text{Answer: }5`.
fn without_label(inner: &str) -> &str {
    let (label, rest) = match inner.trim_start().strip_prefix("\\text{") {
        Some(text) => text.split_once('}').unwrap_or_default(),
        None => inner
            .find(':')
            .map_or(("", ""), |at| inner.split_at(at + 1)),
    };
    let label = label.trim().trim_end_matches(':').trim_end();
    let mut labels = "answer, final answer, the answer, answer is, the answer is".split(", ");
    let is_label = labels.any(|known| known.eq_ignore_ascii_case(label));
    if is_label && !rest.trim().is_empty() {
        rest
    } else {
        inner
    }
}

/// What an anchor found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found<'r> {
    /// Bytes of the response, without blanks around them.
    pub(crate) span: Range<usize>,
    /// What is graded: the span without emphasis, with a percent sign that stands behind its box.
    pub(crate) answer: Cow<'r, str>,
    /// Whether prose states it, and not a box or a tag.
    pub(crate) is_stated: bool,
}

impl<'r> Found<'r> {
    /// A span that is graded as it stands.
    pub(crate) fn at(response: &'r str, span: Range<usize>) -> Self {
        Self {
            answer: Cow::Borrowed(&response[span.clone()]),
            span,
            is_stated: false,
        }
    }

    /// Whether an exclamation mark directly behind a stated answer might be a factorial.
    pub(crate) fn ends_in_exclamation(&self, response: &str) -> bool {
        self.is_stated
            && response[self.span.end..].starts_with('!')
            && self
                .answer
                .ends_with(|c: char| c.is_alphanumeric() || c == ')')
    }
}

/// The first announcement of an answer that any verifier knows, as a byte offset: `####`, `\boxed`,
/// `\fbox`, `</think>`, `<answer>`, or a phrase such as "the answer is" or a heading "Final answer".
/// What is shown of a solution without its answer ends here.
///
/// ```
/// use g2rpo_verify::first_announcement;
///
/// assert_eq!(first_announcement("48 + 24 = 72 #### 72"), Some(13));
/// assert_eq!(first_announcement("So the answer (in dollars) is 72."), Some(7));
/// assert_eq!(first_announcement("48 + 24 = 72"), None);
/// ```
#[must_use]
pub fn first_announcement(text: &str) -> Option<usize> {
    let marks = ["####", "\\boxed", "\\fbox", "</think>", "<answer>"];
    let mark = marks.iter().filter_map(|mark| text.find(mark)).min();
    let before = &text[..mark.unwrap_or(text.len())];
    // A heading may be announced by the line that the mark begins.
    let phrase = announce::first(text, 0).map(|phrase| phrase.start);
    phrase.filter(|start| *start < before.len()).or(mark)
}

fn last_tag(text: &str) -> Option<Range<usize>> {
    let end = text.rfind("</answer>")?;
    let start = text[..end].rfind("<answer>")? + "<answer>".len();
    let inner = &text[start..end];
    // `<answer>The answer is 5.</answer>`
    Some(match last_phrase(inner) {
        Some(range) => start + range.start..start + range.end,
        None => start..end,
    })
}

fn last_hashes(text: &str) -> Option<Range<usize>> {
    let start = text.rfind("####")? + 4;
    // The number may stand on the next line.
    let lead = text[start..].len() - text[start..].trim_start().len();
    stated(text, start + lead).or(Some(start..start))
}

/// Whether what stands behind `####` is a heading and no answer: words, and a phrase behind them.
fn is_heading(text: &str, hashes: &Range<usize>, phrase: Option<&Range<usize>>) -> bool {
    !text[hashes.clone()].contains(|c: char| c.is_ascii_digit() || matches!(c, '$' | '\\'))
        && phrase.is_some_and(|phrase| phrase.start > hashes.start)
}

fn last_phrase(text: &str) -> Option<Range<usize>> {
    announce::backwards(text).find_map(|phrase| stated(text, phrase.content))
}

fn last_formula(text: &str) -> Option<Range<usize>> {
    let mut best: Option<Range<usize>> = None;
    for (open, close) in [("$$", "$$"), ("\\[", "\\]"), ("\\(", "\\)"), ("$", "$")] {
        let Some(end) = text.rfind(close) else {
            continue;
        };
        let Some(start) = text[..end].rfind(open).map(|s| s + open.len()) else {
            continue;
        };
        if !text[start..end].trim().is_empty() && best.as_ref().is_none_or(|b| end > b.end) {
            best = Some(start..end);
        }
    }
    best
}

fn last_number(text: &str) -> Option<Range<usize>> {
    let bytes = text.as_bytes();
    let end = bytes.iter().rposition(u8::is_ascii_digit)? + 1;
    let mut start = end;
    while start > 0
        && (bytes[start - 1].is_ascii_digit() || matches!(bytes[start - 1], b',' | b'.' | b'/'))
    {
        start -= 1;
    }
    while start < end && !bytes[start].is_ascii_digit() && bytes[start] != b'.' {
        start += 1;
    }
    if start > 0 && bytes[start - 1] == b'-' {
        start -= 1;
    }
    Some(start..end)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(extraction: &Extraction, response: &str) -> Option<String> {
        let span = extraction.find(response).ok()?;
        Some(response[span].to_owned())
    }

    #[test]
    fn the_last_complete_box_counts() {
        let strict = Extraction::strict();
        for (response, want) in [
            ("\\boxed{5}", Some("5")),
            ("\\boxed{4} no, \\boxed{5}", Some("5")),
            ("\\boxed {5}", Some("5")),
            ("\\fbox{ 5 }", Some("5")),
            ("\\boxed{\\frac{1}{2}} and \\boxed{3", Some("\\frac{1}{2}")),
            ("\\boxed{\\{1,2\\}}", Some("\\{1,2\\}")),
            ("$\\boxed 5$", Some("5")),
            ("\\boxed{\\boxed{5}}", Some("\\boxed{5}")),
            ("\\boxed{}", None),
            ("\\boxed{", None),
            ("answer is 5", None),
            ("\\boxedfoo{5}", None),
        ] {
            assert_eq!(found(&strict, response).as_deref(), want, "{response}");
        }
    }

    #[test]
    fn joined_boxes_are_one_answer() {
        let strict = Extraction::strict();
        for joined in [
            "$\\boxed{1}$ and $\\boxed{2}$",
            "\\boxed{1}, \\boxed{2}",
            "\\boxed{1} or \\boxed{2}",
        ] {
            let got = found(&strict, joined).unwrap();
            assert!(
                got.contains("\\boxed{1}") && got.ends_with("\\boxed{2}"),
                "{got}"
            );
        }
        assert_eq!(
            found(&strict, "\\boxed{1}. So \\boxed{2}").as_deref(),
            Some("2")
        );
    }

    #[test]
    fn reasoning_is_no_answer() {
        let all = Extraction::default();
        assert_eq!(
            all.find("<think>\\boxed{5}"),
            Err(Incorrect::UnclosedReasoning)
        );
        assert_eq!(
            all.find("<think>\\boxed{5}</think>"),
            Err(Incorrect::NoAnswer)
        );
        let reopened = "<think></think>\\boxed{5}<think>";
        assert_eq!(all.find(reopened), Err(Incorrect::UnclosedReasoning));
        assert_eq!(
            found(&all, "\\boxed{4}</think>\\boxed{5}").as_deref(),
            Some("5")
        );
        let required = Extraction {
            reasoning: Reasoning::Required,
            ..Extraction::default()
        };
        assert_eq!(
            required.find("\\boxed{5}"),
            Err(Incorrect::UnclosedReasoning)
        );
    }

    #[test]
    fn a_missing_answer_says_how() {
        let all = Extraction::default();
        for (response, want) in [
            ("so \\boxed{5", Incorrect::UnclosedBox),
            ("so \\boxed{\\frac{1}{2}", Incorrect::UnclosedBox),
            ("so \\boxed{}", Incorrect::EmptyAnswer),
            ("so\n####", Incorrect::EmptyAnswer),
            ("so", Incorrect::NoAnswer),
            ("", Incorrect::NoAnswer),
        ] {
            assert_eq!(all.find(response), Err(want), "{response}");
        }
    }

    #[test]
    fn anchors_are_tried_in_order() {
        let all = Extraction::default();
        for (response, want) in [
            ("<answer> 42 </answer>", Some("42")),
            ("<answer>The answer is 42.</answer>", Some("42")),
            ("so\n#### 42\nbye", Some("42")),
            (
                "The final answer is $\\frac12$. I hope it is correct.",
                Some("$\\frac12$"),
            ),
            ("**Answer:** 3.5", Some("3.5")),
            ("The answer is: 5 or 6.", Some("5 or 6")),
            ("The answer is not 5", Some("not 5")),
            ("My answer changed. The answer is 5. OK", Some("5")),
            ("42", None),
        ] {
            assert_eq!(found(&all, response).as_deref(), want, "{response}");
        }
        let flexible = Extraction::flexible();
        assert_eq!(found(&flexible, "so $x+1$ it").as_deref(), Some("x+1"));
        assert_eq!(
            found(&flexible, "we get -1,234.5 .").as_deref(),
            Some("-1,234.5")
        );
    }
}
