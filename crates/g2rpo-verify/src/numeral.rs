//! Decimal numerals compared without arithmetic.

use crate::list::words;

/// A decimal numeral in lowest form, so that equal values are equal bytes: `1,234.50` and `1234.5`
/// have the same parts. Nothing is computed, so a million digits cost a million steps.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Numeral<'a> {
    negative: bool,
    /// Without leading zeros; may hold thousands separators.
    whole: &'a [u8],
    /// Without trailing zeros.
    fraction: &'a [u8],
}

impl PartialEq for Numeral<'_> {
    fn eq(&self, other: &Self) -> bool {
        let digits = |s: &Self| s.whole.iter().copied().filter(u8::is_ascii_digit).count();
        self.negative == other.negative
            && self.fraction == other.fraction
            && digits(self) == digits(other)
            && self
                .whole
                .iter()
                .filter(|b| b.is_ascii_digit())
                .eq(other.whole.iter().filter(|b| b.is_ascii_digit()))
    }
}

impl<'a> Numeral<'a> {
    /// Reads all of `text` as a number: an optional sign and currency sign in either order, digits,
    /// complete groups of three behind commas, an optional fraction, an optional final period.
    pub(crate) fn read(text: &'a str) -> Option<Self> {
        let text = text.strip_suffix('.').unwrap_or(text);
        let (rest, sign) = strip_sign(text);
        let rest = strip_currency(rest);
        let (rest, negative) = match sign {
            Some(negative) => (rest, negative),
            None => {
                let (rest, sign) = strip_sign(rest);
                (rest, sign.unwrap_or(false))
            }
        };
        let bytes = rest.trim_start().as_bytes();
        let (whole, fraction) = match bytes.iter().position(|&b| b == b'.') {
            Some(dot) => (&bytes[..dot], &bytes[dot + 1..]),
            None => (bytes, &bytes[..0]),
        };
        if whole.is_empty() && fraction.is_empty()
            || !fraction.iter().all(u8::is_ascii_digit)
            || !well_grouped(whole)
        {
            return None;
        }
        let start = whole.iter().position(|b| (b'1'..=b'9').contains(b));
        let end = fraction.iter().rposition(|&b| b != b'0');
        let whole = start.map_or(&whole[..0], |s| &whole[s..]);
        let fraction = end.map_or(&fraction[..0], |e| &fraction[..=e]);
        Some(Self {
            negative: negative && !(whole.is_empty() && fraction.is_empty()),
            whole,
            fraction,
        })
    }
}

/// Number words below twenty.
pub(crate) const SMALL: &[&str; 20] = words!(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen \
     sixteen seventeen eighteen nineteen"
);

/// From twenty on.
pub(crate) const TENS: &[&str; 8] = words!("twenty thirty forty fifty sixty seventy eighty ninety");

/// `text` with the number words that it begins with as digits: "twenty-two apples" is "22 apples". A single word is
/// left to the reader of answers.
pub(crate) fn from_words(text: &str) -> Option<String> {
    const SCALES: [(&str, u64); 3] = [
        ("thousand", 1_000),
        ("million", 1_000_000),
        ("billion", 1_000_000_000),
    ];
    let place = |list: &[&str], word: &str| {
        let at = list.iter().position(|w| w.eq_ignore_ascii_case(word));
        at.map(|at| at as u64)
    };
    let (mut total, mut group, mut least, mut last_scale) = (0, 0, u64::MAX, u64::MAX);
    let (mut rest, mut behind, mut count) = (text, text, 0);
    loop {
        let word = rest
            .split(|c: char| !c.is_alphabetic())
            .next()
            .unwrap_or_default();
        let after = &rest[word.len()..];
        if word.eq_ignore_ascii_case("and") && count > 0 && least >= 100 {
            rest = after.trim_start();
            continue;
        }
        if let Some(small) = place(SMALL, word) {
            // "two three" is no number, nor is "twenty eleven".
            if least <= small.max(9) || small == 0 && count > 0 {
                return None;
            }
            (group, least) = (group + small, 0);
        } else if let Some(tens) = place(TENS, word) {
            if least <= 99 {
                return None;
            }
            (group, least) = (group + 10 * (tens + 2), 10);
        } else if word.eq_ignore_ascii_case("hundred") {
            if group >= 100 || count > 0 && group == 0 {
                return None;
            }
            (group, least) = (100 * group.max(1), 100);
        } else if let Some((_, scale)) = SCALES
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(word))
        {
            if *scale >= last_scale || count > 0 && group == 0 {
                return None;
            }
            total += scale * group.max(1);
            (group, least, last_scale) = (0, u64::MAX, *scale);
        } else {
            break;
        }
        count += 1;
        behind = after;
        rest = after.trim_start_matches([' ', '-']);
    }
    (count > 1).then(|| format!("{}{behind}", total + group))
}

fn strip_sign(text: &str) -> (&str, Option<bool>) {
    let text = text.trim_start();
    for (sign, negative) in [("-", true), ("\u{2212}", true), ("+", false)] {
        if let Some(rest) = text.strip_prefix(sign) {
            return (rest, Some(negative));
        }
    }
    (text, None)
}

fn strip_currency(text: &str) -> &str {
    let text = text.trim_start();
    ["\\$", "$", "€", "£"]
        .iter()
        .find_map(|sign| text.strip_prefix(sign))
        .unwrap_or(text)
}

/// Digits only, or one to three digits followed by groups of exactly three behind commas.
fn well_grouped(whole: &[u8]) -> bool {
    let Some(first) = whole.iter().position(|&b| b == b',') else {
        return whole.iter().all(u8::is_ascii_digit);
    };
    (1..=3).contains(&first)
        && whole[..first].iter().all(u8::is_ascii_digit)
        && whole[first..]
            .chunks(4)
            .all(|g| g.len() == 4 && g[0] == b',' && g[1..].iter().all(u8::is_ascii_digit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_values_have_equal_numerals() {
        for (a, b) in [
            ("5", "5.0"),
            ("5", "05."),
            ("1,234.50", "1234.5"),
            ("$18", "18"),
            ("-$18", "$-18.00"),
            ("−3", "-3"),
            ("+7", "7"),
            ("-0", "0.00"),
            (".5", "0.5"),
            ("\\$ 1,000", "1000"),
            ("1,000,000", "1000000"),
        ] {
            let (x, y) = (Numeral::read(a), Numeral::read(b));
            assert!(x.is_some() && x == y, "{a} and {b}: {x:?} {y:?}");
        }
        assert_ne!(Numeral::read("10"), Numeral::read("1"));
        assert_ne!(Numeral::read("-5"), Numeral::read("5"));
        assert_ne!(Numeral::read("1.05"), Numeral::read("1.5"));
    }

    #[test]
    fn anything_but_one_number_is_refused() {
        for text in [
            "", ".", "-", "$", "5/6", "5 or 6", "1,23", "1,2345", ",123", "1,,000", "1.2.3", "--5",
            "1e3", "5%", "4√2", "$$5", "1 2", "５", "1.5,000",
        ] {
            assert_eq!(Numeral::read(text), None, "{text}");
        }
    }

    #[test]
    fn number_words_compose() {
        for (text, want) in [
            ("twenty-two apples", Some("22 apples")),
            ("one hundred and five", Some("105")),
            ("Two Million three thousand", Some("2003000")),
            ("seven", None),
            ("two two", None),
            ("twenty eleven", None),
            ("twenty and two", None),
            ("three and four", None),
            ("one thousand two million", None),
            ("", None),
        ] {
            assert_eq!(from_words(text).as_deref(), want, "{text}");
        }
    }
}
