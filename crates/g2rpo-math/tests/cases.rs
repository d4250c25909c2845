//! Answers that were once taken for the reference, beside right ones, labelled by SymPy or by hand
//! (`testdata/math/cases.py`).

use std::collections::BTreeMap;
use std::path::Path;

use g2rpo_math::compare;
use serde::Deserialize;

#[derive(Deserialize)]
struct Case {
    kind: String,
    reference: String,
    answer: String,
    same: bool,
}

#[test]
fn cases_are_judged_right() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/math/cases.jsonl");
    let text = std::fs::read_to_string(path).expect("testdata/math/cases.jsonl");
    let mut kinds: BTreeMap<String, [usize; 3]> = BTreeMap::new();
    let mut wrong = Vec::new();
    for line in text.lines() {
        let case: Case = serde_json::from_str(line).expect("a case per line");
        let found = compare(&case.answer, &case.reference);
        let [count, accepted, refused] = kinds.entry(case.kind.clone()).or_default();
        *count += 1;
        if found.is_equal() != case.same {
            *accepted += usize::from(!case.same);
            *refused += usize::from(case.same);
            wrong.push(format!(
                "{:<12} {:<40} {:<40} want {:<5} {found}",
                case.kind, case.reference, case.answer, case.same
            ));
        }
    }
    for (kind, [count, accepted, refused]) in &kinds {
        println!("{kind:<12} {count:>4} cases, {accepted:>3} falsely equal, {refused:>3} refused");
    }
    assert!(kinds.len() >= 8 && kinds.values().all(|[count, ..]| *count >= 8));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
