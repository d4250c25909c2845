//! The plan of a group: who is guided, how much each gets, and what that is.

use std::borrow::Cow;
use std::ops::Range;

use g2rpo_core::TokenId;
use rand::Rng;
use serde::{Deserialize, Serialize};

use crate::controller::amount::{Amount, uniform};
use crate::controller::length::{LengthController, Query};
use crate::error::{Error, Result};
use crate::feedback::Record;
use crate::selector::member::{GroupContext, Level, Member, Played, Revision, Selector};
use crate::source::guidance::Guidance;
use crate::source::placement::Placement;
use crate::trace::cut::{Caps, Cut, cut};
use crate::trace::cutter::{CutReason, Cutter};
use crate::trace::solution::Trace;

/// The parts that decide how a group is guided.
#[derive(Clone, Copy)]
pub struct Parts<'a> {
    /// Who is guided.
    pub selector: &'a dyn Selector,
    /// How much.
    pub controller: &'a dyn LengthController,
    /// Cut where.
    pub cutter: &'a dyn Cutter,
    /// Put where.
    pub placement: Placement,
    /// What no cut exceeds.
    pub caps: Caps<'a>,
}

impl std::fmt::Debug for Parts<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Parts")
            .field("placement", &self.placement)
            .field("caps", &self.caps)
            .finish_non_exhaustive()
    }
}

/// What one member of a group is given.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct MemberPlan {
    /// The selector's word on this member.
    pub member: Member,
    /// The amount behind the cut, before it met the trace.
    pub amount: Amount,
    /// How many ids of the trace to place in front of the completion, and why so many.
    pub cut: Cut,
}

/// What a member is given in fact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Given<'g> {
    /// Nothing.
    Nothing,
    /// These ids in front of its completion.
    Prefix(&'g [TokenId]),
    /// This text in its prompt.
    Hint(Cow<'g, str>),
}

impl MemberPlan {
    /// Whether the selector chose this member to be guided, whatever came of it.
    pub fn is_chosen(&self) -> bool {
        self.member.level.is_chosen()
    }

    /// Whether this member has a prefix or a hint in fact.
    pub fn is_guided(&self) -> bool {
        match self.member.level {
            Level::Hint(_) => self.cut.reason != CutReason::NoHint,
            _ => self.cut.len > 0,
        }
    }

    /// What to put in front of the completion or into the prompt. `guidance` is what the plan was
    /// made for. A cut trace is given as ids, or as its text where hints are placed in the prompt.
    ///
    /// # Errors
    /// [`Error::TraceWithoutText`] if the text of the cut is wanted and not known.
    pub fn given<'g>(
        &self,
        guidance: Option<&'g Guidance>,
        placement: Placement,
    ) -> Result<Given<'g>> {
        let Some(guidance) = guidance.filter(|_| self.is_guided()) else {
            return Ok(Given::Nothing);
        };
        if let Level::Hint(index) = self.member.level {
            let hint = guidance.hints.get(index);
            return Ok(hint.map_or(Given::Nothing, |text| Given::Hint(Cow::Borrowed(text))));
        }
        let Some(trace) = &guidance.trace else {
            return Ok(Given::Nothing);
        };
        match placement {
            Placement::AssistantPrefix => Ok(Given::Prefix(trace.prefix(self.cut.len))),
            Placement::PromptHint => match trace.prefix_text(self.cut.len) {
                Some(text) => Ok(Given::Hint(Cow::Borrowed(text))),
                None => Err(Error::TraceWithoutText),
            },
        }
    }

    /// What to record when the rollout is scored.
    pub fn record(&self, reward: f64, success: bool) -> Record {
        Record {
            chosen: self.is_chosen(),
            amount: self.amount.value(),
            reward,
            success,
        }
    }
}

/// How a group is guided.
#[derive(Debug, Clone, PartialEq)]
pub struct GroupPlan {
    /// Step, task and size of the group.
    pub group: GroupContext,
    /// The controller's amount for this task and step.
    pub amount: Amount,
    /// Uniform in `[0, 1)`: the rounding of fractional lengths, shared by the whole group so that
    /// members at the same amount share the same prefix.
    pub draw: f64,
    /// One entry per member to generate.
    pub members: Vec<MemberPlan>,
}

/// Joins selector, controller and cutter for one group.
///
/// `rng` is the generator keyed by run, step and group. `guidance` is what a source knows of the
/// task; members that are chosen where there is none get nothing, and their cut says so.
///
/// ```
/// use std::sync::Arc;
/// use g2rpo_guidance::*;
/// # use rand::SeedableRng;
/// # let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(0);
/// let limits = CutLimits::default();
/// let parts = Parts {
///     selector: &FixedFraction { alpha: 0.5, rounding: Rounding::Ceil },
///     controller: &Fixed(Amount::Tokens(2.0)),
///     cutter: &UnitCutter::default(),
///     placement: Placement::AssistantPrefix,
///     caps: Caps::new(&limits),
/// };
/// let trace = Trace::from_pieces(&[(7, "6"), (8, " ="), (9, " 6\n"), (5, "#### 6")]);
/// let gold = Guidance::trace(Arc::new(trace), Provenance::Gold);
/// let plan = plan_group(&parts, &Query::default(), Some(&gold), 4, &mut rng)?;
/// let given = |i: usize| plan.members[i].given(Some(&gold), parts.placement);
/// assert_eq!(given(0)?, Given::Prefix(&[7, 8]));
/// assert_eq!(given(2)?, Given::Nothing);
/// # Ok::<(), Error>(())
/// ```
///
/// # Errors
/// The selector's; [`Error::NoMembers`] if it plans none; [`Error::TraceWithoutText`] if a trace
/// without text is to be put into a prompt.
pub fn plan_group(
    parts: &Parts<'_>,
    query: &Query,
    guidance: Option<&Guidance>,
    group_size: usize,
    rng: &mut dyn Rng,
) -> Result<GroupPlan> {
    let draw = uniform(rng);
    let trace = guidance.and_then(|g| g.trace.as_deref());
    let query = Query {
        trace_len: trace.map_or(0, Trace::len),
        ..*query
    };
    let amount = parts.controller.amount(&query, rng);
    let group = GroupContext {
        query,
        group_size,
        round: 0,
    };
    let members = parts.selector.plan(&group, rng)?;
    if members.is_empty() {
        return Err(Error::NoMembers { group_size });
    }
    Ok(GroupPlan {
        group,
        amount,
        draw,
        members: plan_members(parts, amount, draw, guidance, &members)?,
    })
}

/// What to do with a group after its members so far were scored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Generate the members `plan.members[range]`, score them and ask again.
    Generate(Range<usize>),
    /// Train on these members; none if the group is to be left out.
    Train(Vec<usize>),
}

/// Asks the selector whether a group is complete; members it adds are appended to `plan`.
///
/// `scores` holds reward and success of every member of `plan`, in order; a reward that is not
/// finite counts as 0 and as a failure. Selectors that need no second look answer [`Next::Train`]
/// with all members.
///
/// ```
/// use std::sync::Arc;
/// use g2rpo_guidance::*;
/// # use rand::SeedableRng;
/// # let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(0);
/// let limits = CutLimits::default();
/// let parts = Parts {
///     selector: &ZeroRewardRetry::default(),
///     controller: &Fixed(Amount::Tokens(1.0)),
///     cutter: &UnitCutter::default(),
///     placement: Placement::AssistantPrefix,
///     caps: Caps::new(&limits),
/// };
/// let gold = Guidance::trace(Arc::new(Trace::from_tokens(vec![7, 8, 9])), Provenance::Gold);
/// let mut plan = plan_group(&parts, &Query::default(), Some(&gold), 2, &mut rng)?;
/// let mut scores = vec![(0.0, false); 2];
/// assert_eq!(revise_group(&parts, &mut plan, Some(&gold), &scores, &mut rng)?, Next::Generate(2..4));
/// assert_eq!(plan.members[3].given(Some(&gold), parts.placement)?, Given::Prefix(&[7]));
/// scores.extend([(1.0, true), (0.0, false)]);
/// assert_eq!(revise_group(&parts, &mut plan, Some(&gold), &scores, &mut rng)?, Next::Train(vec![2, 3]));
/// # Ok::<(), Error>(())
/// ```
///
/// # Errors
/// The selector's; [`Error::Length`] if there is not one score per member; [`Error::Member`] if the
/// selector names a member that does not exist; [`Error::NoMembers`] if it adds none.
pub fn revise_group(
    parts: &Parts<'_>,
    plan: &mut GroupPlan,
    guidance: Option<&Guidance>,
    scores: &[(f64, bool)],
    rng: &mut dyn Rng,
) -> Result<Next> {
    let generated = plan.members.len();
    if scores.len() != generated {
        return Err(Error::Length {
            what: "scores of a group",
            expected: generated,
            got: scores.len(),
        });
    }
    let played: Vec<Played> = (plan.members.iter().zip(scores))
        .map(|(m, &(reward, success))| Played {
            member: m.member,
            reward: if reward.is_finite() { reward } else { 0.0 },
            success: success && reward.is_finite(),
        })
        .collect();
    plan.group.round += 1;
    match parts.selector.revise(&plan.group, &played, rng)? {
        Revision::Keep => Ok(Next::Train((0..generated).collect())),
        Revision::Discard => Ok(Next::Train(Vec::new())),
        Revision::Only(chosen) => match chosen.iter().find(|&&i| i >= generated) {
            Some(&member) => Err(Error::Member { member, generated }),
            None => Ok(Next::Train(chosen)),
        },
        Revision::Append(members) if members.is_empty() => Err(Error::NoMembers {
            group_size: plan.group.group_size,
        }),
        Revision::Append(members) => {
            let added = plan_members(parts, plan.amount, plan.draw, guidance, &members)?;
            plan.members.extend(added);
            Ok(Next::Generate(generated..plan.members.len()))
        }
    }
}

fn plan_members(
    parts: &Parts<'_>,
    amount: Amount,
    draw: f64,
    guidance: Option<&Guidance>,
    members: &[Member],
) -> Result<Vec<MemberPlan>> {
    let trace = guidance.and_then(|g| g.trace.as_deref());
    let n_hints = guidance.map_or(0, |g| g.hints.len());
    let mut caps = parts.caps;
    if parts.placement == Placement::PromptHint {
        // What stands in the prompt takes no room of the completion.
        caps.max_completion_length = usize::MAX;
    }
    // Members at the same amount share the cut; a verifier may be behind it.
    let mut known: Vec<(Amount, Cut)> = Vec::new();
    let mut cut_at = |amount: Amount| {
        if let Some((_, cut)) = known.iter().find(|(a, _)| *a == amount) {
            return Ok(*cut);
        }
        let made = match trace {
            Some(trace) => cut(trace, amount, parts.cutter, &caps, draw),
            None => Cut {
                len: 0,
                requested: amount.value(),
                reason: CutReason::NoTrace,
            },
        };
        let text_is_missing = made.len > 0
            && parts.placement == Placement::PromptHint
            && trace.is_some_and(|t| t.prefix_text(made.len).is_none());
        if text_is_missing {
            return Err(Error::TraceWithoutText);
        }
        known.push((amount, made));
        Ok(made)
    };
    let plan = |&member: &Member| {
        let (amount, cut) = match member.level {
            Level::Unguided => (Amount::NONE, Cut::UNGUIDED),
            Level::Hint(index) => {
                let mut cut = Cut::UNGUIDED;
                let is_there = index < n_hints;
                cut.reason = if is_there {
                    CutReason::Exact
                } else {
                    CutReason::NoHint
                };
                (Amount::NONE, cut)
            }
            Level::Controlled => (amount, cut_at(amount)?),
            Level::Exactly(exactly) => (exactly, cut_at(exactly)?),
        };
        Ok(MemberPlan {
            member,
            amount,
            cut,
        })
    };
    members.iter().map(plan).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::controller::amount::Rounding;
    use crate::controller::schedule::Fixed;
    use crate::selector::fraction::FixedFraction;
    use crate::selector::retry::ZeroRewardRetry;
    use crate::source::guidance::Provenance;
    use crate::testing::rng;
    use crate::trace::cut::CutLimits;
    use crate::trace::cutter::UnitCutter;

    const THREE_OF_FOUR: FixedFraction = FixedFraction {
        alpha: 0.75,
        rounding: Rounding::Ceil,
    };

    fn with<T>(
        selector: &dyn Selector,
        amount: Amount,
        placement: Placement,
        test: impl FnOnce(&Parts<'_>) -> T,
    ) -> T {
        let limits = CutLimits::default();
        test(&Parts {
            selector,
            controller: &Fixed(amount),
            cutter: &UnitCutter::default(),
            placement,
            caps: Caps {
                max_completion_length: 3,
                ..Caps::new(&limits)
            },
        })
    }

    fn planned(
        amount: Amount,
        placement: Placement,
        guidance: Option<&Guidance>,
    ) -> Result<GroupPlan> {
        with(&THREE_OF_FOUR, amount, placement, |parts| {
            plan_group(parts, &Query::default(), guidance, 4, &mut rng())
        })
    }

    fn gold(trace: Trace) -> Guidance {
        Guidance::trace(Arc::new(trace), Provenance::Gold)
    }

    #[test]
    fn a_task_without_trace_says_so() {
        let half = Amount::Fraction(0.5);
        let plan = planned(half, Placement::AssistantPrefix, None).unwrap();
        let reasons: Vec<_> = plan.members.iter().map(|m| m.cut.reason).collect();
        assert_eq!(reasons[2..], [CutReason::NoTrace, CutReason::Unguided]);
        let member = &plan.members[0];
        assert!(member.is_chosen() && !member.is_guided());
        let given = member.given(None, Placement::AssistantPrefix);
        assert_eq!(given, Ok(Given::Nothing));
        assert!(member.record(1.0, true).chosen);
    }

    #[test]
    fn one_draw_rounds_the_whole_group_alike() {
        let trace = gold(Trace::from_tokens(vec![1, 2, 3, 4]));
        let mut rng = rng();
        let mut seen = [false; 2];
        let (amount, prefix) = (Amount::Tokens(1.5), Placement::AssistantPrefix);
        with(&THREE_OF_FOUR, amount, prefix, |parts| {
            for _ in 0..40 {
                let plan = plan_group(parts, &Query::default(), Some(&trace), 4, &mut rng);
                let lens = Vec::from_iter(plan.unwrap().members.iter().map(|m| m.cut.len));
                assert!(lens == [1, 1, 1, 0] || lens == [2, 2, 2, 0], "{lens:?}");
                seen[lens[0] - 1] = true;
            }
        });
        assert_eq!(seen, [true, true]);
    }

    #[test]
    fn a_cut_in_the_prompt_is_its_text_and_takes_no_room() {
        let text = ["so ", "2+2", " = ", "4", "\n", "####", " 4"];
        let pieces: Vec<(TokenId, &str)> = (1..).zip(text).collect();
        let trace = gold(Trace::from_pieces(&pieces));
        let first = |placement| {
            let plan = planned(Amount::Fraction(1.0), placement, Some(&trace));
            let first = plan.unwrap().members[0];
            let given = first.given(Some(&trace), placement).unwrap();
            (first.cut.reason, given)
        };
        // A completion of three tokens leaves room for two and one of the policy's own.
        let prefix = (CutReason::CappedByBudget, Given::Prefix(&[1, 2]));
        assert_eq!(first(Placement::AssistantPrefix), prefix);
        let hint = Given::Hint("so 2+2 = 4\n".into());
        assert_eq!(
            first(Placement::PromptHint),
            (CutReason::CappedByAnswer, hint)
        );
    }

    #[test]
    fn a_trace_without_text_cannot_go_into_a_prompt() {
        let ids = gold(Trace::from_tokens(vec![1, 2, 3, 4]));
        let plan = |amount| planned(amount, Placement::PromptHint, Some(&ids));
        assert!(plan(Amount::NONE).is_ok(), "nothing is given or missing");
        let error = plan(Amount::Tokens(2.0)).unwrap_err();
        assert_eq!(error, Error::TraceWithoutText);
    }

    #[test]
    fn hints_go_into_the_prompt_and_missing_ones_are_named() {
        let retry = ZeroRewardRetry {
            levels: vec![Level::Hint(0), Level::Hint(1)],
            ..ZeroRewardRetry::default()
        };
        let hints = Guidance {
            hints: vec!["count".into()],
            ..Guidance::default()
        };
        with(&retry, Amount::NONE, Placement::PromptHint, |parts| {
            let mut rng = rng();
            let query = Query::default();
            let mut plan = plan_group(parts, &query, Some(&hints), 2, &mut rng).unwrap();
            for _ in 0..2 {
                // Members without a finite reward have failed.
                let scores = vec![(f64::NAN, true); plan.members.len()];
                revise_group(parts, &mut plan, Some(&hints), &scores, &mut rng).unwrap();
            }
            let given = |i: usize| plan.members[i].given(Some(&hints), parts.placement);
            assert_eq!(given(0), Ok(Given::Nothing));
            assert_eq!(given(2), Ok(Given::Hint("count".into())));
            assert_eq!(given(4), Ok(Given::Nothing));
            assert_eq!(plan.members[4].cut.reason, CutReason::NoHint);
            let guided: Vec<_> = plan.members.iter().map(MemberPlan::is_guided).collect();
            assert_eq!(guided, [false, false, true, true, false, false]);
            assert!(plan.members[4].is_chosen());
        });
    }
}
