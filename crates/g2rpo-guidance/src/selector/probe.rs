use rand::Rng;
use serde::{Deserialize, Serialize};

use super::{GroupContext, Level, Member, Played, Revision, Selector, check_group};
use crate::{Amount, Error, Result, error::within};

/// Tries some members unguided, then guides the others if the task turned out to be hard.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ProbeThenDecide {
    /// Members of the first round, at least 1 and fewer than the group.
    pub probes: usize,
    /// The others are guided if at most this share of the probes succeeded. Default 0.
    pub at_most: f64,
    /// How they are guided.
    pub level: Level,
}

impl Default for ProbeThenDecide {
    fn default() -> Self {
        Self {
            probes: 2,
            at_most: 0.0,
            level: Level::Controlled,
        }
    }
}

impl Selector for ProbeThenDecide {
    fn plan(&self, group: &GroupContext, _: &mut dyn Rng) -> Result<Vec<Member>> {
        check_group(group.group_size)?;
        let most = (group.group_size - 1) as f64;
        within(
            "probes",
            self.probes as f64,
            1.0,
            most,
            "[1, group size - 1]",
        )?;
        within("at_most", self.at_most, 0.0, 1.0, "[0, 1]")?;
        Ok(vec![Member::default(); self.probes])
    }

    fn revise(&self, group: &GroupContext, played: &[Played], _: &mut dyn Rng) -> Result<Revision> {
        let missing = group.group_size.saturating_sub(played.len());
        if missing == 0 || played.is_empty() {
            return Ok(Revision::Keep);
        }
        let successes = played.iter().filter(|p| p.success).count();
        let share = successes as f64 / played.len() as f64;
        let level = if share <= self.at_most {
            self.level
        } else {
            Level::Unguided
        };
        Ok(Revision::Append(vec![Member::new(level); missing]))
    }
}

/// One part of a [`Ladder`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LadderRung {
    /// Members of this part, at least 1.
    pub members: usize,
    /// Their level, if it is needed.
    pub level: Level,
    /// It is needed if the rewards of all members before sum to less than this; otherwise these
    /// members are unguided. The first rung's level is always used.
    pub below: f64,
}

/// Parts of a group one after another, guided more and more for as long as rewards are low.
///
/// The members of all rungs must make up the group.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Ladder(pub Vec<LadderRung>);

impl Default for Ladder {
    /// TRAPO's (arXiv 2512.17636) for G = 8: parts of 4, 2, 1 and 1 members at none, 25 %, 50 % and
    /// all of the trace, each only if the sum of rewards before is below 2, 4 and 7.
    fn default() -> Self {
        let rung = |members, fraction: f64, below| LadderRung {
            members,
            level: match fraction {
                0.0 => Level::Unguided,
                _ => Level::Exactly(Amount::Fraction(fraction)),
            },
            below,
        };
        Self(vec![
            rung(4, 0.0, 0.0),
            rung(2, 0.25, 2.0),
            rung(1, 0.5, 4.0),
            rung(1, 1.0, 7.0),
        ])
    }
}

impl Selector for Ladder {
    fn plan(&self, group: &GroupContext, _: &mut dyn Rng) -> Result<Vec<Member>> {
        check_group(group.group_size)?;
        let total: usize = self.0.iter().map(|r| r.members).sum();
        match self.0.first() {
            Some(first) if total == group.group_size && first.members > 0 => {
                Ok(vec![Member::new(first.level); first.members])
            }
            _ => Err(Error::LadderSize {
                expected: group.group_size,
                got: total,
            }),
        }
    }

    fn revise(&self, _: &GroupContext, played: &[Played], _: &mut dyn Rng) -> Result<Revision> {
        let reward: f64 = played.iter().map(|p| p.reward).sum();
        let mut before = 0;
        for rung in &self.0 {
            if before == played.len() && rung.members > 0 {
                let level = if reward < rung.below {
                    rung.level
                } else {
                    Level::Unguided
                };
                return Ok(Revision::Append(vec![Member::new(level); rung.members]));
            }
            before += rung.members;
        }
        Ok(Revision::Keep)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{group_of, played};
    use super::*;
    use crate::controller::tests::rng;

    fn unguided(n: usize, rewards: &[f64]) -> Vec<Played> {
        played(&vec![Member::default(); n], rewards)
    }

    #[test]
    fn probes_decide_about_the_rest() {
        let selector = ProbeThenDecide::default();
        let group = group_of(6);
        let ask = |rewards: &[f64]| {
            selector
                .revise(&group, &unguided(rewards.len(), rewards), &mut rng())
                .unwrap()
        };
        assert_eq!(
            selector.plan(&group, &mut rng()).unwrap(),
            [Member::default(); 2]
        );
        assert_eq!(
            ask(&[0.0, 0.0]),
            Revision::Append(vec![Member::new(Level::Controlled); 4])
        );
        assert_eq!(
            ask(&[0.0, 1.0]),
            Revision::Append(vec![Member::default(); 4])
        );
        assert_eq!(ask(&[0.0; 6]), Revision::Keep);
        let all = ProbeThenDecide {
            probes: 6,
            ..selector
        };
        assert!(all.plan(&group, &mut rng()).is_err());
    }

    #[test]
    fn trapo_climbs_while_rewards_are_low() {
        let ladder = Ladder::default();
        let group = group_of(8);
        let ask = |rewards: &[f64]| {
            ladder
                .revise(&group, &unguided(rewards.len(), rewards), &mut rng())
                .unwrap()
        };
        let at = |fraction, n| {
            Revision::Append(vec![
                Member::new(Level::Exactly(Amount::Fraction(fraction)));
                n
            ])
        };
        assert_eq!(ladder.plan(&group, &mut rng()).unwrap().len(), 4);
        assert_eq!(ask(&[0.0; 4]), at(0.25, 2));
        assert_eq!(
            ask(&[1.0, 1.0, 0.0, 0.0]),
            Revision::Append(vec![Member::default(); 2])
        );
        assert_eq!(ask(&[1.0, 1.0, 0.0, 0.0, 1.0, 0.0]), at(0.5, 1));
        assert_eq!(ask(&[1.0; 7]), Revision::Append(vec![Member::default()]));
        assert_eq!(ask(&[0.0; 8]), Revision::Keep);
        assert_eq!(
            ladder
                .plan(&group_of(10), &mut rng())
                .unwrap_err()
                .to_string(),
            "the rungs of the ladder have 8 members, the group 10"
        );
    }
}
