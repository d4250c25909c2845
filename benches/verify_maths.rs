//! How fast answers are judged, beside Math-Verify on the same pairs and in the same run.
//!
//! `python benches/verify_maths.py` builds and runs this program and Math-Verify in turn, and prints
//! processor time per verdict of both. Alone, this program prints its own side:
//!
//! `cargo bench -p g2rpo-verify --bench verify_maths`

use std::hint::black_box;
use std::path::Path;

use g2rpo_verify::{Gsm8k, MathVerifier, Verifier};

/// Seconds that this thread has run; load on the machine does not count.
fn thread_time() -> f64 {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let ran = stat.split(' ').next().and_then(|n| n.parse::<f64>().ok());
    ran.expect("Linux counts the time of each thread") / 1e9
}

/// Verdicts per second of processor time over repeated passes of at least half a second.
fn rate(verifier: &dyn Verifier, pairs: &[(String, String)]) -> f64 {
    let (start, mut count) = (thread_time(), 0);
    loop {
        for (response, reference) in pairs {
            black_box(verifier.verify(black_box(response), black_box(reference)));
        }
        count += pairs.len();
        let took = thread_time() - start;
        if took > 0.5 {
            return count as f64 / took;
        }
    }
}

fn main() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/verify/pairs.jsonl");
    let text = std::fs::read_to_string(path).expect("testdata/verify/pairs.jsonl");
    let mut pairs = Vec::new();
    for line in text.lines() {
        let row: serde_json::Value = serde_json::from_str(line).expect("a pair per line");
        let column = |name: &str| row[name].as_str().unwrap_or_default().to_owned();
        let answer = column("answer");
        let response = if column("form") == "extraction" {
            answer
        } else {
            format!("\\boxed{{{answer}}}")
        };
        pairs.push((response, column("reference")));
    }
    let maths = rate(&MathVerifier::default(), &pairs);
    let solution = "Natalia sold 48/2 = <<48/2=24>>24 clips in May.\n\
        Natalia sold 48+24 = <<48+24=72>>72 clips altogether in April and May.\n#### ";
    let answers: Vec<(String, String)> = (0..1000)
        .map(|i| (format!("{solution}{}", i * 37 % 2000), format!("#### {i}")))
        .collect();
    let gsm8k = rate(&Gsm8k::default(), &answers);
    println!(
        "{{\"pairs\": {}, \"maths_per_s\": {maths:.0}, \"gsm8k_per_s\": {gsm8k:.0}}}",
        pairs.len()
    );
}
