//! Calculator marks of GSM8K's solutions, `<<48/2=24>>`, evaluated exactly.

use std::iter;

/// Contents of every `<<…>>` in `text`, in order. A mark that is opened and not closed on the same
/// line yields `None`, so that it cannot hide an error.
pub(crate) fn marks(text: &str) -> impl Iterator<Item = Option<&str>> {
    let mut rest = text;
    iter::from_fn(move || {
        let open = rest.find("<<")?;
        let after = &rest[open + 2..];
        let line = &after[..after.find('\n').unwrap_or(after.len())];
        let close = line.find(">>");
        rest = &after[close.map_or(line.len(), |c| c + 2)..];
        Some(close.map(|c| &line[..c]))
    })
}

/// Whether a mark's content has the form `expression=value` with equal sides.
///
/// Both sides are evaluated as exact fractions of 128-bit integers. A side that overflows, divides
/// by zero or cannot be read makes the mark wrong. A side without `=`, or with two, is wrong too.
pub(crate) fn holds(mark: &str) -> bool {
    let Some((left, right)) = mark.split_once('=') else {
        return false;
    };
    matches!((evaluate(left), evaluate(right)), (Some(a), Some(b)) if a == b)
}

/// A fraction in lowest terms with a positive denominator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Fraction {
    numerator: i128,
    denominator: i128,
}

impl Fraction {
    const fn whole(value: i128) -> Self {
        Self {
            numerator: value,
            denominator: 1,
        }
    }

    fn new(numerator: i128, denominator: i128) -> Option<Self> {
        let (mut a, mut b) = (numerator.checked_abs()?, denominator.checked_abs()?);
        while b != 0 {
            (a, b) = (b, a % b);
        }
        if denominator == 0 {
            return None;
        }
        let sign = denominator.signum();
        Some(Self {
            numerator: sign * (numerator / a),
            denominator: sign * (denominator / a),
        })
    }

    fn add(self, other: Self) -> Option<Self> {
        let left = self.numerator.checked_mul(other.denominator)?;
        let right = other.numerator.checked_mul(self.denominator)?;
        Self::new(
            left.checked_add(right)?,
            self.denominator.checked_mul(other.denominator)?,
        )
    }

    fn mul(self, other: Self) -> Option<Self> {
        Self::new(
            self.numerator.checked_mul(other.numerator)?,
            self.denominator.checked_mul(other.denominator)?,
        )
    }

    fn div(self, other: Self) -> Option<Self> {
        Self::new(
            self.numerator.checked_mul(other.denominator)?,
            self.denominator.checked_mul(other.numerator)?,
        )
    }

    fn floor(self) -> Self {
        Self::whole(self.numerator.div_euclid(self.denominator))
    }

    fn neg(self) -> Option<Self> {
        Self::new(self.numerator.checked_neg()?, self.denominator)
    }
}

/// Deeper brackets than this are refused; GSM8K has two levels at most.
const MAX_DEPTH: usize = 16;

fn evaluate(text: &str) -> Option<Fraction> {
    let mut cursor = Cursor {
        rest: text.as_bytes(),
        depth: 0,
    };
    let value = cursor.sum()?;
    cursor.skip_blanks();
    cursor.rest.is_empty().then_some(value)
}

struct Cursor<'a> {
    rest: &'a [u8],
    depth: usize,
}

impl Cursor<'_> {
    fn skip_blanks(&mut self) {
        self.rest = self.rest.trim_ascii_start();
    }

    fn eat(&mut self, token: &[u8]) -> bool {
        self.skip_blanks();
        match self.rest.strip_prefix(token) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn sum(&mut self) -> Option<Fraction> {
        let mut value = self.product()?;
        loop {
            if self.eat(b"+") {
                value = value.add(self.product()?)?;
            } else if self.eat(b"-") {
                value = value.add(self.product()?.neg()?)?;
            } else {
                return Some(value);
            }
        }
    }

    fn product(&mut self) -> Option<Fraction> {
        let mut value = self.atom()?;
        loop {
            if self.eat(b"*") {
                value = value.mul(self.atom()?)?;
            } else if self.eat(b"//") {
                value = value.div(self.atom()?)?.floor();
            } else if self.eat(b"/") {
                value = value.div(self.atom()?)?;
            } else {
                return Some(value);
            }
        }
    }

    fn atom(&mut self) -> Option<Fraction> {
        let mut negative = false;
        loop {
            if self.eat(b"-") {
                negative = !negative;
            } else if !self.eat(b"+") {
                break;
            }
        }
        let value = if self.eat(b"(") {
            self.depth += 1;
            if self.depth > MAX_DEPTH {
                return None;
            }
            let value = self.sum()?;
            self.depth -= 1;
            self.eat(b")").then_some(value)?
        } else {
            self.number()?
        };
        if negative { value.neg() } else { Some(value) }
    }

    fn number(&mut self) -> Option<Fraction> {
        let (mut value, mut scale, mut digits, mut dot) = (0i128, 1i128, 0, false);
        while let Some((&byte, rest)) = self.rest.split_first() {
            match byte {
                b'0'..=b'9' => {
                    value = value
                        .checked_mul(10)?
                        .checked_add(i128::from(byte - b'0'))?;
                    scale = if dot { scale.checked_mul(10)? } else { scale };
                    digits += 1;
                }
                b'.' if !dot => dot = true,
                _ => break,
            }
            self.rest = rest;
        }
        let percent = self.rest.first() == Some(&b'%');
        if percent {
            self.rest = &self.rest[1..];
            scale = scale.checked_mul(100)?;
        }
        (digits > 0).then(|| Fraction::new(value, scale))?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn right_arithmetic_holds() {
        for mark in [
            "48/2=24",
            "12/60=0.2",
            "12*.01=0.12",
            "3/4=3/4",
            "(1+2)*3=9",
            "-5+3=-2",
            "180//3=60",
            "7//2=3",
            "+30+46=76",
            "20%*50=10",
            "5=5",
            "1/3*3=1",
            " 2 + 2 = 4 ",
            "--5=5",
        ] {
            assert!(holds(mark), "{mark}");
        }
    }

    #[test]
    fn wrong_or_malformed_arithmetic_does_not() {
        for mark in [
            "48/2=25",
            "1/3=0.33",
            "1/0=0",
            "1/0=1/0",
            "",
            "=",
            "5",
            "5=",
            "=5",
            "2+2=4=4",
            "2+=2",
            "(2=2",
            "2)=2",
            "x=x",
            "1..2=1.2",
            "1,000=1000",
            "0/0=5",
            "99999999999999999999999999999999999999999=99999999999999999999999999999999999999999",
        ] {
            assert!(!holds(mark), "{mark}");
        }
        let deep = format!("{}1{}=1", "(".repeat(17), ")".repeat(17));
        assert!(!holds(&deep));
        assert!(!holds(&"(".repeat(100_000)));
    }

    #[test]
    fn marks_are_found_and_open_ones_reported() {
        let text = "a <<1+1=2>>2 b <<3=3\n<<4=4>> c <<";
        let got: Vec<_> = marks(text).collect();
        assert_eq!(got, [Some("1+1=2"), None, Some("4=4"), None]);
    }
}
