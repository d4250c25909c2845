//! Fifth of a step: the members to train on as rows of one batch.

use std::collections::HashMap;

use g2rpo_core::Role;
use g2rpo_guidance::ScoreContext;
use g2rpo_rollout::{Batch, pack};

use crate::error::Result;
use crate::step::group::{Group, Member};

/// The rows of an update, group after group.
#[derive(Debug, Clone, PartialEq)]
pub struct Rows {
    /// Ids, roles and log-probabilities at sampling.
    pub batch: Batch,
    /// Where each row comes from: index of the group, index of the member.
    pub members: Vec<(usize, usize)>,
    /// Whose rewards share a baseline: rows of one group and one subgroup have equal numbers.
    pub baselines: Vec<usize>,
    /// Whether each row was guided in fact, by a prefix or a hint.
    pub guided: Vec<bool>,
    /// What each row was paid; `None` where it is masked.
    pub rewards: Vec<Option<f64>>,
}

impl Rows {
    /// Lays out the members that the groups train on.
    ///
    /// # Errors
    /// [`Error::Rollout`](crate::Error::Rollout) for an empty prompt.
    pub fn of(groups: &[Group], context: ScoreContext) -> Result<Self> {
        let mut members = Vec::new();
        let mut baselines = Vec::new();
        let mut numbers = HashMap::new();
        for (g, group) in groups.iter().enumerate() {
            for &m in group.trained.as_deref().unwrap_or_default() {
                members.push((g, m));
                let n = numbers.len();
                let subgroup = group.plan.members[m].member.subgroup;
                baselines.push(*numbers.entry((g, subgroup)).or_insert(n));
            }
        }
        let of = |&(g, m): &(usize, usize)| (&groups[g], m);
        let batch = pack(members.iter().map(of).map(|(group, m)| {
            let rollout = &group.rollouts[m];
            let prompt = match context {
                ScoreContext::AsSampled => &rollout.prompt[..],
                ScoreContext::HintFree | ScoreContext::OffPolicy => &group.item.prompt,
            };
            (prompt, rollout)
        }))?;
        let rows = members.iter().map(of);
        let guided = (rows.clone()).map(|(group, m)| group.plan.members[m].is_guided());
        let rewards = rows.map(|(group, m)| group.grades[m].reward);
        Ok(Self {
            batch,
            baselines,
            guided: guided.collect(),
            rewards: rewards.collect(),
            members,
        })
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether there is nothing to train on.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// The members behind the rows.
    pub fn iter<'g>(&self, groups: &'g [Group]) -> impl Iterator<Item = Member<'g>> {
        self.members.iter().map(|&(g, m)| Member {
            plan: &groups[g].plan.members[m],
            rollout: &groups[g].rollouts[m],
            grade: &groups[g].grades[m],
        })
    }

    /// Sampled tokens of each row.
    pub fn own_lengths(&self) -> impl Iterator<Item = usize> {
        let own = |roles: &[Role]| roles.iter().filter(|r| **r == Role::Own).count();
        self.batch.roles.rows().map(own)
    }
}
