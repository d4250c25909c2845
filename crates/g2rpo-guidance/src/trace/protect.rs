//! Parts of a text within which it must not be cut.

use std::ops::Range;

use crate::defaults::settings;

settings! {
    /// Parts of a text within which it must not be cut.
    #[derive(Copy, Eq)]
    pub struct Protected {
        /// Calculator marks `<<48/2=24>>`, as in GSM8K.
        pub calculator_marks: bool = true,
        /// Tags such as `<think>` or `<|im_end|>`: the tag itself, not what it encloses.
        pub tags: bool = true,
        /// Code fences from one line of three or more back-ticks or tildes to the next. A fence that
        /// is never closed reaches to the end.
        pub code_fences: bool = true,
    }
}

/// Longest tag that is recognised, in bytes: a `<` further from its `>` is a comparison sign.
const MAX_TAG_LEN: usize = 64;

impl Protected {
    /// Nothing is protected.
    pub fn none() -> Self {
        Self {
            calculator_marks: false,
            tags: false,
            code_fences: false,
        }
    }

    /// Byte ranges that a cut must not fall into; a cut at either end is fine. In order of their
    /// start.
    ///
    /// ```
    /// use g2rpo_guidance::Protected;
    /// assert_eq!(Protected::default().ranges("6 = <<2*3=6>>6"), [4..13]);
    /// ```
    pub fn ranges(&self, text: &str) -> Vec<Range<usize>> {
        let mut ranges = Vec::new();
        if self.calculator_marks {
            calculator_marks(text, &mut ranges);
        }
        if self.tags {
            tags(text, &mut ranges);
        }
        if self.code_fences {
            code_fences(text, &mut ranges);
        }
        ranges.sort_unstable_by_key(|r| (r.start, r.end));
        ranges
    }
}

fn calculator_marks(text: &str, ranges: &mut Vec<Range<usize>>) {
    let mut from = 0;
    while let Some(start) = text[from..].find("<<").map(|i| from + i) {
        let line_end = text[start..].find('\n').map_or(text.len(), |i| start + i);
        match text[start..line_end].find(">>") {
            Some(i) => {
                ranges.push(start..start + i + 2);
                from = start + i + 2;
            }
            None => from = start + 2,
        }
    }
}

fn tags(text: &str, ranges: &mut Vec<Range<usize>>) {
    for (start, _) in text.match_indices('<') {
        let body = &text.as_bytes()[start + 1..text.len().min(start + MAX_TAG_LEN)];
        let Some(end) = body.iter().position(|&b| matches!(b, b'>' | b'<' | b'\n')) else {
            continue;
        };
        let named = body[0].is_ascii_alphabetic() || matches!(body[0], b'/' | b'|');
        if named && end > 0 && body[end] == b'>' {
            ranges.push(start..start + end + 2);
        }
    }
}

fn code_fences(text: &str, ranges: &mut Vec<Range<usize>>) {
    let mut open: Option<(usize, char)> = None;
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        let body = line.trim();
        let fence = ['`', '~']
            .into_iter()
            .find(|&c| body.chars().take_while(|&x| x == c).count() >= 3);
        match (open, fence) {
            (None, Some(c)) => open = Some((start, c)),
            (Some((from, c)), Some(again)) if c == again => {
                ranges.push(from..start + line.len());
                open = None;
            }
            _ => {}
        }
        start += line.len();
    }
    if let Some((from, _)) = open {
        // One past the end: even the end of the text is within an open fence.
        ranges.push(from..text.len() + 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(text: &str) -> Vec<&str> {
        (Protected::default().ranges(text).into_iter())
            .map(|r| &text[r.start..r.end.min(text.len())])
            .collect()
    }

    #[test]
    fn marks_tags_and_fences_are_found() {
        assert_eq!(parts("a <<1+1=2>>2 b <<3>>"), ["<<1+1=2>>", "<<3>>"]);
        assert_eq!(
            parts("<think>x</think><|im_end|>"),
            ["<think>", "</think>", "<|im_end|>"]
        );
        assert_eq!(
            parts("see\n```rust\nlet x = 1;\n```\nend"),
            ["```rust\nlet x = 1;\n```\n"]
        );
        assert_eq!(parts("~~~\n```\n~~~\n"), ["~~~\n```\n~~~\n"]);
        assert_eq!(parts("x\n```py\nnever closed"), ["```py\nnever closed"]);
    }

    #[test]
    fn comparisons_and_broken_marks_are_not() {
        assert!(parts("1 < 2 and 3 > 2").is_empty());
        assert!(parts("a << b\n>> c").is_empty());
        assert!(parts("<").is_empty());
        assert!(parts("<>").is_empty());
        assert!(parts("`one` ``two``").is_empty());
    }
}
