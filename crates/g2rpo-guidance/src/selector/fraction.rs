//! A fixed share of every group is guided.

use rand::Rng;

use crate::controller::amount::{Rounding, uniform};
use crate::defaults::settings;
use crate::error::{Result, SHARE};
use crate::selector::member::{GroupContext, Member, Selector, check_group, first_guided};

settings! {
    /// G²RPO-A's: the first `α · G` members are guided, the others are not. α = 0 is plain GRPO, α = 1
    /// guides everybody.
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
    #[derive(Copy)]
    pub struct FixedFraction {
        /// α, the share of guided members, in [0, 1]. Default 1/4, the paper's best for Qwen3-1.7B on
        /// mathematics (its table 9; 3/4 for Qwen3-0.6B).
        pub alpha: f64 = 0.25,
        /// How `α · G` becomes a whole number. Default up, as in the reproduction.
        pub rounding: Rounding = Rounding::Ceil,
    }
}

impl FixedFraction {
    /// Number of guided members; `draw` is uniform in `[0, 1)`, for stochastic rounding.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) if α is outside [0, 1], [`Error::GroupSize`](crate::Error::GroupSize) for fewer than 2 members.
    pub fn guided_count(&self, group_size: usize, draw: f64) -> Result<usize> {
        check_group(group_size)?;
        SHARE.check("alpha", self.alpha)?;
        let exact = self.alpha * group_size as f64;
        // 0.07 · 100 is a little more than 7 in binary, and must not be rounded up to 8.
        let near = exact.round();
        let is_whole = (exact - near).abs() < 1e-9;
        let exact = if is_whole { near } else { exact };
        Ok(self.rounding.apply(exact, draw).min(group_size))
    }
}

impl Selector for FixedFraction {
    fn plan(&self, group: &GroupContext, rng: &mut dyn Rng) -> Result<Vec<Member>> {
        let guided = self.guided_count(group.group_size, uniform(rng))?;
        Ok(first_guided(group.group_size, guided))
    }

    fn check(&self, group_size: usize) -> Result<()> {
        self.guided_count(group_size, 0.0).map(|_| ())
    }

    fn chosen_of(&self, group_size: usize) -> Option<usize> {
        let least = self.guided_count(group_size, 1.0).ok()?;
        let most = self.guided_count(group_size, 0.0).ok()?;
        (least == most).then_some(least)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::selector::member::tests::group_of;
    use crate::testing::rng;

    fn of(alpha: f64, rounding: Rounding) -> FixedFraction {
        FixedFraction { alpha, rounding }
    }

    #[test]
    fn the_guided_count_is_what_was_asked() {
        let count = |alpha, rounding, group_size| {
            let selector = of(alpha, rounding);
            let members = selector.plan(&group_of(group_size), &mut rng()).unwrap();
            assert_eq!(members.len(), group_size);
            let chosen = members.iter().filter(|m| m.level.is_chosen()).count();
            assert!(selector.chosen_of(group_size).is_none_or(|n| n == chosen));
            chosen
        };
        assert_eq!(count(0.25, Rounding::Ceil, 10), 3);
        assert_eq!(count(0.25, Rounding::Floor, 10), 2);
        assert_eq!(count(0.07, Rounding::Ceil, 100), 7);
        assert_eq!(count(0.29, Rounding::Floor, 100), 29);
        assert_eq!(count(1.0, Rounding::Stochastic, 7), 7);
        assert_eq!(count(0.0, Rounding::Ceil, 7), 0);
        let wavering = of(0.25, Rounding::Stochastic);
        assert_eq!([8, 10].map(|n| wavering.chosen_of(n)), [Some(2), None]);
    }

    #[test]
    fn what_cannot_be_says_so() {
        let problem = |alpha, group_size| {
            let plan = of(alpha, Rounding::Ceil).plan(&group_of(group_size), &mut rng());
            plan.unwrap_err().to_string()
        };
        assert_eq!(
            problem(0.5, 1),
            "group size 1: a group needs at least 2 members, because an advantage is a difference from the others"
        );
        let outside = "alpha = -0.1 is outside its domain [0, 1]";
        assert_eq!(problem(-0.1, 4), outside);
        assert_eq!(of(-0.1, Rounding::Ceil).chosen_of(4), None);
    }
}
