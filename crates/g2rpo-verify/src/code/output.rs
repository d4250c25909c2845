//! Comparison of what a program printed.

/// Whether printed text is what was expected: line by line, without spaces at the ends of lines and
/// without empty lines at the end. The number of lines must be equal.
///
/// A line that differs still counts when it has as many words and each word is the same or, where
/// the expected word is a number with a decimal point or an exponent, the same number: `0.50` for
/// `0.5`. Whole numbers must be printed as such. With a `tolerance`, such a number may also differ
/// by that share of its magnitude, or by that amount when it is below one.
///
/// ```
/// use g2rpo_verify::code::same_output;
///
/// assert!(same_output("1 2\n", "1 2  \n\n", None));
/// assert!(same_output("0.5\n", "5.0e-1\n", None));
/// assert!(!same_output("1\n2\n", "1\n", None));
/// assert!(same_output("0.3333333333\n", "0.3333333334\n", Some(1e-9)));
/// ```
#[must_use]
pub fn same_output(expected: &str, printed: &str, tolerance: Option<f64>) -> bool {
    let (expected, printed) = (lines(expected), lines(printed));
    expected.len() == printed.len()
        && expected.iter().zip(&printed).all(|(expected, printed)| {
            expected == printed || same_words(expected, printed, tolerance)
        })
}

fn lines(text: &str) -> Vec<&str> {
    text.trim_end().split('\n').map(str::trim_end).collect()
}

fn same_words(expected: &str, printed: &str, tolerance: Option<f64>) -> bool {
    let expected: Vec<&str> = expected.split_whitespace().collect();
    let printed: Vec<&str> = printed.split_whitespace().collect();
    // Spacing alone, such as an indentation, is part of the answer.
    let mut differs = false;
    expected.len() == printed.len()
        && expected.iter().zip(&printed).all(|(&expected, &printed)| {
            expected == printed || {
                differs = true;
                same_number(expected, printed, tolerance)
            }
        })
        && differs
}

fn same_number(expected: &str, printed: &str, tolerance: Option<f64>) -> bool {
    let is_decimal = expected.contains(['.', 'e', 'E']);
    let (Some(a), Some(b)) = (Decimal::parse(expected), Decimal::parse(printed)) else {
        return false;
    };
    if !is_decimal {
        return false;
    }
    if a == b {
        return true;
    }
    tolerance.is_some_and(
        |tolerance| match (expected.parse::<f64>(), printed.parse::<f64>()) {
            (Ok(a), Ok(b)) if a.is_finite() && b.is_finite() => {
                (a - b).abs() <= tolerance * a.abs().max(1.0)
            }
            _ => false,
        },
    )
}

/// An exact decimal number: digits without zeros at either end, and the power of ten of the last.
#[derive(Debug, PartialEq, Eq)]
struct Decimal {
    negative: bool,
    digits: String,
    exponent: i64,
}

impl Decimal {
    fn parse(text: &str) -> Option<Self> {
        let (negative, text) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        let (mantissa, exponent) = match text.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
            None => (text, 0),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let all = format!("{whole}{fraction}");
        if all.is_empty() || !all.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        let digits = all.trim_start_matches('0').trim_end_matches('0').to_owned();
        if digits.is_empty() {
            return Some(Self {
                negative: false,
                digits,
                exponent: 0,
            });
        }
        let trailing = all.len() - all.trim_end_matches('0').len();
        Some(Self {
            negative,
            digits,
            exponent: i64::from(exponent) - fraction.len() as i64 + trailing as i64,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_counts() {
        assert!(!same_output("a\nb\n", "a\n", None));
        assert!(!same_output("a\n", "a\nb\n", None));
        assert!(!same_output("a\n", "", None));
        assert!(same_output("a\r\nb", "a\nb\n", None));
        assert!(!same_output("  a", "a", None));
        assert!(!same_output("a b", "a  b", None));
    }

    #[test]
    fn decimals_compare_by_value_and_whole_numbers_by_text() {
        for (expected, printed, same) in [
            ("2.50", "2.5", true),
            ("2.5", "+2.50", true),
            ("-0.0", "0.000", true),
            ("1e3", "1000", true),
            ("0.1", "0.10000000000000001", false),
            ("1", "1.0", false),
            ("9007199254740993", "9007199254740992", false),
            ("1.0", "1.0.0", false),
            ("0.5", "nan", false),
            ("1e999999999999", "1e999999999998", false),
        ] {
            assert_eq!(
                same_output(expected, printed, None),
                same,
                "{expected} {printed}"
            );
        }
    }

    #[test]
    fn tolerance_never_touches_whole_numbers() {
        assert!(!same_output("1000005", "1000006", Some(1e-3)));
        assert!(same_output("1000000.0", "1000000.0001", Some(1e-9)));
        assert!(!same_output("1000000.0", "1000005.0", Some(1e-9)));
    }
}
