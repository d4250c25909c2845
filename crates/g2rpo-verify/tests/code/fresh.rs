//! The responses of `testdata/code/fresh_cases.json`, each a fault that code verifiers have, labelled by CPython.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use g2rpo_verify::code::{CodeVerifier, Isolation, Limits, PoolConfig, SandboxPool};
use g2rpo_verify::{Incorrect, Outcome, Verifier};
use serde::Deserialize;

use crate::support::{config, verifier};

#[derive(Deserialize)]
struct Case {
    kind: String,
    response: String,
    reference: String,
    right: bool,
    /// What the interpreter said about the exception, where that is the point.
    error: Option<String>,
}

/// The kind whose point is how long something takes.
const TIMES: &str = "22";

fn cases(wanted: impl Fn(&str) -> bool) -> Vec<Case> {
    let text = include_str!("../../../../testdata/code/fresh_cases.json");
    let mut cases: Vec<Case> = serde_json::from_str(text).unwrap();
    cases.retain(|case| wanted(&case.kind));
    cases
}

fn pairs(cases: &[Case]) -> Vec<(&str, &str)> {
    cases
        .iter()
        .map(|case| (case.response.as_str(), case.reference.as_str()))
        .collect()
}

/// Nothing holds a worker for much longer than the budgets of a test, and nothing honest is late.
#[test]
fn tests_end_in_time() {
    let limits = Limits {
        cpu: Duration::from_secs(1),
        wall: Duration::from_secs(2),
        ..Limits::default()
    };
    let pool = SandboxPool::new(&PoolConfig {
        limits,
        workers: 8,
        ..config(Isolation::Auto)
    });
    let verifier = CodeVerifier::new(pool.unwrap());
    let cases = cases(|kind| kind == TIMES);
    let began = Instant::now();
    for (case, verdict) in cases.iter().zip(verifier.verify_batch(&pairs(&cases))) {
        let is_as_labelled = match verdict.outcome {
            Outcome::Correct => case.right,
            Outcome::Incorrect(Incorrect::Timeout { .. }) => !case.right,
            _ => false,
        };
        assert!(is_as_labelled, "{verdict}\n{}", case.response);
    }
    // Each at most five seconds of its own, eight at a time; the rest is what other load takes.
    let longest = Duration::from_secs(120);
    assert!(began.elapsed() < longest, "{:?}", began.elapsed());
    println!("{} cases in {:?}", cases.len(), began.elapsed());
}

#[test]
fn verdicts_are_those_of_python() {
    let cases = cases(|kind| kind != TIMES);
    let pairs = pairs(&cases);
    let mut kinds: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    let mut wrong = Vec::new();
    for (case, verdict) in cases.iter().zip(verifier().verify_batch(&pairs)) {
        let is_as_labelled = match &verdict.outcome {
            Outcome::Correct => case.right,
            Outcome::Incorrect(_) => !case.right,
            _ => false,
        };
        let said = verdict.to_string();
        let names_it = case.error.as_ref().is_none_or(|error| said.contains(error));
        let (good, all) = kinds.entry(&case.kind).or_default();
        *all += 1;
        if is_as_labelled && names_it {
            *good += 1;
        } else {
            wrong.push(format!(
                "{} {}: {verdict} ({:?})\n{}\n{}\n",
                case.kind,
                if case.right { "right" } else { "wrong" },
                case.error,
                case.response,
                case.reference
            ));
        }
    }
    println!("{kinds:?}");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
