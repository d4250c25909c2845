//! What must hold of the answer found in any response, read from bytes. Run by the fuzz target
//! `maths_extraction`, and by `tests/extraction_fuzz.rs` on random inputs and on the findings kept in
//! `testdata/verify/fuzz`.
#![allow(unreachable_pub, reason = "the fuzz target includes this module")]

use g2rpo_verify::{
    Anchor, Extraction, Gsm8k, Gsm8kExtraction, MultipleChoice, Reasoning, Verifier,
};

/// Spans lie on character boundaries inside the response and hold no outer blanks.
pub fn extraction(bytes: &[u8]) {
    let (first, rest) = bytes.split_first().unwrap_or((&0, &[]));
    let text = words(rest);
    let anchors = [
        Anchor::Boxed,
        Anchor::AnswerTag,
        Anchor::Hashes,
        Anchor::Phrase,
        Anchor::LastFormula,
        Anchor::LastNumber,
    ];
    let mut policies = vec![
        Extraction::default(),
        Extraction::strict(),
        Extraction::flexible(),
    ];
    let reasoning = [Reasoning::Ignore, Reasoning::AfterLast, Reasoning::Required];
    policies.push(Extraction {
        reasoning: reasoning[usize::from(*first) % 3],
        anchors: vec![anchors[usize::from(*first / 3) % 6]],
    });
    for policy in policies {
        if let Ok(span) = policy.find(&text) {
            let found = &text[span];
            assert!(
                !found.is_empty() && found.trim() == found,
                "{text:?} gives {found:?}"
            );
        }
    }
    for verifier in [
        &Gsm8k::default() as &dyn Verifier,
        &Gsm8k {
            extraction: Gsm8kExtraction::Flexible,
            ..Gsm8k::default()
        },
        &MultipleChoice::default(),
    ] {
        for reference in ["5", "B"] {
            if let Some(span) = verifier.verify(&text, reference).span {
                assert!(text.get(span).is_some());
            }
        }
    }
}

/// Bytes as text: a high byte picks a mark, the others stand for themselves.
fn words(bytes: &[u8]) -> String {
    let mut text = String::new();
    for &b in bytes.iter().take(400) {
        match b {
            0..128 => text.push(char::from(b)),
            _ => text.push_str(MARKS[usize::from(b - 128) % MARKS.len()]),
        }
    }
    text
}

const MARKS: [&str; 32] = [
    "\\boxed{",
    "\\boxed ",
    "\\fbox{",
    "}",
    "{",
    "\\}",
    "<think>",
    "</think>",
    "<answer>",
    "</answer>",
    "####",
    "the answer is ",
    "Answer: ",
    "answer",
    " is ",
    "$",
    "$$",
    "\\(",
    "\\)",
    "\\[",
    "\\]",
    " and ",
    ", ",
    ".",
    "\n",
    "5",
    "B",
    "**",
    "-1,234.5",
    "é",
    "🦀",
    "\\",
];
