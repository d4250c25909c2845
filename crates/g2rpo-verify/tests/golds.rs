//! Every published answer is the same as itself and as no other. Needs the data sets: set
//! `G2RPO_DATA` to the folder that holds `gsm8k/` and `math500/`.

use std::path::PathBuf;

use g2rpo_verify::{CalculatorMarks, Gsm8k, MathVerifier, Verifier, check_references};

fn rows(file: &str) -> Option<Vec<serde_json::Value>> {
    let Some(root) = std::env::var_os("G2RPO_DATA") else {
        println!("skipped: G2RPO_DATA is not set");
        return None;
    };
    let path = PathBuf::from(root).join(file);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let parse = |line: &str| serde_json::from_str(line).expect("one JSON object per line");
    Some(text.lines().map(parse).collect())
}

fn answers(file: &str) -> Option<Vec<String>> {
    let answer = |row: serde_json::Value| row["answer"].as_str().unwrap_or_default().to_owned();
    Some(rows(file)?.into_iter().map(answer).collect())
}

#[test]
fn gsm8k_answers_verify_themselves() {
    for file in ["gsm8k/train.jsonl", "gsm8k/test.jsonl"] {
        let Some(answers) = answers(file) else { return };
        let strict = Gsm8k::default();
        let report = check_references(&strict, answers.iter().map(String::as_str));
        assert_eq!(report.unverifiable, [], "{file}");
        let marked = Gsm8k {
            calculator_marks: CalculatorMarks::Correct,
            ..strict
        };
        let math = MathVerifier::default();
        for answer in &answers {
            assert!(strict.verify(answer, answer).is_correct(), "{answer}");
            assert!(marked.verify(answer, answer).is_correct(), "{answer}");
            assert!(math.verify(answer, answer).is_correct(), "{answer}");
        }
        println!("{file}: {} answers", answers.len());
    }
}

#[test]
fn math_answers_verify_themselves() {
    let Some(rows) = rows("math500/test.jsonl") else {
        return;
    };
    let math = MathVerifier::math();
    let text =
        |row: &serde_json::Value, key: &str| row[key].as_str().unwrap_or_default().to_owned();
    for row in &rows {
        let (answer, solution) = (text(row, "answer"), text(row, "solution"));
        assert_eq!(math.check_reference(&answer), Ok(()), "{answer}");
        let boxed = format!("So it is $\\boxed{{{answer}}}$.");
        assert!(math.verify(&boxed, &answer).is_correct(), "{answer}");
        let verdict = math.verify(&solution, &answer);
        assert!(verdict.is_correct(), "{answer}: {verdict}\n{solution}");
    }
    println!("{} answers", rows.len());
}

/// The value of an answer that is a plain number or a fraction of integers, as (a, b) for a/b,
/// read without the crate.
fn plain_value(answer: &str) -> Option<(i128, i128)> {
    let tail = answer.rfind("####").map_or(answer, |at| &answer[at + 4..]);
    let text = tail
        .trim()
        .replace([',', ' '], "")
        .replace("\\!", "")
        .replace("\\$", "");
    if let Some(rest) = text.strip_prefix("\\frac{") {
        let (a, b) = rest.strip_suffix('}')?.split_once("}{")?;
        return Some((a.parse().ok()?, b.parse().ok()?));
    }
    if let Some((whole, fraction)) = text.split_once('.') {
        let scale = 10i128.checked_pow(fraction.len().try_into().ok()?)?;
        return Some((format!("{whole}{fraction}").parse().ok()?, scale));
    }
    Some((text.parse().ok()?, 1))
}

#[test]
fn distinct_answers_are_told_apart() {
    let mut cross = 0;
    let (math, strict) = (MathVerifier::default(), Gsm8k::default());
    for (file, seed) in [("gsm8k/train.jsonl", 1u64), ("math500/test.jsonl", 2)] {
        let Some(answers) = answers(file) else { return };
        let plain: Vec<(&str, (i128, i128))> = answers
            .iter()
            .filter_map(|a| Some((a.as_str(), plain_value(a)?)))
            .collect();
        let mut state = seed;
        let mut next = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize % plain.len()
        };
        for _ in 0..5000 {
            let ((a, x), (b, y)) = (plain[next()], plain[next()]);
            let differ = x.0 * y.1 != y.0 * x.1;
            let tail = |s: &str| s.rsplit("####").next().unwrap_or(s).trim().to_owned();
            let boxed = format!("\\boxed{{{}}}", tail(b));
            assert_eq!(math.verify(&boxed, a).is_correct(), !differ, "{a} | {b}");
            if file.starts_with("gsm8k") {
                assert_eq!(strict.verify(b, a).is_correct(), !differ, "{a} | {b}");
            }
            cross += 1;
        }
    }
    println!("{cross} cross pairs");
}
