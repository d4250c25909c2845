//! What must hold of any two texts, read from bytes. Run by the fuzz targets `maths_parser` and
//! `maths_comparison`, and by `tests/fuzz.rs` on random inputs and on the findings kept in
//! `testdata/verify/fuzz`.
#![allow(
    dead_code,
    unreachable_pub,
    reason = "each fuzz target includes this module for one function"
)]

use g2rpo_math::{Comparison, DEFAULT_BUDGET, Mismatch, check_reference, compare};

/// A reference that can be read is the same as itself, every time.
pub fn parser(bytes: &[u8]) {
    reflexive(&words(bytes));
}

/// Both orders of two answers compare the same; each is the same as itself.
pub fn comparison(bytes: &[u8]) {
    let (a, b) = bytes.split_at(bytes.len() / 2);
    let (a, b) = (words(a), words(b));
    reflexive(&a);
    let is_readable = |text: &str| check_reference(text, DEFAULT_BUDGET).is_ok();
    if !is_readable(&a) || !is_readable(&b) {
        return;
    }
    // Boxes, commas between digits and `m + n = 11` are read with the reference in mind.
    let one_sided = |text: &str| {
        text.contains("box")
            || (text.contains('=') && text.contains('+'))
            || text
                .as_bytes()
                .windows(3)
                .any(|w| w[0].is_ascii_digit() && w[1] == b',' && w[2].is_ascii_digit())
    };
    if one_sided(&a) || one_sided(&b) {
        return;
    }
    let (forth, back) = (compare(&b, &a), compare(&a, &b));
    let is_unclear = |found: Comparison| {
        matches!(
            found,
            Comparison::Unequal(Mismatch::TooComplex | Mismatch::Undecided)
        )
    };
    assert!(
        forth.is_equal() == back.is_equal() || is_unclear(forth) || is_unclear(back),
        "{a:?} and {b:?}: {forth:?}, but {back:?}"
    );
}

fn reflexive(text: &str) {
    if check_reference(text, DEFAULT_BUDGET).is_err() {
        return;
    }
    let found = compare(text, text);
    assert!(
        matches!(
            found,
            Comparison::Equal | Comparison::Unequal(Mismatch::TooComplex)
        ),
        "{text:?} is not itself: {found:?}"
    );
    assert_eq!(found, compare(text, text), "{text:?} compares in two ways");
}

/// Bytes as text: a high byte picks a piece, the others stand for themselves.
fn words(bytes: &[u8]) -> String {
    let mut text = String::new();
    for &b in bytes.iter().take(400) {
        match b {
            0..128 => text.push(char::from(b)),
            _ => text.push_str(PIECES[usize::from(b - 128) % PIECES.len()]),
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
