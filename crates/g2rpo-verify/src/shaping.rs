//! Shaping terms under their TRL and open-r1 names.

use std::borrow::Cow;
use std::collections::HashSet;

use crate::reward::{RewardFn, Sample, paid};
use crate::verifier::Verifier;

macro_rules! per_sample {
    ($type:ty, $name:literal, |$me:ident, $sample:ident| $value:expr) => {
        impl RewardFn for $type {
            fn name(&self) -> &str {
                $name
            }

            fn rewards(&self, group: &[Sample<'_>]) -> Vec<Option<f64>> {
                let $me = self;
                group.iter().map(|$sample| Some($value)).collect()
            }
        }
    };
}

/// The response with the `<think>` that its prompt may end in, which some chat templates write for the model,
/// and without blanks at its end.
fn opened<'a>(sample: &Sample<'a>) -> Cow<'a, str> {
    let response = sample.response.trim_end();
    let prompt = sample.prompt.trim_end();
    if !prompt.ends_with(OPEN) || response.trim_start().starts_with(OPEN) {
        return Cow::Borrowed(response);
    }
    let gap = &sample.prompt[prompt.len()..];
    Cow::Owned(format!("{OPEN}{gap}{response}"))
}

const OPEN: &str = "<think>";

/// 1 for `<think>\n…\n</think>\n<answer>\n…\n</answer>` and nothing else, otherwise 0. Blanks may follow, and a
/// `<think>` at the end of the prompt counts as the response's.
///
/// open-r1's expression lets `^` and `$` match at any line, so text after the answer passes there;
/// here the whole response must have the form, and each tag occur once.
#[derive(Debug, Clone, Copy, Default)]
pub struct Format;

per_sample!(Format, "format_reward", |_me, s| {
    let text = opened(s);
    let inner = text
        .strip_prefix("<think>\n")
        .and_then(|r| r.strip_suffix("\n</answer>"));
    let once = |tag| text.matches(tag).count() == 1;
    let tags = [OPEN, "</think>", "<answer>", "</answer>"];
    let ok =
        inner.is_some_and(|r| r.contains("\n</think>\n<answer>\n")) && tags.into_iter().all(once);
    f64::from(ok)
});

/// 1 when the response begins with `<think>` and closes it, as TRL's `think_format_reward`: the
/// opening tag occurs once. Text behind `</think>` is the answer. Where the prompt ends in `<think>`, the
/// response only has to close it.
///
/// ```
/// use g2rpo_verify::{RewardFn, Sample, ThinkFormat};
///
/// let s = Sample { prompt: "2+3? <think>\n", response: "It is 5.\n</think>5", ..Sample::default() };
/// assert_eq!(ThinkFormat.rewards(&[s]), [Some(1.0)]);
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct ThinkFormat;

per_sample!(ThinkFormat, "think_format_reward", |_me, s| {
    let text = opened(s);
    let ok = text
        .strip_prefix(OPEN)
        .is_some_and(|rest| !rest.contains(OPEN) && rest.contains("</think>"));
    f64::from(ok)
});

/// A quarter for each of `<think>\n`, `\n</think>\n`, `\n<answer>\n`, `\n</answer>` that occurs
/// exactly once (open-r1).
///
/// ```
/// use g2rpo_verify::{RewardFn, Sample, TagCount};
///
/// let s = Sample { response: "<think>\na\n</think>\nb", ..Sample::default() };
/// assert_eq!(TagCount.rewards(&[s]), [Some(0.5)]);
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct TagCount;

per_sample!(TagCount, "tag_count_reward", |_me, s| {
    let text = opened(s);
    ["<think>\n", "\n</think>\n", "\n<answer>\n", "\n</answer>"]
        .iter()
        .map(|tag| f64::from(text.matches(tag).count() == 1) / 4.0)
        .sum()
});

/// min(1, n / 3) for n marks of a step: `Step 1:`, `1.` at the start of a line, list dashes and
/// stars, `First,` `Second,` `Next,` `Finally,` (open-r1).
#[derive(Debug, Clone, Copy, Default)]
pub struct ReasoningSteps;

per_sample!(ReasoningSteps, "reasoning_steps_reward", |_me, s| {
    (count_steps(s.response) as f64 / 3.0).min(1.0)
});

fn count_steps(text: &str) -> usize {
    let ordinals: usize = ["First,", "Second,", "Next,", "Finally,", "\n-", "\n*"]
        .iter()
        .map(|mark| text.matches(mark).count())
        .sum();
    let labelled = text
        .match_indices("Step ")
        .filter(|(at, mark)| is_number_then(&text[at + mark.len()..], ':'))
        .count();
    let numbered = text
        .split('\n')
        .filter(|line| is_number_then(line, '.'))
        .count();
    ordinals + labelled + numbered
}

fn is_number_then(text: &str, end: char) -> bool {
    let rest = text.trim_start_matches(|c: char| c.is_ascii_digit());
    rest.len() < text.len() && rest.starts_with(end)
}

/// Kimi k1.5's length reward (arXiv 2501.12599, §2.3.3): λ = 0.5 − (len − min)/(max − min) over the
/// group, λ for right responses, min(0, λ) for wrong ones, 0 for all when all are equally long.
///
/// Lengths are token counts, or characters when the samples carry no tokens. Where the verdict is
/// masked there is no reward (open-r1 counts it as right).
#[derive(Debug, Clone)]
pub struct Length<V>(pub V);

impl<V: Verifier> RewardFn for Length<V> {
    fn name(&self) -> &str {
        "len_reward"
    }

    fn rewards(&self, group: &[Sample<'_>]) -> Vec<Option<f64>> {
        let lengths: Vec<f64> = group.iter().map(length).collect();
        let low = lengths.iter().copied().fold(f64::INFINITY, f64::min);
        let high = lengths.iter().copied().fold(0.0, f64::max);
        paid(&self.0, group)
            .into_iter()
            .zip(lengths)
            .map(|(paid, length)| {
                let right = paid? > 0.0;
                if high <= low {
                    return Some(0.0);
                }
                let lambda = 0.5 - (length - low) / (high - low);
                Some(if right { lambda } else { lambda.min(0.0) })
            })
            .collect()
    }
}

/// Length along half a cosine between two rewards, one pair for right and one for wrong responses
/// (Yeo et al. 2025, arXiv 2502.03373, and open-r1's defaults).
///
/// Longer responses than `max_len` count as `max_len`; without that clamp, as in open-r1, the
/// cosine rises again and the longest responses are paid. Masked verdicts have no reward.
#[derive(Debug, Clone)]
pub struct CosineScaled<V> {
    /// Tells right from wrong.
    pub verifier: V,
    /// Reward of the shortest wrong response; open-r1: −1.
    pub min_value_wrong: f64,
    /// Reward of the longest wrong response; open-r1: −0.5.
    pub max_value_wrong: f64,
    /// Reward of the longest right response; open-r1: 0.5.
    pub min_value_correct: f64,
    /// Reward of the shortest right response; open-r1: 1.
    pub max_value_correct: f64,
    /// Length at which the cosine ends, in tokens, or characters without tokens; open-r1: 1000.
    pub max_len: usize,
}

impl<V> CosineScaled<V> {
    /// open-r1's defaults.
    pub const fn new(verifier: V) -> Self {
        Self {
            verifier,
            min_value_wrong: -1.0,
            max_value_wrong: -0.5,
            min_value_correct: 0.5,
            max_value_correct: 1.0,
            max_len: 1000,
        }
    }
}

impl<V: Verifier> RewardFn for CosineScaled<V> {
    fn name(&self) -> &str {
        "cosine_scaled_reward"
    }

    fn rewards(&self, group: &[Sample<'_>]) -> Vec<Option<f64>> {
        paid(&self.verifier, group)
            .into_iter()
            .zip(group)
            .map(|(paid, sample)| {
                let right = paid? > 0.0;
                let progress = (length(sample) / self.max_len.max(1) as f64).min(1.0);
                let cosine = (progress * std::f64::consts::PI).cos();
                // Wrong answers lose less the longer they are: the pair is exchanged.
                let (low, high) = if right {
                    (self.min_value_correct, self.max_value_correct)
                } else {
                    (self.max_value_wrong, self.min_value_wrong)
                };
                Some(low + 0.5 * (high - low) * (1.0 + cosine))
            })
            .collect()
    }
}

fn length(sample: &Sample<'_>) -> f64 {
    if sample.tokens.is_empty() {
        sample.response.chars().count() as f64
    } else {
        sample.tokens.len() as f64
    }
}

/// (1 − unique/total) · `max_penalty` over the n-grams of the token ids, as TRL's
/// `get_repetition_penalty_reward`; over words split at white space, lower-cased, when the samples
/// carry no tokens, as open-r1. Responses shorter than an n-gram have reward 0.
///
/// ```
/// use g2rpo_verify::{RepetitionPenalty, RewardFn, Sample};
///
/// let penalty = RepetitionPenalty { ngram_size: 2, max_penalty: -1.0 };
/// let s = Sample { tokens: &[5, 5, 5, 5, 5], ..Sample::default() };
/// assert_eq!(penalty.rewards(&[s]), [Some(-0.75)]);
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RepetitionPenalty {
    /// Length of the n-grams; TRL: 3.
    pub ngram_size: usize,
    /// Reward of a response that only repeats, not positive; TRL: −1.
    pub max_penalty: f64,
}

impl Default for RepetitionPenalty {
    fn default() -> Self {
        Self {
            ngram_size: 3,
            max_penalty: -1.0,
        }
    }
}

per_sample!(RepetitionPenalty, "repetition_penalty_reward", |me, s| {
    let share = if s.tokens.is_empty() {
        let words: Vec<String> = s
            .response
            .split_whitespace()
            .map(str::to_lowercase)
            .collect();
        repeated_share(&words, me.ngram_size)
    } else {
        repeated_share(s.tokens, me.ngram_size)
    };
    if share > 0.0 {
        share * me.max_penalty
    } else {
        0.0
    }
});

fn repeated_share<T: std::hash::Hash + Eq>(items: &[T], n: usize) -> f64 {
    if n == 0 || items.len() < n {
        return 0.0;
    }
    let total = items.len() - n + 1;
    let unique: HashSet<&[T]> = items.windows(n).collect();
    1.0 - unique.len() as f64 / total as f64
}

/// DAPO's soft overlong punishment (arXiv 2503.14476, equation 13): 0 up to
/// `max_completion_len − soft_punish_cache` tokens, then falling linearly to −1 at
/// `max_completion_len`, −1 beyond. Counts tokens, or characters without tokens.
///
/// ```
/// use g2rpo_verify::{RewardFn, Sample, SoftOverlong};
///
/// let punish = SoftOverlong { max_completion_len: 100, soft_punish_cache: 20 };
/// let s = Sample { tokens: &[1; 90], ..Sample::default() };
/// assert_eq!(punish.rewards(&[s]), [Some(-0.5)]);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SoftOverlong {
    /// Longest completion that is not punished in full.
    pub max_completion_len: usize,
    /// Length of the interval in which the punishment grows; 0 for none.
    pub soft_punish_cache: usize,
}

per_sample!(SoftOverlong, "soft_overlong_punishment_reward", |me, s| {
    let (length, max) = (length(s), me.max_completion_len as f64);
    let cache = me.soft_punish_cache as f64;
    if length <= max - cache {
        0.0
    } else if length <= max {
        (max - cache - length) / cache
    } else {
        -1.0
    }
});

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verdict::{Unverifiable, Verdict};
    use crate::verifier::ScriptedVerifier;

    fn one(function: &impl RewardFn, response: &str) -> f64 {
        let sample = Sample {
            response,
            ..Sample::default()
        };
        function.rewards(&[sample])[0].unwrap()
    }

    #[test]
    fn the_format_is_the_whole_response() {
        let good = "<think>\na\nb\n</think>\n<answer>\nc\n</answer>";
        assert_eq!(one(&Format, good), 1.0);
        for bad in [
            format!("{good}\nmore"),
            good.replacen("<think>\n", "", 1),
            format!("x{good}"),
            good.replace("\n</answer>", ""),
            good.replace("a\n", "<answer>"),
            String::new(),
        ] {
            assert_eq!(one(&Format, &bad), 0.0, "{bad}");
        }
    }

    #[test]
    fn a_prompt_may_open_the_reasoning() {
        let asked = |function: &dyn RewardFn, prompt, response| {
            let sample = Sample {
                prompt,
                response,
                ..Sample::default()
            };
            function.rewards(&[sample])[0]
        };
        let rest = "a\n</think>\n<answer>\nc\n</answer>\n";
        assert_eq!(asked(&Format, "q<think>\n", rest), Some(1.0));
        assert_eq!(asked(&Format, "q", rest), Some(0.0));
        assert_eq!(asked(&TagCount, "q<think>\n", rest), Some(1.0));
        assert_eq!(asked(&ThinkFormat, "q<think>\n", "a</think>b"), Some(1.0));
        assert_eq!(
            asked(&ThinkFormat, "q<think>", "<think>a</think>b"),
            Some(1.0)
        );
        assert_eq!(
            asked(&ThinkFormat, "q<think>", "a<think></think>b"),
            Some(0.0)
        );
        assert_eq!(asked(&ThinkFormat, "q<think>", "a"), Some(0.0));
        assert_eq!(asked(&ThinkFormat, "q", "a</think>b"), Some(0.0));
    }

    #[test]
    fn think_format_is_that_of_trl() {
        assert_eq!(
            one(
                &ThinkFormat,
                "<think>\nThis is my reasoning.\n</think>\nThis is my answer."
            ),
            1.0
        );
        assert_eq!(
            one(
                &ThinkFormat,
                "<think>\nThis is my reasoning.\nThis is my answer."
            ),
            0.0
        );
        assert_eq!(one(&ThinkFormat, "<think><think></think>"), 0.0);
    }

    #[test]
    fn steps_are_counted_as_in_open_r1() {
        assert_eq!(count_steps("Step 1: a\nStep 22: b\nStep x:"), 2);
        assert_eq!(count_steps("1. a\n2. b\nc 3. d\n- e\n* f"), 4);
        assert_eq!(count_steps("First, a. Second, b. Next, c. Finally, d."), 4);
        assert_eq!(one(&ReasoningSteps, "First, a."), 1.0 / 3.0);
        assert_eq!(one(&ReasoningSteps, "First, Second, Next, Finally,"), 1.0);
    }

    #[test]
    fn length_rewards_the_short_and_right() {
        let verdicts = [
            Verdict::correct(),
            true.into(),
            false.into(),
            Unverifiable::NoTests.into(),
        ];
        let group = ["a", "bbbbb", "ccc", "dd"].map(|response| Sample {
            response,
            ..Sample::default()
        });
        let got = Length(ScriptedVerifier::new(verdicts)).rewards(&group);
        // λ = 0.5 − (len − 1)/4: 0.5, −0.5, 0 (wrong keeps min(0, 0)).
        assert_eq!(got, [Some(0.5), Some(-0.5), Some(0.0), None]);
        let equal = Length(ScriptedVerifier::new([true.into(), false.into()]));
        assert_eq!(equal.rewards(&[group[0], group[0]]), [Some(0.0), Some(0.0)]);
    }

    #[test]
    fn the_cosine_ends_at_max_len() {
        let ask = |right: bool, length: usize| {
            let text = "x".repeat(length);
            let sample = Sample {
                response: &text,
                ..Sample::default()
            };
            CosineScaled::new(ScriptedVerifier::new([right.into()])).rewards(&[sample])[0].unwrap()
        };
        // Half-way the cosine is 0: the mean of both ends.
        for (right, length, want) in [
            (true, 0, 1.0),
            (true, 500, 0.75),
            (true, 1000, 0.5),
            (true, 2000, 0.5),
            (false, 0, -1.0),
            (false, 500, -0.75),
            (false, 1000, -0.5),
            (false, 1500, -0.5),
        ] {
            let got = ask(right, length);
            assert!((got - want).abs() < 1e-12, "{right} {length}: {got}");
        }
    }

    #[test]
    fn repetition_counts_ngrams() {
        let penalty = RepetitionPenalty {
            ngram_size: 2,
            max_penalty: -2.0,
        };
        // a b, b a, a b, b a: two of four are new.
        assert_eq!(one(&penalty, "a B a b A"), -1.0);
        assert_eq!(one(&penalty, "a"), 0.0);
        assert_eq!(one(&penalty, "a b c"), 0.0);
        let tokens = [1, 2, 3, 4];
        let sample = Sample {
            tokens: &tokens,
            ..Sample::default()
        };
        assert_eq!(penalty.rewards(&[sample]), [Some(0.0)]);
    }

    #[test]
    fn overlong_responses_are_punished_softly() {
        let punish = SoftOverlong {
            max_completion_len: 10,
            soft_punish_cache: 4,
        };
        for (length, want) in [(6, 0.0), (7, -0.25), (10, -1.0), (11, -1.0)] {
            assert_eq!(one(&punish, &"x".repeat(length)), want, "{length}");
        }
        let hard = SoftOverlong {
            max_completion_len: 10,
            soft_punish_cache: 0,
        };
        assert_eq!(
            (one(&hard, "0123456789"), one(&hard, "0123456789x")),
            (0.0, -1.0)
        );
    }
}
