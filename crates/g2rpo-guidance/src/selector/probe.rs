//! Parts of a group that are guided by what the parts before them earned.

use rand::Rng;
use serde::{Deserialize, Serialize};

use crate::controller::amount::Amount;
use crate::defaults::settings;
use crate::error::{Domain, Error, Result, SHARE};
use crate::selector::member::{
    GroupContext, Level, Member, Played, Revision, Selector, check_group,
};

settings! {
    /// Tries some members unguided, then guides the others if the task turned out to be hard.
    #[derive(Copy)]
    pub struct ProbeThenDecide {
        /// Members of the first round, at least 1 and fewer than the group.
        pub probes: usize = 2,
        /// The others are guided if at most this share of the probes succeeded. Default 0.
        pub at_most: f64 = 0.0,
        /// How they are guided.
        pub level: Level = Level::Controlled,
    }
}

impl Selector for ProbeThenDecide {
    fn plan(&self, group: &GroupContext, _: &mut dyn Rng) -> Result<Vec<Member>> {
        self.check(group.group_size)?;
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

    fn check(&self, group_size: usize) -> Result<()> {
        check_group(group_size)?;
        let (probes, most) = (self.probes as f64, (group_size - 1) as f64);
        Domain(1.0, most, "[1, group size - 1]").check("probes", probes)?;
        SHARE.check("at_most", self.at_most)?;
        self.level.check()
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
    /// It is needed if fewer than this many of all members before have succeeded; otherwise these
    /// members are unguided. The first rung's level is always used.
    pub below: f64,
}

/// Parts of a group one after another, guided more and more for as long as successes are few.
///
/// The members of all rungs must make up the group.
///
/// ```
/// use g2rpo_guidance::{Amount, Ladder, LadderRung, Level, Selector};
///
/// // Four alone; if none of them succeeds, four more from half of the trace.
/// let rung = |level, below| LadderRung { members: 4, level, below };
/// let half = Level::Exactly(Amount::Fraction(0.5));
/// let ladder = Ladder { rungs: vec![rung(Level::Unguided, 0.0), rung(half, 1.0)] };
/// assert!(ladder.check(8).is_ok());
/// assert!(ladder.check(6).is_err());
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ladder {
    /// Its parts, in their order.
    pub rungs: Vec<LadderRung>,
}

impl Default for Ladder {
    /// TRAPO's (arXiv 2512.17636) for G = 8: parts of 4, 2, 1 and 1 members at none, 25 %, 50 % and
    /// all of the trace, each only if fewer than 2, 4 and 7 before have succeeded.
    fn default() -> Self {
        let rung = |members, fraction: f64, below| LadderRung {
            members,
            level: match fraction {
                0.0 => Level::Unguided,
                _ => Level::Exactly(Amount::Fraction(fraction)),
            },
            below,
        };
        Self {
            rungs: vec![
                rung(4, 0.0, 0.0),
                rung(2, 0.25, 2.0),
                rung(1, 0.5, 4.0),
                rung(1, 1.0, 7.0),
            ],
        }
    }
}

impl Selector for Ladder {
    fn plan(&self, group: &GroupContext, _: &mut dyn Rng) -> Result<Vec<Member>> {
        self.check(group.group_size)?;
        let members = |first: &LadderRung| vec![Member::new(first.level); first.members];
        Ok(self.rungs.first().map_or_else(Vec::new, members))
    }

    fn revise(&self, _: &GroupContext, played: &[Played], _: &mut dyn Rng) -> Result<Revision> {
        let successes = played.iter().filter(|p| p.success).count() as f64;
        let mut before = 0;
        for rung in &self.rungs {
            if before == played.len() && rung.members > 0 {
                let level = if successes < rung.below {
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

    fn check(&self, group_size: usize) -> Result<()> {
        check_group(group_size)?;
        for (i, rung) in self.rungs.iter().enumerate() {
            rung.level.check()?;
            let (least, domain) = if i > 0 && rung.level.is_chosen() {
                (f64::MIN_POSITIVE, "(0, ∞), or its level is never given")
            } else {
                (0.0, "[0, ∞)")
            };
            Domain(least, f64::MAX, domain).check("below", rung.below)?;
        }
        let total: usize = self.rungs.iter().map(|r| r.members).sum();
        let begins = self.rungs.first().is_some_and(|first| first.members > 0);
        if begins && total == group_size {
            return Ok(());
        }
        Err(Error::LadderSize {
            expected: group_size,
            got: total,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::selector::member::tests::{group_of, more, played};
    use crate::testing::rng;

    /// What comes after so many unguided members with these rewards.
    fn asked(selector: &dyn Selector, group: &GroupContext, rewards: &[f64]) -> Revision {
        let played = played(&vec![Member::default(); rewards.len()], rewards);
        selector.revise(group, &played, &mut rng()).unwrap()
    }

    #[test]
    fn probes_decide_about_the_rest() {
        let selector = ProbeThenDecide::default();
        let group = group_of(6);
        let ask = |rewards: &[f64]| asked(&selector, &group, rewards);
        let probes = selector.plan(&group, &mut rng()).unwrap();
        assert_eq!(probes, [Member::default(); 2]);
        assert_eq!(ask(&[0.0, 0.0]), more(4, Level::Controlled));
        assert_eq!(ask(&[0.0, 1.0]), more(4, Level::Unguided));
        assert_eq!(ask(&[0.0; 6]), Revision::Keep);
        let all = ProbeThenDecide {
            probes: 6,
            ..selector
        };
        assert!(all.plan(&group, &mut rng()).is_err());
    }

    #[test]
    fn trapo_climbs_while_successes_are_few() {
        let ladder = Ladder::default();
        let group = group_of(8);
        let ask = |rewards: &[f64]| asked(&ladder, &group, rewards);
        let at = |fraction, n| more(n, Level::Exactly(Amount::Fraction(fraction)));
        assert_eq!(ladder.plan(&group, &mut rng()).unwrap().len(), 4);
        assert_eq!(ask(&[0.0; 4]), at(0.25, 2));
        assert_eq!(ask(&[1.0, 1.0, 0.0, 0.0]), more(2, Level::Unguided));
        assert_eq!(ask(&[1.0, 1.0, 0.0, 0.0, 1.0, 0.0]), at(0.5, 1));
        assert_eq!(ask(&[1.0; 7]), more(1, Level::Unguided));
        assert_eq!(ask(&[0.0; 8]), Revision::Keep);
        let error = ladder.plan(&group_of(10), &mut rng()).unwrap_err();
        let expected = "the rungs of the ladder have 8 members, the group 10";
        assert_eq!(error.to_string(), expected);
    }
}
