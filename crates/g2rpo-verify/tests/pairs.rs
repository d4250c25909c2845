//! Our own answer pairs, against Math-Verify's verdicts on them (`testdata/verify`).
//!
//! `cargo test -p g2rpo-verify --test pairs -- --nocapture` prints the table of docs/results.

use std::collections::BTreeMap;
use std::path::Path;

use g2rpo_verify::{MathVerifier, Outcome, Verifier};
use serde::Deserialize;

#[derive(Deserialize)]
struct Pair {
    form: String,
    reference: String,
    answer: String,
    same: bool,
    taste: bool,
    math_verify: Option<bool>,
    adversarial: bool,
}

fn pairs() -> Vec<Pair> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/verify/pairs.jsonl");
    std::fs::read_to_string(path)
        .expect("testdata/verify/pairs.jsonl is part of the repository")
        .lines()
        .map(|line| serde_json::from_str(line).expect("a pair per line"))
        .collect()
}

#[derive(Default)]
struct Row {
    same: usize,
    other: usize,
    ours: [usize; 2],
    theirs: [usize; 2],
}

impl Row {
    fn count(&mut self, same: bool, ours: bool, theirs: Option<bool>) {
        // Wrong verdicts: [lost, falsely accepted]. No answer at all is a lost one.
        if same {
            self.same += 1;
        } else {
            self.other += 1;
        }
        self.ours[usize::from(!same)] += usize::from(ours != same);
        self.theirs[usize::from(!same)] += usize::from(theirs.unwrap_or(false) != same);
    }
}

#[test]
fn our_pairs_are_judged_right() {
    let verifier = MathVerifier::default();
    let mut rows: BTreeMap<String, Row> = BTreeMap::new();
    let mut total = Row::default();
    let (mut theirs_right, mut agreed, mut adversarial) = (0, 0, 0);
    let mut wrong = Vec::new();
    for pair in pairs() {
        let response = if pair.form == "extraction" {
            pair.answer.clone()
        } else {
            format!("\\boxed{{{}}}", pair.answer)
        };
        let verdict = verifier.verify(&response, &pair.reference);
        if pair.taste {
            continue;
        }
        let ours = verdict.is_correct();
        rows.entry(pair.form.clone())
            .or_default()
            .count(pair.same, ours, pair.math_verify);
        total.count(pair.same, ours, pair.math_verify);
        adversarial += usize::from(pair.adversarial);
        if pair.math_verify == Some(pair.same) {
            theirs_right += 1;
            agreed += usize::from(ours == pair.same);
        }
        if ours != pair.same || matches!(verdict.outcome, Outcome::Unverifiable(_)) {
            wrong.push(format!(
                "{:<24} {:<34} {:<40} want {:<5} {verdict}",
                pair.form, pair.reference, pair.answer, pair.same
            ));
        }
    }
    println!("form                      same other | lost, false: ours | Math-Verify");
    rows.insert("total".to_owned(), total);
    for (form, row) in &rows {
        println!(
            "{form:<26}{:>4} {:>5} | {:>12} {:>4} | {:>5} {:>5}",
            row.same, row.other, row.ours[0], row.ours[1], row.theirs[0], row.theirs[1]
        );
    }
    println!("agreement where Math-Verify is right: {agreed}/{theirs_right}");
    println!("adversarial: {adversarial}");
    for line in &wrong {
        println!("{line}");
    }
    let total = &rows["total"];
    assert!(total.same + total.other >= 1000);
    assert!(2 * adversarial >= total.same + total.other);
    assert!(agreed * 100 >= theirs_right * 98);
    assert_eq!(total.ours, [0, 0], "{}", wrong.join("\n"));
}
