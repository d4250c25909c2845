//! Phrases that announce an answer: "the answer (in dollars) is", "Answer:", a heading "Final Answer".

use super::marks::leading;
use super::words::word_at;
use crate::list::{among, words};

const NOUN: &str = "answer";
/// Words between the noun and its verb: "the answer to the second question is".
const MAX_WORDS: usize = 10;
/// Longest line that is looked at for a heading.
const MAX_HEADING: usize = 120;

/// A phrase that announces an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Announcement {
    /// Where its noun begins.
    pub(super) start: usize,
    /// Where what it announces begins.
    pub(super) content: usize,
}

/// The announcement at or behind `from` that comes first.
pub(super) fn first(text: &str, from: usize) -> Option<Announcement> {
    (from..text.len()).find_map(|at| announcement_at(text, at))
}

/// Announcements from the last to the first.
pub(super) fn backwards(text: &str) -> impl Iterator<Item = Announcement> {
    (0..text.len())
        .rev()
        .filter_map(|at| announcement_at(text, at))
}

fn announcement_at(text: &str, at: usize) -> Option<Announcement> {
    let bytes = text.as_bytes();
    let behind = at + NOUN.len();
    let is_noun = bytes.get(at..behind)?.eq_ignore_ascii_case(NOUN.as_bytes())
        && !text[..at].ends_with(char::is_alphanumeric);
    if !is_noun {
        return None;
    }
    let plural = bytes.get(behind).is_some_and(|b| matches!(b, b's' | b'S'));
    let behind = behind + usize::from(plural);
    if text[behind..].starts_with(|c: char| c.is_alphanumeric()) {
        return None;
    }
    let content = presented(text, behind).or_else(|| headed(text, at, behind))?;
    Some(Announcement { start: at, content })
}

/// Where the content begins, if what follows the noun presents one.
fn presented(text: &str, behind: usize) -> Option<usize> {
    let mut at = behind;
    // Words other than verbs may stand between only if one of these begins them.
    let mut is_open = false;
    for count in 0..MAX_WORDS {
        let rest = &text[at..];
        let inner = rest.trim_start_matches([' ', '\t', '*', '_', '`']);
        at = text.len() - inner.len();
        if let Some(sign) = [":", "：", "=>", "=", "→", "->", "⇒"]
            .iter()
            .find(|sign| inner.starts_with(**sign))
        {
            return Some(at + sign.len());
        }
        if inner.starts_with('(') {
            let close = inner
                .bytes()
                .take(80)
                .position(|b| b == b')' || b == b'\n')?;
            if inner.as_bytes()[close] == b'\n' {
                return None;
            }
            at += close + 1;
            continue;
        }
        if let Some(rest) = inner.strip_prefix(',') {
            is_open |= count == 0;
            if !is_open {
                return None;
            }
            at = text.len() - rest.len();
            continue;
        }
        let word = word_at(inner);
        if word.is_empty() {
            return None;
        }
        if let Some(length) = verb(inner) {
            return Some(at + length);
        }
        is_open |= count == 0 && opens(word);
        if !is_open && !is_adverb(word) {
            return None;
        }
        at += word.len();
    }
    None
}

/// Bytes of the verb that presents an answer, if `text` begins with one. "is not" does not: what
/// follows it is read, and refused.
fn verb(text: &str) -> Option<usize> {
    let verbs = words!(
        b'|',
        "would then be|should then be|should therefore be|must therefore be|\
         would therefore be|will therefore be|turns out to be|comes out to be|works out to be|\
         has to be|would be|will be|should be|must be|comes out to|comes out as|\
         works out to|comes to|amounts to|becomes|equals|were|was|are|is|reads"
    );
    verbs.iter().find_map(|verb| {
        let (head, rest) = text.split_at_checked(verb.len())?;
        let is_here = head.eq_ignore_ascii_case(verb);
        (is_here && !rest.starts_with(char::is_alphanumeric)).then_some(verb.len())
    })
}

/// Words that tie a phrase to the noun.
fn opens(word: &str) -> bool {
    among!(
        word,
        "to for in of as we that choice option letter key here value from",
    )
}

fn is_adverb(word: &str) -> bool {
    among!(word, "therefore thus then hence now simply also")
}

/// Where the content begins, if the noun ends a heading: the next line.
fn headed(text: &str, at: usize, behind: usize) -> Option<usize> {
    let rest = text[behind..].trim_start_matches([' ', '\t', '*', '_', '#', '\r']);
    let next = rest.strip_prefix('\n')?;
    let mut from = at.saturating_sub(MAX_HEADING);
    while !text.is_char_boundary(from) {
        from += 1;
    }
    let line = match text[from..at].rfind('\n') {
        Some(newline) => &text[from + newline + 1..at],
        None if from == 0 => &text[..at],
        None => return None,
    };
    let is_marked = line.trim_start().starts_with(['#', '*', '_']);
    let words = line
        .split(|c: char| !c.is_alphanumeric())
        .filter(|w| !w.is_empty());
    let is_heading = if is_marked {
        words.count() <= 6 && !line.contains(['.', '?', '!', ','])
    } else {
        leading(line) == line.len()
            || line.trim().split(' ').all(|word| {
                among!(
                    word,
                    "the my our your final correct short numerical so thus therefore"
                )
            })
    };
    is_heading.then_some(text.len() - next.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(text: &str) -> Option<&str> {
        first(text, 0).map(|a| text[a.content..].trim())
    }

    #[test]
    fn announcements_present_what_follows() {
        for text in [
            "The answer is 5",
            "the answer (arabic numerals) is 5",
            "The answers are 5",
            "**Answer**: 5",
            "The answer to the second question is 5",
            "The answer, in dollars, is 5",
            "Answer for part (b): 5",
            "The answer should therefore be 5",
            "### Final Answer\n\n5",
            "**Final Answer**\n5",
            "Final answer\n5",
            "the answer we get is 5",
        ] {
            assert_eq!(
                content(text).map(|c| c.trim_matches([' ', '\n', '*'])),
                Some("5"),
                "{text}"
            );
        }
    }

    #[test]
    fn the_word_alone_announces_nothing() {
        for text in [
            "The answer depends on x, which is 5",
            "I do not know the answer\n5",
            "answered: 5",
            "The answer isn't 5",
            "answer issues",
            "no answer",
        ] {
            assert_eq!(content(text), None, "{text}");
        }
    }
}
