//! Grades answers: verdict, graded span and reason, one line each.
//!
//! `cargo run --example verify_answers` grades a handful of built-in strings;
//! `cargo run --example verify_answers -- answers.jsonl` grades a file with one object per line:
//! `{"response": "… \\boxed{5}", "reference": "5"}`, and `"verifier"`: `math` (the default),
//! `gsm8k` or `choice`.

use std::fs;

use anyhow::Context;
use g2rpo_verify::{Gsm8k, MathVerifier, MultipleChoice, Verifier};

const BUILT_IN: [(&str, &str, &str); 14] = [
    ("math", "So the answer is $\\boxed{\\frac{1}{2}}$.", "0.5"),
    ("math", "\\boxed{(x+1)^2}", "x^2 + 2x + 1"),
    ("math", "First \\boxed{4}. No, it is \\boxed{5}.", "5"),
    ("math", "<think>\\boxed{5}", "5"),
    ("math", "\\boxed{5 \\text{ or } 6}", "5"),
    ("math", "\\boxed{1=2}", "\\log_2 8 = 3"),
    ("math", "\\boxed{5 \\text{ m}}", "5 \\text{ cm}"),
    (
        "math",
        "\\boxed{x < 1 \\text{ or } x > 3}",
        "(-\\infty,1) \\cup (3,\\infty)",
    ),
    ("math", "\\boxed{7^{7^{7^7}}}", "5"),
    ("math", "\\boxed{5}", ""),
    ("gsm8k", "48/2 = <<48/2=24>>24\n#### $1,024.00", "#### 1024"),
    ("gsm8k", "#### 5/6", "5"),
    ("choice", "The answer is (B) 12.", "B"),
    ("choice", "The answer is (A) or (B).", "B"),
];

fn main() -> anyhow::Result<()> {
    println!(
        "{:<8} {:<52} {:<28} {:<30} verdict",
        "verifier", "response", "graded", "reference"
    );
    let Some(path) = std::env::args().nth(1) else {
        for (kind, response, reference) in BUILT_IN {
            grade(kind, response, reference)?;
        }
        return Ok(());
    };
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    let (mut right, mut paid) = (0, 0);
    for (i, line) in text
        .lines()
        .enumerate()
        .filter(|(_, l)| !l.trim().is_empty())
    {
        let place = || format!("{path}, line {}", i + 1);
        let row: serde_json::Value = serde_json::from_str(line).with_context(place)?;
        let column = |name: &str| {
            let value = row[name].as_str();
            value
                .with_context(|| format!("{}: column {name:?} is missing or not a string", place()))
        };
        let kind = row["verifier"].as_str().unwrap_or("math");
        let reward = grade(kind, column("response")?, column("reference")?).with_context(place)?;
        right += usize::from(reward == Some(1.0));
        paid += usize::from(reward.is_some());
    }
    println!("{right} of {paid} right; rows without a verdict are left out");
    Ok(())
}

fn grade(kind: &str, response: &str, reference: &str) -> anyhow::Result<Option<f64>> {
    let verifier: Box<dyn Verifier> = match kind {
        "math" => Box::new(MathVerifier::default()),
        "gsm8k" => Box::new(Gsm8k::default()),
        "choice" => Box::new(MultipleChoice::default()),
        other => anyhow::bail!("unknown verifier {other:?}; expected math, gsm8k or choice"),
    };
    let verdict = verifier.verify(response, reference);
    let graded = verdict.span.clone().map_or("", |span| &response[span]);
    println!(
        "{kind:<8} {:<52} {:<28} {:<30} {verdict}",
        short(response, 52),
        short(graded, 28),
        short(reference, 30)
    );
    Ok(verdict.reward())
}

/// The end of a text, where answers are, on one line.
fn short(text: &str, width: usize) -> String {
    let line = text.replace('\n', "⏎");
    let length = line.chars().count();
    if length <= width {
        return line;
    }
    let tail = line.chars().skip(length - width + 1);
    std::iter::once('…').chain(tail).collect()
}
