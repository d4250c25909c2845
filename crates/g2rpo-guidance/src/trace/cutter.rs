//! Where a trace is cut: the trait of cutters, and the cutter between units.

use serde::{Deserialize, Serialize};

use crate::controller::amount::{Amount, Rounding};
use crate::trace::solution::Trace;

/// Turns an amount into a number of tokens of a given trace.
///
/// A cutter only proposes. The caps of [`cut`](crate::cut()) come afterwards and hold whatever a
/// cutter says, so a cutter of one's own cannot give an answer away:
///
/// ```
/// use g2rpo_guidance::{cut, Amount, Caps, CutLimits, CutReason, Cutter, Proposal, Trace};
///
/// /// Gives everything up to the first equals sign.
/// struct FirstEquation;
///
/// impl Cutter for FirstEquation {
///     fn propose(&self, trace: &Trace, _amount: Amount, _draw: f64) -> Proposal {
///         let is_equals = |i: &usize| trace.prefix_text(*i).is_some_and(|t| t.ends_with('='));
///         let len = (0..=trace.len()).find(is_equals).unwrap_or(0);
///         Proposal { len, requested: len as f64, reason: CutReason::Exact }
///     }
/// }
///
/// let trace = Trace::from_pieces(&[(1, "2 "), (2, "="), (3, " 2")]);
/// let limits = CutLimits::default();
/// assert_eq!(cut(&trace, Amount::Tokens(9.0), &FirstEquation, &Caps::new(&limits), 0.0).len, 2);
/// ```
pub trait Cutter {
    /// How many tokens to give, lead included, before caps. `draw` is uniform in `[0, 1)`, the
    /// same for all members of a group, and serves for stochastic rounding.
    fn propose(&self, trace: &Trace, amount: Amount, draw: f64) -> Proposal;

    /// Where to cut when a cap allows at most `len` tokens. The default is `len` itself; a cutter
    /// that never cuts within a step goes back to the step's start.
    fn settle(&self, _trace: &Trace, len: usize) -> usize {
        len
    }
}

/// What a [`Cutter`] wants.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Proposal {
    /// Number of tokens, lead included; may exceed the trace.
    pub len: usize,
    /// The amount in tokens, before rounding and snapping, without the lead.
    pub requested: f64,
    /// [`CutReason::Exact`], or how the length was snapped.
    pub reason: CutReason,
}

/// Why a guided prefix is as long as it is. When several caps apply, the last that shortened it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CutReason {
    /// As many tokens as asked for, after rounding.
    Exact,
    /// Moved on to the next boundary.
    SnappedForward,
    /// Moved back to the boundary before.
    SnappedBack,
    /// The trace is no longer than what was asked for; its last token stays back.
    CappedByTrace,
    /// The final answer begins here.
    CappedByAnswer,
    /// A longer prefix would have passed the verifier by itself.
    CappedByVerifier,
    /// Moved out of a calculator mark, tag, code fence or character.
    CappedByMark,
    /// The token budget allows no more.
    CappedByBudget,
    /// The member is not guided.
    Unguided,
    /// The member would have been guided, but the task has no trace.
    NoTrace,
    /// The member would have been guided, but the task has no such hint.
    NoHint,
}

/// What a trace is divided into.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// A token: the cut may fall between any two. The default.
    #[default]
    Token,
    /// Up to and including a line break.
    Line,
    /// Up to and including a blank line, the reasoning step of most published traces; in a trace
    /// without any, such as GSM8K's, a line.
    Step,
    /// Up to `.`, `!`, `?` or `。` with white space behind it, or to a line break.
    Sentence,
    /// Up to the next of [`Trace::marks`].
    Marks,
}

/// Where a length that falls within a unit goes.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Snap {
    /// To the start of the unit. The default: never more than was asked for.
    #[default]
    Back,
    /// To the end of the unit if that is at most `max_overrun · trace length` tokens away (TRAPO
    /// uses 0.3), else it stays where it is.
    Forward {
        /// Part of the trace's tokens, in [0, 1].
        max_overrun: f64,
    },
    /// To the nearer end of the unit.
    Nearest,
}

/// Cuts between tokens, lines, steps, sentences or marks.
///
/// [`Amount::Units`] counts units; tokens and fractions are snapped to a unit's border. In a trace
/// without text, lines, steps and sentences are unknown, and nothing is given rather than a cut
/// at a random place.
///
/// ```
/// use g2rpo_guidance::{Amount, Cutter, CutReason, Snap, Trace, Unit, UnitCutter};
/// let trace = Trace::from_pieces(&[(1, "a"), (2, "\n\n"), (3, "b"), (4, "c"), (5, "\n\n"), (6, "d")]);
/// let back = UnitCutter { unit: Unit::Step, ..UnitCutter::default() };
/// assert_eq!(back.propose(&trace, Amount::Tokens(4.0), 0.0).len, 2);
/// assert_eq!(back.propose(&trace, Amount::Units(2.0), 0.0).len, 5);
/// let forward = UnitCutter { snap: Snap::Forward { max_overrun: 0.3 }, ..back };
/// let proposal = forward.propose(&trace, Amount::Tokens(4.0), 0.0);
/// assert_eq!((proposal.len, proposal.reason), (5, CutReason::SnappedForward));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct UnitCutter {
    /// What the trace is divided into.
    pub unit: Unit,
    /// Where a length within a unit goes.
    pub snap: Snap,
    /// How a real number of units or tokens becomes a whole one.
    pub rounding: Rounding,
}

impl Cutter for UnitCutter {
    fn propose(&self, trace: &Trace, amount: Amount, draw: f64) -> Proposal {
        if self.unit == Unit::Token {
            let requested = tokens_of(trace, amount).unwrap_or(amount.value());
            return Proposal {
                len: with_lead(trace, self.rounding.apply(requested, draw)),
                requested,
                reason: CutReason::Exact,
            };
        }
        let ends = unit_ends(trace, self.unit);
        let Some(requested) = tokens_of(trace, amount) else {
            let units = self.rounding.apply(amount.value(), draw);
            let len = match units {
                0 => 0,
                k => ends.get(k - 1).copied().unwrap_or(trace.len()),
            };
            return Proposal {
                len,
                requested: len.saturating_sub(trace.lead()) as f64,
                reason: CutReason::Exact,
            };
        };
        let wanted = with_lead(trace, self.rounding.apply(requested, draw));
        let len = self.snapped(trace, &ends, wanted);
        Proposal {
            len,
            requested,
            reason: match len.cmp(&wanted) {
                std::cmp::Ordering::Equal => CutReason::Exact,
                std::cmp::Ordering::Greater => CutReason::SnappedForward,
                std::cmp::Ordering::Less => CutReason::SnappedBack,
            },
        }
    }

    fn settle(&self, trace: &Trace, len: usize) -> usize {
        match self.snap {
            _ if self.unit == Unit::Token => len,
            Snap::Back | Snap::Nearest => last_end(&unit_ends(trace, self.unit), len),
            Snap::Forward { .. } => len,
        }
    }
}

impl UnitCutter {
    fn snapped(&self, trace: &Trace, ends: &[usize], wanted: usize) -> usize {
        if wanted >= trace.len() || wanted == 0 {
            return wanted;
        }
        let back = last_end(ends, wanted);
        let next = ends.iter().copied().find(|&e| e >= wanted);
        match self.snap {
            Snap::Back => back,
            Snap::Forward { max_overrun } => match next {
                Some(next) if (next - wanted) as f64 <= max_overrun * trace.len() as f64 => next,
                _ => wanted,
            },
            Snap::Nearest => match next {
                Some(next) if next - wanted <= wanted - back => next,
                _ => back,
            },
        }
    }
}

/// Tokens without the lead that a token count or fraction amounts to; nothing for units.
fn tokens_of(trace: &Trace, amount: Amount) -> Option<f64> {
    match amount {
        Amount::Tokens(x) => Some(x),
        Amount::Fraction(x) => Some(x * (trace.len() - trace.lead().min(trace.len())) as f64),
        Amount::Units(_) => None,
    }
}

fn with_lead(trace: &Trace, tokens: usize) -> usize {
    if tokens == 0 {
        0
    } else {
        tokens.saturating_add(trace.lead())
    }
}

fn last_end(ends: &[usize], at_most: usize) -> usize {
    let mut before = ends.iter().copied().rev();
    before.find(|&e| e <= at_most).unwrap_or(0)
}

/// The places, in tokens, where a unit ends and the trace may be cut, without the trace's end.
///
/// A border that falls into a token moves to that token's end.
pub(crate) fn unit_ends(trace: &Trace, unit: Unit) -> Vec<usize> {
    let mut ends: Vec<usize> = match (unit, trace.text()) {
        (Unit::Token, _) => (0..trace.len()).collect(),
        (Unit::Marks, _) => trace.marks().to_vec(),
        (_, None) => Vec::new(),
        (_, Some(text)) => {
            let mut ends = byte_ends(text, unit);
            if unit == Unit::Step && ends.is_empty() {
                ends = byte_ends(text, Unit::Line);
            }
            ends.into_iter()
                .map(|byte| trace.tokens_through(byte))
                .collect()
        }
    };
    ends.dedup();
    ends.retain(|&e| e > trace.lead() && e < trace.len());
    ends
}

fn byte_ends(text: &str, unit: Unit) -> Vec<usize> {
    let mut ends = Vec::new();
    let mut chars = text.char_indices().peekable();
    let mut breaks_in_run = 0;
    while let Some((i, c)) = chars.next() {
        let end = i + c.len_utf8();
        let next = chars.peek().map(|&(_, c)| c);
        match unit {
            Unit::Line if c == '\n' => ends.push(end),
            Unit::Step => {
                if c == '\n' {
                    breaks_in_run += 1;
                } else if !c.is_whitespace() {
                    breaks_in_run = 0;
                }
                // The whole run of white space belongs to the step before it.
                let run_ends = !next.is_some_and(char::is_whitespace);
                if c.is_whitespace() && run_ends && breaks_in_run >= 2 {
                    ends.push(end);
                }
            }
            Unit::Sentence => {
                let stop = matches!(c, '.' | '!' | '?') && next.is_some_and(char::is_whitespace);
                if stop || matches!(c, '\n' | '。') {
                    ends.push(end);
                }
            }
            Unit::Token | Unit::Line | Unit::Marks => {}
        }
    }
    ends
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letters(text: &str) -> Trace {
        let pieces: Vec<(u32, &str)> = (0u32..).zip(text.split_inclusive(|_| true)).collect();
        Trace::from_pieces(&pieces)
    }

    #[test]
    fn units_end_where_people_say() {
        let ends = |text, unit| unit_ends(&letters(text), unit);
        assert_eq!(ends("ab\nc\n\nd", Unit::Line), [3, 5, 6]);
        assert_eq!(ends("ab\nc\n\n\nd", Unit::Step), [7]);
        assert_eq!(ends("ab\n \n  c", Unit::Step), [7]);
        assert_eq!(ends("ab\ncd\ne", Unit::Step), [3, 6]);
        assert_eq!(ends("0.5 is. Yes! x", Unit::Sentence), [7, 12]);
        assert_eq!(letters("abcd").with_marks(vec![3, 1, 3]).marks(), [1, 3]);
        let marked = letters("abcd").with_marks(vec![3, 1, 9, 0]);
        assert_eq!(unit_ends(&marked, Unit::Marks), [1, 3]);
    }

    #[test]
    fn a_border_within_a_token_moves_to_its_end() {
        let trace = Trace::from_pieces(&[(1, "a"), (2, "\n\nB"), (3, "c")]);
        assert_eq!(unit_ends(&trace, Unit::Step), [2]);
    }

    #[test]
    fn snapping_goes_where_it_is_told() {
        let trace = letters("aaaa\nbbbbbbbb\ncc");
        let cutter = |snap| UnitCutter {
            unit: Unit::Line,
            snap,
            rounding: Rounding::Floor,
        };
        let at = |snap, n| cutter(snap).propose(&trace, Amount::Tokens(n), 0.0).len;
        assert_eq!(at(Snap::Back, 12.0), 5);
        assert_eq!(at(Snap::Back, 4.0), 0);
        assert_eq!(at(Snap::Forward { max_overrun: 0.2 }, 12.0), 14);
        assert_eq!(at(Snap::Forward { max_overrun: 0.1 }, 7.0), 7);
        assert_eq!(at(Snap::Nearest, 12.0), 14);
        assert_eq!(at(Snap::Nearest, 7.0), 5);
        assert_eq!(at(Snap::Back, 100.0), 100);
    }

    #[test]
    fn the_lead_is_not_counted_and_not_given_alone() {
        let trace = letters("abcd").wrapped(&[90], "<think>");
        let proposed = |amount| UnitCutter::default().propose(&trace, amount, 0.0);
        assert_eq!(proposed(Amount::Tokens(2.0)).len, 3);
        assert_eq!(proposed(Amount::Tokens(0.0)).len, 0);
        let half = proposed(Amount::Fraction(0.5));
        assert_eq!((half.len, half.requested), (3, 2.0));
    }
}
