//! The responses of `testdata/code/fresh_cases.json`, each a fault that code verifiers have, labelled by CPython.

use std::collections::BTreeMap;

use g2rpo_verify::{Outcome, Verifier};
use serde::Deserialize;

use crate::support::verifier;

#[derive(Deserialize)]
struct Case {
    kind: String,
    response: String,
    reference: String,
    right: bool,
    /// What the interpreter said about the exception, where that is the point.
    error: Option<String>,
}

#[test]
fn verdicts_are_those_of_python() {
    let text = include_str!("../../../../testdata/code/fresh_cases.json");
    let cases: Vec<Case> = serde_json::from_str(text).unwrap();
    let pairs: Vec<_> = cases
        .iter()
        .map(|case| (case.response.as_str(), case.reference.as_str()))
        .collect();
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
