//! One task's members on their way through a step.

use std::sync::Arc;

use g2rpo_core::{AdvantageEstimator, Scale};
use g2rpo_guidance::{ExampleId, GroupPlan, Guidance, MemberPlan, StepFeedback};
use g2rpo_rollout::{Purpose, Rollout, RolloutKey};
use g2rpo_verify::Verdict;
use rand_chacha::ChaCha8Rng;

use crate::data::dataset::Item;
use crate::error::Result;

/// Names a step of a run: every draw of the step is keyed by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct StepKey {
    /// Seed of the run.
    pub run: u64,
    /// The step, counted from 0.
    pub step: u64,
}

impl StepKey {
    /// The key of one member's rollout.
    pub fn member(self, group: u32, member: u32) -> RolloutKey {
        RolloutKey {
            run: self.run,
            step: self.step,
            group,
            member,
        }
    }

    /// The generator for what is decided about a group in a round of generation, from 0.
    pub(crate) fn rng(self, group: u32, round: u32) -> ChaCha8Rng {
        self.member(group, round).rng(Purpose::Guidance)
    }
}

/// What a rollout was worth.
#[derive(Debug, Clone, PartialEq)]
pub struct Grade {
    /// The answer as text, guidance included: what was graded.
    pub answer: String,
    /// What counts as success, whatever else is paid.
    pub verdict: Verdict,
    /// What is paid: 1 for correct, 0 for incorrect, and what reward functions and penalties add.
    /// `None` where nothing could be decided; such a row gets no advantage instead of a false one.
    pub reward: Option<f64>,
    /// What each reward function returned, unweighted, in the order of [`g2rpo_verify::WeightedReward::names`];
    /// `None` where it does not apply.
    pub parts: Vec<Option<f64>>,
}

/// One task in a step: what was found to guide it, who is guided how, and what came of it.
///
/// `rollouts` and `grades` have one entry per member of the plan, in its order, as far as members
/// are generated and graded; a selector that asks for more makes the plan longer than they are.
#[derive(Debug, Clone)]
pub struct Group {
    /// Index of the task in its data set.
    pub task: usize,
    /// The task with its prompt.
    pub item: Arc<Item>,
    /// The task's id, under which guidance is kept.
    pub example: ExampleId,
    /// Names the group's draws within the step.
    pub index: u32,
    /// What the source knew.
    pub guidance: Option<Guidance>,
    /// Who is guided by how much.
    pub plan: GroupPlan,
    /// What was sampled.
    pub rollouts: Vec<Rollout>,
    /// What it was worth.
    pub grades: Vec<Grade>,
    /// The members to train on, once the selector has seen enough; empty if none.
    pub trained: Option<Vec<usize>>,
}

/// A member with all that is known of it.
#[derive(Debug, Clone, Copy)]
pub struct Member<'a> {
    /// How it was to be guided.
    pub plan: &'a MemberPlan,
    /// What it was given and sampled.
    pub rollout: &'a Rollout,
    /// What that was worth.
    pub grade: &'a Grade,
}

impl Group {
    /// The graded members, in the order of the plan.
    pub fn members(&self) -> impl Iterator<Item = Member<'_>> {
        (self.plan.members.iter())
            .zip(&self.rollouts)
            .zip(&self.grades)
            .map(|((plan, rollout), grade)| Member {
                plan,
                rollout,
                grade,
            })
    }

    /// Whether some member to train on has an advantage by what was paid: rewards may differ, and
    /// yet nobody from the baseline of its own subgroup or stratum.
    ///
    /// # Errors
    /// [`Error::Core`](crate::Error::Core) for rewards that the estimator cannot use.
    pub fn has_advantages(&self, estimator: &AdvantageEstimator) -> Result<bool> {
        let trained = self.trained.as_deref().unwrap_or_default();
        let plans = || trained.iter().map(|&m| &self.plan.members[m]);
        let rewards: Vec<_> = trained.iter().map(|&m| self.grades[m].reward).collect();
        let baselines: Vec<_> = plans().map(|p| p.member.subgroup as usize).collect();
        let guided: Vec<_> = plans().map(MemberPlan::is_guided).collect();
        let lengths = (trained.iter()).map(|&m| self.rollouts[m].completion.tokens.len());
        let lengths: Vec<_> = lengths.collect();
        let mut alone = *estimator;
        if matches!(alone.scale, Scale::BatchStd | Scale::Whiten) {
            // A scale of the whole batch makes no advantage of no difference.
            alone.scale = Scale::None;
        }
        let found = alone.advantages(&rewards, &baselines, &guided, Some(&lengths))?;
        Ok(found.advantages.iter().any(|advantage| *advantage != 0.0))
    }
}

/// What controllers and detectors learn from a step: every graded member of every group, whether
/// it is trained on or not. Members without a verdict are left out.
pub fn feedback<'a>(groups: impl IntoIterator<Item = &'a Group>, step: u64) -> StepFeedback {
    let mut feedback = StepFeedback::new(step);
    for group in groups {
        for member in group.members() {
            if let Some(reward) = member.grade.reward {
                let success = member.grade.verdict.is_correct();
                feedback.record(group.example, &member.plan.record(reward, success));
            }
        }
    }
    feedback
}
