//! Sums, products and powers.

use super::Parser;
use super::command::is_operand;
use crate::expr::{Expr, Func};
use crate::fuel::{Stop, readable};
use crate::lex::{Gap, Token};
use crate::units::{Unit, multiplier};

impl<'a> Parser<'a, '_> {
    /// Terms joined by `+`, `-`, `±`, `∓`.
    pub(super) fn expr(&mut self) -> Result<Expr, Stop> {
        let mut terms = Vec::new();
        let mut negative = self.leading_signs();
        loop {
            let term = self.term()?;
            terms.push(term.negated_if(negative));
            negative = match self.peek() {
                Some(Token::Sign('+' | '-') | Token::Command("pm" | "mp")) => self.leading_signs(),
                _ => break,
            };
        }
        let sum = sum(terms);
        // TeX's infix commands split the group they stand in.
        if self.eat_command("choose") {
            let lower = self.nested(Self::expr)?;
            return Ok(Expr::Call(Func::Binomial, vec![sum, lower]));
        }
        if self.eat_command("over") {
            return Ok(sum.div(self.nested(Self::expr)?));
        }
        Ok(sum)
    }

    /// Whether the tokens before the current one are `^\circ` or `^{\circ}`.
    fn ends_in_degree(&self) -> bool {
        let before: Vec<_> = self.tokens[..self.at]
            .iter()
            .rev()
            .take(4)
            .map(|t| &t.0)
            .collect();
        matches!(
            before.as_slice(),
            [Token::Command("circ"), Token::Sign('^'), ..]
                | [
                    Token::Sign('}'),
                    Token::Command("circ"),
                    Token::Sign('{'),
                    Token::Sign('^')
                ]
        )
    }

    /// Eats any number of signs; true when together they are a minus.
    fn leading_signs(&mut self) -> bool {
        let mut negative = false;
        loop {
            match self.peek() {
                Some(Token::Sign('+')) => {}
                Some(Token::Sign('-')) => negative = !negative,
                Some(Token::Command(name @ ("pm" | "mp"))) => {
                    self.saw_double_sign = true;
                    negative ^= (name == "pm") != self.upper_sign;
                }
                _ => return negative,
            }
            self.advance();
        }
    }

    /// Factors joined by multiplication signs, division signs or nothing.
    fn term(&mut self) -> Result<Expr, Stop> {
        self.fuel.spend(1)?;
        let (mut above, mut below) = (vec![self.factor()?], Vec::new());
        let mut divided_by_number = false;
        loop {
            match self.peek() {
                Some(Token::Sign('*') | Token::Command("cdot" | "times")) => {
                    let is_cross = self.peek() == Some(Token::Command("times"));
                    self.advance();
                    divided_by_number = false;
                    let factor = self.signed_factor()?;
                    // The cross product of vectors is not that of numbers.
                    if is_cross && is_vector(&factor) && above.last().is_some_and(is_vector) {
                        return Err(Stop::Unreadable);
                    }
                    above.push(factor);
                }
                Some(Token::Word("x" | "X")) if self.is_times_letter() => {
                    self.advance();
                    above.push(self.signed_factor()?);
                }
                Some(Token::Sign('/') | Token::Command("div")) => {
                    self.advance();
                    let divisor = self.signed_factor()?;
                    divided_by_number = divisor.literal().is_some();
                    below.push(divisor);
                }
                Some(_) if self.starts_factor() => {
                    // `1/2x` means 1/(2x) where the letter touches the number, as in Math-Verify.
                    let binds = divided_by_number
                        && self.gap() == Gap::None
                        && matches!(
                            self.peek(),
                            Some(Token::Word(_) | Token::Command("pi" | "sqrt"))
                        );
                    let factor = self.factor()?;
                    if binds {
                        below.push(factor);
                    } else {
                        divided_by_number = false;
                        above.push(factor);
                    }
                }
                _ => break,
            }
            self.fuel.spend(1)?;
        }
        let above = product(above);
        Ok(if below.is_empty() {
            above
        } else {
            above.div(product(below))
        })
    }

    /// `3 x 10^5`: the letter between two numbers that stand apart from it.
    fn is_times_letter(&self) -> bool {
        self.gap() != Gap::None
            && self.gap_at(1) != Gap::None
            && matches!(self.tokens[..self.at].last(), Some((Token::Number(_), _)))
            && matches!(self.peek_at(1), Some(Token::Number(_)))
    }

    fn signed_factor(&mut self) -> Result<Expr, Stop> {
        let negative = self.leading_signs();
        Ok(self.factor()?.negated_if(negative))
    }

    /// Whether the current token continues a product without a sign.
    fn starts_factor(&self) -> bool {
        match self.peek() {
            // `2^k 5^k`, `x^k 3`: behind a letter in an exponent, or before another power.
            Some(Token::Number(_)) if self.power_end == Some(self.at) && self.used == 0 => {
                match self.tokens[..self.at].last() {
                    Some((Token::Number(_), _)) => {
                        self.gap() != Gap::None && self.peek_at(1) == Some(&Token::Sign('^'))
                    }
                    _ => true,
                }
            }
            Some(Token::Number(_)) => match self.tokens[..self.at].last() {
                // A number directly behind a number or a letter is not a product anyone writes.
                Some((Token::Sign(')' | '}' | ']' | '!'), _)) => true,
                Some((Token::Command(c), _)) => matches!(*c, "pi" | "rfloor" | "rceil"),
                _ => false,
            },
            Some(Token::Word(w)) => !self.is_suffix_word(w),
            Some(Token::Text(t)) => {
                let t = t.trim();
                matches!(t, "e" | "i") || (Func::named(t).is_some() && Unit::named(t).is_none())
            }
            Some(Token::Sign('|') | Token::Command("|")) => !self.in_bars,
            Some(Token::Sign(c)) => matches!(c, '(' | '{') || c == '[' && self.brackets == 0,
            Some(Token::Command(c)) => is_operand(c) && !self.is_greek_unit(),
            Some(Token::Begin("vmatrix")) => true,
            _ => false,
        }
    }

    /// Whether `\Omega`, or `\mu` with what follows it, is the unit of the number before it: nothing else stands
    /// behind.
    pub(super) fn is_greek_unit(&self) -> bool {
        let is_number = matches!(
            self.tokens[..self.at].last(),
            Some((Token::Number(_) | Token::Sign('}') | Token::Text(_), _))
        );
        let ends = |offset: usize| {
            matches!(
                self.peek_at(offset),
                None | Some(Token::Sign(',' | ';' | '=' | '/') | Token::Command("approx"))
            )
        };
        let is_symbol = |token: Option<&Token<'_>>| match token {
            Some(Token::Text(t) | Token::Word(t)) => {
                Unit::named(&format!("μ{}", t.trim())).is_some()
            }
            _ => false,
        };
        is_number
            && (self.is_command("Omega") && ends(1)
                || self.is_command("mu") && is_symbol(self.peek_at(1)) && ends(2))
    }

    /// Whether a word behind a number names a unit, a thing that is counted, or a conjunction.
    fn is_suffix_word(&self, word: &str) -> bool {
        if matches!(word, "and" | "or") {
            return true;
        }
        if word == "min" {
            return !matches!(self.peek_at(1), Some(Token::Sign('(' | '{')));
        }
        if Func::named(word).is_some() || matches!(word, "pi" | "sqrt" | "cbrt") {
            return false;
        }
        let after_degree = self.at > 0
            && matches!(
                self.tokens[self.at - 1].0,
                Token::Command("circ") | Token::Sign('}')
            )
            && self.ends_in_degree();
        if after_degree && matches!(word, "C" | "F") {
            return true;
        }
        if word == "in" && self.gap() == Gap::Blank {
            return true;
        }
        if word.chars().count() == 1 {
            let is_unit = matches!(
                word,
                "m" | "g" | "s" | "h" | "L" | "N" | "J" | "W" | "V" | "A" | "K" | "C" | "F"
            );
            let after_number = matches!(self.tokens[..self.at].last(), Some((Token::Number(_), _)));
            let ends = matches!(
                self.peek_at(1),
                None | Some(Token::Sign(',' | ';' | ')' | '/' | '^' | '.') | Token::Text(_))
            );
            let before = self.tokens.get(self.at.wrapping_sub(2)).is_none();
            return is_unit && after_number && before && ends && self.gap() != Gap::None;
        }
        Unit::named(word).is_some() && word != "ha"
            || multiplier(word).is_some()
            || matches!(word, "am" | "pm" | "AM" | "PM" | "sq" | "cu")
            || (self.gap() == Gap::Blank && word.chars().count() >= 3)
    }

    /// An atom with its exponents and postfix signs.
    pub(super) fn factor(&mut self) -> Result<Expr, Stop> {
        self.nested(|p| {
            let base = p.atom()?;
            p.postfix(base)
        })
    }

    pub(super) fn postfix(&mut self, mut base: Expr) -> Result<Expr, Stop> {
        loop {
            match self.peek() {
                Some(Token::Sign('^')) if self.is_degree() => {
                    let braced = self.peek_at(1) == Some(&Token::Sign('{'));
                    self.at += if braced { 4 } else { 2 };
                    if matches!(base, Expr::Degree(_) | Expr::Percent(_)) {
                        return Err(Stop::Unreadable);
                    }
                    base = Expr::Degree(Box::new(base));
                }
                Some(Token::Sign('^')) => {
                    self.advance();
                    let exponent = self.exponent()?;
                    base = base.pow(exponent);
                    self.power_end = (self.used == 0).then_some(self.at);
                }
                Some(Token::Sign('!')) => {
                    self.advance();
                    readable(!self.is_sign('!'))?;
                    base = Expr::Call(Func::Factorial, vec![base]);
                }
                Some(Token::Sign('%')) => {
                    self.advance();
                    if matches!(base, Expr::Degree(_) | Expr::Percent(_)) {
                        return Err(Stop::Unreadable);
                    }
                    base = Expr::Percent(Box::new(base));
                }
                _ => return Ok(base),
            }
        }
    }

    /// Whether the `^` here begins `^\circ` or `^{\circ}`.
    pub(super) fn is_degree(&self) -> bool {
        let circ = Token::Command("circ");
        self.peek_at(1) == Some(&circ)
            || (self.peek_at(1) == Some(&Token::Sign('{'))
                && self.peek_at(2) == Some(&circ)
                && self.peek_at(3) == Some(&Token::Sign('}')))
    }

    /// What follows `^`; towers associate to the right.
    pub(super) fn exponent(&mut self) -> Result<Expr, Stop> {
        self.nested(|p| {
            let negative = p.leading_signs();
            let base = match p.peek() {
                Some(Token::Word(word)) => letter_expr(p.first_letter(word)),
                _ => p.atom()?,
            };
            if !p.is_sign('^') || p.is_degree() {
                return Ok(base.negated_if(negative));
            }
            p.advance();
            Ok(base.pow(p.exponent()?).negated_if(negative))
        })
    }
}

/// One letter as a constant or a variable.
pub(super) fn letter_expr(letter: &str) -> Expr {
    match letter {
        "e" => Expr::E,
        "i" => Expr::I,
        _ => Expr::Sym(letter.to_owned()),
    }
}

pub(super) fn sum(mut terms: Vec<Expr>) -> Expr {
    if terms.len() == 1 {
        terms.remove(0)
    } else {
        Expr::Add(terms)
    }
}

pub(super) fn product(mut factors: Vec<Expr>) -> Expr {
    if factors.len() == 1 {
        factors.remove(0)
    } else {
        Expr::Mul(factors)
    }
}

/// A letter with an arrow over it.
fn is_vector(e: &Expr) -> bool {
    let e = if let Expr::Neg(inner) = e { inner } else { e };
    matches!(e, Expr::Sym(name) if name.starts_with("vec") || name.starts_with("\\vec") || name.contains("arrow"))
}
