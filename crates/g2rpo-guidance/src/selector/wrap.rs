//! Selectors around others: guidance left out now and then, guided and unguided copies.

use rand::Rng;
use serde::{Deserialize, Serialize};

use crate::controller::amount::uniform;
use crate::error::{Error, Result, SHARE};
use crate::selector::fraction::FixedFraction;
use crate::selector::member::{
    GroupContext, Level, Member, Played, Revision, Selector, first_guided,
};

/// Guides whom another selector guides, but leaves the guidance out now and then, so that the
/// policy does not come to rely on it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dropout<S> {
    /// Probability of leaving it out, in [0, 1].
    pub p: f64,
    /// Whether all members of a group lose their guidance together (`AdaBack`: 10 % of groups) or
    /// each by itself.
    pub whole_group: bool,
    /// The selector whose word is taken otherwise.
    pub inner: S,
}

impl<S: Selector> Dropout<S> {
    fn drop_some(&self, members: &mut [Member], rng: &mut dyn Rng) {
        let shared = uniform(rng);
        for member in members {
            let draw = if self.whole_group {
                shared
            } else {
                uniform(rng)
            };
            if draw < self.p {
                member.level = Level::Unguided;
            }
        }
    }
}

impl<S: Selector> Selector for Dropout<S> {
    fn plan(&self, group: &GroupContext, rng: &mut dyn Rng) -> Result<Vec<Member>> {
        self.check(group.group_size)?;
        let mut members = self.inner.plan(group, rng)?;
        self.drop_some(&mut members, rng);
        Ok(members)
    }

    fn revise(
        &self,
        group: &GroupContext,
        played: &[Played],
        rng: &mut dyn Rng,
    ) -> Result<Revision> {
        let mut revision = self.inner.revise(group, played, rng)?;
        if let Revision::Append(members) = &mut revision {
            self.drop_some(members, rng);
        }
        Ok(revision)
    }

    fn check(&self, group_size: usize) -> Result<()> {
        SHARE.check("p", self.p)?;
        self.inner.check(group_size)
    }
}

/// [`SelectorConfig::Mixed`](crate::SelectorConfig::Mixed).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mixed(pub(crate) FixedFraction);

impl Mixed {
    fn guided_count(self, group_size: usize, draw: f64) -> Result<usize> {
        let guided = self.0.guided_count(group_size, draw)?;
        let unguided = group_size - guided;
        if guided.min(unguided) < 2 {
            return Err(Error::Parts { guided, unguided });
        }
        Ok(guided)
    }
}

impl Selector for Mixed {
    fn plan(&self, group: &GroupContext, rng: &mut dyn Rng) -> Result<Vec<Member>> {
        let guided = self.guided_count(group.group_size, uniform(rng))?;
        let mut members = first_guided(group.group_size, guided);
        for member in &mut members[..guided] {
            member.subgroup = 1;
        }
        Ok(members)
    }

    fn check(&self, group_size: usize) -> Result<()> {
        // Either way of a stochastic rounding.
        self.guided_count(group_size, 0.0)?;
        self.guided_count(group_size, 1.0).map(|_| ())
    }

    fn chosen_of(&self, group_size: usize) -> Option<usize> {
        self.0.chosen_of(group_size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::selector::member::tests::{group_of, played};
    use crate::selector::retry::ZeroRewardRetry;
    use crate::testing::rng;

    const ALL: FixedFraction = FixedFraction {
        alpha: 1.0,
        rounding: crate::controller::amount::Rounding::Ceil,
    };

    fn dropout<S>(p: f64, whole_group: bool, inner: S) -> Dropout<S> {
        Dropout {
            p,
            whole_group,
            inner,
        }
    }

    #[test]
    fn dropout_drops_its_share() {
        let mut rng = rng();
        let mut n_dropped = |p, whole_group| -> Result<usize> {
            let members = dropout(p, whole_group, ALL).plan(&group_of(4), &mut rng)?;
            Ok(members.iter().filter(|m| !m.level.is_chosen()).count())
        };
        for whole_group in [false, true] {
            let mut dropped = 0;
            for _ in 0..1000 {
                let n = n_dropped(0.25, whole_group).unwrap();
                assert!(!whole_group || n == 0 || n == 4);
                dropped += n;
            }
            // 1000 ± 4·(55 per group of four at most).
            assert!((800..1200).contains(&dropped), "{dropped}");
        }
        assert_eq!(n_dropped(0.0, false), Ok(0));
        assert!(n_dropped(1.5, false).is_err());
    }

    #[test]
    fn dropout_reaches_later_rounds() {
        let selector = dropout(1.0, false, ZeroRewardRetry::default());
        let members = selector.plan(&group_of(2), &mut rng()).unwrap();
        let zeros = played(&members, &[0.0, 0.0]);
        let revision = selector.revise(&group_of(2), &zeros, &mut rng()).unwrap();
        assert_eq!(revision, Revision::Append(vec![Member::default(); 2]));
    }

    #[test]
    fn copies_have_baselines_of_their_own() {
        let half = Mixed(FixedFraction { alpha: 0.5, ..ALL });
        let members = half.plan(&group_of(6), &mut rng()).unwrap();
        let mut all = members.iter();
        assert!(all.all(|m| m.level.is_chosen() == (m.subgroup == 1)));
        assert_eq!(members.iter().filter(|m| m.subgroup == 1).count(), 3);
        assert!(half.plan(&group_of(3), &mut rng()).is_err());
    }
}
