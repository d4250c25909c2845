//! The detectors: one table of name, check and advice.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::detect::view::{Numbers, View, above};
use crate::detect::{lengths, losses, prefixes, rewards};

macro_rules! table {
    ($($(#[$doc:meta])* $variant:ident $name:literal $check:expr, $advice:literal)*) => {
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
                let check: fn(&View<'_>) -> Option<Numbers> = match self {
                    $(Self::$variant => $check,)*
                };
                check(view)
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
    PermissiveVerifier "permissive_verifier" |v| above("tasks_solved_by_silence", count(v.now.silence_accepted), 0.0),
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
    AnswerInPrefix "answer_in_prefix" |v| above("prefixes_with_answer", count(v.now.prefixes_with_answer), 0.0),
    "Such rollouts are rewarded for nothing: give the verifier to the caps, and state where the answer starts if it is not announced."

    /// Guidance, or the answer behind it, does not fit the token budget.
    BudgetTight "budget_tight" prefixes::budget_tight,
    "Guided rollouts run out of tokens: raise the completion length, count guidance apart, or shorten it."

    /// Members chosen to be guided have no trace.
    NoTrace "no_trace" prefixes::no_trace,
    "These members were rolled out unguided, but count as guided: provide traces, or choose tasks that have one."

    /// A prefix opens or closes a thinking tag too often, or ends within a mark.
    BrokenTags "broken_tags" |v| above("prefixes_with_broken_tags", count(v.now.prefixes_with_broken_tags), 0.0),
    "Format rewards will collapse: wrap traces once, and keep the protected marks of the caps switched on."

    /// A guided prefix holds an id that ends or pads a sequence.
    StopInPrefix "stop_in_prefix" |v| above("prefixes_with_stop", count(v.now.prefixes_with_stop), 0.0),
    "The policy continues behind an end: take the ids of padding and end of sequence out of the traces."

    /// Much of the weight of guidance tokens pushes them down.
    NegativeGuidance "negative_guidance" |v| above("negative_share", v.now.guidance_negative_share, v.thresholds.negative_guidance),
    "Failed guided rollouts unlearn the solution they were given: mask guidance tokens, or train on them only where the advantage is positive."

    /// Guidance tokens outweigh the policy's own in the loss.
    GuidanceDominates "guidance_dominates" |v| above("guidance_over_own", v.now.guidance_weight_ratio, v.thresholds.guidance_weight),
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

fn count(n: Option<u64>) -> Option<f64> {
    n.map(|n| n as f64)
}

impl fmt::Display for Detector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::detect::stats::StepStats;
    use crate::detect::watch::Detectors;

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

    /// Whether a detector goes off within 120 steps of a run, each with the fields given.
    fn goes_off(detector: Detector, mut fields: impl FnMut(u64) -> Value) -> bool {
        let mut detectors = Detectors::default();
        (0..120).any(|i| {
            let given = fields(i);
            let stats: StepStats = serde_json::from_value(given.clone()).unwrap();
            let known = serde_json::to_value(&stats).unwrap();
            let mut names = given.as_object().unwrap().keys();
            assert!(names.all(|name| known.get(name).is_some()), "{given}");
            let stats = StepStats { step: i, ..stats };
            (detectors.observe(&stats).iter()).any(|w| w.detector == detector)
        })
    }

    /// Detector, whether it goes off, and the fields of every step.
    const STEADY: &str = r#"
        # 16 groups of 8 at 2 % success: 85 % of groups are all wrong by chance alone.
        zero_variance yes {"group_size": 8, "success": 0.02, "frac_reward_zero_std": 0.875}
        zero_variance no {"group_size": 8, "success": 0.02, "frac_reward_zero_std": 0.25}
        identity_only_variance yes {"frac_identity_only": 0.9, "success_guided": 1.0, "success_unguided": 0.0}
        identity_only_variance no {"frac_identity_only": 0.1, "success_guided": 1.0, "success_unguided": 0.0}
        all_guided_saturated yes {"guided_fraction": 1.0, "success_guided": 0.98}
        all_guided_saturated no {"guided_fraction": 0.25, "success_guided": 0.98}
        all_guided_saturated no {"guided_fraction": 1.0, "success_guided": 0.6}
        # 2 of 280, and 20.
        zero_reward yes {"n_rollouts": 280, "reward": 0.0071428571428571, "success": 0.0071428571428571}
        zero_reward no {"n_rollouts": 280, "reward": 0.0714285714285714, "success": 0.0714285714285714}
        permissive_verifier yes {"silence_accepted": 3}
        permissive_verifier no {"silence_accepted": 0}
        hint_reliance yes {"hint_reliance": -0.7}
        hint_reliance no {"hint_reliance": -0.1}
        hint_reliance no {"hint_reliance": 0.7}
        reliance_gap yes {"success_guided": 0.8, "success_unguided": 0.05}
        reliance_gap no {"success_guided": 0.25, "success_unguided": 0.05}
        controller_blind yes {"steered": true}
        controller_blind yes {"steered": true, "signal": 0.0}
        controller_blind no {}
        length_pinned yes {"length": 3072.0, "length_min": 1.0, "length_max": 3072.0}
        # No longer needed; fixed.
        length_pinned no {"length": 1.0, "length_min": 1.0, "length_max": 3072.0, "success_unguided": 0.8}
        length_pinned no {"length": 64.0, "length_min": 64.0, "length_max": 64.0}
        length_stalled yes {"length": 9.0, "success_guided": 0.97, "success_unguided": 0.0}
        length_stalled no {"length": 9.0, "success_guided": 0.97, "success_unguided": 0.4}
        # The released pattern of twelve over groups of ten: 0, 1 or 2 guided members.
        guided_count yes {"guided_min": 0, "guided_max": 2, "guided_expected": 2}
        guided_count no {"guided_min": 2, "guided_max": 2, "guided_expected": 2}
        guidance_exceeds_trace yes {"cuts": {"capped_by_answer": 30, "capped_by_trace": 5, "exact": 29}}
        guidance_exceeds_trace no {"cuts": {"capped_by_answer": 10, "exact": 54}}
        no_trace yes {"cuts": {"no_trace": 8, "exact": 56}}
        no_trace no {"cuts": {"no_trace": 1, "exact": 63}}
        budget_tight yes {"cuts": {"capped_by_budget": 16, "exact": 48}}
        budget_tight yes {"truncated_guided": 0.4, "truncated_unguided": 0.05}
        budget_tight no {"truncated_guided": 0.4, "truncated_unguided": 0.38}
        answer_in_prefix yes {"prefixes_with_answer": 1}
        answer_in_prefix no {"prefixes_with_answer": 0}
        broken_tags yes {"prefixes_with_broken_tags": 2}
        broken_tags no {"prefixes_with_broken_tags": 0}
        stop_in_prefix yes {"prefixes_with_stop": 1}
        stop_in_prefix no {"prefixes_with_stop": 0}
        unequal_budget yes {"own_tokens_guided": 90.0, "own_tokens_unguided": 240.0}
        unequal_budget no {"own_tokens_guided": 200.0, "own_tokens_unguided": 240.0}
        # 2 of 8 guided and always right, the others wrong: advantages 1.62 and -0.54.
        unguided_pushed_down yes {"advantage_unguided": -0.54, "success_guided": 1.0}
        unguided_pushed_down no {"advantage_unguided": -0.54, "success_guided": 0.5}
        unguided_pushed_down no {"advantage_unguided": -0.05, "success_guided": 1.0}
        negative_guidance yes {"guidance_negative_share": 0.45}
        negative_guidance no {"guidance_negative_share": 0.1}
        guidance_dominates yes {"guidance_weight_ratio": 3.0}
        guidance_dominates no {"guidance_weight_ratio": 0.2}
        improbable_prefix yes {"logp_guidance": -3.1, "logp_own": -0.4}
        improbable_prefix no {"logp_guidance": -1.2, "logp_own": -0.4}
    "#;

    #[test]
    fn runs_that_stay_as_they_are() {
        let lines = STEADY.trim().lines().map(str::trim);
        for line in lines.filter(|line| !line.starts_with('#')) {
            let (name, rest) = line.split_once(' ').unwrap();
            let (expected, fields) = rest.split_once(' ').unwrap();
            let detector = serde_json::from_value(name.into()).unwrap();
            let fields: Value = serde_json::from_str(fields).unwrap();
            let got = goes_off(detector, |_| fields.clone());
            assert_eq!(got, expected == "yes", "{line}");
        }
        for detector in Detector::ALL {
            assert!(!goes_off(*detector, |_| json!({})), "{detector}");
        }
    }

    #[test]
    fn the_share_that_chance_alone_would_give_is_told() {
        let stats = StepStats {
            group_size: 8,
            success: Some(0.02),
            frac_reward_zero_std: Some(0.875),
            ..StepStats::default()
        };
        let warning = &Detectors::default().observe(&stats)[0];
        assert!((warning.numbers[1].1 - 0.98f64.powi(8)).abs() < 1e-12);
    }

    #[test]
    fn lengths_that_move() {
        use Detector::{ControllerBlind, LengthOscillating, LengthPinned, LengthStalled};
        let length = |l: f64| json!({"length": l, "length_min": 1.0, "length_max": 3072.0});
        let seen = |i| json!({"steered": true, "signal": 0.1 * (i % 3) as f64});
        assert!(!goes_off(ControllerBlind, seen));
        let near = |i| length(if i % 10 == 0 { 2.0 } else { 1.0 });
        assert!(goes_off(LengthPinned, near));
        assert!(!goes_off(LengthPinned, |i| length(1000.0 + i as f64)));
        for (even, odd, bangs) in [
            (1200.0, 300.0, true),
            (1200.0, 1100.0, false),
            (40.0, 1.0, false),
        ] {
            let turning = |i| length(if i % 2 == 0 { even } else { odd });
            assert_eq!(goes_off(LengthOscillating, turning), bangs);
        }
        let falling = |i| length(3072.0 * 0.5f64.powf(i as f64 / 2.0));
        assert!(!goes_off(LengthOscillating, falling));
        let coming_down = |i| {
            let length = 9.0 - 0.2 * i as f64;
            json!({"length": length, "success_guided": 0.97, "success_unguided": 0.0})
        };
        assert!(!goes_off(LengthStalled, coming_down));
    }

    #[test]
    fn a_length_that_follows_the_curriculum() {
        let run = |after: f64, tiers: bool| {
            goes_off(Detector::CurriculumConfound, |i| {
                let late = i >= 50;
                let tier = tiers.then_some(u8::from(late));
                json!({"tier": tier, "length": if late { after } else { 300.0 }})
            })
        };
        assert!(run(450.0, true));
        assert!(!run(310.0, true) && !run(450.0, false));
    }

    #[test]
    fn what_rises_or_falls_over_time() {
        let rising =
            |i| json!({"success_guided": 0.8, "success_unguided": 0.05 + 0.002 * i as f64});
        assert!(!goes_off(Detector::RelianceGap, rising));
        let entropy = |last: f64| {
            goes_off(
                Detector::EntropyCollapse,
                |i| json!({"entropy": 1.2 + (last - 1.2) * i.min(60) as f64 / 60.0}),
            )
        };
        assert!(entropy(0.1) && !entropy(0.7));
        // The reproduction saw 0.43 at weight 0.1 fall to 0 within three steps.
        let format = |rewards: &[f64]| {
            goes_off(
                Detector::FormatCollapse,
                |i| json!({"format_reward": rewards[(i as usize).min(rewards.len() - 1)]}),
            )
        };
        assert!(format(&[0.1, 0.3, 0.43, 0.3, 0.1, 0.0]));
        assert!(!format(&[0.1, 0.3, 0.43, 0.4, 0.38]));
    }
}
