use rand::Rng;
use serde::{Deserialize, Serialize};

use crate::amount::uniform;
use crate::{
    Amount, Cut, CutLimits, CutReason, Cutter, Error, LengthController, Level, Member, Outcome,
    Query, Result, Selector, TokenId, Trace, cut,
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
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GroupPlan {
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
/// The selector's; [`Error::MemberCount`] if it plans no member, or more than `group_size`.
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
    let members = parts.selector.plan(group_size, rng)?;
    if members.is_empty() || members.len() > group_size {
        return Err(Error::MemberCount {
            expected: group_size,
            got: members.len(),
        });
    }
    Ok(GroupPlan {
        amount,
        draw,
        members: plan_members(parts, amount, draw, trace, &members),
    })
}

/// Cuts for members that a selector added or replaced, with the amount and rounding of their
/// group's [`GroupPlan`].
pub fn plan_members(
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
