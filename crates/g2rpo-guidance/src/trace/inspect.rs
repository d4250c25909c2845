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
    /// The prefix opens the thinking twice, closes it, or ends within a protected mark.
    pub broken_tags: bool,
}

/// Looks at the first `len` tokens of a trace. Nothing is found in a trace without text.
///
/// ```
/// use g2rpo_guidance::{inspect_prefix, PrefixProblems, Trace};
/// let trace = Trace::from_pieces(&[(1, "2+3 = <<2+3"), (2, "=5>>5\n"), (3, "#### 5")]);
/// assert!(inspect_prefix(&trace, 1).broken_tags, "cut in a mark");
/// assert_eq!(inspect_prefix(&trace, 2), PrefixProblems::default());
/// assert!(inspect_prefix(&trace, 3).announces_answer);
/// ```
pub fn inspect_prefix(trace: &Trace, len: usize) -> PrefixProblems {
    let (Some(text), Some(prefix)) = (trace.text(), trace.prefix_text(len)) else {
        return PrefixProblems::default();
    };
    let end = prefix.len();
    // In the whole text: what a line goes on to say decides whether it announces anything.
    let announced = AnswerMarkers::default().find(text);
    let in_mark = |r: &std::ops::Range<usize>| r.start < end && end < r.end;
    PrefixProblems {
        announces_answer: announced.is_some_and(|start| start < end),
        broken_tags: prefix.matches("<think>").count() > 1
            || prefix.contains("</think>")
            || Protected::default().ranges(text).iter().any(in_mark),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_count() {
        let problems = |text: &str| {
            let trace = Trace::from_pieces(&[(1, text), (2, "…")]);
            inspect_prefix(&trace, 1)
        };
        assert!(!problems("<think>a").broken_tags);
        assert!(problems("<think><think>a").broken_tags);
        assert!(problems("a</think>").broken_tags && problems("a</think>").announces_answer);
    }
}
