use g2rpo_verify::code::CodeVerifier;
use g2rpo_verify::{Incorrect, Outcome, Verifier};

use crate::support::{pools, verifier};

fn outcome(code: &str, reference: &str) -> Outcome {
    let response = format!("Here it is.\n```python\n{code}\n```\n");
    verifier().verify(&response, reference).outcome
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
        ("def plus(a, b): return a + b", Incorrect::MissingFunction),
        (
            "def add(a, b) return a + b",
            Incorrect::Crashed { index: None },
        ),
        ("raise ValueError('no')", Incorrect::Crashed { index: None }),
        (
            "def add(a, b): return a / 0",
            Incorrect::Crashed { index: Some(0) },
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
