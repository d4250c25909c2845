//! SEELE's rounds: each part of a group is guided by the curve that the parts before it drew.

use rand::Rng;
use serde::{Deserialize, Serialize};

use crate::controller::amount::Amount;
use crate::controller::curve::ResponseCurve;
use crate::error::{Result, within};
use crate::selector::member::{
    GroupContext, Level, Member, Played, Revision, Selector, check_group,
};

/// SEELE's rounds (arXiv 2509.06923): a group is generated in parts, and each part is given the
/// fraction of the trace at which, by what the parts before it earned, half should succeed.
///
/// The curve between fraction and success is that of [`Irt`](crate::Irt). What other steps and tasks have
/// shown is not used; that controller does.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CurveRounds {
    /// Number of parts, at least 1 and at most the group's size; the first ones are the larger
    /// ones. Default 4 (not published in what we could read).
    pub rounds: usize,
    /// The share of successes to aim for, in [0, 1]. Default 0.5, as in SEELE.
    pub target: f64,
}

impl Default for CurveRounds {
    fn default() -> Self {
        Self {
            rounds: 4,
            target: 0.5,
        }
    }
}

impl CurveRounds {
    fn part(&self, round: usize, group_size: usize, played: &[Played]) -> Vec<Member> {
        let size = group_size / self.rounds + usize::from(round < group_size % self.rounds);
        let seen = played.iter().filter_map(|p| match p.member.level {
            Level::Exactly(Amount::Fraction(fraction)) => {
                Some((fraction, 1.0, f64::from(u8::from(p.success))))
            }
            _ => None,
        });
        let fraction = ResponseCurve::fit(seen).fraction_for(self.target);
        vec![Member::new(Level::Exactly(Amount::Fraction(fraction))); size]
    }
}

impl Selector for CurveRounds {
    fn plan(&self, group: &GroupContext, _: &mut dyn Rng) -> Result<Vec<Member>> {
        self.check(group.group_size)?;
        Ok(self.part(0, group.group_size, &[]))
    }

    fn revise(&self, group: &GroupContext, played: &[Played], _: &mut dyn Rng) -> Result<Revision> {
        if played.len() >= group.group_size || self.rounds == 0 {
            return Ok(Revision::Keep);
        }
        Ok(Revision::Append(self.part(
            group.round,
            group.group_size,
            played,
        )))
    }

    fn check(&self, group_size: usize) -> Result<()> {
        check_group(group_size)?;
        let (rounds, most) = (self.rounds as f64, group_size as f64);
        within("rounds", rounds, 1.0, most, "[1, group size]")?;
        within("target", self.target, 0.0, 1.0, "[0, 1]")?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::selector::member::tests::{group_of, played};
    use crate::testing::rng;

    fn fraction(member: &Member) -> f64 {
        match member.level {
            Level::Exactly(amount) => amount.value(),
            level => panic!("{level:?}"),
        }
    }

    #[test]
    fn parts_make_up_the_group_and_follow_what_was_earned() {
        let selector = CurveRounds {
            rounds: 3,
            ..CurveRounds::default()
        };
        let mut group = group_of(8);
        let mut members = selector.plan(&group, &mut rng()).unwrap();
        let (mut sizes, mut given) = (vec![members.len()], vec![fraction(&members[0])]);
        loop {
            // Succeeds with more than 0.7 of the trace.
            let rewards: Vec<f64> = (members.iter())
                .map(|m| f64::from(u8::from(fraction(m) > 0.7)))
                .collect();
            group.round += 1;
            let revision = selector.revise(&group, &played(&members, &rewards), &mut rng());
            match revision.unwrap() {
                Revision::Append(more) => {
                    sizes.push(more.len());
                    given.push(fraction(&more[0]));
                    members.extend(more);
                }
                other => {
                    assert_eq!(other, Revision::Keep);
                    break;
                }
            }
        }
        assert_eq!(sizes, [3, 3, 2]);
        assert_eq!(members.len(), 8);
        // Three failures ask for more; what the next ones earn tells which way to go.
        assert!(given[1] > given[0]);
        assert_eq!(given[2] < given[1], given[1] > 0.7);
    }

    #[test]
    fn rounds_must_fit_the_group() {
        for rounds in [0, 5] {
            let selector = CurveRounds {
                rounds,
                ..CurveRounds::default()
            };
            assert!(selector.plan(&group_of(4), &mut rng()).is_err());
        }
        let whole = CurveRounds {
            rounds: 1,
            ..CurveRounds::default()
        };
        assert_eq!(whole.plan(&group_of(4), &mut rng()).unwrap().len(), 4);
    }
}
