//! Unguided first; guided only if nothing succeeded.

use rand::Rng;
use serde::{Deserialize, Serialize};

use crate::defaults::settings;
use crate::error::{Domain, Result};
use crate::selector::member::{
    GroupContext, Level, Member, Played, Revision, Selector, check_group,
};

/// How much of a group a successful retry replaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Retry {
    /// The whole group is generated again with guidance (GHPO, Guide-GRPO, SAGE).
    #[default]
    Group,
    /// One guided member takes the place of the last unguided one (Scaf-GRPO).
    One,
}

settings! {
    /// Unguided first; guided at rising levels only if nothing succeeded.
    ///
    /// The first level at which something succeeds is trained on. If none does, the unguided group is
    /// kept as it was (it has no gradient if its rewards are all equal). The default tries the group once
    /// more, by the controller's amount.
    pub struct ZeroRewardRetry {
        /// What is generated again.
        pub retry: Retry = Retry::Group,
        /// The levels to try, in this order.
        pub levels: Vec<Level> = vec![Level::Controlled],
        /// The share of a round's members that must have succeeded, in (0, 1]; a round with fewer has
        /// failed, whatever else was paid. Default 0.001, as in Guide-GRPO: one success is enough.
        pub threshold: f64 = 1e-3,
        /// Steps without any retry at the start of training (Scaf-GRPO: 50). Default 0.
        pub warmup_steps: u64 = 0,
        /// Whether a group whose rewards are all equal in the end is left out (Guide-GRPO). Default
        /// false.
        pub discard_constant: bool = false,
    }
}

impl ZeroRewardRetry {
    fn succeeded(&self, played: &[Played]) -> bool {
        let successes = played.iter().filter(|p| p.success).count();
        successes as f64 / played.len().max(1) as f64 >= self.threshold
    }

    fn finish(&self, played: &[Played], chosen: Vec<usize>) -> Revision {
        let first = chosen.first().map(|&i| played[i].reward);
        let constant = chosen.iter().all(|&i| Some(played[i].reward) == first);
        if self.discard_constant && constant {
            Revision::Discard
        } else {
            Revision::Only(chosen)
        }
    }
}

impl Selector for ZeroRewardRetry {
    fn plan(&self, group: &GroupContext, _: &mut dyn Rng) -> Result<Vec<Member>> {
        self.check(group.group_size)?;
        Ok(vec![Member::default(); group.group_size])
    }

    fn revise(&self, group: &GroupContext, played: &[Played], _: &mut dyn Rng) -> Result<Revision> {
        let size = group.group_size.min(played.len());
        let unguided = || (0..size).collect();
        let retry_size = match self.retry {
            Retry::Group => size,
            Retry::One => 1,
        };
        let tried = (played.len() - size) / retry_size.max(1);
        if group.query.step < self.warmup_steps || (tried == 0 && self.succeeded(&played[..size])) {
            return Ok(self.finish(played, unguided()));
        }
        let latest = played.len() - retry_size;
        if tried > 0 && self.succeeded(&played[latest..]) {
            let chosen = match self.retry {
                Retry::Group => (latest..played.len()).collect(),
                Retry::One => (0..size - 1).chain([latest]).collect(),
            };
            return Ok(self.finish(played, chosen));
        }
        Ok(match self.levels.get(tried) {
            Some(&level) => Revision::Append(vec![Member::new(level); retry_size]),
            None => self.finish(played, unguided()),
        })
    }

    fn check(&self, group_size: usize) -> Result<()> {
        check_group(group_size)?;
        Domain(f64::MIN_POSITIVE, 1.0, "(0, 1]").check("threshold", self.threshold)?;
        self.levels.iter().try_for_each(|level| level.check())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::amount::Amount;
    use crate::selector::member::tests::{group_of, more, played};
    use crate::testing::rng;

    fn ask(selector: &ZeroRewardRetry, rewards: &[f64]) -> Revision {
        let members = vec![Member::default(); rewards.len()];
        let played = played(&members, rewards);
        selector.revise(&group_of(3), &played, &mut rng()).unwrap()
    }

    fn fractions(retry: Retry) -> ZeroRewardRetry {
        let levels = [0.25, 0.5].map(|f| Level::Exactly(Amount::Fraction(f)));
        ZeroRewardRetry {
            retry,
            levels: levels.to_vec(),
            ..ZeroRewardRetry::default()
        }
    }

    #[test]
    fn a_group_climbs_the_levels_until_something_succeeds() {
        let ghpo = fractions(Retry::Group);
        assert_eq!(ask(&ghpo, &[0.0, 1.0, 0.0]), Revision::Only(vec![0, 1, 2]));
        assert_eq!(ask(&ghpo, &[0.0; 3]), more(3, ghpo.levels[0]));
        assert_eq!(ask(&ghpo, &[0.0; 6]), more(3, ghpo.levels[1]));
        let late = [0.0, 0.0, 0.0, 0.0, 1.0, 0.0];
        assert_eq!(ask(&ghpo, &late), Revision::Only(vec![3, 4, 5]));
        assert_eq!(ask(&ghpo, &[0.0; 9]), Revision::Only(vec![0, 1, 2]));
    }

    #[test]
    fn one_success_replaces_one_failure() {
        let scaf = fractions(Retry::One);
        assert_eq!(ask(&scaf, &[0.0; 3]), more(1, scaf.levels[0]));
        let (first, second) = ([0.0, 0.0, 0.0, 1.0], [0.0, 0.0, 0.0, 0.0, 1.0]);
        assert_eq!(ask(&scaf, &first), Revision::Only(vec![0, 1, 3]));
        assert_eq!(ask(&scaf, &second), Revision::Only(vec![0, 1, 4]));
        assert_eq!(ask(&scaf, &[0.0; 5]), Revision::Only(vec![0, 1, 2]));
    }

    #[test]
    fn what_is_paid_beside_the_verdict_makes_no_success_and_no_failure() {
        let ghpo = fractions(Retry::Group);
        let ask = |reward: f64, success: bool| {
            let one = Played {
                member: Member::default(),
                reward,
                success,
            };
            let revision = ghpo.revise(&group_of(3), &[one; 3], &mut rng());
            matches!(revision.unwrap(), Revision::Append(_))
        };
        // Paid for its form; solved, and paid for less than its length costs.
        assert_eq!((ask(0.5, false), ask(-0.5, true)), (true, false));
    }

    #[test]
    fn warm_up_and_constant_groups() {
        let guide = ZeroRewardRetry {
            warmup_steps: 5,
            discard_constant: true,
            ..fractions(Retry::Group)
        };
        assert_eq!(ask(&guide, &[0.0; 3]), Revision::Discard);
        assert_eq!(ask(&guide, &[0.0, 1.0, 1.0]), Revision::Only(vec![0, 1, 2]));
        let mut later = group_of(3);
        later.query.step = 5;
        let zeros = played(&[Member::default(); 3], &[0.0; 3]);
        let revision = guide.revise(&later, &zeros, &mut rng()).unwrap();
        assert!(matches!(revision, Revision::Append(_)));
    }
}
