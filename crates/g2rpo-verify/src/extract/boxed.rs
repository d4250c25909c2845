//! `\boxed{…}`: the last one, with what belongs to it.

use std::ops::Range;

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

/// The contents of the last box; boxes that are only joined are one answer, with their commands.
pub(super) fn last_box(text: &str) -> Option<Range<usize>> {
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
