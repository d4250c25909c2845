//! Looks at a data set before a run is spent on it.

use std::collections::HashMap;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};

use g2rpo_verify::{Outcome, Verifier, check_references, verify_parallel};
use serde::Serialize;

use crate::data::formats::Problem;

/// What is checked, and how much of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LintConfig {
    /// Most solutions that are verified, spread evenly over the data set. Default 1000.
    pub max_solutions: usize,
    /// Threads that verify. Default 1.
    pub threads: usize,
    /// Longest prompt in tokens; default none.
    pub max_prompt_length: Option<usize>,
}

impl Default for LintConfig {
    fn default() -> Self {
        Self {
            max_solutions: 1000,
            threads: 1,
            max_prompt_length: None,
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
    /// A few of them: the row, from 1, and why.
    pub examples: Vec<String>,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let share = 100.0 * self.count as f64 / self.of.max(1) as f64;
        write!(
            f,
            "{} of {} ({share:.1} %) {}",
            self.count, self.of, self.what
        )?;
        if !self.examples.is_empty() {
            write!(f, ": {}", self.examples.join("; "))?;
        }
        Ok(())
    }
}

/// Faults of the training problems, by themselves and beside those for evaluation. Kinds that do not
/// occur are left out; `tokens` gives the length of a prompt, where it is known.
///
/// ```
/// use g2rpo_train::data::formats::Problem;
/// use g2rpo_train::data::lint::{LintConfig, lint};
/// use g2rpo_verify::Gsm8k;
/// let problem = |id, question: &str, solution: &str| Problem {
///     id, question: question.into(), solution: Some(solution.into()), reference: "2".into(), ..Problem::default()
/// };
/// let train = [problem(0, "1+1?", "#### 2"), problem(1, "1 + 1?", "#### 3")];
/// let eval = [problem(0, "1+1?", "")];
/// let found = lint(&train, &eval, &Gsm8k::default(), None, &LintConfig::default());
/// let texts: Vec<String> = found.iter().map(|f| f.to_string()).collect();
/// assert_eq!(texts, [
///     "1 of 2 (50.0 %) solutions do not reach their reference: row 2: another value",
///     "1 of 2 (50.0 %) are asked twice: row 2 repeats row 1",
///     "2 of 2 (100.0 %) are asked in the evaluation as well: row 1; row 2",
/// ]);
/// ```
pub fn lint(
    train: &[Problem],
    eval: &[Problem],
    verifier: &dyn Verifier,
    tokens: Option<&dyn Fn(&str) -> usize>,
    config: &LintConfig,
) -> Vec<Finding> {
    let of = train.len();
    let mut findings = Vec::new();
    let mut add = |what, of, faults: Vec<String>| {
        if !faults.is_empty() {
            findings.push(Finding {
                what,
                count: faults.len(),
                of,
                examples: faults.into_iter().take(3).collect(),
            });
        }
    };
    let references = train.iter().map(|p| p.reference.as_str());
    let report = check_references(verifier, references);
    let unverifiable = report.unverifiable.iter();
    let unverifiable = unverifiable.map(|(i, why)| format!("row {}: {why}", train[*i].id + 1));
    add("references cannot be verified", of, unverifiable.collect());

    let (checked, wrong) = wrong_solutions(train, verifier, config);
    add("solutions do not reach their reference", checked, wrong);

    let without = train.iter().filter(|p| p.solution.is_none());
    let without = without.map(|p| format!("row {}", p.id + 1));
    add(
        "have no solution, so nothing guides them",
        of,
        without.collect(),
    );

    let mut seen = HashMap::new();
    let mut twice = Vec::new();
    for problem in train {
        let first = *seen.entry(key(&problem.question)).or_insert(problem.id);
        if first != problem.id {
            twice.push(format!("row {} repeats row {}", problem.id + 1, first + 1));
        }
    }
    add("are asked twice", of, twice);

    let asked: std::collections::HashSet<u64> = eval.iter().map(|p| key(&p.question)).collect();
    let overlap = train.iter().filter(|p| asked.contains(&key(&p.question)));
    let overlap = overlap.map(|p| format!("row {}", p.id + 1));
    add("are asked in the evaluation as well", of, overlap.collect());

    if let (Some(tokens), Some(most)) = (tokens, config.max_prompt_length) {
        let long = train.iter().filter_map(|p| {
            let n = tokens(&p.question);
            (n > most).then(|| format!("row {}: {n} tokens", p.id + 1))
        });
        add("have prompts over max_prompt_length", of, long.collect());
    }
    findings
}

/// How many solutions were verified, and those that are not right.
fn wrong_solutions(
    problems: &[Problem],
    verifier: &dyn Verifier,
    config: &LintConfig,
) -> (usize, Vec<String>) {
    let solved: Vec<&Problem> = problems.iter().filter(|p| p.solution.is_some()).collect();
    let n = solved.len().min(config.max_solutions);
    let chosen: Vec<&Problem> = (0..n).map(|i| solved[i * solved.len() / n]).collect();
    let pairs: Vec<(&str, &str)> = (chosen.iter())
        .filter_map(|p| Some((p.solution.as_deref()?, p.reference.as_str())))
        .collect();
    let verdicts = verify_parallel(verifier, &pairs, config.threads);
    let wrong = chosen
        .iter()
        .zip(&verdicts)
        .filter_map(|(problem, verdict)| {
            let why = match &verdict.outcome {
                // Those are told of with the references.
                Outcome::Correct | Outcome::Unverifiable(_) => return None,
                Outcome::Incorrect(why) => why.to_string(),
                Outcome::Fault(why) => why.to_string(),
            };
            Some(format!("row {}: {why}", problem.id + 1))
        });
    (n, wrong.collect())
}

/// Questions that differ in blanks and case alone are the same.
fn key(question: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    for letter in question.chars().filter(|c| !c.is_whitespace()) {
        letter.to_lowercase().for_each(|c| c.hash(&mut hasher));
    }
    hasher.finish()
}
