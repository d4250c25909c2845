//! Combinations and permutations beside `\binom`: `C(10,3)`, `10C3`, `{}_{10}C_3`, `{}^{10}P_3`.
//!
//! `P(10,3)` is not among them: a polynomial, a probability or a point is written so as well. Nor is
//! `C_{10}^3`, the cube of a constant.

use dashu::rational::RBig;

use super::Parser;
use crate::expr::{Expr, Func};
use crate::fuel::Stop;
use crate::lex::{Gap, Token};

impl Parser<'_, '_> {
    /// `C(n,k)`: a function of that name with two arguments is hardly anything else, unless they are numbers of
    /// which no subset could be taken, as the coordinates of a point C are. `None` where no such call stands.
    pub(super) fn chosen_from(&mut self) -> Result<Option<Expr>, Stop> {
        let is_call = self.peek() == Some(Token::Word("C"))
            && self.peek_at(1) == Some(&Token::Sign('('))
            && self.gap_at(1) == Gap::None
            && self.holds_separator(self.at + 1);
        if self.used > 0 || !is_call {
            return Ok(None);
        }
        self.advance();
        let pair = self.nested(Self::arguments)?;
        let [n, k]: [Expr; 2] = pair.try_into().map_err(|_| Stop::Unreadable)?;
        match (n.literal(), k.literal()) {
            (Some(n), Some(k)) if !(n.is_int() && k.is_int() && *k >= RBig::ZERO && k <= n) => {
                Err(Stop::Unreadable)
            }
            _ => Ok(Some(count('C', n, k))),
        }
    }

    /// `10C3`, without blanks. Leaves the position alone where something else stands.
    pub(super) fn chosen_between(&mut self) -> Option<Expr> {
        let (
            Some(Token::Number(n)),
            Some(Token::Word(letter @ ("C" | "P"))),
            Some(Token::Number(k)),
        ) = (self.peek(), self.peek_at(1), self.peek_at(2))
        else {
            return None;
        };
        let are_whole = [n, *k]
            .iter()
            .all(|d| d.bytes().all(|b| b.is_ascii_digit()));
        let are_close = self.gap_at(1) == Gap::None && self.gap_at(2) == Gap::None;
        if self.used > 0 || !are_whole || !are_close {
            return None;
        }
        let (n, k) = (
            super::number::literal(n).ok()?,
            super::number::literal(k).ok()?,
        );
        let value = count(letter.chars().next()?, n, k);
        self.at += 3;
        Some(value)
    }

    /// Whether `{}_n` or `_n`, which belongs to what follows, begins here.
    pub(super) fn is_prescript(&self) -> bool {
        let is_mark = |token: Option<&Token<'_>>| matches!(token, Some(Token::Sign('_' | '^')));
        self.used == 0
            && (is_mark(self.peek_at(0))
                || self.peek_at(0) == Some(&Token::Sign('{'))
                    && self.peek_at(1) == Some(&Token::Sign('}'))
                    && is_mark(self.peek_at(2)))
    }

    /// `{}_{10}C_3`, `_{10}C_3`, `{}^{10}P_3`.
    pub(super) fn prescript(&mut self) -> Result<Expr, Stop> {
        if self.eat_sign('{') {
            self.advance();
        }
        self.advance();
        let n = self.script()?;
        let letter = match self.word_or_text() {
            "C" => 'C',
            "P" => 'P',
            _ => return Err(Stop::Unreadable),
        };
        self.advance();
        self.expect_sign('_')?;
        let k = self.script()?;
        Ok(count(letter, n, k))
    }

    /// An argument, or a number of several digits, as plain text has it.
    fn script(&mut self) -> Result<Expr, Stop> {
        match self.peek() {
            Some(Token::Number(digits)) => {
                self.advance();
                super::number::literal(digits)
            }
            _ => self.argument(),
        }
    }
}

/// Subsets of `k` out of `n`; with `P`, in every order.
fn count(letter: char, n: Expr, k: Expr) -> Expr {
    let subsets = Expr::Call(Func::Binomial, vec![n, k.clone()]);
    if letter == 'P' {
        Expr::Mul(vec![subsets, Expr::Call(Func::Factorial, vec![k])])
    } else {
        subsets
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Commas, parse};
    use crate::exact::constant;
    use crate::form::Form;
    use crate::fuel::Fuel;

    fn value(text: &str) -> Option<String> {
        let mut fuel = Fuel::new(10_000);
        match parse(text, Commas::Thousands, &mut fuel) {
            Ok(Form::Scalar(e)) => constant(&e, &mut fuel).unwrap().map(|v| v.to_string()),
            _ => None,
        }
    }

    #[test]
    fn all_spellings_count_the_same() {
        for text in [
            "C(5,2)",
            "C(5, 3)",
            "5C2",
            "{}_5C_2",
            "_{5}C_{2}",
            "{}^5\\mathrm{C}_2",
            "{5 \\choose 2}",
        ] {
            assert_eq!(value(text).as_deref(), Some("10"), "{text}");
        }
        for text in ["5P2", "{}_{5}P_{2}", "2C(5,2)"] {
            assert_eq!(value(text).as_deref(), Some("20"), "{text}");
        }
    }

    #[test]
    fn what_could_be_something_else_is_not_counted() {
        // A point, a polynomial, a power, a temperature.
        for text in [
            "C(2,5)", "P(5,2)", "C_5^2", "5 C", "C(5)", "5C", "_5", "{}_5C",
        ] {
            assert_eq!(value(text), None, "{text}");
        }
    }
}
