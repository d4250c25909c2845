//! Marks around an answer that are no part of it: emphasis, quotes, tokens that end a turn, delimiters of formulas.

use std::borrow::Cow;
use std::ops::Range;

use crate::list::words;

/// Signs of Markdown, and quotes. A lone `'` is not among them: it may be a prime.
const SIGNS: [char; 7] = ['*', '_', '`', '"', '“', '”', '~'];
const TAGS: &[&str] =
    words!("<b> </b> <strong> </strong> <i> </i> <em> </em> <u> </u> <br> <br/> <p> </p>");

/// A formula between single dollars is no longer than this.
const MAX_INLINE: usize = 2048;

/// The part of `range` without blanks and marks at its ends.
pub(super) fn trimmed(text: &str, range: Range<usize>) -> Range<usize> {
    let start = range.start + leading(&text[range.clone()]);
    let mut rest = &text[start..range.end];
    loop {
        let before = rest.len();
        rest = rest
            .trim_end_matches(|c: char| c.is_whitespace() || SIGNS.contains(&c) || is_picture(c));
        for tag in TAGS {
            rest = rest.strip_suffix(tag).unwrap_or(rest);
        }
        rest = without_quote(rest);
        if rest.len() == before {
            return start..start + rest.len();
        }
    }
}

/// Bytes of blanks and marks that `text` begins with.
pub(super) fn leading(text: &str) -> usize {
    let mut rest = text;
    loop {
        let before = rest.len();
        rest = rest
            .trim_start_matches(|c: char| c.is_whitespace() || SIGNS.contains(&c) || is_picture(c));
        for tag in TAGS {
            rest = rest.strip_prefix(tag).unwrap_or(rest);
        }
        if rest.starts_with('\'') && rest.len() > 1 && rest[1..].contains('\'') {
            rest = &rest[1..];
        }
        if rest.len() == before {
            return text.len() - rest.len();
        }
    }
}

/// Takes off a closing quote whose opening one is gone: `12'` is no prime.
fn without_quote(text: &str) -> &str {
    match text.strip_suffix('\'') {
        Some(head) if head.ends_with(|c: char| c.is_ascii_digit()) => head,
        _ => text,
    }
}

/// Ticks, stars and faces; no sign of mathematics is among them.
fn is_picture(c: char) -> bool {
    matches!(u32::from(c), 0x2600..=0x27bf | 0xfe0f | 0x1f000..=0x1faff)
}

/// Length of the token that ends a turn or pads a batch, if `text` begins with one:
/// `<|im_end|>`, `</s>`, `<｜end▁of▁sentence｜>`.
pub(super) fn control_token(text: &str) -> Option<usize> {
    let plain = words!("</s> <s> <eos> <pad> <end_of_turn> <start_of_turn> [EOS] [PAD]");
    if let Some(token) = plain.iter().find(|token| text.starts_with(**token)) {
        return Some(token.len());
    }
    for (open, close) in [("<|", "|>"), ("<｜", "｜>")] {
        if let Some(inner) = text.strip_prefix(open) {
            let name =
                inner.find(|c: char| c.is_whitespace() || matches!(c, '|' | '｜' | '<' | '>'))?;
            return (name > 0 && inner[name..].starts_with(close))
                .then_some(open.len() + name + close.len());
        }
    }
    None
}

/// Bytes of the formula with its delimiters that `text` begins with. A `$` before a price opens none.
pub(super) fn formula(text: &str) -> Option<usize> {
    for (open, close) in [("$$", "$$"), ("\\[", "\\]"), ("\\(", "\\)")] {
        if let Some(inner) = text.strip_prefix(open) {
            return inner.find(close).map(|end| open.len() + end + close.len());
        }
    }
    let inner = text.strip_prefix('$')?;
    let bytes = inner.as_bytes();
    let end = (0..bytes.len().min(MAX_INLINE))
        .find(|&i| bytes[i] == b'$' && (i == 0 || bytes[i - 1] != b'\\'))?;
    let (content, behind) = (&inner[..end], &inner[end + 1..]);
    let is_price = behind.starts_with(|c: char| c.is_ascii_digit())
        || content.contains("\n\n")
        || (content
            .trim_start()
            .starts_with(|c: char| c.is_ascii_digit())
            || content.ends_with(char::is_whitespace))
            && has_prose(content);
    (!is_price && !content.trim().is_empty()).then_some(end + 2)
}

/// Whether words stand in the open, as they do between two prices.
fn has_prose(content: &str) -> bool {
    let mut depth = 0usize;
    let mut word = 0;
    let mut is_command = false;
    for c in content.chars() {
        match c {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if c.is_alphabetic() {
            word += 1;
            if word >= 3 && !is_command && depth == 0 {
                return true;
            }
        } else {
            is_command = c == '\\';
            word = 0;
        }
    }
    false
}

/// `text` without emphasis inside: `**12** eggs` is `12 eggs`, `~~11~~ 12` is `12`. Powers written as `2**3` stay.
pub(super) fn plain(text: &str) -> Cow<'_, str> {
    if !text.contains(['*', '_', '`', '~']) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut i = 0;
    // Closing runs that belong to an opening one which was dropped.
    let mut closing: Vec<(usize, usize)> = Vec::new();
    while let Some(c) = text[i..].chars().next() {
        if let Some(length) = formula(&text[i..]) {
            out.push_str(&text[i..i + length]);
            i += length;
            continue;
        }
        if let Some(at) = closing.iter().position(|(start, _)| *start == i) {
            i += closing.swap_remove(at).1;
            continue;
        }
        if !matches!(c, '*' | '_' | '`' | '~') {
            out.push(c);
            i += c.len_utf8();
            continue;
        }
        let run = text[i..].len() - text[i..].trim_start_matches(c).len();
        match close_of(text, i, run) {
            Some(end) if c == '~' => i = end + run,
            Some(end) => {
                closing.push((end, run));
                i += run;
            }
            None if run >= 2 && ends_emphasis(text, i, run) => i += run,
            None => {
                out.push_str(&text[i..i + run]);
                i += run;
            }
        }
    }
    Cow::Owned(out)
}

/// Where the run of marks that closes the one of length `run` at `at` begins.
fn close_of(text: &str, at: usize, run: usize) -> Option<usize> {
    let mark = &text[at..at + run];
    let sign = mark.as_bytes()[0];
    let opens = !text[..at].ends_with(|c: char| c.is_alphanumeric() || c == ')')
        && text[at + run..].starts_with(|c: char| !c.is_whitespace());
    if !opens || sign == b'~' && run != 2 {
        return None;
    }
    // Emphasis is short; longer answers are refused anyway.
    let limit = text.len().min(at + run + 1024);
    let bytes = text.as_bytes();
    let mut i = at + run;
    while i < limit {
        if bytes[i] != sign {
            i += 1;
            continue;
        }
        let length = bytes[i..].iter().take_while(|b| **b == sign).count();
        let closes = !text[..i].ends_with(char::is_whitespace)
            && !text[i + length..].starts_with(|c: char| c.is_alphanumeric() || c == '(');
        if closes && length == run {
            return Some(i);
        }
        i += length;
    }
    None
}

/// Whether a run of marks closes emphasis that was opened before `text` begins.
fn ends_emphasis(text: &str, at: usize, run: usize) -> bool {
    let behind = text[at + run..].trim_start();
    !text[..at].ends_with(char::is_whitespace)
        && (text.len() == at + run
            || text[at + run..].starts_with(|c: char| !c.is_alphanumeric() && c != '('))
        && !behind.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '-' | '+'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_come_off_at_the_ends() {
        for text in [
            "**12**",
            " `12` ",
            "\"12\"",
            "<b>12</b>",
            "**12** ✅",
            "'12'",
            "***12***",
            "__12__",
        ] {
            assert_eq!(&text[trimmed(text, 0..text.len())], "12", "{text}");
        }
        assert_eq!(&"f'"[trimmed("f'", 0..2)], "f'");
    }

    #[test]
    fn emphasis_inside_is_dropped_and_powers_are_not() {
        for (text, want) in [
            ("**12** eggs", "12 eggs"),
            ("12** eggs", "12 eggs"),
            ("2**3", "2**3"),
            ("2*3*4", "2*3*4"),
            ("**3** * **4**", "3 * 4"),
            ("~~11~~ 12", " 12"),
            ("x_1 + y_2", "x_1 + y_2"),
            ("$a_1*b_1*c$ *so*", "$a_1*b_1*c$ so"),
            ("**1**2", "**1**2"),
        ] {
            assert_eq!(plain(text), want, "{text}");
        }
    }

    #[test]
    fn tokens_that_end_a_turn_are_known() {
        for token in [
            "<|im_end|>",
            "</s>",
            "<｜end▁of▁sentence｜>",
            "<end_of_turn>",
        ] {
            assert_eq!(
                control_token(&format!("{token}x")),
                Some(token.len()),
                "{token}"
            );
        }
        for text in ["<|a b|>", "<b>", "<||>", "<|open", "x<|im_end|>"] {
            assert_eq!(control_token(text), None, "{text}");
        }
    }

    #[test]
    fn a_price_opens_no_formula() {
        assert_eq!(formula("$x+1$, so"), Some(5));
        assert_eq!(formula("$ 5 $"), Some(5));
        assert_eq!(formula("$$5$$"), Some(5));
        assert_eq!(formula("$18, because each costs $2"), None);
        assert_eq!(formula("$5/$10"), None);
        assert_eq!(formula("$5 or $6"), None);
        assert_eq!(formula("$18"), None);
        assert_eq!(formula("$\\text{if } x$"), Some(14));
    }
}
