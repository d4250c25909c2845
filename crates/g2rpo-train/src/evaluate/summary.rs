//! What an evaluation found, from its graded samples.

use std::collections::BTreeMap;

use serde::Serialize;

use super::graded::{GradedSample, VerdictKind};
use super::interval::{Interval, Z95, bootstrap_mean, wilson};
use super::paired::{PairedComparison, compare_paired};
use super::statistics::{Vote, maj_at_k, pass_at_k};

/// Accuracy of a policy on a set of problems, or on those of one level.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Summary {
    /// Problems.
    pub problems: usize,
    /// Completions graded.
    pub samples: usize,
    /// Mean over problems of the share of right samples: pass@1, and avg@n where each has n.
    pub accuracy: f64,
    /// 95 % interval: Wilson's for one sample a problem, else the bootstrap over problems.
    pub interval: Interval,
    /// (k, pass@k) for k = 1, 2, 4, … and the least number of samples that a problem has.
    pub pass_at: Vec<(usize, f64)>,
    /// (k, maj@k), for the largest of those `k`, if there is more than one sample.
    pub maj_at: Option<(usize, f64)>,
    /// Completions that nothing could be said about; they count as not right.
    pub undecided: usize,
    /// Completions cut off by the length limit.
    pub truncated: usize,
    /// Mean number of tokens of a completion.
    pub mean_tokens: f64,
    /// The same for each level, where the data set has levels and more than one.
    pub levels: BTreeMap<String, Self>,
}

/// Sums up graded samples; `None` when there is none. `seed` keys the bootstrap's 10,000 draws.
///
/// ```
/// use g2rpo_train::evaluate::graded::GradedSample;
/// use g2rpo_train::evaluate::summary::summarize;
/// let sample = |task, i, right: bool| GradedSample::new(task, i, "7", &right.into());
/// let samples = [sample(0, 0, true), sample(0, 1, false), sample(1, 0, false), sample(1, 1, false)];
/// let s = summarize(&samples, 0).unwrap();
/// assert_eq!((s.problems, s.accuracy), (2, 0.25));
/// assert_eq!(s.pass_at, [(1, 0.25), (2, 0.5)]);
/// // The first problem's samples disagree, and a tie is won half of the time.
/// assert_eq!(s.maj_at, Some((2, 0.25)));
/// ```
pub fn summarize(samples: &[GradedSample], seed: u64) -> Option<Summary> {
    let all: Vec<&GradedSample> = samples.iter().collect();
    let mut summary = summarize_part(&all, seed)?;
    let mut levels: BTreeMap<&str, Vec<&GradedSample>> = BTreeMap::new();
    for sample in samples {
        if let Some(level) = &sample.level {
            levels.entry(level).or_default().push(sample);
        }
    }
    if levels.len() > 1 {
        let part = |(level, of_level): (&str, Vec<_>)| {
            summarize_part(&of_level, seed).map(|s| (level.to_owned(), s))
        };
        summary.levels = levels.into_iter().filter_map(part).collect();
    }
    Some(summary)
}

/// Compares two evaluations on the problems that both answered, by the share of right samples of
/// each; `None` when there is no such problem. `seed` keys the bootstrap.
pub fn compare(
    first: &[GradedSample],
    second: &[GradedSample],
    seed: u64,
) -> Option<PairedComparison> {
    let second = by_task(second);
    let pairs: Vec<(f64, f64)> = (by_task(first).iter())
        .filter_map(|(task, samples)| Some((share(samples), share(second.get(task)?))))
        .collect();
    compare_paired(&pairs, seed)
}

fn summarize_part(samples: &[&GradedSample], seed: u64) -> Option<Summary> {
    let tasks = by_task(samples.iter().copied());
    let shares: Vec<f64> = tasks.values().map(|s| share(s)).collect();
    let interval = if samples.len() == tasks.len() {
        let right = samples.iter().filter(|s| s.is_correct()).count();
        wilson(right, samples.len(), Z95)
    } else {
        bootstrap_mean(&shares, 0.95, 10_000, seed)?
    };
    let fewest = tasks.values().map(Vec::len).min()?;
    let mut ks: Vec<usize> = std::iter::successors(Some(1), |k| Some(k * 2))
        .take_while(|k| *k <= fewest)
        .collect();
    if ks.last() != Some(&fewest) {
        ks.push(fewest);
    }
    let mean_over_tasks = |of_task: &dyn Fn(&[&GradedSample]) -> Option<f64>| {
        let values: Option<Vec<f64>> = tasks.values().map(|s| of_task(s)).collect();
        values.map(|v| v.iter().sum::<f64>() / v.len() as f64)
    };
    let right = |s: &[&GradedSample]| s.iter().filter(|s| s.is_correct()).count();
    let pass = |&k: &usize| Some((k, mean_over_tasks(&|s| pass_at_k(s.len(), right(s), k))?));
    let maj = |s: &[&GradedSample]| {
        let votes: Vec<Vote<'_>> = s.iter().map(|s| s.vote()).collect();
        maj_at_k(&votes, fewest)
    };
    let majority = mean_over_tasks(&maj).filter(|_| fewest > 1);
    let n = samples.len() as f64;
    Some(Summary {
        problems: tasks.len(),
        samples: samples.len(),
        accuracy: shares.iter().sum::<f64>() / shares.len() as f64,
        interval,
        pass_at: ks.iter().filter_map(pass).collect(),
        maj_at: majority.map(|m| (fewest, m)),
        undecided: (samples.iter())
            .filter(|s| matches!(s.verdict, VerdictKind::Unverifiable | VerdictKind::Fault))
            .count(),
        truncated: samples.iter().filter(|s| s.truncated).count(),
        mean_tokens: samples.iter().map(|s| s.tokens as f64).sum::<f64>() / n,
        levels: BTreeMap::new(),
    })
}

fn by_task<'a>(
    samples: impl IntoIterator<Item = &'a GradedSample>,
) -> BTreeMap<u64, Vec<&'a GradedSample>> {
    let mut tasks: BTreeMap<u64, Vec<&GradedSample>> = BTreeMap::new();
    for sample in samples {
        tasks.entry(sample.task).or_default().push(sample);
    }
    tasks
}

fn share(samples: &[&GradedSample]) -> f64 {
    samples.iter().filter(|s| s.is_correct()).count() as f64 / samples.len() as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use g2rpo_verify::Unverifiable;

    fn sample(task: u64, i: u32, right: bool) -> GradedSample {
        GradedSample::new(task, i, "7", &right.into())
    }

    #[test]
    fn one_sample_a_problem_has_wilsons_interval() {
        let samples: Vec<_> = (0..10).map(|t| sample(t, 0, t < 3)).collect();
        let s = summarize(&samples, 0).unwrap();
        assert_eq!(s.interval, wilson(3, 10, Z95));
        assert_eq!((s.maj_at, s.pass_at.len()), (None, 1));
        assert!(summarize(&[], 0).is_none());
    }

    #[test]
    fn levels_are_told_apart_and_k_reaches_the_fewest_samples() {
        let mut samples: Vec<_> = (0..3).map(|i| sample(0, i, i == 0)).collect();
        samples.extend((0..4).map(|i| sample(1, i, true)));
        samples[0].truncated = true;
        samples[1].verdict = VerdictKind::Unverifiable;
        for (i, s) in samples.iter_mut().enumerate() {
            s.level = Some(if i < 3 { "5".into() } else { "1".into() });
            s.tokens = i;
        }
        let s = summarize(&samples, 0).unwrap();
        let ks: Vec<usize> = s.pass_at.iter().map(|p| p.0).collect();
        assert_eq!(ks, [1, 2, 3]);
        assert_eq!((s.undecided, s.truncated, s.mean_tokens), (1, 1, 3.0));
        assert_eq!(s.levels["1"].accuracy, 1.0);
        assert!((s.levels["5"].accuracy - 1.0 / 3.0).abs() < 1e-15);
    }

    #[test]
    fn runs_are_compared_on_what_both_answered() {
        let first: Vec<_> = (0..6).map(|t| sample(t, 0, false)).collect();
        let second: Vec<_> = (2..9).map(|t| sample(t, 0, t % 2 == 0)).collect();
        let c = compare(&first, &second, 0).unwrap();
        assert_eq!((c.n, c.wins, c.losses, c.difference), (4, 2, 0, 0.5));
        let unverifiable = GradedSample::new(99, 0, "", &Unverifiable::NoTests.into());
        assert!(compare(&first, &[unverifiable], 0).is_none());
    }
}
