//! One cut: what the cutter proposes, and the caps that hold whatever it says.

use serde::{Deserialize, Serialize};

use crate::controller::amount::Amount;
use crate::trace::answer::AnswerMarkers;
use crate::trace::budget::Budget;
use crate::trace::cutter::{CutReason, Cutter};
use crate::trace::protect::Protected;
use crate::trace::solution::Trace;

/// How much of a trace one member gets, and why exactly so much.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Cut {
    /// Number of ids to take from the start of the trace.
    pub len: usize,
    /// Tokens asked for, before rounding, snapping and caps.
    pub requested: f64,
    /// Why `len` is what it is.
    pub reason: CutReason,
}

impl Cut {
    /// No guidance, because the member is not guided.
    pub const UNGUIDED: Self = Self {
        len: 0,
        requested: 0.0,
        reason: CutReason::Unguided,
    };
}

/// Says whether the first `n` tokens of a trace would already be accepted as a complete answer.
/// Called once per cut in the usual case, and once per token that must be taken back otherwise.
pub type Passes<'a> = dyn Fn(&Trace, usize) -> bool + 'a;

/// What no cut does, as data.
///
/// ```
/// use g2rpo_guidance::{
///     cut, Amount, AnswerMarkers, Budget, Caps, CutLimits, CutReason, Protected, Trace, UnitCutter,
/// };
/// let trace = Trace::from_pieces(&[(1, "6 = "), (2, "<<2*3"), (3, "=6>>"), (4, "6\n"), (5, "Answer: 6")]);
/// let reason = |limits: &CutLimits, tokens: f64| {
///     let made = cut(&trace, Amount::Tokens(tokens), &UnitCutter::default(), &Caps::new(limits), 0.0);
///     (made.len, made.reason)
/// };
/// let limits = CutLimits::default();
/// assert_eq!(reason(&limits, 2.0), (1, CutReason::CappedByMark));
/// assert_eq!(reason(&limits, 4.0), (4, CutReason::Exact));
/// let budget = Budget { max_guidance: Some(3), ..Budget::default() };
/// assert_eq!(reason(&CutLimits { budget, ..limits }, 4.0), (3, CutReason::CappedByBudget));
/// // The last token stays back whatever is allowed.
/// let (answer, protected) = (AnswerMarkers::none(), Protected::none());
/// let limits = CutLimits { answer, protected, ..CutLimits::default() };
/// assert_eq!(reason(&limits, 9.0), (4, CutReason::CappedByTrace));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CutLimits {
    /// How an answer is announced: no cut reaches into it.
    pub answer: AnswerMarkers,
    /// What must not be cut through.
    pub protected: Protected,
    /// How many tokens may be given.
    pub budget: Budget,
}

/// The caps that hold for every cut.
#[derive(Clone, Copy)]
pub struct Caps<'a> {
    /// The limits that follow from text and budget.
    pub limits: &'a CutLimits,
    /// Tokens of a completion, of which guidance takes its part.
    pub max_completion_length: usize,
    /// The verifier's word on a prefix; without it only announced answers are found.
    pub passes: Option<&'a Passes<'a>>,
}

impl<'a> Caps<'a> {
    /// The limits, for completions of any length and without a verifier.
    pub fn new(limits: &'a CutLimits) -> Self {
        Self {
            limits,
            max_completion_length: usize::MAX,
            passes: None,
        }
    }
}

impl std::fmt::Debug for Caps<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Caps")
            .field("limits", &self.limits)
            .field("max_completion_length", &self.max_completion_length)
            .field("passes", &self.passes.map(|_| "…"))
            .finish()
    }
}

/// Cuts a trace: the cutter proposes, then the caps apply.
///
/// The result is never the whole trace, never reaches into the final answer, never ends within
/// a protected mark or a character, never exceeds the budget and never passes the verifier by
/// itself. `draw` is uniform in `[0, 1)` and decides stochastic rounding.
///
/// ```
/// use g2rpo_guidance::{cut, Amount, Caps, CutLimits, CutReason, Trace, UnitCutter};
/// let trace = Trace::from_pieces(&[(7, "6 = "), (8, "2*3"), (9, "\n"), (5, "####"), (6, " 6")]);
/// let limits = CutLimits::default();
/// let (caps, tokens) = (Caps::new(&limits), UnitCutter::default());
/// let two = cut(&trace, Amount::Tokens(2.0), &tokens, &caps, 0.5);
/// assert_eq!((two.len, two.reason), (2, CutReason::Exact));
/// let all = cut(&trace, Amount::Fraction(1.0), &tokens, &caps, 0.5);
/// assert_eq!((all.len, all.reason), (3, CutReason::CappedByAnswer));
/// ```
pub fn cut(
    trace: &Trace,
    amount: Amount,
    cutter: &(impl Cutter + ?Sized),
    caps: &Caps<'_>,
    draw: f64,
) -> Cut {
    let amount = amount.unit().of(amount.value());
    if trace.is_empty() {
        return Cut {
            len: 0,
            requested: amount.value(),
            reason: CutReason::NoTrace,
        };
    }
    let proposal = cutter.propose(trace, amount, draw);
    let mut len = proposal.len;
    let mut reason = proposal.reason;
    let mut cap = |len: &mut usize, limit: usize, why| {
        if *len > limit {
            *len = limit;
            reason = why;
        }
    };

    cap(&mut len, trace.len() - 1, CutReason::CappedByTrace);
    let limits = caps.limits;
    let budget = limits.budget.most_guidance(caps.max_completion_length);
    cap(&mut len, budget, CutReason::CappedByBudget);
    if let Some(start) = answer_start(trace, &limits.answer) {
        cap(&mut len, start, CutReason::CappedByAnswer);
    }
    let protected = trace.text().map(|t| limits.protected.ranges(t));
    let protected = protected.unwrap_or_default();
    loop {
        let before = len;
        let clean = outside(trace, &protected, before);
        cap(&mut len, clean, CutReason::CappedByMark);
        if before != proposal.len || len != before {
            // Going back to a border of the cutter's own does not change why it had to go back.
            len = cutter.settle(trace, len).min(len);
        }
        if len <= trace.lead() {
            len = 0;
            break;
        }
        if caps.passes.is_some_and(|passes| passes(trace, len)) {
            let shorter = len - 1;
            cap(&mut len, shorter, CutReason::CappedByVerifier);
        } else if len == before {
            break;
        }
    }
    Cut {
        len,
        requested: proposal.requested,
        reason,
    }
}

/// Largest number of tokens that leaves the announced answer out.
fn answer_start(trace: &Trace, markers: &AnswerMarkers) -> Option<usize> {
    let found = trace.text().and_then(|text| {
        let lead = trace.byte_of(trace.lead()).unwrap_or(0);
        let start = markers.find(&text[lead..]);
        start.map(|byte| trace.tokens_before(lead + byte))
    });
    match (found, trace.answer_start()) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

/// Largest number of tokens, at most `len`, that ends between characters and outside `ranges`.
fn outside(trace: &Trace, ranges: &[std::ops::Range<usize>], len: usize) -> usize {
    let mut len = trace.clean_at_most(len);
    while let Some(byte) = trace.byte_of(len) {
        let Some(range) = ranges.iter().find(|r| r.start < byte && byte < r.end) else {
            break;
        };
        len = trace.tokens_before(range.start);
    }
    len
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::amount::Rounding;
    use crate::trace::cutter::{Snap, Unit, UnitCutter};

    fn words(text: &str) -> Trace {
        let pieces: Vec<(u32, &str)> = (0u32..).zip(text.split_inclusive([' ', '\n'])).collect();
        Trace::from_pieces(&pieces)
    }

    fn capped(trace: &Trace, n: f64, caps: &Caps<'_>) -> (usize, CutReason) {
        let c = cut(trace, Amount::Tokens(n), &UnitCutter::default(), caps, 0.5);
        (c.len, c.reason)
    }

    fn tokens(trace: &Trace, n: f64) -> (usize, CutReason) {
        capped(trace, n, &Caps::new(&CutLimits::default()))
    }

    #[test]
    fn never_the_whole_trace() {
        let ids = |n| Trace::from_tokens((1..=n).collect());
        assert_eq!(tokens(&ids(3), 3.0), (2, CutReason::CappedByTrace));
        assert_eq!(tokens(&ids(3), 1e300), (2, CutReason::CappedByTrace));
        assert_eq!(tokens(&ids(1), 1.0), (0, CutReason::CappedByTrace));
        assert_eq!(tokens(&ids(0), 1.0), (0, CutReason::NoTrace));
    }

    #[test]
    fn a_stated_answer_start_holds_without_text() {
        let ids = Trace::from_tokens(vec![1, 2, 3, 4]).with_answer_start(2);
        assert_eq!(tokens(&ids, 3.0), (2, CutReason::CappedByAnswer));
        assert_eq!(tokens(&ids, 2.0), (2, CutReason::Exact));
    }

    #[test]
    fn a_cut_leaves_marks_whole() {
        let trace = words("so 2 + 3 = <<2 + 3 = 5>> 5 apples\nmore");
        assert_eq!(tokens(&trace, 5.0), (5, CutReason::Exact));
        assert_eq!(tokens(&trace, 7.0), (5, CutReason::CappedByMark));
        assert_eq!(tokens(&trace, 10.0), (10, CutReason::Exact));
    }

    #[test]
    fn what_passes_is_taken_back_until_it_does_not() {
        let trace = words("x is 7 or 7 so 8 then");
        let passes = |t: &Trace, n: usize| t.prefix_text(n).is_some_and(|t| t.contains('7'));
        let limits = CutLimits::default();
        let caps = Caps {
            passes: Some(&passes),
            ..Caps::new(&limits)
        };
        assert_eq!(capped(&trace, 6.0, &caps), (2, CutReason::CappedByVerifier));
        assert_eq!(capped(&trace, 1.0, &caps), (1, CutReason::Exact));
        let always = |_: &Trace, _: usize| true;
        let caps = Caps {
            passes: Some(&always),
            ..caps
        };
        assert_eq!(capped(&trace, 6.0, &caps), (0, CutReason::CappedByVerifier));
    }

    #[test]
    fn a_cap_within_a_step_goes_back_to_its_start() {
        let trace = words("a b\n\nc d \\boxed{4} e");
        let cutter = UnitCutter {
            unit: Unit::Step,
            snap: Snap::Back,
            rounding: Rounding::Floor,
        };
        let limits = CutLimits::default();
        let caps = Caps::new(&limits);
        let c = cut(&trace, Amount::Units(9.0), &cutter, &caps, 0.0);
        // "a ", "b\n", "\n": the step ends behind three tokens.
        assert_eq!((c.len, c.reason), (3, CutReason::CappedByAnswer));
    }

    #[test]
    fn a_think_tag_of_our_own_is_no_answer_and_goes_with_something_only() {
        let trace = words("a b c d").wrapped(&[90], "<think>\n");
        assert_eq!(tokens(&trace, 2.0), (3, CutReason::Exact));
        let mut limits = CutLimits::default();
        limits.budget.max_guidance = Some(1);
        let capped = capped(&trace, 2.0, &Caps::new(&limits));
        assert_eq!(capped, (0, CutReason::CappedByBudget));
    }
}
