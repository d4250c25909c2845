//! Numbers in other bases: digits with the base as their subscript.

use dashu::integer::{IBig, UBig};
use dashu::rational::RBig;

use super::Parser;
use crate::expr::Expr;
use crate::fuel::Stop;
use crate::lex::{Gap, Token};

/// Longest number whose digits are looked at for letters.
const MAX_DIGITS: usize = 64;

impl Parser<'_, '_> {
    /// `_5`, `_{5}`, `_{\text{five}}` behind digits: their value in that base.
    pub(super) fn based(&mut self, digits: &str) -> Result<Expr, Stop> {
        let base = self.base()?;
        in_base(digits, base)
    }

    fn base(&mut self) -> Result<i64, Stop> {
        self.expect_sign('_')?;
        let braced = self.eat_sign('{');
        let base = match self.peek() {
            Some(Token::Number(base)) => base.parse().ok(),
            Some(Token::Text(name)) => super::super::units::spelled(name.trim()),
            _ => None,
        };
        self.advance();
        if braced {
            self.expect_sign('}')?;
        }
        base.ok_or(Stop::Unreadable)
    }

    /// `1A3_{16}`, `\text{FF}_{16}`, `(B2)_{12}`: digits with capital letters among them, and the base.
    /// Leaves the position alone where something else stands.
    pub(super) fn lettered(&mut self) -> Option<Expr> {
        if self.used > 0 {
            return None;
        }
        let start = self.at;
        let value = self.lettered_value();
        if value.is_none() {
            self.at = start;
        }
        value
    }

    fn lettered_value(&mut self) -> Option<Expr> {
        let is_bracketed = self.eat_sign('(');
        let mut digits = String::new();
        while let Some((token, gap)) = self.tokens.get(self.at) {
            let piece = match token {
                Token::Number(text) | Token::Word(text) => text,
                Token::Text(text) => text.trim(),
                _ => break,
            };
            if !digits.is_empty() && *gap != Gap::None || digits.len() > MAX_DIGITS {
                return None;
            }
            digits.push_str(piece);
            self.at += 1;
        }
        if is_bracketed && !self.eat_sign(')') {
            return None;
        }
        let are_digits = |c: u8| c.is_ascii_digit() || c.is_ascii_uppercase();
        let has_letter = digits.bytes().any(|c| c.is_ascii_uppercase());
        if !self.is_sign('_') || !has_letter || !digits.bytes().all(are_digits) {
            return None;
        }
        let base = self.base().ok()?;
        // A single letter is a digit in the bases that people write so, and the name of something otherwise:
        // S_{30} is a sum of thirty terms.
        if digits.len() == 1 && !matches!(base, 11 | 12 | 16) {
            return None;
        }
        in_base(&digits, base).ok()
    }
}

/// The value of digits in a base between 2 and 36, or of decimal digits in one up to 1000.
pub(super) fn in_base(digits: &str, base: i64) -> Result<Expr, Stop> {
    if base > 36 && base <= 1000 && digits.bytes().all(|b| b.is_ascii_digit()) {
        let value = digits.bytes().fold(IBig::ZERO, |value, b| {
            value * IBig::from(base) + IBig::from(b - b'0')
        });
        return Ok(Expr::Num(RBig::from(value)));
    }
    let radix = u32::try_from(base).ok().filter(|b| (2..=36).contains(b));
    let value = UBig::from_str_radix(digits, radix.ok_or(Stop::Unreadable)?);
    let value = value.map_err(|_| Stop::Unreadable)?;
    Ok(Expr::Num(RBig::from(IBig::from(value))))
}

#[cfg(test)]
mod tests {
    use super::super::{Commas, parse};
    use crate::expr::Expr;
    use crate::form::Form;
    use crate::fuel::Fuel;

    fn value(text: &str) -> Option<String> {
        match parse(text, Commas::Thousands, &mut Fuel::new(10_000)) {
            Ok(Form::Scalar(Expr::Num(value))) => Some(value.to_string()),
            _ => None,
        }
    }

    #[test]
    fn letters_are_digits_in_front_of_a_base() {
        for (text, want) in [
            ("1A3_{16}", "419"),
            ("\\text{FF}_{16}", "255"),
            ("(B2)_{12}", "134"),
            ("1E2_{16}", "482"),
            ("B_{16}", "11"),
            ("204_{\\text{five}}", "54"),
        ] {
            assert_eq!(value(text).as_deref(), Some(want), "{text}");
        }
    }

    #[test]
    fn other_letters_are_names() {
        for text in [
            "S_{30}", "F_{12}", "1G_{16}", "2a_{12}", "x_{16}", "A B_{16}",
        ] {
            assert_eq!(value(text), None, "{text}");
        }
    }
}
