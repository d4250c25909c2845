//! How much CPU time does judging code cost?
//!
//!     cargo bench -p g2rpo-verify --bench code
//!
//! Prints, for each isolation level that works here, the CPU seconds of a batch of 128 completions
//! with 10 tests each (the aim is at most 6) and the executions per second per core; then the same
//! number of executions by a new interpreter for each test, without a sandbox, which is what several
//! peers do. CPU time of all descendants counts, so other load on the machine matters little.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use g2rpo_verify::code::{
    CodeVerifier, Isolation, IsolationLevel, PoolConfig, SandboxPool, main_if_requested,
};
use g2rpo_verify::{Accuracy, RewardFn, Sample};

const COMPLETIONS: usize = 128;
const TESTS: usize = 10;

const SOLUTION: &str = "
from collections import Counter
import heapq

def top(words, k):
    counts = Counter(words)
    heap = []
    for word, count in counts.items():
        heapq.heappush(heap, (-count, word))
    result = []
    while heap and len(result) < k:
        count, word = heapq.heappop(heap)
        result.append([word, -count])
    return result
";

fn main() {
    main_if_requested();
    let reference = reference();
    let mut python = None;
    println!(
        "{COMPLETIONS} completions x {TESTS} tests; CPU seconds of all processes, start included"
    );
    for level in IsolationLevel::STRONGEST_FIRST {
        let config = PoolConfig {
            isolation: Isolation::Require(level),
            ..PoolConfig::default()
        };
        let (cpu, began) = (cpu_seconds(), Instant::now());
        let verifier = match SandboxPool::new(&config) {
            Ok(pool) => {
                python = Some(pool.python().to_owned());
                CodeVerifier::new(pool)
            }
            Err(why) => {
                println!("{level:12} skipped: {why}");
                continue;
            }
        };
        // Each completion differs, as completions do, so nothing could be remembered.
        let codes: Vec<String> = (0..COMPLETIONS)
            .map(|i| format!("{SOLUTION}\n# {i}\n"))
            .collect();
        let samples: Vec<Sample<'_>> = codes
            .iter()
            .map(|code| Sample {
                response: code,
                reference: &reference,
                ..Sample::default()
            })
            .collect();
        let rewards = Accuracy(verifier).rewards(&samples);
        assert!(rewards.iter().all(|&reward| reward == Some(1.0)));
        // The pool is gone, and with it every process, whose time now counts as ours.
        report(level.name(), cpu_seconds() - cpu, began);
    }
    if let Some(python) = python {
        new_interpreter_for_each_test(&python);
    }
}

fn report(name: &str, cpu: f64, began: Instant) {
    let executions = (COMPLETIONS * TESTS) as f64;
    println!(
        "{name:12} {cpu:6.2} core-s   {:6.0} executions/s/core   {:6.2} s wall",
        executions / cpu,
        began.elapsed().as_secs_f64()
    );
}

/// A tenth of the executions, scaled up: this takes its time.
fn new_interpreter_for_each_test(python: &Path) {
    let program = format!("{SOLUTION}\nassert top(['a', 'b', 'a'], 1) == [['a', 2]]\n");
    let (cpu, began) = (cpu_seconds(), Instant::now());
    // Without site-packages, whose start-up differs between machines.
    for _ in 0..COMPLETIONS {
        let status = Command::new(python)
            .args(["-I", "-S", "-c", &program])
            .stdin(Stdio::null())
            .status();
        assert!(status.is_ok_and(|status| status.success()));
    }
    let cpu = (cpu_seconds() - cpu) * TESTS as f64;
    println!(
        "python -c    {cpu:6.2} core-s   {:6.0} executions/s/core   (from {COMPLETIONS}, {:.2} s wall)",
        (COMPLETIONS * TESTS) as f64 / cpu,
        began.elapsed().as_secs_f64()
    );
}

fn reference() -> String {
    let asserts: Vec<String> = (0..TESTS)
        .map(|i| format!("assert top(['a', 'b', 'a'] + ['c'] * {i}, 0) == []"))
        .collect();
    serde_json::to_string(&asserts).expect("strings are JSON")
}

/// User and system time of this process and of all descendants that ended, in seconds.
fn cpu_seconds() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").expect("this bench needs Linux");
    let after_name = stat.rsplit(')').next().expect("the name is in parentheses");
    let ticks = after_name
        .split_whitespace()
        .skip(11)
        .take(4)
        .filter_map(|field| field.parse::<f64>().ok());
    // USER_HZ is 100 on every Linux.
    ticks.sum::<f64>() / 100.0
}
