//! What a loop knows about a finished step.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::feedback::{StepFeedback, Which};
use crate::plan::MemberPlan;
use crate::signal::Steering;
use crate::trace::cutter::CutReason;

/// What a loop knows about a finished step. Everything that is `None` or 0 is unknown or did not
/// happen, and the detectors that need it stay silent; `StepStats::default()` sets none off.
///
/// Which fields feed which detector, and where a loop has them from ("guided" and "unguided" of
/// rewards, tokens and advantages mean chosen to be guided and not):
///
/// | detector | fields | from |
/// |---|---|---|
/// | `zero_variance` | `frac_reward_zero_std`, `success`, `group_size` | [`from_feedback`](Self::from_feedback) |
/// | `identity_only_variance` | `frac_identity_only` | the same |
/// | `all_guided_saturated` | `success_guided`, `guided_fraction` | the same |
/// | `zero_reward` | `reward`, `success`, `n_rollouts` | the same |
/// | `reliance_gap` | `success_guided`, `success_unguided` | the same |
/// | `permissive_verifier` | `silence_accepted` | the verifier on an empty response to each task |
/// | `hint_reliance` | `hint_reliance` | own tokens of hinted successes scored under both prompts |
/// | `format_collapse` | `format_reward` | mean of the format reward function |
/// | `controller_blind` | `steered`, `signal` | [`with_steering`](Self::with_steering) |
/// | `length_pinned` | `length`, `length_min`, `length_max`, `success_unguided` | the same, and the controller's amount |
/// | `length_oscillating` | `length`, `length_max` | the same |
/// | `length_stalled` | `length`, `success_guided`, `success_unguided` | the same |
/// | `curriculum_confound` | `tier`, `length` | [`Curriculum::tier_of`](crate::Curriculum::tier_of) |
/// | `guided_count` | `guided_min`, `guided_max`, `guided_expected` | the members trained on that have a reward; [`Selector::chosen_of`](crate::Selector::chosen_of) |
/// | `guidance_exceeds_trace`, `no_trace` | `cuts` | [`with_cuts`](Self::with_cuts) |
/// | `budget_tight` | `cuts`, `truncated_guided`, `truncated_unguided` | the same, and the completions |
/// | `answer_in_prefix`, `broken_tags` | `prefixes_with_answer`, `prefixes_with_broken_tags` | [`inspect_prefix`](crate::inspect_prefix) |
/// | `stop_in_prefix` | `prefixes_with_stop` | prefixes that hold an id that ends or pads |
/// | `unequal_budget` | `own_tokens_guided`, `own_tokens_unguided` | the completions |
/// | `unguided_pushed_down` | `advantage_unguided`, `success_guided` | the advantages |
/// | `negative_guidance` | `guidance_negative_share` | metrics of the loss |
/// | `guidance_dominates` | `guidance_weight_ratio` | the same |
/// | `improbable_prefix` | `logp_guidance`, `logp_own` | the same |
/// | `entropy_collapse` | `entropy` | the same |
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct StepStats {
    /// The training step, counted from 0.
    pub step: u64,
    /// G, members per group.
    pub group_size: usize,
    /// Number of rollouts with a reward.
    pub n_rollouts: u64,
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
    /// Guided prefixes that pass the verifier by themselves or announce the answer.
    pub prefixes_with_answer: Option<u64>,
    /// Guided prefixes that open or close a tag wrongly or end within a mark.
    pub prefixes_with_broken_tags: Option<u64>,
    /// Guided prefixes that hold an id which ends or pads a sequence.
    pub prefixes_with_stop: Option<u64>,
    /// Share of guided rollouts that were truncated by the token limit.
    pub truncated_guided: Option<f64>,
    /// Share of unguided rollouts that were truncated by the token limit.
    pub truncated_unguided: Option<f64>,
    /// Mean number of sampled tokens of guided rollouts.
    pub own_tokens_guided: Option<f64>,
    /// Mean number of sampled tokens of unguided rollouts.
    pub own_tokens_unguided: Option<f64>,

    /// Tasks whose verifier accepts an empty response.
    pub silence_accepted: Option<u64>,
    /// Mean over hinted successes of `mean log p(y|x) - mean log p(y|x, hint)`, in nats per token
    /// (HiLL, arXiv 2604.00698): far below 0 where the success rests on the hint.
    pub hint_reliance: Option<f64>,
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
            let pool = Which::All.pool(example);
            if pool.n == 0 {
                continue;
            }
            groups += 1;
            let constant = |which: Which| which.pool(example).is_constant();
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

    /// Adds what the controller steers on and its bounds.
    #[must_use]
    pub fn with_steering(self, steering: Option<Steering>, feedback: &StepFeedback) -> Self {
        let Some(steering) = steering else {
            return self;
        };
        Self {
            steered: true,
            signal: steering.signal.of(feedback).map(|estimate| estimate.mean()),
            length_min: Some(steering.min),
            length_max: Some(steering.max),
            ..self
        }
    }

    /// Counts why the members that were chosen to be guided got as much as they did.
    #[must_use]
    pub fn with_cuts<'a>(mut self, members: impl IntoIterator<Item = &'a MemberPlan>) -> Self {
        for member in members {
            if member.is_chosen() {
                *self.cuts.entry(member.cut.reason).or_default() += 1;
            }
        }
        self
    }

    /// Share of guided prefixes that ended for this reason; nothing if there were none.
    pub(crate) fn share_of_cuts(&self, reason: CutReason) -> Option<f64> {
        let all: u64 = self.cuts.values().sum();
        let these = self.cuts.get(&reason).copied().unwrap_or(0);
        (all > 0).then(|| these as f64 / all as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::feedback;

    #[test]
    fn identity_only_groups_are_told_from_constant_and_mixed_ones() {
        let groups: [[(bool, f64); 4]; 3] = [
            [(true, 1.0), (true, 1.0), (false, 0.0), (false, 0.0)],
            [(true, 0.0), (true, 0.0), (false, 0.0), (false, 0.0)],
            [(true, 1.0), (true, 0.0), (false, 0.0), (false, 0.0)],
        ];
        let rollouts = (0..).zip(groups).flat_map(|(task, members)| {
            members.map(|(chosen, reward)| (task, chosen, 0.0, reward))
        });
        let feedback = feedback(4, rollouts);
        let stats = StepStats::from_feedback(&feedback);
        assert_eq!(stats.frac_reward_zero_std, Some(1.0 / 3.0));
        assert_eq!(stats.frac_identity_only, Some(1.0 / 3.0));
        assert_eq!(stats.success_guided, Some(0.5));
        assert_eq!((stats.group_size, stats.guided_fraction), (4, Some(0.5)));
    }
}
