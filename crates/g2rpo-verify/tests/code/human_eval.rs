//! All of `HumanEval`: the canonical solutions pass, and for each three mutants fail. The mutants
//! were made, and shown to be wrong without any code of ours, by `testdata/code/mutate_humaneval.py`.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::path::Path;
use std::time::Duration;

use g2rpo_verify::code::{CodeVerifier, Isolation, Limits, PoolConfig, SandboxPool};
use g2rpo_verify::{Outcome, Verifier};
use serde_json::Value as Json;

use crate::support::{config, pools};

type Edit = (usize, usize, String);

struct Problem {
    id: String,
    reference: String,
    prompt: String,
    solution: String,
}

/// The problems, or nothing where the data set is absent.
fn problems() -> Vec<Problem> {
    let Some(folder) = env::var_os("G2RPO_DATA") else {
        println!("skipped: G2RPO_DATA is not set, so there is no HumanEval");
        return Vec::new();
    };
    let path = Path::new(&folder).join("humaneval/HumanEval.jsonl");
    let Ok(text) = fs::read_to_string(&path) else {
        println!("skipped: no {}", path.display());
        return Vec::new();
    };
    text.lines()
        .map(|line| {
            let json: Json = serde_json::from_str(line).unwrap();
            let field = |name: &str| json[name].as_str().unwrap().to_owned();
            Problem {
                id: field("task_id"),
                reference: line.to_owned(),
                prompt: field("prompt"),
                solution: field("canonical_solution"),
            }
        })
        .collect()
}

/// The whole source with a stretch of characters replaced.
fn mutant(problem: &Problem, (start, end, text): &Edit) -> String {
    let source: Vec<char> = problem
        .prompt
        .chars()
        .chain(problem.solution.chars())
        .collect();
    let head: String = source[..*start].iter().collect();
    let tail: String = source[*end..].iter().collect();
    format!("{head}{text}{tail}")
}

#[test]
fn canonical_solutions_pass() {
    let problems = problems();
    let verifier = CodeVerifier::new(pools()[0].clone());
    let pairs: Vec<_> = problems
        .iter()
        .map(|p| (p.solution.as_str(), p.reference.as_str()))
        .collect();
    for (problem, verdict) in problems.iter().zip(verifier.verify_batch(&pairs)) {
        assert!(verdict.is_correct(), "{}: {verdict}", problem.id);
    }
}

#[test]
fn wrong_mutants_fail() {
    let problems = problems();
    let mutants = include_str!("../../../../testdata/code/humaneval_mutants.json");
    let mutants: BTreeMap<String, Vec<Edit>> = serde_json::from_str(mutants).unwrap();
    // Some mutants never end, which a second shows as well as four.
    let limits = Limits {
        cpu: Duration::from_secs(1),
        ..Limits::default()
    };
    let pool = SandboxPool::new(&PoolConfig {
        limits,
        ..config(Isolation::Auto)
    });
    let verifier = CodeVerifier::new(pool.unwrap());
    let responses: Vec<_> = problems
        .iter()
        .flat_map(|problem| {
            let edits = &mutants[&problem.id];
            assert_eq!(edits.len(), 3);
            edits.iter().map(move |edit| {
                let code = mutant(problem, edit);
                (problem, format!("```python\n{code}\n```"))
            })
        })
        .collect();
    let pairs: Vec<_> = responses
        .iter()
        .map(|(problem, response)| (response.as_str(), problem.reference.as_str()))
        .collect();
    for ((problem, response), verdict) in responses.iter().zip(verifier.verify_batch(&pairs)) {
        assert!(
            matches!(verdict.outcome, Outcome::Incorrect(_)),
            "{}: {verdict}\n{response}",
            problem.id
        );
    }
}
