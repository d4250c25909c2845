use std::ops::Range;

use rand::Rng;
use serde::{Deserialize, Serialize};

use crate::amount::uniform;
use crate::{
    Amount, Cut, CutLimits, CutReason, Cutter, Error, GroupContext, LengthController, Level,
    Member, Outcome, Played, Query, Result, Revision, Selector, TokenId, Trace, cut,
};

/// The parts that decide how a group is guided.
#[derive(Clone, Copy)]
pub struct Parts<'a> {
    /// Who is guided.
    pub selector: &'a dyn Selector,
    /// How much.
    pub controller: &'a dyn LengthController,
    /// Cut where.
    pub cutter: &'a dyn Cutter,
    /// What no cut exceeds.
    pub limits: CutLimits<'a>,
}

impl std::fmt::Debug for Parts<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Parts")
            .field("limits", &self.limits)
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

impl MemberPlan {
    /// Whether the selector chose this member, whatever length came of it.
    pub fn is_guided(&self) -> bool {
        self.member.level.is_guided()
    }

    /// The ids to splice in front of the completion.
    pub fn prefix<'t>(&self, trace: Option<&'t Trace>) -> &'t [TokenId] {
        trace.map_or(&[], |t| t.prefix(self.cut.len))
    }

    /// What to record when the rollout is scored.
    pub fn outcome(&self, reward: f64, success: bool) -> Outcome {
        Outcome {
            guided: self.is_guided(),
            amount: if self.is_guided() {
                self.amount.value()
            } else {
                0.0
            },
            guidance_tokens: self.cut.len,
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
/// `rng` is the generator keyed by run, step and group. `trace` is `None` when the task has no
/// worked solution; guided members then get nothing and say so.
///
/// ```
/// use g2rpo_guidance::*;
/// # use rand::SeedableRng;
/// # let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(0);
/// let parts = Parts {
///     selector: &FixedFraction { alpha: 0.5, rounding: Rounding::Ceil },
///     controller: &Fixed(Amount::Tokens(2.0)),
///     cutter: &TokenCutter::default(),
///     limits: CutLimits::default(),
/// };
/// let trace = Trace::from_pieces(&[(7, "6"), (8, " ="), (9, " 6\n"), (5, "#### 6")]);
/// let plan = plan_group(&parts, &Query::default(), Some(&trace), 4, &mut rng)?;
/// assert_eq!(plan.members[0].prefix(Some(&trace)), [7, 8]);
/// assert_eq!(plan.members.iter().map(|m| m.cut.len).collect::<Vec<_>>(), [2, 2, 0, 0]);
/// # Ok::<(), Error>(())
/// ```
///
/// # Errors
/// The selector's; [`Error::NoMembers`] if it plans none.
pub fn plan_group(
    parts: &Parts<'_>,
    query: &Query,
    trace: Option<&Trace>,
    group_size: usize,
    rng: &mut dyn Rng,
) -> Result<GroupPlan> {
    let draw = uniform(rng);
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
        members: plan_members(parts, amount, draw, trace, &members),
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
/// `scores` holds reward and success of every member of `plan`, in order. Selectors that need no
/// second look answer [`Next::Train`] with all members.
///
/// ```
/// use g2rpo_guidance::*;
/// # use rand::SeedableRng;
/// # let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(0);
/// let parts = Parts {
///     selector: &ZeroRewardRetry::default(),
///     controller: &Fixed(Amount::Tokens(1.0)),
///     cutter: &TokenCutter::default(),
///     limits: CutLimits::default(),
/// };
/// let trace = Trace::from_tokens(vec![7, 8, 9]);
/// let mut plan = plan_group(&parts, &Query::default(), Some(&trace), 2, &mut rng)?;
/// let mut scores = vec![(0.0, false); 2];
/// assert_eq!(revise_group(&parts, &mut plan, Some(&trace), &scores, &mut rng)?, Next::Generate(2..4));
/// assert_eq!(plan.members[3].prefix(Some(&trace)), [7]);
/// scores.extend([(1.0, true), (0.0, false)]);
/// assert_eq!(revise_group(&parts, &mut plan, Some(&trace), &scores, &mut rng)?, Next::Train(vec![2, 3]));
/// # Ok::<(), Error>(())
/// ```
///
/// # Errors
/// The selector's; [`Error::Length`] if there is not one score per member; [`Error::Member`] if the
/// selector names a member that does not exist; [`Error::NoMembers`] if it adds none.
pub fn revise_group(
    parts: &Parts<'_>,
    plan: &mut GroupPlan,
    trace: Option<&Trace>,
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
            reward,
            success,
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
            let added = plan_members(parts, plan.amount, plan.draw, trace, &members);
            plan.members.extend(added);
            Ok(Next::Generate(generated..plan.members.len()))
        }
    }
}

fn plan_members(
    parts: &Parts<'_>,
    amount: Amount,
    draw: f64,
    trace: Option<&Trace>,
    members: &[Member],
) -> Vec<MemberPlan> {
    // Members at the same amount share the cut; a verifier may be behind it.
    let mut known: Vec<(Amount, Cut)> = Vec::new();
    let mut cut_at = |amount: Amount| {
        if let Some((_, cut)) = known.iter().find(|(a, _)| *a == amount) {
            return *cut;
        }
        let made = match trace {
            Some(trace) => cut(trace, amount, parts.cutter, &parts.limits, draw),
            None => Cut {
                len: 0,
                requested: amount.value(),
                reason: CutReason::NoTrace,
            },
        };
        known.push((amount, made));
        made
    };
    (members.iter())
        .map(|&member| {
            let (amount, cut) = match member.level {
                Level::Unguided => (Amount::NONE, Cut::UNGUIDED),
                Level::Hint(_) => (
                    Amount::NONE,
                    Cut {
                        reason: CutReason::Exact,
                        ..Cut::UNGUIDED
                    },
                ),
                Level::Controlled => (amount, cut_at(amount)),
                Level::Exactly(exactly) => (exactly, cut_at(exactly)),
            };
            MemberPlan {
                member,
                amount,
                cut,
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::tests::rng;
    use crate::{AllButOne, Fixed, TokenCutter};

    #[test]
    fn a_task_without_trace_says_so() {
        let parts = Parts {
            selector: &AllButOne,
            controller: &Fixed(Amount::Fraction(0.5)),
            cutter: &TokenCutter::default(),
            limits: CutLimits::default(),
        };
        let plan = plan_group(&parts, &Query::default(), None, 3, &mut rng()).unwrap();
        let reasons: Vec<_> = plan.members.iter().map(|m| m.cut.reason).collect();
        assert_eq!(
            reasons,
            [CutReason::NoTrace, CutReason::NoTrace, CutReason::Unguided]
        );
        assert!(plan.members[0].prefix(None).is_empty());
        assert!(plan.members[0].outcome(1.0, true).guided);
    }

    #[test]
    fn one_draw_rounds_the_whole_group_alike() {
        let parts = Parts {
            selector: &AllButOne,
            controller: &Fixed(Amount::Tokens(1.5)),
            cutter: &TokenCutter::default(),
            limits: CutLimits::default(),
        };
        let trace = Trace::from_tokens(vec![1, 2, 3, 4]);
        let mut rng = rng();
        let mut seen = [false; 2];
        for _ in 0..40 {
            let plan = plan_group(&parts, &Query::default(), Some(&trace), 4, &mut rng).unwrap();
            let lens: Vec<_> = plan.members.iter().map(|m| m.cut.len).collect();
            assert!(lens == [1, 1, 1, 0] || lens == [2, 2, 2, 0], "{lens:?}");
            seen[lens[0] - 1] = true;
        }
        assert_eq!(seen, [true, true]);
    }
}
