//! Responses by kind of difficulty, labelled by hand and by SymPy (`testdata/verify/kinds.py`).
//!
//! `cargo test -p g2rpo-verify --test kinds -- --nocapture` prints the table of docs/results.

use std::collections::BTreeMap;
use std::path::Path;

use g2rpo_verify::{Gsm8k, MathVerifier, MultipleChoice, Verifier};
use serde::Deserialize;

#[derive(Deserialize)]
struct Case {
    kind: String,
    verifier: String,
    response: String,
    reference: String,
    right: bool,
    handed: bool,
}

fn cases() -> Vec<Case> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/verify/kinds.jsonl");
    std::fs::read_to_string(path)
        .expect("testdata/verify/kinds.jsonl is part of the repository")
        .lines()
        .map(|line| serde_json::from_str(line).expect("a case per line"))
        .collect()
}

/// Cases of one kind: how many are right and wrong, and how many of each are judged otherwise.
#[derive(Default)]
struct Row {
    right: usize,
    wrong: usize,
    lost: usize,
    paid: usize,
}

#[test]
fn every_kind_is_judged_right() {
    let (math, gsm8k, choice) = (
        MathVerifier::default(),
        Gsm8k::default(),
        MultipleChoice::default(),
    );
    let mut rows: BTreeMap<String, Row> = BTreeMap::new();
    let mut failures = Vec::new();
    for case in cases() {
        let verifier: &dyn Verifier = match case.verifier.as_str() {
            "math" => &math,
            "gsm8k" => &gsm8k,
            "choice" => &choice,
            other => panic!("no verifier {other}"),
        };
        let verdict = verifier.verify(&case.response, &case.reference);
        // A masked sample is neither paid nor refused: no case has such a reference.
        let is_judged = verdict.reward().is_some();
        let row = rows.entry(case.kind.clone()).or_default();
        if case.right {
            row.right += 1;
            row.lost += usize::from(!verdict.is_correct());
        } else {
            row.wrong += 1;
            row.paid += usize::from(verdict.is_correct());
        }
        if verdict.is_correct() != case.right || !is_judged {
            let handed = if case.handed { "handed" } else { "" };
            failures.push(format!(
                "{:<28} {:<6} {:?} for {:?}: want {}, {verdict} {handed}",
                case.kind, case.verifier, case.response, case.reference, case.right
            ));
        }
    }
    println!("kind                           right wrong |  lost  paid");
    for (kind, row) in &rows {
        println!(
            "{kind:<30} {:>5} {:>5} | {:>5} {:>5}",
            row.right, row.wrong, row.lost, row.paid
        );
        assert!(row.right + row.wrong >= 20, "{kind} has too few cases");
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
