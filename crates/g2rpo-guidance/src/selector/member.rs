//! Members of a group and the trait of what decides how they are guided.

use rand::Rng;
use serde::{Deserialize, Serialize};

use crate::controller::amount::Amount;
use crate::controller::length::Query;
use crate::error::{Error, NON_NEGATIVE, Result};

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
    /// Checks the amount of [`Level::Exactly`].
    pub(crate) fn check(self) -> Result<()> {
        if let Self::Exactly(amount) = self {
            NON_NEGATIVE.check("level", amount.value())?;
        }
        Ok(())
    }

    /// Whether the member is chosen to be guided, whatever comes of it.
    pub fn is_chosen(self) -> bool {
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
    /// What it was paid, shaping included: what may be learned from it.
    pub reward: f64,
    /// Whether the verifier accepted it: what counts as solved.
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
/// assert_eq!(members.iter().filter(|m| m.level.is_chosen()).count(), 3);
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

    /// Whether the settings are within their domains and fit such a group. The default asks for
    /// the two members without which nothing can be compared.
    ///
    /// # Errors
    /// [`Error::GroupSize`] and the selector's own, before anything is generated.
    fn check(&self, group_size: usize) -> Result<()> {
        check_group(group_size)
    }

    /// How many members of such a group are chosen to be guided, if that is always the same
    /// number; the detectors compare it with what came of it. The default does not say.
    fn chosen_of(&self, _group_size: usize) -> Option<usize> {
        None
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
            fn check(&self, group_size: usize) -> Result<()> {
                (**self).check(group_size)
            }
            fn chosen_of(&self, group_size: usize) -> Option<usize> {
                (**self).chosen_of(group_size)
            }
        }
    )*};
}

forward!(&S, Box<S>);

pub(crate) fn check_group(group_size: usize) -> Result<()> {
    if group_size < 2 {
        return Err(Error::GroupSize { got: group_size });
    }
    Ok(())
}

pub(crate) fn first_guided(group_size: usize, guided: usize) -> Vec<Member> {
    let mut members = vec![Member::default(); group_size];
    members[..guided].fill(Member::new(Level::Controlled));
    members
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn group_of(group_size: usize) -> GroupContext {
        GroupContext {
            query: Query::default(),
            group_size,
            round: 0,
        }
    }

    /// So many more members.
    pub(crate) fn more(n: usize, level: Level) -> Revision {
        Revision::Append(vec![Member::new(level); n])
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
}
