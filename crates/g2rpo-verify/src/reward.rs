//! Rewards: the verdict, shaping terms and their weighted sum.

use crate::verdict::Verdict;
use crate::verifier::Verifier;

/// One completion of a group, as reward functions see it. All columns are optional for the
/// caller: build it with `Sample { response, reference, ..Sample::default() }`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sample<'a> {
    /// What the model was asked, as it saw it: with the words of a chat template.
    pub prompt: &'a str,
    /// What the model wrote.
    pub response: &'a str,
    /// The data set's answer.
    pub reference: &'a str,
    /// Token ids of the response, as generated.
    pub tokens: &'a [u32],
    /// The verdict, where the response is graded already. Terms that need one take it from here and
    /// grade only where it is absent: tests of code run once.
    pub verdict: Option<&'a Verdict>,
}

/// The rewards that the verdicts pay: those that the samples carry, or the verifier's where they carry none.
pub(crate) fn paid(verifier: &impl Verifier, group: &[Sample<'_>]) -> Vec<Option<f64>> {
    let open: Vec<_> = group.iter().filter(|s| s.verdict.is_none()).collect();
    let pairs: Vec<_> = open.iter().map(|s| (s.response, s.reference)).collect();
    let mut graded = verifier.verify_batch(&pairs).into_iter();
    group
        .iter()
        .map(|sample| match sample.verdict {
            Some(verdict) => verdict.reward(),
            None => graded.next().and_then(|verdict| verdict.reward()),
        })
        .collect()
}

/// A shaping term of the reward.
///
/// Closures over one sample are reward functions through [`WeightedReward::with_fn`].
pub trait RewardFn: Send + Sync {
    /// The name under which the term is logged: a metric-name segment such as `format_reward`.
    fn name(&self) -> &str;

    /// One reward for each completion of a group (all completions of one prompt), in their order;
    /// `None` where the term does not apply, as in TRL.
    fn rewards(&self, group: &[Sample<'_>]) -> Vec<Option<f64>>;
}

impl<R: RewardFn + ?Sized> RewardFn for Box<R> {
    fn name(&self) -> &str {
        (**self).name()
    }

    fn rewards(&self, group: &[Sample<'_>]) -> Vec<Option<f64>> {
        (**self).rewards(group)
    }
}

/// The verdict of a verifier as a reward: 1, 0, or nothing where the sample must be masked. A sample
/// that carries its verdict is not graded again.
#[derive(Debug, Clone)]
pub struct Accuracy<V>(pub V);

impl<V: Verifier> RewardFn for Accuracy<V> {
    fn name(&self) -> &str {
        "accuracy_reward"
    }

    fn rewards(&self, group: &[Sample<'_>]) -> Vec<Option<f64>> {
        paid(&self.0, group)
    }
}

/// The reward of one sample and how it came about.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Reward {
    /// Weighted sum over the terms that apply; `None` when the sample must be masked.
    pub value: Option<f64>,
    /// What each term returned, unweighted, in the order of [`WeightedReward::names`].
    pub parts: Vec<Option<f64>>,
    /// Whether a term added with [`WeightedReward::with_required`] did not apply.
    pub lacks_required: bool,
}

/// What a reward function did wrong.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum RewardError {
    /// It returned too few or too many rewards.
    #[error("reward function {name} returned {got} rewards for {expected} samples")]
    Length {
        /// The function.
        name: String,
        /// Number of samples it was given.
        expected: usize,
        /// Number of rewards it returned.
        got: usize,
    },
    /// Its name is that of another, and metrics could not tell them apart.
    #[error(
        "two reward functions are called {name}: give one of them another name, or leave it out"
    )]
    SameName {
        /// The name.
        name: String,
    },
    /// Its weight is NaN or an infinity.
    #[error("reward function {name} has the weight {weight}, expected a finite number")]
    Weight {
        /// The function.
        name: String,
        /// The weight.
        weight: f64,
    },
    /// It returned NaN or an infinity.
    #[error(
        "reward function {name} returned {value} for sample {row}, expected a finite number or none"
    )]
    NotFinite {
        /// The function.
        name: String,
        /// Which sample of the group, counted from 0.
        row: usize,
        /// What it returned.
        value: f64,
    },
}

/// Weighted sum of reward functions, TRL's `reward_funcs` and `reward_weights`.
///
/// A term that returns `None` is left out of that sample's sum, as TRL's `nansum` does. Two
/// differences keep unverifiable samples from being paid: where every term is `None` the sample is
/// masked (TRL sums to 0), and a term added with [`with_required`](Self::with_required) masks the
/// sample on its own.
///
/// ```
/// use g2rpo_verify::{Accuracy, Gsm8k, Sample, WeightedReward};
///
/// let reward = WeightedReward::default()
///     .with_required(Accuracy(Gsm8k::default()), 1.0)
///     .with_fn("short", 0.5, |s: &Sample<'_>| Some(f64::from(s.response.len() < 10)));
/// let group = [Sample { response: "#### 72", reference: "72", ..Sample::default() }];
/// let rewards = reward.rewards(&group)?;
/// assert_eq!(rewards[0].value, Some(1.5));
/// assert_eq!(rewards[0].parts, [Some(1.0), Some(1.0)]);
/// # Ok::<(), g2rpo_verify::RewardError>(())
/// ```
#[derive(Default)]
pub struct WeightedReward {
    terms: Vec<Term>,
}

struct Term {
    function: Box<dyn RewardFn>,
    weight: f64,
    required: bool,
}

impl std::fmt::Debug for WeightedReward {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let terms = self.terms.iter().map(|t| (t.function.name(), t.weight));
        f.debug_map().entries(terms).finish()
    }
}

impl WeightedReward {
    /// Adds a term. TRL's default weight is 1.
    #[must_use]
    pub fn with(self, function: impl RewardFn + 'static, weight: f64) -> Self {
        self.push(Box::new(function), weight, false)
    }

    /// Adds a term without which a sample has no reward at all: use it for the verdict.
    #[must_use]
    pub fn with_required(self, function: impl RewardFn + 'static, weight: f64) -> Self {
        self.push(Box::new(function), weight, true)
    }

    /// Adds a term that looks at each sample by itself.
    #[must_use]
    pub fn with_fn<F>(self, name: impl Into<String>, weight: f64, function: F) -> Self
    where
        F: Fn(&Sample<'_>) -> Option<f64> + Send + Sync + 'static,
    {
        let name = name.into();
        self.push(Box::new(PerSample { name, function }), weight, false)
    }

    fn push(mut self, function: Box<dyn RewardFn>, weight: f64, required: bool) -> Self {
        self.terms.push(Term {
            function,
            weight,
            required,
        });
        self
    }

    /// Names of the terms, in the order in which they were added.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.terms.iter().map(|t| t.function.name())
    }

    /// Checks weights and names.
    ///
    /// # Errors
    /// [`RewardError::Weight`] for one that is not finite, [`RewardError::SameName`] for one that is there twice.
    pub fn check(&self) -> Result<(), RewardError> {
        let mut seen = std::collections::BTreeSet::new();
        if let Some(name) = self.names().find(|name| !seen.insert(*name)) {
            let name = name.to_owned();
            return Err(RewardError::SameName { name });
        }
        match self.terms.iter().find(|term| !term.weight.is_finite()) {
            Some(term) => Err(RewardError::Weight {
                name: term.function.name().to_owned(),
                weight: term.weight,
            }),
            None => Ok(()),
        }
    }

    /// Rewards of one group, the completions of one prompt, in their order.
    ///
    /// # Errors
    /// A term returned a wrong number of rewards, or one that is not finite.
    pub fn rewards(&self, group: &[Sample<'_>]) -> Result<Vec<Reward>, RewardError> {
        let blank = Reward {
            value: None,
            parts: Vec::with_capacity(self.terms.len()),
            lacks_required: false,
        };
        let mut rewards = vec![blank; group.len()];
        for term in &self.terms {
            let name = term.function.name();
            let values = term.function.rewards(group);
            if values.len() != group.len() {
                return Err(RewardError::Length {
                    name: name.to_owned(),
                    expected: group.len(),
                    got: values.len(),
                });
            }
            for (row, value) in values.into_iter().enumerate() {
                rewards[row].parts.push(value);
                match value {
                    Some(value) if !value.is_finite() => {
                        let name = name.to_owned();
                        return Err(RewardError::NotFinite { name, row, value });
                    }
                    Some(value) => {
                        let sum = rewards[row].value.unwrap_or(0.0);
                        rewards[row].value = Some(sum + term.weight * value);
                    }
                    None => rewards[row].lacks_required |= term.required,
                }
            }
        }
        for reward in rewards.iter_mut().filter(|r| r.lacks_required) {
            reward.value = None;
        }
        Ok(rewards)
    }
}

struct PerSample<F> {
    name: String,
    function: F,
}

impl<F: Fn(&Sample<'_>) -> Option<f64> + Send + Sync> RewardFn for PerSample<F> {
    fn name(&self) -> &str {
        &self.name
    }

    fn rewards(&self, group: &[Sample<'_>]) -> Vec<Option<f64>> {
        group.iter().map(|s| (self.function)(s)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fixed(Vec<Option<f64>>);

    impl RewardFn for Fixed {
        fn name(&self) -> &str {
            "fixed"
        }

        fn rewards(&self, _: &[Sample<'_>]) -> Vec<Option<f64>> {
            self.0.clone()
        }
    }

    #[test]
    fn a_verdict_that_is_there_is_not_asked_for_again() {
        let never = |_: &str, _: &str| -> bool { panic!("graded a second time") };
        let (right, wrong) = (Verdict::correct(), Verdict::from(false));
        let group = [&right, &wrong].map(|verdict| Sample {
            verdict: Some(verdict),
            ..Sample::default()
        });
        assert_eq!(Accuracy(never).rewards(&group), [Some(1.0), Some(0.0)]);
        let mixed = [group[0], Sample::default()];
        assert_eq!(
            Accuracy(|_: &str, _: &str| false).rewards(&mixed),
            [Some(1.0), Some(0.0)]
        );
    }

    #[test]
    fn none_is_left_out_and_all_none_is_masked() {
        let sum = WeightedReward::default()
            .with(Fixed(vec![Some(1.0), None, None]), 2.0)
            .with(Fixed(vec![Some(-0.5), Some(0.25), None]), 1.0);
        let rewards = sum.rewards(&[Sample::default(); 3]).unwrap();
        let values: Vec<_> = rewards.iter().map(|r| r.value).collect();
        assert_eq!(values, [Some(1.5), Some(0.25), None]);
        assert_eq!(rewards[1].parts, [None, Some(0.25)]);
    }

    #[test]
    fn a_required_none_masks_whatever_else_was_earned() {
        let sum = WeightedReward::default()
            .with_fn("bonus", 1.0, |_: &Sample<'_>| Some(1.0))
            .with_required(Fixed(vec![None]), 1.0);
        let rewards = sum.rewards(&[Sample::default()]).unwrap();
        assert_eq!((rewards[0].value, rewards[0].parts[0]), (None, Some(1.0)));
    }

    #[test]
    fn bad_reward_functions_are_named() {
        let group = [Sample::default(); 2];
        let error = WeightedReward::default()
            .with(Fixed(vec![None]), 1.0)
            .rewards(&group);
        assert_eq!(
            error.unwrap_err().to_string(),
            "reward function fixed returned 1 rewards for 2 samples"
        );
        let nan = Fixed(vec![None, Some(f64::NAN)]);
        let error = WeightedReward::default().with(nan, 1.0).rewards(&group);
        assert!(error.unwrap_err().to_string().contains("sample 1"));
    }
}
