//! The detectors: one table of name, check and advice.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::detect::view::{Numbers, View};
use crate::detect::{lengths, losses, prefixes, rewards};

macro_rules! table {
    ($($(#[$doc:meta])* $variant:ident $name:literal $check:path, $advice:literal)*) => {
        /// What can go wrong with guidance.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        #[non_exhaustive]
        pub enum Detector {
            $($(#[$doc])* $variant,)*
        }

        impl Detector {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// The name in logs, in `snake_case`.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }

            /// What to do about it.
            pub fn advice(self) -> &'static str {
                match self {
                    $(Self::$variant => $advice,)*
                }
            }

            /// The numbers that set it off, if something does.
            pub(super) fn check(self, view: &View<'_>) -> Option<Numbers> {
                match self {
                    $(Self::$variant => $check(view),)*
                }
            }
        }
    };
}

table! {
    /// Most groups have equal rewards and give no gradient.
    ZeroVariance "zero_variance" rewards::zero_variance,
    "Groups of equal rewards teach nothing: choose easier or harder tasks, change the guidance length, or sample larger groups."

    /// Rewards differ between guided and unguided members, but not among either.
    IdentityOnlyVariance "identity_only_variance" rewards::identity_only_variance,
    "The only lesson is that guided is good and unguided is bad: shorten the guidance, guide every member, or give guided and unguided members baselines of their own."

    /// Every member is guided, and nearly all succeed.
    AllGuidedSaturated "all_guided_saturated" rewards::all_guided_saturated,
    "Guidance solves the tasks: shorten it, or leave some members unguided."

    /// Next to no rollout succeeds.
    ZeroReward "zero_reward" rewards::zero_reward,
    "Too few successes to learn or to steer from: lengthen the guidance, sample more rollouts, or use easier tasks; the ratio rule shortens guidance in this state."

    /// The verifier accepts a response without anything in it.
    PermissiveVerifier "permissive_verifier" rewards::permissive_verifier,
    "A task that is solved by silence teaches silence: repair its reference, or leave it out."

    /// The controller's signal is missing or never moves.
    ControllerBlind "controller_blind" lengths::controller_blind,
    "The controller cannot adapt: check that the reward it reads is the one the verifier writes."

    /// The length sits at a bound.
    LengthPinned "length_pinned" lengths::pinned,
    "The controller wants to go beyond its bounds: widen them, or use a controller with a set-point."

    /// The length jumps up and down.
    LengthOscillating "length_oscillating" lengths::oscillating,
    "The reward answers too steeply to the length: damp the rule (gain below 1, longer window), smooth its signal, or use a controller with a set-point."

    /// Guided rollouts always succeed, unguided ones never, and the length does not move.
    LengthStalled "length_stalled" lengths::stalled,
    "A ratio of equal rewards is 1, whatever they are: use a controller with a set-point, or a schedule that falls."

    /// The length moved when the curriculum went on to another tier.
    CurriculumConfound "curriculum_confound" lengths::curriculum_confound,
    "A change of tasks was read as a change of skill: give each tier a controller of its own, or shuffle."

    /// Guided success stays far above unguided success, which does not rise.
    RelianceGap "reliance_gap" rewards::reliance_gap,
    "What is learnt behind guidance does not carry over: shorten the guidance, drop it now and then, or guide fewer members."

    /// Hinted successes are far less probable without their hint.
    HintReliance "hint_reliance" rewards::hint_reliance,
    "What was found with the hint is not what the policy would find without: weaken the hints, or score under the prompt without them."

    /// Unguided members are judged below guided ones all the time.
    UnguidedPushedDown "unguided_pushed_down" losses::unguided_pushed_down,
    "The shared baseline punishes answering without guidance: shorten the guidance or split the baseline."

    /// Guided groups do not hold the number of guided members that was asked for.
    GuidedCount "guided_count" prefixes::guided_count,
    "The pattern of guided members does not fit the group size: build it per group, from the group's own size."

    /// Amounts reach the end of the traces.
    GuidanceExceedsTrace "guidance_exceeds_trace" prefixes::guidance_exceeds_trace,
    "The traces are shorter than the guidance: lower the maximum, or count in fractions of the trace."

    /// A guided prefix holds the answer.
    AnswerInPrefix "answer_in_prefix" prefixes::answer_in_prefix,
    "Such rollouts are rewarded for nothing: give the verifier to the caps, and state where the answer starts if it is not announced."

    /// Guidance, or the answer behind it, does not fit the token budget.
    BudgetTight "budget_tight" prefixes::budget_tight,
    "Guided rollouts run out of tokens: raise the completion length, count guidance apart, or shorten it."

    /// Members chosen to be guided have no trace.
    NoTrace "no_trace" prefixes::no_trace,
    "These members were rolled out unguided, but count as guided: provide traces, or choose tasks that have one."

    /// A prefix opens or closes a thinking tag too often, or ends within a mark.
    BrokenTags "broken_tags" prefixes::broken_tags,
    "Format rewards will collapse: wrap traces once, and keep the protected marks of the caps switched on."

    /// A guided prefix holds an id that ends or pads a sequence.
    StopInPrefix "stop_in_prefix" prefixes::stop_in_prefix,
    "The policy continues behind an end: take the ids of padding and end of sequence out of the traces."

    /// Much of the weight of guidance tokens pushes them down.
    NegativeGuidance "negative_guidance" losses::negative_guidance,
    "Failed guided rollouts unlearn the solution they were given: mask guidance tokens, or train on them only where the advantage is positive."

    /// Guidance tokens outweigh the policy's own in the loss.
    GuidanceDominates "guidance_dominates" losses::guidance_dominates,
    "This is fine-tuning in disguise: mask guidance tokens or lower their weight, and compare with plain fine-tuning."

    /// The policy finds its guidance far less probable than its own words.
    ImprobablePrefix "improbable_prefix" losses::improbable_prefix,
    "A few such tokens dominate sequence-level ratios: mask guidance tokens, or take traces closer to the policy."

    /// Guided rollouts sample far fewer tokens than unguided ones.
    UnequalBudget "unequal_budget" prefixes::unequal_budget,
    "Compare methods by sampled tokens and by gold tokens, not by steps alone."

    /// Token entropy fell to a fraction of what it was.
    EntropyCollapse "entropy_collapse" losses::entropy_collapse,
    "The policy stops exploring: lower the learning rate, raise the upper clip bound, or add an entropy term."

    /// The format reward fell from its height.
    FormatCollapse "format_collapse" rewards::format_collapse,
    "The format is being forgotten: raise its weight, and check that prefixes keep to the format."
}

impl fmt::Display for Detector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_serde_and_differ() {
        let mut names: Vec<String> = Vec::new();
        for detector in Detector::ALL {
            let json = serde_json::to_string(detector).unwrap();
            assert_eq!(json, format!("\"{}\"", detector.name()));
            assert!(detector.advice().ends_with('.'));
            names.push(json);
        }
        names.sort();
        names.dedup();
        assert_eq!(names.len(), Detector::ALL.len());
    }
}
