//! SEELE's rounds: each part of a group is guided by the curve that the parts before it drew.

use rand::Rng;

use crate::controller::amount::Amount;
use crate::controller::curve::ResponseCurve;
use crate::defaults::settings;
use crate::error::{Domain, Result, SHARE};
use crate::selector::member::{
    GroupContext, Level, Member, Played, Revision, Selector, check_group,
};

settings! {
    /// SEELE's rounds (arXiv 2509.06923): a group is generated in parts, and each part is given the
    /// fraction of the trace at which, by what the parts before it earned, half should succeed.
    ///
    /// The curve between fraction and success is that of [`Irt`](crate::Irt). What other steps and tasks have
    /// shown is not used; that controller does.
    #[derive(Copy)]
    pub struct CurveRounds {
        /// Number of parts, at least 1 and at most the group's size; the first ones are the larger
        /// ones. Default 4 (not published in what we could read).
        pub rounds: usize = 4,
        /// The share of successes to aim for, in [0, 1]. Default 0.5, as in SEELE.
        pub target: f64 = 0.5,
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
        let part = self.part(group.round, group.group_size, played);
        Ok(Revision::Append(part))
    }

    fn check(&self, group_size: usize) -> Result<()> {
        check_group(group_size)?;
        let (rounds, most) = (self.rounds as f64, group_size as f64);
        Domain(1.0, most, "[1, group size]").check("rounds", rounds)?;
        SHARE.check("target", self.target)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::selector::member::tests::{group_of, played};
    use crate::testing::rng;

    fn of(rounds: usize) -> CurveRounds {
        CurveRounds {
            rounds,
            ..CurveRounds::default()
        }
    }

    fn fraction(member: &Member) -> f64 {
        match member.level {
            Level::Exactly(amount) => amount.value(),
            level => panic!("{level:?}"),
        }
    }

    #[test]
    fn parts_make_up_the_group_and_follow_what_was_earned() {
        let selector = of(3);
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
        let plan = |rounds| of(rounds).plan(&group_of(4), &mut rng());
        assert!(plan(0).is_err() && plan(5).is_err());
        assert_eq!(plan(1).unwrap().len(), 4);
    }
}
