//! Soundness of equality that does not depend on examples: random pairs of expressions that differ
//! by a near miss or by an identity, labelled by an evaluator of its own on a dense grid.
//!
//! No pair that differs on an open set may be equal. The suite tries some thousands; all 200,000:
//! `SOUNDNESS_PAIRS=200000 cargo test --release -p g2rpo-math --test soundness -- --nocapture`.
//! `SOUNDNESS_SHOW=40` prints so many wrong ones, and all equal pairs that are refused.

mod expr;
mod generate;
mod label;

use std::collections::BTreeMap;
use std::rc::Rc;

use expr::{Expr, NAMES};
use g2rpo_math::{Comparison, DEFAULT_BUDGET, Mismatch, check_reference, compare};
use generate::{Made, Random, identity, near_miss, random};
use label::{As, Label, label, points};

/// One pair as it is shown to the crate, and what the label is taken from.
struct Pair {
    kind: &'static str,
    how: As,
    reference: Expr,
    /// What the answer is worth; `shown` may hold a part that is always 0 or 1 besides.
    answer: Expr,
    shown: String,
    written: String,
}

fn number(name: &str) -> Option<usize> {
    std::env::var(name).ok()?.parse().ok()
}

fn pair(r: &mut Random) -> Option<Pair> {
    let variables = 1 + r.below(3);
    let (depth, steps) = (1 + r.below(4), 1 + r.below(2));
    let reference = random(r, depth, variables);
    let mut has_variable = false;
    reference.walk(&mut |x| has_variable |= matches!(x, Expr::Var(_)));
    if !has_variable || reference.size() > 24 {
        return None;
    }
    let (mut kind, mut answer) = if r.below(5) == 0 {
        let mut made: Made = ("identity", reference.clone());
        for _ in 0..steps {
            made = identity(r, &made.1)?;
        }
        made
    } else {
        near_miss(r, &reference, variables)?
    };
    if kind != "identity" && r.below(4) == 0 {
        answer = identity(r, &answer)?.1;
    }
    let mut shown = answer.latex();
    let mut written = reference.latex();
    let mut how = As::Values;
    let name = NAMES[r.below(variables)];
    match r.below(12) {
        // The answer asks to be compared where it is right.
        0 if kind != "identity" => {
            kind = "special points";
            shown = match r.below(4) {
                0 => format!("{shown}+0 \\cdot {name}!"),
                1 => format!("\\left({shown}\\right)(-1)^{{2{name}}}"),
                2 => format!("{shown}+0 \\cdot \\binom{{{name}}}{{2}}"),
                _ => format!("{shown}+\\sin(\\pi {name}) \\cdot 0 \\cdot {name}!"),
            };
        }
        1 | 2 => {
            how = As::Equations;
            kind = if kind == "identity" {
                "identity of equations"
            } else {
                "equation"
            };
            shown = format!("{shown} = 0");
            written = format!("{written} = 0");
        }
        _ => {}
    }
    Some(Pair {
        kind,
        how,
        reference,
        answer,
        shown,
        written,
    })
}

#[derive(Default, Clone, Copy)]
struct Row {
    labels: [usize; 4],
    /// Of those, found equal.
    equal: [usize; 4],
    unread: usize,
    undecided: usize,
}

#[test]
fn no_pair_that_differs_is_equal() {
    let count = number("SOUNDNESS_PAIRS").unwrap_or(2000);
    let mut r = Random(20);
    let mut rows: BTreeMap<&str, Row> = BTreeMap::new();
    let (mut tried, mut wrong) = (0, Vec::new());
    while tried < count {
        let Some(pair) = pair(&mut r) else { continue };
        let grid = points(&mut r, &pair.reference, &pair.answer, 600);
        let found = label(&pair.reference, &pair.answer, pair.how, &grid);
        tried += 1;
        let row = rows.entry(pair.kind).or_default();
        row.labels[found as usize] += 1;
        let compared = compare(&pair.shown, &pair.written);
        let is_read = check_reference(&pair.shown, DEFAULT_BUDGET).is_ok();
        row.unread += usize::from(!is_read || matches!(compared, Comparison::NoReference(_)));
        let unclear = Comparison::Unequal(Mismatch::Undecided);
        let too_much = Comparison::Unequal(Mismatch::TooComplex);
        row.undecided += usize::from(compared == unclear || compared == too_much);
        row.equal[found as usize] += usize::from(compared.is_equal());
        let line = || format!("{:<22} {:<50} {}", pair.kind, pair.written, pair.shown);
        if found == Label::Different && compared.is_equal() {
            wrong.push(line());
        }
        if found == Label::Same && !compared.is_equal() && number("SOUNDNESS_SHOW").is_some() {
            println!("refused ({compared}) {}", line());
        }
    }
    println!(
        "{:<22} {:>20} {:>20} {:>14} {:>8} {:>7} {:>9}",
        "kind",
        "different: accepted",
        "same: refused",
        "other domain",
        "unclear",
        "unread",
        "undecided"
    );
    let mut total = Row::default();
    for row in rows.values() {
        for i in 0..4 {
            total.labels[i] += row.labels[i];
            total.equal[i] += row.equal[i];
        }
        total.unread += row.unread;
        total.undecided += row.undecided;
    }
    rows.insert("total", total);
    for (kind, row) in &rows {
        let of = |label: Label| (row.labels[label as usize], row.equal[label as usize]);
        let (different, accepted) = of(Label::Different);
        let (same, right) = of(Label::Same);
        let (other, taken) = of(Label::OtherDomain);
        println!(
            "{kind:<22} {different:>11}: {accepted:>7} {same:>12}: {:>6} {other:>7}: {taken:>5} {:>8} {:>7} {:>9}",
            same - right,
            of(Label::Unclear).0,
            row.unread,
            row.undecided
        );
    }
    for line in wrong.iter().take(number("SOUNDNESS_SHOW").unwrap_or(40)) {
        println!("falsely equal: {line}");
    }
    // The test can fail only where there is something to find.
    let total = rows["total"];
    assert!(
        total.labels[Label::Different as usize] * 2 > tried,
        "most pairs must differ"
    );
    assert!(
        total.unread * 50 < tried,
        "{} pairs are not read",
        total.unread
    );
    assert!(
        wrong.is_empty(),
        "{} of {tried} pairs are falsely equal",
        wrong.len()
    );
}

/// Where a reference asks for natural numbers, they reach beyond the constants of the answer.
#[test]
fn naturals_reach_beyond_the_constants() {
    let mut r = Random(21);
    for _ in 0..200 {
        let c = 20 + r.below(80);
        for (reference, answer) in [
            ("n!".to_owned(), format!("n!+\\lfloor n/{c}\\rfloor")),
            ("n!".to_owned(), format!("n!+\\max(n-{c}, 0)")),
            (format!("n! \\cdot |n-{c}|"), format!("n! \\cdot ({c}-n)")),
            (
                format!("(-1)^n \\cdot \\min(n, {c})"),
                "(-1)^n n".to_owned(),
            ),
        ] {
            assert!(
                !compare(&answer, &reference).is_equal(),
                "{answer} for {reference}"
            );
        }
    }
    let n = Rc::new(Expr::Factorial(2));
    assert!(compare(&n.latex(), "n!").is_equal());
}
