//! Who is guided: the [`Selector`] trait and its implementations.

mod probe;
mod retry;
mod rounds;
mod wrap;

use rand::Rng;
use serde::{Deserialize, Serialize};

pub use probe::{Ladder, LadderRung, ProbeThenDecide};
pub use retry::{Retry, ZeroRewardRetry};
pub use rounds::CurveRounds;
pub use wrap::{Dropout, Mixed};

use crate::{Amount, Error, Query, Result, Rounding, amount::uniform, error::within};

/// How one member is to be guided.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Not at all.
    #[default]
    Unguided,
    /// By the controller's amount.
    Controlled,
    /// By this amount, whatever the controller says.
    Exactly(Amount),
    /// By the hint with this index, in the prompt; the completion has no prefix.
    Hint(usize),
}

impl Level {
    /// Whether the member counts as guided.
    pub fn is_guided(self) -> bool {
        self != Self::Unguided
    }
}

/// One member of a group, before it is generated.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Member {
    /// How it is guided.
    pub level: Level,
    /// Members with different numbers here have different baselines. 0 unless a selector divides
    /// the group.
    pub subgroup: u32,
}

impl Member {
    /// A member of the undivided group.
    pub fn new(level: Level) -> Self {
        Self { level, subgroup: 0 }
    }
}

/// A member that was generated and scored.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Played {
    /// How it was guided.
    pub member: Member,
    /// Its reward.
    pub reward: f64,
    /// Whether the verifier accepted it.
    pub success: bool,
}

/// What a selector is asked about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupContext {
    /// Step and task.
    pub query: Query,
    /// G, the number of members the group is to have.
    pub group_size: usize,
    /// How often members of this group have been generated.
    pub round: usize,
}

/// What a selector does after it has seen rewards.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Revision {
    /// Train on everything that was generated.
    Keep,
    /// Generate these members as well and ask again.
    Append(Vec<Member>),
    /// Train on the members with these indices, in this order.
    Only(Vec<usize>),
    /// Train on none of them.
    Discard,
}

/// Decides which members of a group are guided.
///
/// Ten lines make a selector of one's own:
///
/// ```
/// use g2rpo_guidance::{GroupContext, Level, Member, Query, Result, Selector};
/// use rand::Rng;
///
/// /// Guides every second member.
/// struct EverySecond;
///
/// impl Selector for EverySecond {
///     fn plan(&self, group: &GroupContext, _: &mut dyn Rng) -> Result<Vec<Member>> {
///         let level = |i| if i % 2 == 0 { Level::Controlled } else { Level::Unguided };
///         Ok((0..group.group_size).map(|i| Member::new(level(i))).collect())
///     }
/// }
/// # use rand::SeedableRng;
/// # let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(0);
/// let group = GroupContext { query: Query::default(), group_size: 5, round: 0 };
/// let members = EverySecond.plan(&group, &mut rng)?;
/// assert_eq!(members.iter().filter(|m| m.level.is_guided()).count(), 3);
/// # Ok::<(), g2rpo_guidance::Error>(())
/// ```
pub trait Selector {
    /// The members to generate first, usually all `group_size` of them.
    ///
    /// # Errors
    /// If the group is too small or the selector's settings are outside their domain.
    fn plan(&self, group: &GroupContext, rng: &mut dyn Rng) -> Result<Vec<Member>>;

    /// What to do when all members so far are scored; asked again after every
    /// [`Revision::Append`]. The default keeps.
    ///
    /// # Errors
    /// If the selector's settings are outside their domain.
    fn revise(
        &self,
        _group: &GroupContext,
        _played: &[Played],
        _rng: &mut dyn Rng,
    ) -> Result<Revision> {
        Ok(Revision::Keep)
    }
}

macro_rules! forward {
    ($($pointer:ty),*) => {$(
        impl<S: Selector + ?Sized> Selector for $pointer {
            fn plan(&self, group: &GroupContext, rng: &mut dyn Rng) -> Result<Vec<Member>> {
                (**self).plan(group, rng)
            }
            fn revise(
                &self,
                group: &GroupContext,
                played: &[Played],
                rng: &mut dyn Rng,
            ) -> Result<Revision> {
                (**self).revise(group, played, rng)
            }
        }
    )*};
}

forward!(&S, Box<S>);

/// G²RPO-A's: the first `α · G` members are guided, the others are not.
///
/// Which ones makes no difference to learning: members are exchangeable, and every draw is keyed
/// by the member's index.
///
/// ```
/// use g2rpo_guidance::{FixedFraction, Rounding};
/// let quarter = FixedFraction { alpha: 0.25, rounding: Rounding::Ceil };
/// assert_eq!(quarter.guided_count(10, 0.0)?, 3);
/// assert!(FixedFraction { alpha: 1.5, ..quarter }.guided_count(10, 0.0).is_err());
/// # Ok::<(), g2rpo_guidance::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FixedFraction {
    /// α, the share of guided members, in [0, 1]. Default 1/4, the paper's best for Qwen3-1.7B on
    /// mathematics (its table 9; 3/4 for Qwen3-0.6B).
    pub alpha: f64,
    /// How `α · G` becomes a whole number. Default up, as in the reproduction.
    pub rounding: Rounding,
}

impl Default for FixedFraction {
    fn default() -> Self {
        Self {
            alpha: 0.25,
            rounding: Rounding::Ceil,
        }
    }
}

impl FixedFraction {
    /// Number of guided members; `draw` is uniform in `[0, 1)`, for stochastic rounding.
    ///
    /// # Errors
    /// [`Error::Config`] if α is outside [0, 1], [`Error::GroupSize`] for fewer than 2 members.
    pub fn guided_count(&self, group_size: usize, draw: f64) -> Result<usize> {
        check_group(group_size)?;
        let exact = within("alpha", self.alpha, 0.0, 1.0, "[0, 1]")? * group_size as f64;
        // 0.07 · 100 is a little more than 7 in binary, and must not be rounded up to 8.
        let near = exact.round();
        let exact = if (exact - near).abs() < 1e-9 {
            near
        } else {
            exact
        };
        Ok(self.rounding.apply(exact, draw).min(group_size))
    }
}

impl Selector for FixedFraction {
    fn plan(&self, group: &GroupContext, rng: &mut dyn Rng) -> Result<Vec<Member>> {
        let guided = self.guided_count(group.group_size, uniform(rng))?;
        Ok(first_guided(group.group_size, guided))
    }
}

/// Nobody is guided: plain GRPO.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct NoOne;

impl Selector for NoOne {
    fn plan(&self, group: &GroupContext, _: &mut dyn Rng) -> Result<Vec<Member>> {
        first_guided_of(group, 0)
    }
}

/// Everybody is guided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct All;

impl Selector for All {
    fn plan(&self, group: &GroupContext, _: &mut dyn Rng) -> Result<Vec<Member>> {
        first_guided_of(group, group.group_size)
    }
}

/// Everybody but one member is guided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct AllButOne;

impl Selector for AllButOne {
    fn plan(&self, group: &GroupContext, _: &mut dyn Rng) -> Result<Vec<Member>> {
        first_guided_of(group, group.group_size.saturating_sub(1))
    }
}

pub(crate) fn check_group(group_size: usize) -> Result<()> {
    if group_size < 2 {
        return Err(Error::GroupSize { got: group_size });
    }
    Ok(())
}

fn first_guided_of(group: &GroupContext, guided: usize) -> Result<Vec<Member>> {
    check_group(group.group_size)?;
    Ok(first_guided(group.group_size, guided))
}

pub(crate) fn first_guided(group_size: usize, guided: usize) -> Vec<Member> {
    let level = |i| {
        if i < guided {
            Level::Controlled
        } else {
            Level::Unguided
        }
    };
    (0..group_size).map(|i| Member::new(level(i))).collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::controller::tests::rng;

    pub(crate) fn group_of(group_size: usize) -> GroupContext {
        GroupContext {
            query: Query::default(),
            group_size,
            round: 0,
        }
    }

    /// Members with the given rewards, a success above 0.5.
    pub(crate) fn played(members: &[Member], rewards: &[f64]) -> Vec<Played> {
        (members.iter().zip(rewards))
            .map(|(&member, &reward)| Played {
                member,
                reward,
                success: reward > 0.5,
            })
            .collect()
    }

    fn count(selector: &dyn Selector, group_size: usize) -> usize {
        let members = selector.plan(&group_of(group_size), &mut rng()).unwrap();
        assert_eq!(members.len(), group_size);
        members.iter().filter(|m| m.level.is_guided()).count()
    }

    #[test]
    fn the_guided_count_is_what_was_asked() {
        let fraction = |alpha, rounding| FixedFraction { alpha, rounding };
        assert_eq!(count(&fraction(0.25, Rounding::Ceil), 10), 3);
        assert_eq!(count(&fraction(0.25, Rounding::Floor), 10), 2);
        assert_eq!(count(&fraction(0.07, Rounding::Ceil), 100), 7);
        assert_eq!(count(&fraction(0.29, Rounding::Floor), 100), 29);
        assert_eq!(count(&fraction(1.0, Rounding::Stochastic), 7), 7);
        assert_eq!(count(&fraction(0.0, Rounding::Ceil), 7), 0);
        assert_eq!(count(&NoOne, 4), 0);
        assert_eq!(count(&All, 4), 4);
        assert_eq!(count(&AllButOne, 4), 3);
    }

    #[test]
    fn what_cannot_be_says_so() {
        let half = FixedFraction {
            alpha: 0.5,
            ..FixedFraction::default()
        };
        assert_eq!(
            half.plan(&group_of(1), &mut rng()).unwrap_err().to_string(),
            "group size 1: a group needs at least 2 members, because an advantage is a difference from the others"
        );
        let wild = FixedFraction {
            alpha: -0.1,
            ..half
        };
        assert_eq!(
            wild.plan(&group_of(4), &mut rng()).unwrap_err().to_string(),
            "alpha = -0.1 is outside its domain [0, 1]"
        );
        assert!(
            FixedFraction {
                alpha: f64::NAN,
                ..half
            }
            .plan(&group_of(4), &mut rng())
            .is_err()
        );
    }
}
