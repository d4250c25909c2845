//! What is wrong with a prefix that was given, for the detectors.

use crate::trace::answer::AnswerMarkers;
use crate::trace::protect::Protected;
use crate::trace::solution::Trace;

/// What is wrong with a guided prefix, for [`StepStats`](crate::StepStats).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct PrefixProblems {
    /// The prefix announces an answer.
    pub announces_answer: bool,
    /// The reference answer stands in the prefix, between characters that are neither letters nor
    /// digits. Common and often harmless where answers are small numbers.
    pub contains_answer: bool,
    /// The prefix opens the thinking twice, closes it, or ends within a protected mark.
    pub broken_tags: bool,
}

/// Looks at the first `len` tokens of a trace. Nothing is found in a trace without text.
///
/// ```
/// use g2rpo_guidance::{inspect_prefix, PrefixProblems, Trace};
/// let trace = Trace::from_pieces(&[(1, "2+3 = <<2+3"), (2, "=5>>5\n"), (3, "#### 5")]);
/// let cut_in_mark = inspect_prefix(&trace, 1, Some("5"));
/// assert!(cut_in_mark.broken_tags && !cut_in_mark.contains_answer);
/// let before_answer: PrefixProblems = inspect_prefix(&trace, 2, Some("5"));
/// assert!(before_answer.contains_answer && !before_answer.announces_answer);
/// ```
pub fn inspect_prefix(trace: &Trace, len: usize, answer: Option<&str>) -> PrefixProblems {
    let (Some(text), Some(prefix)) = (trace.text(), trace.prefix_text(len)) else {
        return PrefixProblems::default();
    };
    let end = prefix.len();
    // In the whole text: what a line goes on to say decides whether it announces anything.
    let announced = AnswerMarkers::default().find(text);
    let in_mark = |r: &std::ops::Range<usize>| r.start < end && end < r.end;
    PrefixProblems {
        announces_answer: announced.is_some_and(|start| start < end),
        contains_answer: answer.is_some_and(|answer| stands_in(prefix, answer.trim())),
        broken_tags: prefix.matches("<think>").count() > 1
            || prefix.contains("</think>")
            || Protected::default().ranges(text).iter().any(in_mark),
    }
}

fn stands_in(text: &str, answer: &str) -> bool {
    !answer.is_empty()
        && text.match_indices(answer).any(|(start, _)| {
            let before = text[..start].chars().next_back();
            let after = text[start + answer.len()..].chars().next();
            ![before, after]
                .into_iter()
                .flatten()
                .any(char::is_alphanumeric)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_stand_alone() {
        assert!(stands_in("so it is 12.", "12"));
        assert!(!stands_in("so it is 312", "12"));
        assert!(!stands_in("x12", "12") && !stands_in("anything", ""));
    }

    #[test]
    fn tags_count() {
        let problems = |text: &str| {
            let trace = Trace::from_pieces(&[(1, text), (2, "…")]);
            inspect_prefix(&trace, 1, None)
        };
        assert!(!problems("<think>a").broken_tags);
        assert!(problems("<think><think>a").broken_tags);
        assert!(problems("a</think>").broken_tags && problems("a</think>").announces_answer);
    }
}
