//! Text before it is read: Unicode as TeX or ASCII, and what surrounds a formula taken off.

use std::collections::HashMap;
use std::sync::LazyLock;

/// Rewrites the characters that have a spelling in TeX or ASCII: full-width and mathematical
/// letters, superscripts, signs, roots. Invisible characters vanish.
pub(crate) fn fold(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    let mut script: Option<char> = None;
    for c in text.chars() {
        let (kind, plain) = match script_of(c) {
            Some((kind, plain)) => (Some(kind), plain),
            None => (None, c),
        };
        if kind != script {
            if script.is_some() {
                out.push('}');
            }
            if let Some(kind) = kind {
                out.push(kind);
                out.push('{');
            }
            script = kind;
        }
        push_folded(plain, &mut out);
    }
    if script.is_some() {
        out.push('}');
    }
    out
}

fn script_of(c: char) -> Option<(char, char)> {
    let superscripts = "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁽⁾ⁿⁱˣ";
    let subscripts = "₀₁₂₃₄₅₆₇₈₉₊₋₍₎ₙᵢₓ";
    let plain = "0123456789+-()nix";
    if c.is_ascii() {
        return None;
    }
    for (kind, alphabet) in [('^', superscripts), ('_', subscripts)] {
        if let Some(i) = alphabet.chars().position(|s| s == c) {
            return plain.chars().nth(i).map(|p| (kind, p));
        }
    }
    None
}

/// Characters that mean a command of TeX, before its name.
const COMMANDS: &str = "
    ×✕⨯ times ·⋅∙∗ cdot ÷ div √ sqrt ∞ infty ≤⩽≦ le ≥⩾≧ ge ≠ ne ≈≃≅ approx ± pm ∓ mp ∪⋃ cup
    ∩⋂ cap ∖ setminus ∈ in ∅⌀Ø emptyset ⟨〈 langle ⟩〉 rangle ⌊ lfloor ⌋ rfloor ⌈ lceil
    ⌉ rceil ∧ land ∨ lor α alpha β beta γ gamma δ delta εϵ epsilon ζ zeta η eta θϑ theta
    κ kappa λ lambda μµ mu ν nu ξ xi π𝜋𝛑 pi ρ rho σ sigma τ tau φϕ phi χ chi ψ psi ω omega
    Δ Delta Γ Gamma Σ Sigma Φ Phi Ω Omega";

/// Fractions of one sign, before numerator and denominator.
const FRACTIONS: &str = "½12 ⅓13 ⅔23 ¼14 ¾34 ⅕15 ⅖25 ⅗35 ⅘45 ⅙16 ⅚56 ⅛18 ⅜38 ⅝58 ⅞78";

/// What stands for a character of the tables above.
static SPELLINGS: LazyLock<HashMap<char, String>> = LazyLock::new(|| {
    let words: Vec<&str> = COMMANDS.split_whitespace().collect();
    let commands = words.chunks(2).flat_map(|pair| {
        let command = format!("\\{} ", pair[1]);
        pair[0].chars().map(move |c| (c, command.clone()))
    });
    let fractions = FRACTIONS.split(' ').filter_map(|fraction| {
        let [sign, above, below] = fraction.chars().collect::<Vec<_>>().try_into().ok()?;
        Some((sign, format!("\\frac{{{above}}}{{{below}}}")))
    });
    commands.chain(fractions).collect()
});

fn push_folded(c: char, out: &mut String) {
    if c.is_ascii() {
        out.push(match c {
            '\t' | '\n' | '\r' | '\x0b' | '\x0c' => ' ',
            c => c,
        });
        return;
    }
    if let Some(spelling) = SPELLINGS.get(&c) {
        out.push_str(spelling);
        return;
    }
    let code = u32::from(c);
    let mapped = match c {
        '\u{200b}'..='\u{200f}'
        | '\u{2060}'..='\u{2064}'
        | '\u{feff}'
        | '\u{ad}'
        | '\u{fe00}'..='\u{fe0f}' => "",
        '\u{2009}' | '\u{202f}' => "\\,",
        '−' | '–' | '—' | '‐' | '‑' | '‒' | '﹣' => "-",
        '⁄' | '∕' => "/",
        '∛' => "\\sqrt[3] ",
        '∜' => "\\sqrt[4] ",
        '°' | '˚' | 'º' => "^\\circ ",
        'ℝ' => "\\mathbb{R}",
        'ℤ' => "\\mathbb{Z}",
        'ℕ' => "\\mathbb{N}",
        'ℚ' => "\\mathbb{Q}",
        'ℂ' => "\\mathbb{C}",
        '∣' | '｜' => "|",
        '′' | '’' | '‘' => "'",
        '“' | '”' => "\"",
        'ⅈ' => "i",
        'ⅇ' | 'ℯ' => "e",
        _ => {
            let ascii = match code {
                // Full-width forms mirror ASCII from `!` to `~`.
                0xff01..=0xff5e => char::from_u32(code - 0xff01 + 0x21),
                // Bold, italic, script … alphabets: 26 capitals, 26 small letters, thirteen times.
                0x1d400..=0x1d6a3 => char::from_u32(match (code - 0x1d400) % 52 {
                    i @ 0..26 => 65 + i,
                    i => 97 + i - 26,
                }),
                0x1d7ce..=0x1d7ff => char::from_u32(48 + (code - 0x1d7ce) % 10),
                _ if c.is_whitespace() => Some(' '),
                _ => None,
            };
            out.push(ascii.unwrap_or(c));
            return;
        }
    };
    out.push_str(mapped);
}

/// Takes off what surrounds a formula without changing it: blanks, `$…$`, `\(…\)`, `\[…\]`,
/// `**…**`, `\boxed{…}`, one pair of braces, a final period: as many layers
/// as there are, up to [`MAX_WRAPS`].
pub(crate) fn unwrap(text: &str) -> &str {
    let mut rest = text;
    for _ in 0..MAX_WRAPS {
        let before = rest;
        rest = rest.trim();
        for (open, close) in [
            ("$$", "$$"),
            ("$", "$"),
            ("\\(", "\\)"),
            ("\\[", "\\]"),
            ("**", "**"),
            ("`", "`"),
        ] {
            let inner = rest.strip_prefix(open).and_then(|r| r.strip_suffix(close));
            if let Some(inner) = inner
                && !inner.is_empty()
                && !inner.contains(open)
                && !inner.ends_with('\\')
            {
                rest = inner;
            }
        }
        for open in ["\\boxed{", "\\fbox{", "\\boxed {", "{"] {
            if let Some(inner) = rest.strip_prefix(open).and_then(|r| r.strip_suffix('}'))
                && !inner.ends_with('\\')
                && is_balanced(inner)
                && (open != "{" || !is_list(inner))
            {
                rest = inner;
            }
        }

        for space in ["\\,", "\\;", "\\!", "\\:", "~", "\\ "] {
            rest = rest.strip_prefix(space).unwrap_or(rest);
        }
        for space in ["\\,", "\\;", "\\!", "\\:", "~", "\\\\", "\\quad", "\\qquad"] {
            rest = rest.strip_suffix(space).unwrap_or(rest);
        }
        for done in DONE {
            rest = rest.strip_suffix(done).unwrap_or(rest);
        }
        // `0.3333…`: what is printed counts.
        for dots in ["\\ldots", "\\dots", "\\cdots", "…"] {
            rest = rest
                .strip_suffix(dots)
                .filter(|r| ends_in_decimal(r))
                .unwrap_or(rest);
        }
        for end in ['.', ',', ';', ':'] {
            rest = rest
                .strip_suffix(end)
                .filter(|r| !r.ends_with('\\'))
                .unwrap_or(rest);
        }
        if rest.len() == before.len() {
            break;
        }
    }
    rest
}

/// Every layer costs a look at the whole text, and nobody wraps an answer so often.
const MAX_WRAPS: usize = 32;

/// Marks that say that something is finished.
const DONE: [&str; 10] = [
    "\\checkmark",
    "\\blacksquare",
    "\\square",
    "\\Box",
    "\\qed",
    "✓",
    "✔",
    "✅",
    "∎",
    "■",
];

/// Whether braces around this hold a set and not one number or statement: `1,2` and not `1,234`.
fn is_list(inner: &str) -> bool {
    let mut depth = 0usize;
    let mut bytes = inner.bytes().enumerate();
    let has_separator = bytes.any(|(i, b)| {
        match b {
            b'{' | b'(' | b'[' => depth += 1,
            b'}' | b')' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        b == b',' && depth == 0 && !inner[i + 1..].starts_with("\\!")
    });
    let is_number = inner
        .split(',')
        .skip(1)
        .all(|group| group.len() == 3 && group.bytes().all(|b| b.is_ascii_digit()));
    has_separator && !is_number && !inner.contains(['=', '<', '>'])
}

fn ends_in_decimal(text: &str) -> bool {
    let text = text.trim_end();
    let head = text.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.');
    text.ends_with(|c: char| c.is_ascii_digit()) && text[head.len()..].contains('.')
}

/// Whether every brace is closed after it was opened, and none is closed before.
fn is_balanced(text: &str) -> bool {
    let (mut depth, mut escaped) = (0i32, false);
    for b in text.bytes() {
        match b {
            b'\\' => {
                escaped = !escaped;
                continue;
            }
            b'{' if !escaped => depth += 1,
            b'}' if !escaped => depth -= 1,
            _ => {}
        }
        escaped = false;
        if depth < 0 {
            return false;
        }
    }
    depth == 0
}

/// Removes inner math delimiters, as in `$5$ or $6$`. A lone `$` is a currency sign and stays.
pub(crate) fn without_delimiters(text: &str) -> String {
    let text = text.replace("\\(", " ").replace("\\)", " ");
    let bytes = text.as_bytes();
    let is_delimiter = |i: &usize| bytes[*i] == b'$' && (*i == 0 || bytes[*i - 1] != b'\\');
    let dollars: Vec<usize> = (0..bytes.len()).filter(is_delimiter).collect();
    if dollars.is_empty() || dollars.len() % 2 == 1 {
        return text;
    }
    let mut out = String::with_capacity(text.len());
    let mut from = 0;
    for at in dollars {
        out.push_str(&text[from..at]);
        out.push(' ');
        from = at + 1;
    }
    out.push_str(&text[from..]);
    out
}

/// Letters, digits and signs without case, blanks, markup and final punctuation: two texts with
/// the same key are the same answer whatever the grammar says.
pub(crate) fn text_key(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut blank = false;
    for c in text.chars() {
        if c.is_whitespace() || matches!(c, '"' | '*' | '`') {
            blank = true;
        } else {
            if blank && !out.is_empty() {
                out.push(' ');
            }
            blank = false;
            out.extend(c.to_lowercase());
        }
    }
    let key = out
        .trim_end_matches(['.', ',', ';', '!', '?', ' '])
        .to_owned();
    for article in ["the ", "a ", "an "] {
        if let Some(rest) = key.strip_prefix(article) {
            return rest.to_owned();
        }
    }
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unicode_becomes_tex_or_ascii() {
        assert_eq!(fold("−２√３"), "-2\\sqrt 3");
        assert_eq!(fold("x²³+1"), "x^{23}+1");
        assert_eq!(fold("a₁₂"), "a_{12}");
        assert_eq!(fold("𝑥\u{200b}≤𝟓"), "x\\le 5");
        assert_eq!(fold("30°"), "30^\\circ ");
    }

    #[test]
    fn wrappers_come_off_and_contents_stay() {
        for text in [
            "$5$",
            "$$5$$",
            " \\(5\\) ",
            "\\[5\\].",
            "**5**",
            "\\boxed{5}",
            "{5}",
            "5.",
            "\\boxed{\\boxed{5.}}",
        ] {
            assert_eq!(unwrap(text), "5", "{text}");
        }
        assert_eq!(unwrap("\\{5\\}"), "\\{5\\}");
        assert_eq!(unwrap("{1}+{2}"), "{1}+{2}");
        assert_eq!(unwrap("$5$ or $6$"), "$5$ or $6$");
        assert_eq!(without_delimiters("$5$ or $6$"), " 5  or  6 ");
        assert_eq!(without_delimiters("$5"), "$5");
        assert_eq!(without_delimiters("\\$5 \\$6"), "\\$5 \\$6");
    }

    #[test]
    fn text_keys_ignore_case_and_markup() {
        assert_eq!(text_key("The  East."), "east");
        assert_eq!(text_key("**Navin**"), "navin");
        assert_ne!(text_key("monday"), text_key("mon"));
    }
}
