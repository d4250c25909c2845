use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{CutReason, MemberPlan, StepFeedback, Which};

/// What a loop knows about a finished step. Everything that is `None` or 0 is unknown or did not
/// happen, and the detectors that need it stay silent; `StepStats::default()` sets none off.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct StepStats {
    /// The training step, counted from 0.
    pub step: u64,
    /// G, members per group.
    pub group_size: usize,
    /// Number of rollouts with a reward.
    pub n_rollouts: u64,
    /// Rollouts whose reward was NaN or infinite.
    pub invalid_rewards: u64,
    /// Mean reward.
    pub reward: Option<f64>,
    /// Share of rollouts that succeeded.
    pub success: Option<f64>,
    /// Share of guided rollouts that succeeded.
    pub success_guided: Option<f64>,
    /// Share of unguided rollouts that succeeded.
    pub success_unguided: Option<f64>,
    /// Share of rollouts that were guided.
    pub guided_fraction: Option<f64>,
    /// Share of groups whose rewards are all equal (TRL's `frac_reward_zero_std`).
    pub frac_reward_zero_std: Option<f64>,
    /// Share of groups whose rewards differ, but neither among the guided nor among the unguided.
    pub frac_identity_only: Option<f64>,
    /// What the controller steers on, after smoothing or before; `None` if it saw nothing.
    pub signal: Option<f64>,
    /// Whether a controller that steers on a signal is in use.
    pub steered: bool,
    /// The controller's length in its unit.
    pub length: Option<f64>,
    /// Smallest length it may choose.
    pub length_min: Option<f64>,
    /// Largest length it may choose.
    pub length_max: Option<f64>,
    /// Tier of a sequential curriculum that one controller serves as a whole.
    pub tier: Option<usize>,

    /// Smallest number of guided members in a group that was asked to hold `guided_expected`.
    pub guided_min: Option<usize>,
    /// Largest number of guided members in such a group.
    pub guided_max: Option<usize>,
    /// Number of guided members each group should hold.
    pub guided_expected: Option<usize>,
    /// How often each reason ended a guided prefix.
    pub cuts: BTreeMap<CutReason, u64>,
    /// Guided prefixes that pass the verifier by themselves or hold the answer.
    pub prefixes_with_answer: u64,
    /// Guided prefixes that open or close a tag wrongly or end within a mark.
    pub prefixes_with_broken_tags: u64,
    /// Rows whose ids changed between generation and training.
    pub retokenized: u64,
    /// Whether padding and end of sequence are the same id and loss masks derive from it.
    pub masks_by_shared_pad_id: bool,
    /// Share of guided rollouts that were truncated by the token limit.
    pub truncated_guided: Option<f64>,
    /// Share of unguided rollouts that were truncated by the token limit.
    pub truncated_unguided: Option<f64>,
    /// Mean number of sampled tokens of guided rollouts.
    pub own_tokens_guided: Option<f64>,
    /// Mean number of sampled tokens of unguided rollouts.
    pub own_tokens_unguided: Option<f64>,

    /// References that cannot be parsed, yet were rewarded.
    pub unparsed_references_rewarded: u64,
    /// Mean format reward, in [0, 1] before weighting.
    pub format_reward: Option<f64>,
    /// Mean advantage of unguided members.
    pub advantage_unguided: Option<f64>,
    /// Share of the guidance tokens' absolute loss weight that has a negative advantage.
    pub guidance_negative_share: Option<f64>,
    /// Absolute loss gradient on guidance tokens over that on own tokens.
    pub guidance_weight_ratio: Option<f64>,
    /// Mean log-probability of guidance tokens under the policy.
    pub logp_guidance: Option<f64>,
    /// Mean log-probability of own tokens under the policy.
    pub logp_own: Option<f64>,
    /// Mean token entropy in nats.
    pub entropy: Option<f64>,
}

impl StepStats {
    /// The part that follows from the feedback.
    pub fn from_feedback(feedback: &StepFeedback) -> Self {
        let all = feedback.pooled(Which::All);
        let guided = feedback.pooled(Which::Guided);
        let unguided = feedback.pooled(Which::Unguided);
        let share = |part: u64, of: u64| (of > 0).then(|| part as f64 / of as f64);
        let mut groups = 0;
        let mut zero_std = 0;
        let mut identity_only = 0;
        for example in feedback.examples.values() {
            let pool = example.pooled(Which::All);
            if pool.n == 0 {
                continue;
            }
            groups += 1;
            let constant = |which| example.pooled(which).is_constant();
            if pool.is_constant() {
                zero_std += 1;
            } else if constant(Which::Guided) && constant(Which::Unguided) {
                identity_only += 1;
            }
        }
        Self {
            step: feedback.step,
            group_size: share(all.n, groups).map_or(0, |g| g.round() as usize),
            n_rollouts: all.n,
            invalid_rewards: all.invalid,
            reward: (all.n > 0).then(|| all.reward_sum / all.n as f64),
            success: share(all.successes, all.n),
            success_guided: share(guided.successes, guided.n),
            success_unguided: share(unguided.successes, unguided.n),
            guided_fraction: share(guided.n, all.n),
            frac_reward_zero_std: share(zero_std, groups),
            frac_identity_only: share(identity_only, groups),
            ..Self::default()
        }
    }
}

impl StepStats {
    /// Counts why the guided members of the step got as much as they did.
    #[must_use]
    pub fn with_cuts<'a>(mut self, members: impl IntoIterator<Item = &'a MemberPlan>) -> Self {
        for member in members {
            if member.is_guided() {
                *self.cuts.entry(member.cut.reason).or_default() += 1;
            }
        }
        self
    }

    /// Share of guided prefixes that ended for this reason; nothing if there were none.
    pub fn share_of_cuts(&self, reason: CutReason) -> Option<f64> {
        let all: u64 = self.cuts.values().sum();
        let these = self.cuts.get(&reason).copied().unwrap_or(0);
        (all > 0).then(|| these as f64 / all as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ExampleId, Outcome};

    #[test]
    fn identity_only_groups_are_told_from_constant_and_mixed_ones() {
        let mut feedback = StepFeedback::new(4);
        let groups: [[(bool, f64); 4]; 3] = [
            [(true, 1.0), (true, 1.0), (false, 0.0), (false, 0.0)],
            [(true, 0.0), (true, 0.0), (false, 0.0), (false, 0.0)],
            [(true, 1.0), (true, 0.0), (false, 0.0), (false, 0.0)],
        ];
        for (id, members) in groups.into_iter().enumerate() {
            for (guided, reward) in members {
                let outcome = Outcome {
                    guided,
                    amount: 0.0,
                    guidance_tokens: 0,
                    reward,
                    success: reward > 0.5,
                };
                feedback.record(ExampleId(id as u64), &outcome);
            }
        }
        let stats = StepStats::from_feedback(&feedback);
        assert_eq!(stats.frac_reward_zero_std, Some(1.0 / 3.0));
        assert_eq!(stats.frac_identity_only, Some(1.0 / 3.0));
        assert_eq!(stats.success_guided, Some(0.5));
        assert_eq!((stats.group_size, stats.guided_fraction), (4, Some(0.5)));
    }
}
