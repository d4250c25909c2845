//! Right solutions of different kinds, again and again: each verdict must be the same.
//! Shared with the bench `code_repetitions`.

use g2rpo_verify::Verifier;
use g2rpo_verify::code::CodeVerifier;

/// (response, reference)
pub(crate) const HONEST: [(&str, &str); 8] = [
    (
        "def add(a, b):\n    return a + b",
        r#"["assert add(2, 3) == 5", "assert add(-1, 1) == 0", "assert add('a', 'b') == 'ab'"]"#,
    ),
    (
        "from collections import Counter\ndef top(words):\n    return Counter(words).most_common(1)",
        r#"["assert top(['a', 'b', 'a']) == [('a', 2)]"]"#,
    ),
    (
        "def distinct(items):\n    return set(items)",
        r#"["assert distinct([3, 1, 3, 2]) == {1, 2, 3}", "assert distinct([]) == set()"]"#,
    ),
    (
        "import math\ndef root(x):\n    return math.sqrt(x)",
        r#"["import math\nfor n in range(5):\n    assert math.isclose(root(n * n), n)"]"#,
    ),
    (
        "n = int(input())\nprint(*sorted(map(int, input().split())))",
        r#"{"inputs": ["3\n3 1 2\n", "1\n7\n"], "outputs": ["1 2 3\n", "7\n"]}"#,
    ),
    (
        "def big(n):\n    return 7 ** n",
        r#"["assert big(2000) % 10 == 1", "assert big(3) == 343"]"#,
    ),
    (
        "import threading\ndef run():\n    found = []\n    threads = [threading.Thread(target=found.append, \
         args=(i,)) for i in range(4)]\n    [t.start() for t in threads]\n    [t.join() for t in \
         threads]\n    return sorted(found)",
        r#"["assert run() == [0, 1, 2, 3]"]"#,
    ),
    (
        "def down(n):\n    return 0 if n == 0 else 1 + down(n - 1)",
        r#"["assert down(900) == 900", "assert not down(0)"]"#,
    ),
];

/// Judges the set that often and returns how many verdicts there were.
///
/// # Panics
/// At the first verdict that is not "correct".
pub(crate) fn repeat(verifier: &CodeVerifier, times: usize) -> usize {
    for round in 0..times {
        let verdicts = verifier.verify_batch(&HONEST);
        for ((code, _), verdict) in HONEST.iter().zip(&verdicts) {
            assert!(verdict.is_correct(), "round {round}: {verdict}\n{code}");
        }
    }
    times * HONEST.len()
}
