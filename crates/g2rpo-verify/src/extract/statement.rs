//! Where a stated answer ends: "72, which is the total" states 72, "72 or 73" does not.
//!
//! An answer in prose ends where its sentence does, or where a clause begins that only explains it.
//! What is cut off must not take the answer back or offer another one; where it might, nothing is
//! cut, and the reader of answers refuses the whole.

use std::ops::Range;

use super::marks::{control_token, formula, leading, trimmed};
use super::words::{
    self, Head, is_adverbial, is_doubt, is_explaining, is_lead_in, is_preposition, is_value_word,
    word_at,
};

/// Longer answers are refused anyway.
const MAX_STATEMENT: usize = 4200;

/// The bytes of the answer in the statement that begins at `from`, marks of emphasis before it
/// included; `None` where nothing is stated, as in "the answer is correct".
pub(crate) fn stated(text: &str, from: usize) -> Option<Range<usize>> {
    let from = from + lead_ins(&text[from..]);
    let first = from + leading(&text[from..]);
    if words::is_participle(word_at(&text[first..])) {
        return None;
    }
    let end = from + sentence_end(&text[from..]);
    if is_taken_up(&text[end..]) {
        let behind = end + text[end..].chars().next().map_or(0, char::len_utf8);
        let more = behind + sentence_end(&text[behind..]);
        return Some(from..more);
    }
    let cut = from + first_clause(&text[from..end]);
    Some(from..cut)
}

/// Bytes of words that only lead to the answer: "therefore", "approximately", "equal to".
fn lead_ins(text: &str) -> usize {
    let mut at = 0;
    loop {
        // Marks stay: they may be emphasis that closes behind the answer.
        let rest = &text[at..];
        let blank = rest.len() - rest.trim_start().len();
        let quoted = rest[..blank].contains('\n') && rest[blank..].starts_with('>');
        let start = at + blank + usize::from(quoted);
        let rest = &text[start..];
        let mark = leading(rest);
        let inner = &rest[mark..];
        if let Some(sign) = [":", "=", "→", "≈", "\\approx "]
            .iter()
            .find(|sign| inner.starts_with(**sign))
        {
            at = start + mark + sign.len();
            continue;
        }
        let word = word_at(inner);
        let next = inner[word.len()..].trim_start_matches([' ', ',', ':']);
        if !is_lead_in(word, word_at(next)) || next.trim().is_empty() {
            return start;
        }
        at = text.len() - next.len();
        if let Some(second) = words::second_lead_in(word) {
            at += second.len().min(next.len());
        }
    }
}

/// The end of the sentence or line. Periods inside numbers, formulas and abbreviations do not end it.
pub(super) fn sentence_end(text: &str) -> usize {
    let mut i = leading(text);
    let mut limit = text.len().min(i + MAX_STATEMENT);
    while !text.is_char_boundary(limit) {
        limit -= 1;
    }
    while i < limit {
        let rest = &text[i..limit];
        if let Some(length) = formula(rest) {
            i += length;
            continue;
        }
        if control_token(rest).is_some() {
            return i;
        }
        let Some(c) = rest.chars().next() else {
            break;
        };
        let behind = &rest[c.len_utf8()..];
        let ends = match c {
            '\n' | '\r' => true,
            '.' => ends_sentence(&text[..i], behind),
            '?' => is_gap(behind),
            '!' => is_gap(behind) && !continues_formula(behind),
            _ => false,
        };
        if ends {
            return i;
        }
        i += c.len_utf8();
    }
    limit
}

/// Whether a sign at the end of a sentence stands before `behind`: a blank, the end, or marks before one.
fn is_gap(behind: &str) -> bool {
    let rest = behind.trim_start_matches(['*', '_', '`', '"', '”', ')', '\'']);
    rest.is_empty() || rest.starts_with(char::is_whitespace) || rest.starts_with('<')
}

/// `5! = 120`, `5! ways`: the sign is a factorial.
fn continues_formula(behind: &str) -> bool {
    let rest = behind.trim_start_matches([' ', '\t']);
    rest.starts_with(|c: char| "=+-−*/^·×<>≈,;".contains(c) || c.is_lowercase())
        && !rest.starts_with("**")
        && !rest.starts_with("</")
        && control_token(rest).is_none()
}

fn ends_sentence(before: &str, behind: &str) -> bool {
    if !is_gap(behind) {
        return false;
    }
    let word = before.len()
        - before
            .trim_end_matches(|c: char| c.is_alphabetic() || c == '.')
            .len();
    let word = &before[before.len() - word..];
    let next = behind.trim_start_matches([' ', '\t']);
    let goes_on = next.starts_with(|c: char| c.is_lowercase() || c.is_ascii_digit());
    if words::is_title(word) {
        return next.is_empty();
    }
    // "3 p.m. on Monday", "5 ft. 3 in."
    !(goes_on && (words::is_abbreviation(word) || word.contains('.')))
}

/// Whether what follows a sentence goes on with another answer: "or 73", "Or maybe 73."
fn is_taken_up(behind: &str) -> bool {
    let rest = behind.trim_start_matches(|c: char| c.is_whitespace() || ".!?*_".contains(c));
    let word = word_at(rest);
    !behind.is_empty()
        && ((is_doubt(word) || words::is_retraction(word)) && offers_value(&rest[word.len()..], 3)
            || offers_value(rest, 0) && permits(&rest[..sentence_end(rest)]))
}

/// The end of what is stated in a sentence: all of it, or what stands before an explaining clause.
fn first_clause(sentence: &str) -> usize {
    let head = Head::of(&sentence[leading(sentence)..]);
    let mut i = leading(sentence);
    let mut depth = 0usize;
    let mut is_first = true;
    while i < sentence.len() {
        let rest = &sentence[i..];
        if let Some(length) = formula(rest) {
            i += length;
            is_first = false;
            continue;
        }
        let Some(c) = rest.chars().next() else {
            break;
        };
        let before = &sentence[..i];
        if depth == 0 && !is_first && begins_clause(before, rest, head) && !takes_back(rest) {
            return trimmed(sentence, 0..i).end;
        }
        match c {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if c.is_alphabetic() {
            i += word_at(rest).len().max(c.len_utf8());
        } else if c == '\\' {
            // A command, or one sign that is escaped.
            let name = rest[1..].len()
                - rest[1..]
                    .trim_start_matches(|c: char| c.is_ascii_alphabetic())
                    .len();
            let sign = rest[1..].chars().next().map_or(0, char::len_utf8);
            i += 1 + name.max(sign);
        } else {
            i += c.len_utf8();
        }
        is_first = false;
    }
    sentence.len()
}

/// Whether an explaining clause begins at `rest`, behind an answer of the kind `head`.
fn begins_clause(before: &str, rest: &str, head: Head) -> bool {
    let is_apart = before.ends_with(|c: char| c.is_whitespace() || "*_`\"".contains(c));
    let c = rest.chars().next().unwrap_or(' ');
    if c.is_alphabetic() {
        let word = word_at(rest);
        if !is_apart || before.trim_end().ends_with(',') && head == Head::Words {
            return false;
        }
        let next = rest[word.len()..].trim_start();
        let second = word_at(next);
        return is_explaining(word)
            || head != Head::Words
                && (word == "and"
                    && (words::is_pronoun(second) || second == "that")
                    && !holds_value(next)
                    || is_adverbial(word, word_at(next))
                    || is_preposition(word) && !holds_value(next)
                    || head == Head::Price && words::is_rate(word) && !holds_value(next));
    }
    let dash = ["—", "–", "--", "-"].iter().find(|d| rest.starts_with(**d));
    let behind = match (c, dash) {
        (',' | ';' | ':', _) => &rest[1..],
        ('(' | '[', _) if is_apart => return is_remark(rest, head),
        (_, Some(dash)) => {
            let behind = &rest[dash.len()..];
            if *dash != "—" && !(is_apart && behind.starts_with(' ')) {
                return false;
            }
            behind
        }
        _ => return false,
    };
    let behind = &behind[leading(behind)..];
    if behind.starts_with("i.e") || behind.starts_with("e.g") {
        return true;
    }
    let word = word_at(behind);
    let next = behind[word.len()..].trim_start();
    if word.eq_ignore_ascii_case("and") {
        let second = word_at(next);
        return head != Head::Words
            && is_prose(second, &next[second.len()..])
            && !words::is_part(second)
            && !changes_value(next);
    }
    // "71, not 72": what is excluded is no second answer.
    if word.eq_ignore_ascii_case("not") {
        return offers_value(next, 0);
    }
    if head == Head::Words {
        return is_explaining(word) || words::is_pronoun(word);
    }
    if !is_explaining(word) && changes_value(behind) {
        return false;
    }
    // "72 - six dozen" says it again.
    let says_again = dash.is_some() && is_value_word(word) && is_prose(word_at(next), "");
    is_prose(word, next) || says_again
}

/// Whether brackets hold a remark and not a factor: "72 (six dozen)", "72 [1]"; `3 (mod 7)` is none.
fn is_remark(rest: &str, head: Head) -> bool {
    let close = if rest.starts_with('(') { ')' } else { ']' };
    let inner = rest[1..].split(close).next().unwrap_or_default().trim();
    if close == ']' {
        return !inner.is_empty() && inner.bytes().all(|b| b.is_ascii_digit());
    }
    let first = word_at(inner);
    if changes_value(inner)
        || matches!(first, "times" | "plus" | "minus" | "divided" | "multiplied")
    {
        return false;
    }
    let has_prose = inner
        .split(|c: char| !c.is_alphabetic())
        .any(|w| w.chars().count() >= 3 && !is_value_word(w) && w != "mod");
    has_prose && head != Head::Words && !inner.contains("mod ")
}

/// Whether a remark says what is to be done with the value before it: "in base 7", "then doubled". "six dozen" and
/// "8 squared plus 8" say it again.
fn changes_value(remark: &str) -> bool {
    let mut words_of = remark.split(|c: char| !c.is_alphanumeric());
    if words_of.clone().any(words::is_base) {
        return true;
    }
    let mut previous = "";
    let decides = words_of.find(|word| {
        // "in the third month"
        let is_named = matches!(previous, "the" | "a" | "an" | "per");
        previous = *word;
        words::is_modifier(word) && !is_named
            || is_value_word(word)
            || word.starts_with(|c: char| c.is_ascii_digit())
    });
    // "half of 14" says it again.
    let is_share =
        remark.contains(" of ") && holds_value(remark.trim_start_matches(char::is_alphabetic));
    decides.is_some_and(words::is_modifier) && !is_share && !remark.contains(['$', '\\'])
}

/// Whether a value or an option stands in `text` with a word that lets it stand: "6 is also possible".
fn permits(text: &str) -> bool {
    let mut words_of = text.split(|c: char| !c.is_alphanumeric());
    words_of.clone().any(words::is_permission)
        && (holds_value(text) || words_of.any(|w| matches!(w.as_bytes(), [b'A'..=b'H' | b'J'])))
}

/// Whether a word belongs to prose and not to an answer.
fn is_prose(word: &str, behind: &str) -> bool {
    let behind = behind.trim_start();
    word.chars().count() >= 2
        && !is_value_word(word)
        && !words::is_arithmetic(word)
        && !behind.starts_with(['=', '(', ':', '<', '>'])
}

/// Whether a clause takes the answer back or offers another: "or 73", "but it could be 73", "which is wrong".
fn takes_back(text: &str) -> bool {
    let clause = text.trim_start_matches(|c: char| !c.is_alphabetic());
    // "B because A is wrong" speaks of something else.
    let first = word_at(clause);
    let second = word_at(clause[first.len()..].trim_start());
    let is_well = first.eq_ignore_ascii_case("as") && second.eq_ignore_ascii_case("well");
    let is_reason = words::is_reason(first) && !is_well;
    let explains = is_reason
        || words::is_pronoun(first)
        || matches!(first, "which" | "that" | "making" | "giving");
    if is_well || !explains && offers_another(text, clause, first) {
        return true;
    }
    let mut rest = clause;
    let mut count = 0;
    while let Some(at) = rest.find(char::is_alphabetic) {
        rest = &rest[at..];
        let word = word_at(rest);
        let word_length = word
            .len()
            .max(rest.chars().next().map_or(1, char::len_utf8));
        let behind = &rest[word_length..];
        let is_early = count < 3;
        if is_doubt(word) && (is_early && words::is_strong_doubt(word) || offers_value(behind, 4))
            || count == 0 && words::is_condition(word)
            || !is_reason && words::is_denial(word)
            || word.eq_ignore_ascii_case("not")
                && words::is_affirmation(word_at(behind.trim_start()))
        {
            return true;
        }
        rest = behind;
        count += 1;
    }
    false
}

/// Whether a clause that gives no reason has an answer of its own: "then 6", "6 also works", "although 6 is possible",
/// "given a=1, 80 given a=2".
fn offers_another(text: &str, clause: &str, first: &str) -> bool {
    let behind = &clause[first.len()..];
    let inner = text.strip_prefix(['(', '[']);
    let is_bracket = inner.is_some();
    let clause = inner.map_or(text, |inner| {
        inner.split([')', ']']).next().unwrap_or(inner)
    });
    let is_repeated = matches!(
        first,
        "given" | "where" | "while" | "for" | "on" | "with" | "at"
    ) && clause.match_indices(first).take(8).any(|(at, _)| {
        let apart = &clause[..at];
        let last = apart
            .rfind([',', ';'])
            .into_iter()
            .chain(apart.rfind(" and "))
            .max();
        last.is_some_and(|last| holds_value(&apart[last..]))
    });
    let is_condition = matches!(first, "given" | "where");
    let shifts = !is_explaining(first)
        && !words::leads_to_detail(first)
        && !is_bracket
        && !is_value_word(first)
        && !first.is_empty()
        && offers_value(behind, 1);
    permits(clause)
        || is_repeated
        || is_condition
            && (clause.split(|c: char| !c.is_alphabetic()))
                .any(|w| matches!(w, "otherwise" | "else"))
        || words::is_concession(first) && holds_value(behind)
        || shifts
}

/// Whether a value stands in `text` behind at most `filler` words.
fn offers_value(text: &str, filler: usize) -> bool {
    let mut rest = text;
    for _ in 0..=filler {
        rest = rest.trim_start_matches(|c: char| c.is_whitespace() || "*_`\",(:".contains(c));
        let word = word_at(rest);
        if word.is_empty() {
            let rest = rest.strip_prefix('.').unwrap_or(rest);
            return rest.starts_with(|c: char| c.is_ascii_digit() || "$\\-−√".contains(c));
        }
        if is_value_word(word) || word.chars().count() == 1 && word != "a" && word != "I" {
            return true;
        }
        rest = &rest[word.len()..];
    }
    false
}

/// Whether a number, formula or number word stands anywhere in `text`.
fn holds_value(text: &str) -> bool {
    text.contains(|c: char| c.is_ascii_digit() || matches!(c, '$' | '\\'))
        || text.split(|c: char| !c.is_alphabetic()).any(is_value_word)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(text: &str) -> Option<&str> {
        stated(text, 0).map(|range| text[range].trim())
    }

    #[test]
    fn an_explaining_clause_is_cut_off() {
        for text in [
            "72, which is the total.",
            "72 because 48 + 24 = 72",
            "72; hence she wins",
            "72 - that is, six dozen.",
            "72—six dozen",
            "72 (six dozen).",
            "72!",
            "72! Great.",
            "72 in total",
            "72, not 71.",
            "therefore 72",
            "approximately 72.",
            "72, and that is final",
            "72<|im_end|>",
        ] {
            assert_eq!(answer(text), Some("72"), "{text}");
        }
        assert_eq!(answer("$18, because she sells 9 at $2 each."), Some("$18"));
        assert_eq!(answer("yes, because 7 is prime"), Some("yes"));
        assert_eq!(answer("correct"), None);
    }

    #[test]
    fn what_belongs_to_the_answer_stays() {
        for text in [
            "72 or 73",
            "72, or maybe 73",
            "72 and a half",
            "72, plus 5",
            "5! = 120",
            "(3, pi/2)",
            "72 out of 80",
            "72, negated",
            "72 (base 9)",
            "72, although 73 is possible",
            "72 — oops, 73",
            "72, then 73",
            "3 (mod 7)",
            "72 if it rains",
            "red, blue and green",
            "2 hours and 30 minutes",
            "1, 2, three",
        ] {
            assert_eq!(answer(text), Some(text), "{text}");
        }
        assert_eq!(answer("72.\nOr 73."), Some("72.\nOr 73"));
    }
}
