//! The table of equal and unequal answers in `docs/verify.md` says what the verifier does.

use g2rpo_verify::{MathVerifier, Verifier};

/// The answers and references of a cell: "`a` `b` for `reference`; `c` for `other`".
fn pairs(cell: &str) -> Vec<(String, String)> {
    let mut pairs = Vec::new();
    let mut answers: Vec<&str> = Vec::new();
    let mut before = "";
    // Odd parts are those between backticks.
    for (i, part) in cell.split('`').enumerate() {
        if i % 2 == 0 {
            before = part;
        } else if before.trim_end().ends_with(" for") {
            for answer in answers.drain(..) {
                pairs.push((answer.to_owned(), part.to_owned()));
            }
        } else {
            answers.push(part);
        }
    }
    assert!(answers.is_empty(), "no reference for {answers:?} in {cell}");
    pairs
}

#[test]
fn the_table_of_answers_is_true() {
    let text = include_str!("../../../docs/verify.md");
    let rows = text
        .lines()
        .skip_while(|line| !line.starts_with("| form "))
        .skip(2)
        .take_while(|line| line.starts_with('|'));
    let math = MathVerifier::default();
    let mut counts = [0, 0];
    for row in rows {
        let cells: Vec<&str> = row.split(" | ").collect();
        assert_eq!(cells.len(), 3, "{row}");
        for (which, is_same) in [(1, true), (2, false)] {
            for (answer, reference) in pairs(cells[which]) {
                let verdict = math.verify(&format!("\\boxed{{{answer}}}"), &reference);
                let found = verdict.reward();
                let wanted = if is_same { 1.0 } else { 0.0 };
                assert_eq!(found, Some(wanted), "{answer} for {reference}: {verdict}");
                counts[which - 1] += 1;
            }
        }
    }
    assert!(counts[0] > 30 && counts[1] > 25, "{counts:?}");
}
