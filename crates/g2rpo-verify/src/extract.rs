use std::ops::Range;

use crate::Incorrect;

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
    /// The rest of the line behind the last `####`.
    Hashes,
    /// What follows the last "answer is", "answer:" or "answer =", to the end of the sentence.
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

    /// The bytes of the answer, without blanks around it.
    ///
    /// # Errors
    /// [`Incorrect::NoAnswer`] or [`Incorrect::UnclosedReasoning`].
    pub fn find(&self, response: &str) -> Result<Range<usize>, Incorrect> {
        let start = self.region(response)?;
        let text = &response[start..];
        for anchor in &self.anchors {
            let found = match anchor {
                Anchor::Boxed => last_box(text),
                Anchor::AnswerTag => last_tag(text),
                Anchor::Hashes => last_hashes(text),
                Anchor::Phrase => last_phrase(text),
                Anchor::LastFormula => last_formula(text),
                Anchor::LastNumber => last_number(text),
            };
            if let Some(range) = found {
                let range = trimmed(text, range);
                return if range.is_empty() {
                    Err(Incorrect::NoAnswer)
                } else {
                    Ok(start + range.start..start + range.end)
                };
            }
        }
        Err(Incorrect::NoAnswer)
    }

    fn region(&self, response: &str) -> Result<usize, Incorrect> {
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

fn trimmed(text: &str, range: Range<usize>) -> Range<usize> {
    let part = &text[range.clone()];
    let start = range.start + (part.len() - part.trim_start().len());
    start..start + part.trim().len()
}

/// Every complete box as (start of the command, contents), in the order of their starts.
fn boxes(text: &str) -> Vec<(usize, Range<usize>)> {
    let bytes = text.as_bytes();
    let mut found = Vec::new();
    // One pass with a stack of open braces, so that a thousand open boxes cost a thousand steps.
    let mut open: Vec<Option<usize>> = Vec::new();
    let mut starts: Vec<(usize, usize)> = Vec::new();
    let mut pending: Option<usize> = None;
    let mut i = 0;
    while i < bytes.len() {
        match bytes[i] {
            b'\\' => {
                let rest = &text[i..];
                let command = ["\\boxed", "\\fbox"].iter().find(|c| rest.starts_with(**c));
                if let Some(command) = command {
                    let after = &rest[command.len()..];
                    if !after.starts_with(|c: char| c.is_ascii_alphabetic()) {
                        pending = Some(i);
                        i += command.len();
                        continue;
                    }
                }
                pending = None;
                i += 1 + rest[1..].chars().next().map_or(0, char::len_utf8);
                continue;
            }
            b'{' => {
                open.push(pending.take());
                starts.push((i, 0));
            }
            b'}' => {
                pending = None;
                if let (Some(command), Some((brace, _))) = (open.pop(), starts.pop())
                    && let Some(command) = command
                {
                    found.push((command, brace + 1..i));
                }
            }
            b' ' | b'\t' | b'\n' | b'\r' => {}
            b if pending.is_some() => {
                // `\boxed 5$`: without braces the box holds what is up to a blank or a dollar.
                let command = pending.take().unwrap_or(i);
                if b.is_ascii_digit() || b == b'-' {
                    let rest = &text[i..];
                    let end = rest
                        .find(|c: char| c.is_whitespace() || c == '$' || c == '\\')
                        .unwrap_or(rest.len());
                    found.push((command, i..i + end));
                }
            }
            _ => {}
        }
        i += 1;
    }
    found.sort_unstable_by_key(|(command, _)| *command);
    found
}

fn last_box(text: &str) -> Option<Range<usize>> {
    let all = boxes(text);
    // A box inside the last outer box is a part of it.
    let mut outer: Vec<(usize, Range<usize>)> = Vec::new();
    for (command, range) in all {
        if outer.last().is_none_or(|(_, last)| command >= last.end) {
            outer.push((command, range));
        }
    }
    let (mut command, last) = outer.pop()?;
    let mut start = last.start;
    while let Some((before, range)) = outer.pop() {
        if !is_joint(&text[range.end..command]) {
            break;
        }
        (command, start) = (before, range.start);
        // Longer answers are refused anyway.
        if last.end - start > 8192 {
            break;
        }
    }
    // The joined span keeps the inner commands; the reader of answers knows boxes.
    if start == last.start {
        Some(last)
    } else {
        Some(command..last.end + usize::from(text[last.end..].starts_with('}')))
    }
}

/// Whether the text between two boxes only joins them. It begins with the brace of the first.
fn is_joint(between: &str) -> bool {
    if between.len() > 40 {
        return false;
    }
    let mut rest = between.trim_start_matches('}').to_owned();
    for noise in [
        "$", "\\text", "\\(", "\\)", "\\quad", "\\,", "\\;", "{", "}", "~", "**",
    ] {
        rest = rest.replace(noise, " ");
    }
    let words: Vec<&str> = rest.split_whitespace().collect();
    matches!(
        words.as_slice(),
        [","] | ["and"] | ["or"] | [",", "and"] | [",", "or"] | [";"] | ["&"]
    )
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
    let rest = &text[start..];
    // The number may stand on the next line.
    let lead = rest.len() - rest.trim_start().len();
    let end = rest[lead..].find('\n').map_or(rest.len(), |n| lead + n);
    Some(start..start + end)
}

fn last_phrase(text: &str) -> Option<Range<usize>> {
    let bytes = text.as_bytes();
    let at = (0..bytes.len().saturating_sub(5))
        .rev()
        .find(|&i| bytes[i..i + 6].eq_ignore_ascii_case(b"answer") && introduces(&text[i + 6..]))?;
    let mut start = at + 6;
    loop {
        let rest = &text[start..];
        let lead = rest.len()
            - rest
                .trim_start_matches([' ', '\t', '*', ':', '=', '_'])
                .len();
        start += lead;
        let rest = &text[start..];
        let word = ["is", "are", "would be", "will be", "was", "should be"]
            .iter()
            .find(|w| {
                rest.get(..w.len())
                    .is_some_and(|r| r.eq_ignore_ascii_case(w))
                    && !rest[w.len()..].starts_with(|c: char| c.is_alphanumeric())
            });
        match word {
            Some(word) => start += word.len(),
            None if lead == 0 => break,
            None => {}
        }
    }
    // "The answer is:\n\n$$5$$"
    let rest = &text[start..];
    start += rest.len() - rest.trim_start().len();
    let rest = &text[start..];
    Some(start..start + sentence_end(rest))
}

/// Whether what follows the word "answer" presents it.
fn introduces(rest: &str) -> bool {
    let rest = rest.trim_start_matches([' ', '*', '_']);
    rest.starts_with([':', '='])
        || ["is", "are", "was", "would be", "will be", "should be"]
            .iter()
            .any(|w| {
                rest.get(..w.len())
                    .is_some_and(|r| r.eq_ignore_ascii_case(w))
                    && !rest[w.len()..].starts_with(|c: char| c.is_alphanumeric())
            })
}

/// The end of the sentence or line; periods inside numbers and formulas do not end it.
fn sentence_end(text: &str) -> usize {
    // Longer answers are refused anyway.
    let mut limit = text.len().min(8192);
    while !text.is_char_boundary(limit) {
        limit -= 1;
    }
    let text = &text[..limit];
    let mut delimiters = vec![("$$", "$$"), ("\\[", "\\]"), ("\\(", "\\)"), ("$", "$")];
    let mut formula: Option<&str> = None;
    let mut i = 0;
    while i < text.len() {
        let rest = &text[i..];
        if let Some(close) = formula {
            if rest.starts_with(close) {
                formula = None;
                i += close.len();
                continue;
            }
        } else {
            if let Some(at) = delimiters
                .iter()
                .position(|(open, _)| rest.starts_with(open))
            {
                let (open, close) = delimiters[at];
                if rest[open.len()..].contains(close) {
                    formula = Some(close);
                } else {
                    // What is not closed here is not closed later: look for it only once.
                    delimiters.remove(at);
                }
                i += open.len();
                continue;
            }
            let c = rest.as_bytes()[0];
            let next = rest.as_bytes().get(1);
            if c == b'\n'
                || (c == b'.' && next.is_none_or(|b| b.is_ascii_whitespace() || *b == b'*'))
            {
                return i;
            }
        }
        i += rest.chars().next().map_or(1, char::len_utf8);
    }
    limit
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
