//! Numbers: grouped digits, decimals, repeating decimals, mixed numbers, scientific notation.

use dashu::base::Abs;
use dashu::integer::{IBig, UBig};
use dashu::rational::RBig;

use super::{Commas, Parser};
use crate::expr::{Decimal, Expr};
use crate::fuel::{Stop, readable};
use crate::lex::{Gap, Token};

impl Parser<'_, '_> {
    /// A literal with its digit groups, exponent, repeating block, base subscript or fraction part.
    pub(super) fn number(&mut self) -> Result<Expr, Stop> {
        let Some(Token::Number(first)) = self.peek() else {
            return Err(Stop::Unreadable);
        };
        if let Some(value) = self.lettered().or_else(|| self.chosen_between()) {
            return Ok(value);
        }
        self.advance();
        let mut digits = first.to_owned();
        let is_whole = first.bytes().all(|b| b.is_ascii_digit());
        if is_whole && first.len() <= 3 {
            self.groups(&mut digits);
        }
        if is_whole
            && self.commas == Commas::Decimal
            && !self.in_list
            && let (true, Some(Token::Number(fraction))) = (self.is_sign(','), self.peek_at(1))
            && fraction.bytes().all(|b| b.is_ascii_digit())
            // Three digits are a group of thousands: 30,000 is not 30.
            && (fraction.len() != 3 || first == "0")
            && self.gap_at(1) == Gap::None
        {
            digits = format!("{digits}.{fraction}");
            self.at += 2;
        }
        if digits.ends_with('.') || self.is_repeating_block() {
            return self.repeating(&digits);
        }
        if self.is_sign('_') && digits.bytes().all(|b| b.is_ascii_digit()) {
            return self.based(&digits);
        }
        let value = literal(&digits)?;
        if digits.bytes().all(|b| b.is_ascii_digit()) {
            return self.mixed(value);
        }
        Ok(value)
    }

    /// Appends groups of three digits: `1,234`, `1{,}234`, `1\,234`, `1 234`.
    fn groups(&mut self, digits: &mut String) {
        loop {
            let (skip, gap_allowed) = match self.peek() {
                Some(Token::GroupComma) => (1, Gap::Blank),
                Some(Token::Sign(','))
                    if self.commas == Commas::Thousands
                        && self.brackets == 0
                        && self.gap() == Gap::None =>
                {
                    (1, Gap::None)
                }
                Some(Token::Number(_)) if self.gap() != Gap::None && self.brackets == 0 => {
                    (0, Gap::Blank)
                }
                _ => return,
            };
            let Some(Token::Number(group)) = self.peek_at(skip) else {
                return;
            };
            let whole = group.find('.').map_or(*group, |dot| &group[..dot]);
            let well_formed = whole.len() == 3 && whole.bytes().all(|b| b.is_ascii_digit());
            if !well_formed || (skip > 0 && self.gap_at(skip) > gap_allowed) {
                return;
            }
            let ends = group.len() > 3;
            digits.push_str(group);
            self.at += skip + 1;
            if ends {
                return;
            }
        }
    }

    fn is_repeating_block(&self) -> bool {
        // Without a point before it, a bar over digits is not a repeating decimal.
        matches!(self.tokens[..self.at].last(), Some((Token::Number(n), _)) if n.contains('.'))
            && matches!(
                self.peek(),
                Some(Token::Command("overline" | "bar" | "dot" | "overset"))
            )
    }

    /// `0.1\overline{6}`, `0.\bar{3}`.
    fn repeating(&mut self, head: &str) -> Result<Expr, Stop> {
        self.advance();
        let braced = self.eat_sign('{');
        let Some(Token::Number(block)) = self.peek() else {
            return Err(Stop::Unreadable);
        };
        self.advance();
        if braced {
            self.expect_sign('}')?;
        }
        readable(block.bytes().all(|b| b.is_ascii_digit()))?;
        let (whole, fraction) = head.split_once('.').ok_or(Stop::Unreadable)?;
        let all = integer(&format!("{whole}{fraction}{block}"))?;
        let head = integer(&format!("0{whole}{fraction}"))?;
        let nines = ten_to(block.len())? - UBig::ONE;
        let denominator = ten_to(fraction.len())? * nines;
        Ok(Expr::Num(RBig::from_parts(
            IBig::from(all) - IBig::from(head),
            denominator,
        )))
    }

    /// `1\frac45` and `1 4/5`; the literal alone when no fraction follows.
    fn mixed(&mut self, whole: Expr) -> Result<Expr, Stop> {
        let start = (self.at, self.used);
        if self.is_command("frac") {
            if let Ok(Expr::Div(a, b)) = self.atom()
                && is_integer(&a)
                && is_integer(&b)
                && (!self.is_sign('^') || self.is_degree())
            {
                return Ok(Expr::Add(vec![whole, a.div(*b)]));
            }
            (self.at, self.used) = start;
        } else if let (Some(Token::Number(a)), Some(Token::Sign('/')), Some(Token::Number(b))) =
            (self.peek(), self.peek_at(1), self.peek_at(2))
            && self.gap() == Gap::Blank
            && self.used == 0
        {
            let (above, below) = (literal(a)?, literal(b)?);
            if is_integer(&above) && is_integer(&below) {
                self.at += 3;
                return Ok(Expr::Add(vec![whole, above.div(below)]));
            }
        }
        Ok(whole)
    }
}

/// Whether the expression is an integer that is written as one and is not negative.
fn is_integer(e: &Expr) -> bool {
    matches!(e, Expr::Num(value) if value.is_int() && value.clone().abs() == *value)
}

/// `123`, `1.50`, `.5`, `1.5e-3`.
pub(super) fn literal(text: &str) -> Result<Expr, Stop> {
    if let Some((mantissa, exponent)) = text.split_once(['e', 'E']) {
        let exponent = IBig::from_str_radix(exponent.trim_start_matches('+'), 10)
            .map_err(|_| Stop::Unreadable)?;
        let power = Expr::int(10).pow(Expr::Num(RBig::from(exponent)));
        return Ok(Expr::Mul(vec![literal(mantissa)?, power]));
    }
    let Some((whole, fraction)) = text.split_once('.') else {
        return Ok(Expr::Num(RBig::from(IBig::from(integer(text)?))));
    };
    let digits = format!("0{whole}{fraction}");
    let significant = digits.trim_start_matches('0').len();
    Ok(Expr::Decimal(Decimal {
        value: RBig::from_parts(IBig::from(integer(&digits)?), ten_to(fraction.len())?),
        places: fraction.len(),
        significant,
    }))
}

fn integer(digits: &str) -> Result<UBig, Stop> {
    UBig::from_str_radix(digits, 10).map_err(|_| Stop::Unreadable)
}

/// A power of ten no longer than an answer may be.
fn ten_to(places: usize) -> Result<UBig, Stop> {
    if places > super::MAX_BYTES {
        return Err(Stop::TooComplex);
    }
    Ok(UBig::from(10u8).pow(places))
}
