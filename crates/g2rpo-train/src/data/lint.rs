//! Looks at a data set before a run is spent on it.

use std::collections::HashSet;
use std::fmt;

use g2rpo_rollout::Task;
use g2rpo_verify::{Outcome, Verdict, Verifier, check_references, verify_parallel};
use serde::Serialize;

use crate::data::spot::Spot;
use crate::data::tasks::{TaskStore, spread};
use crate::error::Result;

/// How much is checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LintConfig {
    /// Most references that are checked, spread evenly over the data set. Default 10,000.
    pub max_references: usize,
    /// Most solutions that are verified, spread evenly over those. Default 1000.
    pub max_solutions: usize,
    /// Threads that verify. Default 1.
    pub threads: usize,
}

impl Default for LintConfig {
    fn default() -> Self {
        Self {
            max_references: 10_000,
            max_solutions: 1000,
            threads: 1,
        }
    }
}

/// One kind of fault and how often it was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was found, as the end of "problems with …".
    pub what: &'static str,
    /// How many.
    pub count: usize,
    /// Of how many that were looked at.
    pub of: usize,
    /// A few of them: where they stand, and why.
    pub examples: Vec<String>,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (count, of, what) = (self.count, self.of, self.what);
        let share = 100.0 * count as f64 / of.max(1) as f64;
        write!(f, "{count} of {of} ({share:.1} %) {what}")?;
        if !self.examples.is_empty() {
            write!(f, ": {}", self.examples.join("; "))?;
        }
        Ok(())
    }
}

impl Finding {
    /// How often something was found in `of` that were looked at; nothing if it was not.
    pub fn of(what: &'static str, of: usize, faults: Vec<String>) -> Option<Self> {
        (!faults.is_empty()).then(|| Self {
            what,
            count: faults.len(),
            of,
            examples: faults.into_iter().take(3).collect(),
        })
    }
}

/// Faults of the training tasks, by themselves and beside those for evaluation. Kinds that do not
/// occur are left out. References and solutions are looked at as far as `config` says, the rest in all tasks.
///
/// ```
/// use g2rpo_rollout::Task;
/// use g2rpo_train::data::lint::{LintConfig, lint};
/// use g2rpo_train::data::tasks::Listed;
/// use g2rpo_verify::Gsm8k;
/// let task = |id, question: &str, solution: &str| Task {
///     id, question: question.into(), solution: Some(solution.into()), reference: "2".into(), ..Task::default()
/// };
/// let train = Listed::new(vec![task(0, "1+1?", "#### 2"), task(1, "1 + 1?", "#### 3")])?;
/// let eval = Listed::new(vec![task(0, "1+1?", "")])?;
/// let found = lint(&train, &[&eval], &Gsm8k::default(), &LintConfig::default())?;
/// let texts: Vec<String> = found.iter().map(|f| f.to_string()).collect();
/// assert_eq!(texts, [
///     "1 of 2 (50.0 %) solutions do not reach their reference: row 2: another value",
///     "1 of 2 (50.0 %) are asked twice: row 2 repeats row 1",
///     "2 of 2 (100.0 %) are asked in the evaluation as well: row 1; row 2",
/// ]);
/// # Ok::<(), g2rpo_train::Error>(())
/// ```
///
/// # Errors
/// The store's, where a task cannot be read.
pub fn lint(
    train: &dyn TaskStore,
    eval: &[&dyn TaskStore],
    verifier: &dyn Verifier,
    config: &LintConfig,
) -> Result<Vec<Finding>> {
    let of = train.len();
    let read =
        spread(of, config.max_references).map(|place| Ok((train.spot(place), train.task(place)?)));
    let tasks = read.collect::<Result<Vec<(Spot, Task)>>>()?;
    let references = tasks.iter().map(|(_, task)| task.reference.as_str());
    let report = check_references(verifier, references);
    let unverifiable = report.unverifiable.iter();
    let unverifiable = unverifiable.map(|(i, why)| format!("{}: {why}", tasks[*i].0));
    let (solved, wrong) = wrong_solutions(&tasks, verifier, config);

    let spot = |place: usize| train.spot(place).to_string();
    let unguided = |place: &usize| !train.sketch(*place).has_solution;
    let without = (0..of).filter(unguided).map(spot).collect();
    let keys = |store: &&dyn TaskStore| {
        let keys = (0..store.len()).map(|place| store.sketch(place).question_key);
        keys.collect::<Vec<u64>>()
    };
    let asked: HashSet<u64> = eval.iter().flat_map(keys).collect();
    let known = |place: &usize| asked.contains(&train.sketch(*place).question_key);
    let overlap = (0..of).filter(known).map(spot).collect();
    let (n, unverifiable) = (tasks.len(), unverifiable.collect());
    let findings = [
        Finding::of("references cannot be verified", n, unverifiable),
        Finding::of("solutions do not reach their reference", solved, wrong),
        Finding::of("have no solution, so nothing guides them", of, without),
        Finding::of("are asked twice", of, asked_twice(train)),
        Finding::of("are asked in the evaluation as well", of, overlap),
    ];
    Ok(findings.into_iter().flatten().collect())
}

/// Tasks with the question of another before them.
fn asked_twice(train: &dyn TaskStore) -> Vec<String> {
    let mut keys: Vec<(u64, usize)> = (0..train.len())
        .map(|place| (train.sketch(place).question_key, place))
        .collect();
    keys.sort_unstable();
    let mut twice = Vec::new();
    for same in keys.chunk_by(|a, b| a.0 == b.0) {
        let first = same[0].1;
        twice.extend(same[1..].iter().map(|(_, place)| (*place, first)));
    }
    twice.sort_unstable();
    (twice.into_iter())
        .map(|(place, first)| format!("{} repeats {}", train.spot(place), train.spot(first)))
        .collect()
}

/// How many solutions were verified, and those that are not right.
fn wrong_solutions(
    tasks: &[(Spot, Task)],
    verifier: &dyn Verifier,
    config: &LintConfig,
) -> (usize, Vec<String>) {
    let solved: Vec<&(Spot, Task)> = tasks.iter().filter(|(_, t)| t.solution.is_some()).collect();
    let chosen = spread(solved.len(), config.max_solutions).map(|i| solved[i]);
    let chosen: Vec<&(Spot, Task)> = chosen.collect();
    let pairs: Vec<(&str, &str)> = (chosen.iter())
        .filter_map(|(_, t)| Some((t.solution.as_deref()?, t.reference.as_str())))
        .collect();
    let verdicts = verify_parallel(verifier, &pairs, config.threads);
    let wrong = |((spot, _), verdict): (&&(Spot, Task), &Verdict)| match &verdict.outcome {
        // Those are told of with the references.
        Outcome::Correct | Outcome::Unverifiable(_) => None,
        Outcome::Incorrect(why) => Some(format!("{spot}: {why}")),
        Outcome::Fault(why) => Some(format!("{spot}: {why}")),
    };
    let wrong = chosen.iter().zip(&verdicts).filter_map(wrong);
    (chosen.len(), wrong.collect())
}
