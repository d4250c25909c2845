//! Every format of tests, right and wrong solutions, and the reasons in the verdicts.

use g2rpo_verify::code::{CodeVerifier, PassRate};
use g2rpo_verify::{Incorrect, Outcome, RewardFn, Sample, Unverifiable, Verdict, Verifier};

use crate::support::{pools, verifier};

fn outcome(code: &str, reference: &str) -> Outcome {
    let response = format!("Here it is.\n```python\n{code}\n```\n");
    verifier().verify(&response, reference).outcome
}

fn crashed(index: Option<usize>, error: &str) -> Incorrect {
    Incorrect::Crashed {
        index,
        error: error.to_owned(),
    }
}

const ADD: &str = r#"["assert add(2, 3) == 5", "assert add(-1, 1) == 0"]"#;

#[test]
fn every_level_tells_right_from_wrong() {
    for pool in pools() {
        let verifier = CodeVerifier::new(pool.clone());
        let verify = |code| verifier.verify(code, ADD);
        assert!(
            verify("def add(a, b):\n    return a + b").is_correct(),
            "{:?}",
            pool.level()
        );
        assert_eq!(
            verify("def add(a, b):\n    return 5").outcome,
            Outcome::Incorrect(Incorrect::FailedTest { index: 1 })
        );
    }
}

#[test]
fn the_reason_says_what_happened() {
    for (code, why) in [
        (
            "def add(a, b): return a - b",
            Incorrect::FailedTest { index: 0 },
        ),
        (
            "def add(a, b): return object()",
            Incorrect::FailedTest { index: 0 },
        ),
        (
            "def plus(a, b): return a + b",
            Incorrect::MissingFunction { name: "add".into() },
        ),
        (
            "def add(a, b): return a +",
            crashed(None, "SyntaxError: invalid syntax (<solution>, line 1)"),
        ),
        ("raise ValueError('no')", crashed(None, "ValueError: no")),
        (
            "def add(a, b): return a / 0",
            crashed(Some(0), "ZeroDivisionError: division by zero"),
        ),
        (
            "def add(a, b): return 'x' * (1 << 21)",
            Incorrect::FailedTest { index: 0 },
        ),
        (
            "def add(a, b): return bytearray(1 << 34)",
            Incorrect::MemoryLimit { index: Some(0) },
        ),
    ] {
        assert_eq!(outcome(code, ADD), Outcome::Incorrect(why), "{code}");
    }
}

#[test]
fn programs_are_judged_by_what_they_print() {
    let tests = r#"{"inputs": ["3\n1 2 3\n", "1\n5\n"], "outputs": ["6\n", "5"]}"#;
    let right = "n = int(input())\nprint(sum(map(int, input().split())))\nexit()";
    assert_eq!(outcome(right, tests), Outcome::Correct);
    let by_stream = "import sys\nprint(sum(map(int, sys.stdin.read().split()[1:])))";
    assert_eq!(outcome(by_stream, tests), Outcome::Correct);
    for (wrong, why) in [
        ("print(6)", Incorrect::FailedTest { index: 1 }),
        ("print(6)\nprint(6)", Incorrect::FailedTest { index: 0 }),
        (
            "print('6', end='')\nraise SystemExit(1)",
            crashed(Some(0), "it ended with status 1 and without a result"),
        ),
        (
            "print(6)\n1 / 0",
            crashed(Some(0), "ZeroDivisionError: division by zero"),
        ),
        (
            "while True: print('6' * 10000)",
            Incorrect::OutputLimit { index: Some(0) },
        ),
        ("", Incorrect::NoAnswer),
    ] {
        assert_eq!(outcome(wrong, tests), Outcome::Incorrect(why), "{wrong}");
    }
}

#[test]
fn a_program_may_use_threads_and_a_main_guard() {
    let tests = r#"[{"input": "4\n", "output": "16\n", "testtype": "stdin"}]"#;
    let code = "import threading, sys
sys.setrecursionlimit(10**6)
threading.stack_size(1 << 26)
def main():
    def down(n):
        return 0 if n == 0 else 1 + down(n - 1)
    down(50000)
    n = int(sys.stdin.readline())
    sys.stdout.write(str(n * n) + '\\n')
if __name__ == '__main__':
    thread = threading.Thread(target=main)
    thread.start()";
    assert_eq!(outcome(code, tests), Outcome::Correct);
}

#[test]
fn honest_code_keeps_its_library() {
    let tests = r#"["assert f(5) == 120"]"#;
    for code in [
        "import math\ndef f(n): return math.factorial(n)",
        "import asyncio\nasync def g(n):\n    await asyncio.sleep(0)\n    return 120\ndef f(n): return asyncio.run(g(n))",
        "from dataclasses import dataclass\n@dataclass\nclass C:\n    x: int\ndef f(n): return C(120).x",
        "from concurrent.futures import ThreadPoolExecutor\ndef f(n):\n    with ThreadPoolExecutor(2) as pool:\n        return sum(pool.map(int, [100, 20]))",
        "import random, time, os, tempfile, decimal, subprocess, socket\ndef f(n): return 120",
        "import sys\nsys.setrecursionlimit(100000)\ndef g(n): return 0 if n == 0 else 1 + g(n - 1)\ndef f(n): return g(20000) - 19880",
        "def f(n):\n    print('debugging' * 100000)\n    return 120",
        "import zoneinfo, datetime\ndef f(n): return 120",
        "def f(n): return int(str(7 ** 20000)[:0] + '120')",
        "class Solution:\n    def f(self, n):\n        return 120",
        "f = lambda n: 120.0",
    ] {
        assert_eq!(outcome(code, tests), Outcome::Correct, "{code}");
    }
}

#[test]
fn asserts_that_are_programs_run_apart_from_the_solution() {
    let tests = r#"{
        "test_setup_code": "import math",
        "test_list": [
            "assert math.isclose(root(2), 1.41421356, rel_tol=1e-6)",
            "for n in range(20):\n    assert abs(root(n) ** 2 - n) < 1e-9",
            "try:\n    root(-1)\n    assert False\nexcept ValueError:\n    pass"
        ]
    }"#;
    assert_eq!(
        outcome("def root(x):\n    return math.sqrt(x)", tests),
        Outcome::Correct
    );
    let wrong = "def root(x):\n    return 1.41421356 if x == 2 else 0.0";
    let first = Incorrect::FailedTest { index: 0 };
    assert_eq!(outcome(wrong, tests), Outcome::Incorrect(first.clone()));
    // Values cross, objects do not.
    let liar = "class A(float):\n    def __abs__(self): return 0\ndef root(x): return A(1)";
    assert_eq!(outcome(liar, tests), Outcome::Incorrect(first));
    let looping = "def root(x):\n    while True: pass";
    assert_eq!(
        outcome(looping, tests),
        Outcome::Incorrect(Incorrect::Timeout { index: Some(0) })
    );
    assert_eq!(
        outcome("x = 1", tests),
        Outcome::Incorrect(Incorrect::MissingFunction {
            name: "root".into()
        })
    );
}

#[test]
fn calls_with_json_arguments() {
    let tests = r#"{"fn_name": "pairs", "inputs": [[[1, 2]], [[]]], "outputs": [[[1, 2]], []]}"#;
    assert_eq!(
        outcome("def pairs(xs): return [tuple(xs)] if xs else []", tests),
        Outcome::Correct
    );
    let method = "class Solution:\n    def pairs(self, xs):\n        return [xs] if xs else []";
    assert_eq!(outcome(method, tests), Outcome::Correct);
}

#[test]
fn tests_that_decide_nothing_are_never_paid() {
    for tests in [
        r#"["assert True"]"#,
        r#"["x = 1"]"#,
        r#"["assert f( == 1"]"#,
        r#"{"entry_point": "f", "test": "def check(candidate):\n    pass"}"#,
        r#"["import nonexistent_module\nassert nonexistent_module.g(f(1)) == 1"]"#,
        "",
        "[]",
    ] {
        let found = outcome("def f(x): return 1", tests);
        assert!(
            matches!(found, Outcome::Unverifiable(_)),
            "{tests}: {found:?}"
        );
    }
    let verifier = verifier();
    assert_eq!(verifier.check_reference("[]"), Err(Unverifiable::NoTests));
    assert_eq!(verifier.check_reference(ADD), Ok(()));
}

#[test]
fn the_share_of_passed_tests_is_a_reward_too() {
    let tests =
        r#"["assert f(1) == 1", "assert f(2) == 4", "assert f(3) == 9", "assert f(4) == 16"]"#;
    let response = "```python\ndef f(n):\n    if n == 2:\n        import os\n        os._exit(0)\n    return n * n\n```";
    // A right verdict is taken at its word: the tests do not run again.
    let right = Verdict::correct();
    let samples = [
        Sample {
            response,
            reference: tests,
            ..Sample::default()
        },
        Sample {
            response: "not run",
            reference: tests,
            verdict: Some(&right),
            ..Sample::default()
        },
        Sample {
            response: "<think>",
            reference: tests,
            ..Sample::default()
        },
        Sample {
            response,
            reference: "[]",
            ..Sample::default()
        },
    ];
    let rewards = PassRate(verifier()).rewards(&samples);
    assert_eq!(rewards, [Some(0.75), Some(1.0), Some(0.0), None]);
}

#[test]
fn a_report_shows_what_the_code_did() {
    let tests = r#"["assert f(1) == 1", "assert f(2) == 4", "assert f(3) == 9"]"#;
    let code = "def f(n):\n    if n == 3: raise KeyError(n)\n    return [n]";
    let report = verifier().report(code, tests).unwrap();
    let shown: Vec<_> = report
        .observations
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(
        shown,
        ["returned [1]", "returned [2]", "raised KeyError: 3"]
    );
    let tests = r#"{"inputs": ["3\n"], "outputs": ["9\n"]}"#;
    let report = verifier().report("print(input() * 2)", tests).unwrap();
    assert_eq!(report.observations[0].to_string(), "printed \"33\\n\"");
}

#[test]
fn floats_may_differ_by_a_tolerance_that_is_asked_for() {
    let tests = r#"["assert f(3) == 0.3"]"#;
    let code = "def f(n): return 0.1 * n";
    assert!(!verifier().verify(code, tests).is_correct());
    assert!(
        verifier()
            .with_tolerance(1e-9)
            .verify(code, tests)
            .is_correct()
    );
}

#[test]
fn the_graded_span_is_the_code() {
    let response = "Sure:\n```python\ndef add(a, b):\n    return a + b\n```\nDone.";
    let span = verifier().verify(response, ADD).span.unwrap();
    assert_eq!(&response[span], "def add(a, b):\n    return a + b\n");
}

#[test]
fn a_batch_is_judged_in_order() {
    let right = "def add(a, b): return a + b";
    let pairs: Vec<(&str, &str)> = (0..20)
        .map(|i| {
            (
                if i % 3 == 0 {
                    right
                } else {
                    "def add(a, b): return 0"
                },
                ADD,
            )
        })
        .collect();
    let verdicts: Vec<Verdict> = verifier().verify_batch(&pairs);
    for (i, verdict) in verdicts.iter().enumerate() {
        assert_eq!(verdict.is_correct(), i % 3 == 0, "{i}: {verdict}");
    }
}

#[test]
fn honest_code_passes_every_time() {
    for pool in pools() {
        let verifier = CodeVerifier::new(pool.clone());
        assert_eq!(crate::honest::repeat(&verifier, 5), 40);
    }
}

/// The reason is what a person looks for in the data.
#[test]
fn tests_that_cannot_be_run_say_why() {
    for (tests, why) in [
        (r#"["assert add(1, 2 == 3"]"#, "SyntaxError: "),
        (r#"["x = {}['a']\nassert add(x, 2) == 3"]"#, "KeyError: 'a'"),
        (
            r#"{"inputs": ["1"], "outputs": ["1", "2"]}"#,
            "1 inputs and 2 outputs",
        ),
    ] {
        let verdict = verifier().verify("def add(a, b): return a + b", tests);
        let Outcome::Unverifiable(Unverifiable::Tests(said)) = &verdict.outcome else {
            panic!("{verdict}");
        };
        assert!(said.contains(why), "{said}");
    }
}
