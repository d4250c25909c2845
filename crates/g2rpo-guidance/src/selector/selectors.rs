//! The selectors as data.

use rand::Rng;
use serde::{Deserialize, Serialize};

use crate::controller::amount::Amount;
use crate::error::Result;
use crate::selector::fraction::FixedFraction;
use crate::selector::member::{GroupContext, Level, Member, Played, Revision, Selector};
use crate::selector::probe::{Ladder, ProbeThenDecide};
use crate::selector::retry::ZeroRewardRetry;
use crate::selector::rounds::CurveRounds;
use crate::selector::wrap::{Dropout, Mixed};

/// A selector as data, which selects.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum SelectorConfig {
    /// [`FixedFraction`].
    FixedFraction(FixedFraction),
    /// Guided and unguided copies of a task side by side, with baselines of their own (POPE,
    /// `PrefixRL`): guided members are subgroup 1, the others subgroup 0. A member alone has
    /// nothing to be compared with, so there are at least two of each.
    Mixed(FixedFraction),
    /// [`ZeroRewardRetry`].
    ZeroRewardRetry(ZeroRewardRetry),
    /// [`ProbeThenDecide`].
    ProbeThenDecide(ProbeThenDecide),
    /// [`CurveRounds`].
    CurveRounds(CurveRounds),
    /// [`Ladder`].
    Ladder(Ladder),
    /// [`Dropout`].
    Dropout(Dropout<Box<Self>>),
}

impl SelectorConfig {
    /// Every level that it may give a member; what a loop has to have guidance for.
    ///
    /// ```
    /// use g2rpo_guidance::{Level, Method};
    /// let levels = |name| Method::preset(name, 10).unwrap().selector.levels();
    /// assert!(levels("grpo").is_empty());
    /// assert_eq!(levels("g2rpo-a"), [Level::Controlled]);
    /// assert_eq!(levels("guide"), [Level::Hint(0)]);
    /// ```
    pub fn levels(&self) -> Vec<Level> {
        match self {
            Self::FixedFraction(fraction) | Self::Mixed(fraction) => {
                Vec::from_iter((fraction.alpha > 0.0).then_some(Level::Controlled))
            }
            Self::ZeroRewardRetry(retry) => retry.levels.clone(),
            Self::ProbeThenDecide(probe) => vec![probe.level],
            Self::CurveRounds(_) => vec![Level::Exactly(Amount::Fraction(0.5))],
            Self::Ladder(ladder) => ladder.rungs.iter().map(|rung| rung.level).collect(),
            Self::Dropout(dropout) => dropout.inner.levels(),
        }
    }

    fn with<T>(&self, ask: impl FnOnce(&dyn Selector) -> T) -> T {
        match self {
            Self::FixedFraction(selector) => ask(selector),
            Self::Mixed(selector) => ask(&Mixed(*selector)),
            Self::ZeroRewardRetry(selector) => ask(selector),
            Self::ProbeThenDecide(selector) => ask(selector),
            Self::CurveRounds(selector) => ask(selector),
            Self::Ladder(selector) => ask(selector),
            Self::Dropout(selector) => ask(selector),
        }
    }
}

impl Selector for SelectorConfig {
    fn plan(&self, group: &GroupContext, rng: &mut dyn Rng) -> Result<Vec<Member>> {
        self.with(|selector| selector.plan(group, rng))
    }

    fn revise(
        &self,
        group: &GroupContext,
        played: &[Played],
        rng: &mut dyn Rng,
    ) -> Result<Revision> {
        self.with(|selector| selector.revise(group, played, rng))
    }

    fn check(&self, group_size: usize) -> Result<()> {
        self.with(|selector| selector.check(group_size))
    }

    fn chosen_of(&self, group_size: usize) -> Option<usize> {
        self.with(|selector| selector.chosen_of(group_size))
    }
}
