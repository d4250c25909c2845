//! What must hold for any input of the maths half, read from bytes. Run by the fuzz targets
//! `maths_extraction`, `maths_parser` and `maths_comparison`, and by `tests/maths_fuzz.rs` on random
//! inputs and on the findings kept in `testdata/verify/fuzz`.
#![allow(
    dead_code,
    unreachable_pub,
    reason = "each fuzz target includes this module for one function"
)]

use g2rpo_verify::{
    Anchor, Extraction, Gsm8k, Gsm8kExtraction, Incorrect, MathVerifier, MultipleChoice, Outcome,
    Reasoning, Verifier,
};

/// Spans lie on character boundaries inside the response and hold no outer blanks.
pub fn extraction(bytes: &[u8]) {
    let (first, rest) = bytes.split_first().unwrap_or((&0, &[]));
    let text = words(rest, &MARKS);
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

/// A reference that can be read is the same as itself, on every path.
pub fn parser(bytes: &[u8]) {
    let text = words(bytes, &PIECES);
    reflexive(&MathVerifier::default(), &text);
}

/// Both orders of two answers give the same verdict; each is the same as itself.
pub fn comparison(bytes: &[u8]) {
    let (a, b) = bytes.split_at(bytes.len() / 2);
    let (a, b) = (words(a, &PIECES), words(b, &PIECES));
    let math = MathVerifier::default();
    reflexive(&math, &a);
    let is_marked = |text: &str| text.contains("####") || text.contains("box");
    if is_marked(&a) || is_marked(&b) {
        return;
    }
    if math.check_reference(&a).is_err() || math.check_reference(&b).is_err() {
        return;
    }
    // Options, commas between digits and `m + n = 11` are read with the reference in mind.
    let one_sided = |text: &str| {
        text.contains(|c: char| ('A'..='J').contains(&c))
            || (text.contains('=') && text.contains('+'))
            || text
                .as_bytes()
                .windows(3)
                .any(|w| w[0].is_ascii_digit() && w[1] == b',' && w[2].is_ascii_digit())
    };
    if one_sided(&a) || one_sided(&b) {
        return;
    }
    let (forth, back) = (math.compare(&a, &b), math.compare(&b, &a));
    let unclear =
        |r: &Result<(), Incorrect>| matches!(r, Err(Incorrect::TooComplex | Incorrect::Undecided));
    assert!(
        forth.is_ok() == back.is_ok() || unclear(&forth) || unclear(&back),
        "{a:?} and {b:?}: {forth:?}, but {back:?}"
    );
}

fn reflexive(math: &MathVerifier, text: &str) {
    // A reference may hold its answer behind a mark; `compare` takes what is extracted already.
    let is_marked = text.contains("####") || text.contains("box");
    if is_marked || math.check_reference(text).is_err() {
        return;
    }
    let verdict = math.compare(text, text);
    assert!(
        matches!(verdict, Ok(()) | Err(Incorrect::TooComplex)),
        "{text:?} is not itself: {verdict:?}"
    );
    let boxed = format!("\\boxed{{{text}}}");
    let again = math.verify(&boxed, text);
    assert_eq!(
        again,
        math.verify(&boxed, text),
        "{text:?} has two verdicts"
    );
    assert!(!matches!(again.outcome, Outcome::Fault(_)));
}

/// Bytes as text: a high byte picks a piece of the alphabet, the others stand for themselves.
fn words(bytes: &[u8], alphabet: &[&str]) -> String {
    let mut text = String::new();
    for &b in bytes.iter().take(400) {
        match b {
            0..128 => text.push(char::from(b)),
            _ => text.push_str(alphabet[usize::from(b - 128) % alphabet.len()]),
        }
    }
    text
}

const PIECES: [&str; 96] = [
    "\\frac",
    "{",
    "}",
    "{",
    "}",
    "(",
    ")",
    "[",
    "]",
    "\\{",
    "\\}",
    "^",
    "_",
    "\\sqrt",
    "\\sqrt[3]",
    "\\pi",
    "\\infty",
    "\\cdot ",
    "\\times ",
    "\\div ",
    "/",
    "+",
    "-",
    "\\pm ",
    "\\mp ",
    "=",
    "<",
    ">",
    "\\le ",
    "\\ge ",
    "\\ne ",
    "\\in ",
    "\\cup ",
    "\\cap ",
    "\\setminus ",
    "\\mathbb{R}",
    "\\emptyset",
    ",",
    ", ",
    ";",
    "1",
    "2",
    "3",
    "10",
    "12",
    "0.5",
    "1.41421",
    "0.333333",
    ".",
    "x",
    "y",
    "n",
    "e",
    "i",
    "\\theta ",
    "x_1",
    "f(x)",
    "\\sin ",
    "\\cos ",
    "\\log_2 ",
    "\\ln ",
    "\\arctan ",
    "!",
    "\\binom",
    "\\%",
    "^\\circ",
    "\\$",
    "\\text{ cm}",
    "\\text{ or }",
    "\\text{ and }",
    " or ",
    " and ",
    "\\text{east}",
    "\\overline{3}",
    "0.\\overline{3}",
    "\\begin{pmatrix}",
    "\\end{pmatrix}",
    "\\\\",
    "&",
    "|",
    "\\left(",
    "\\right)",
    "\\lfloor ",
    "\\rfloor ",
    "12:30",
    ":",
    "\\mid ",
    "1\\frac12",
    "\\,",
    "\\!",
    "{,}",
    "−",
    "²",
    "½",
    " ",
    "√",
];

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
