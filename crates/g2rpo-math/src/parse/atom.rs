//! Atoms: numbers, letters, functions, brackets, and the commands of TeX that begin an operand.

use super::Parser;
use super::command::{is_accent, is_letter_command};
use super::scalar::{letter_expr, product};
use crate::expr::{Expr, Func};
use crate::fuel::{Stop, readable};
use crate::lex::{Gap, Token};

impl<'a> Parser<'a, '_> {
    /// A number, a name, a function with its argument, or something in brackets.
    pub(super) fn atom(&mut self) -> Result<Expr, Stop> {
        if self.is_prescript() {
            return self.prescript();
        }
        if !matches!(self.peek(), Some(Token::Number(_)))
            && let Some(value) = self.lettered()
        {
            return Ok(value);
        }
        if let Some(value) = self.chosen_from()? {
            return Ok(value);
        }
        match self.peek().ok_or(Stop::Unreadable)? {
            Token::Number(_) => self.number(),
            Token::Word(word) => self.word(word),
            Token::Text(text) => match text.trim() {
                letter @ ("e" | "i") => {
                    self.advance();
                    Ok(letter_expr(letter))
                }
                // `\mathrm{x}_1`
                letter if letter.len() == 1 && self.peek_at(1) == Some(&Token::Sign('_')) => {
                    self.advance();
                    self.symbol(letter)
                }
                name => {
                    let func = Func::named(name).ok_or(Stop::Unreadable)?;
                    self.advance();
                    self.call(func)
                }
            },
            Token::Sign('(' | '[') => {
                self.advance();
                let inner = self.nested(Self::expr)?;
                match self.peek() {
                    Some(Token::Sign(')' | ']')) => self.advance(),
                    _ => return Err(Stop::Unreadable),
                }
                self.group_base(inner)
            }
            Token::Sign('{') => {
                let inner = self.braced()?;
                self.group_base(inner)
            }
            Token::Sign('|') => self.between_bars(&Token::Sign('|')),
            Token::Command("|") => self.between_bars(&Token::Command("|")),
            Token::Command(name) => self.command(name),
            Token::Begin("vmatrix") => self.determinant(),
            _ => Err(Stop::Unreadable),
        }
    }

    /// `\begin{vmatrix}…\end{vmatrix}`.
    fn determinant(&mut self) -> Result<Expr, Stop> {
        self.advance();
        let rows = self.nested(|p| p.rows("vmatrix"))?;
        if rows.len() != rows[0].len() || rows.len() > MAX_DETERMINANT {
            return Err(Stop::Unreadable);
        }
        let columns: Vec<usize> = (0..rows.len()).collect();
        Ok(determinant(&rows, &columns))
    }

    /// `(204)_5`.
    fn group_base(&mut self, inner: Expr) -> Result<Expr, Stop> {
        if !self.is_sign('_') {
            return Ok(inner);
        }
        if let Expr::Sym(name) = &inner {
            return self.symbol(name);
        }
        let Expr::Num(value) = &inner else {
            return Err(Stop::Unreadable);
        };
        let digits = value.to_string();
        self.based(&digits)
    }

    /// `{…}`.
    fn braced(&mut self) -> Result<Expr, Stop> {
        self.expect_sign('{')?;
        let outer = self.brackets;
        self.brackets += 1;
        let inner = self.nested(Self::expr)?;
        self.brackets = outer;
        self.expect_sign('}')?;
        Ok(inner)
    }

    fn between_bars(&mut self, bar: &Token<'a>) -> Result<Expr, Stop> {
        self.advance();
        let inner = self.nested(|p| {
            p.in_bars = true;
            p.expr()
        })?;
        readable(self.peek().as_ref() == Some(bar))?;
        self.advance();
        Ok(Expr::Call(Func::Abs, vec![inner]))
    }

    /// A TeX argument: a group, or a single digit, letter or command.
    pub(super) fn argument(&mut self) -> Result<Expr, Stop> {
        match self.peek().ok_or(Stop::Unreadable)? {
            Token::Sign('{') => self.braced(),
            Token::Number(text) => {
                let digit = text.get(..1).ok_or(Stop::Unreadable)?;
                let value = super::number::literal(digit);
                self.advance_within(1);
                value
            }
            Token::Word(word) => Ok(letter_expr(self.first_letter(word))),
            Token::Command(_) => self.nested(Self::atom),
            _ => Err(Stop::Unreadable),
        }
    }

    fn command(&mut self, name: &'a str) -> Result<Expr, Stop> {
        self.advance();
        match name {
            "pi" => Ok(Expr::Pi),
            "infty" => Ok(Expr::Infinity(false)),
            "frac" => {
                let above = self.argument()?;
                let below = self.argument()?;
                // `dy/dx` is no quotient of products.
                if is_differential(&above) && is_differential(&below) {
                    return Err(Stop::Unreadable);
                }
                Ok(above.div(below))
            }
            "binom" => {
                let (n, k) = (self.argument()?, self.argument()?);
                Ok(Expr::Call(Func::Binomial, vec![n, k]))
            }
            "sqrt" => self.root(),
            "lfloor" | "lceil" => {
                let inner = self.nested(Self::expr)?;
                let (func, close) = if name == "lfloor" {
                    (Func::Floor, "rfloor")
                } else {
                    (Func::Ceil, "rceil")
                };
                readable(self.eat_command(close))?;
                Ok(Expr::Call(func, vec![inner]))
            }
            _ if is_letter_command(name) => self.symbol(name),
            _ if is_accent(name) => {
                let inner = self.argument()?;
                let name = accent(name);
                match inner {
                    constant if name == "bar" && constant.is_constant() => {
                        conjugate(&constant).ok_or(Stop::Unreadable)
                    }
                    Expr::Sym(symbol) => self.symbol(&format!("{name} {symbol}")),
                    Expr::Mul(letters) => {
                        let mut full = name.to_owned();
                        for letter in letters {
                            let Expr::Sym(letter) = letter else {
                                return Err(Stop::Unreadable);
                            };
                            full.push(' ');
                            full.push_str(&letter);
                        }
                        self.symbol(&full)
                    }
                    _ => Err(Stop::Unreadable),
                }
            }
            _ => match Func::named(name) {
                Some(func) => self.call(func),
                None => Err(Stop::Unreadable),
            },
        }
    }

    fn root(&mut self) -> Result<Expr, Stop> {
        let degree = if self.eat_sign('[') {
            let degree = self.nested(Self::expr)?;
            self.expect_sign(']')?;
            degree
        } else {
            Expr::int(2)
        };
        let radicand = match self.peek() {
            // `√(2)` and `sqrt 12` in plain text take the whole thing.
            Some(Token::Sign('(')) => self.nested(Self::atom)?,
            Some(Token::Number(_)) if self.gap() == Gap::Blank => self.number()?,
            _ => self.argument()?,
        };
        Ok(Expr::Root(Box::new(radicand), Box::new(degree)))
    }

    /// A variable with primes and a subscript.
    fn symbol(&mut self, name: &str) -> Result<Expr, Stop> {
        let mut full = name.to_owned();
        loop {
            if self.eat_sign('\'') {
                full.push('\'');
            } else if self.is_sign('_') && !full.contains('_') {
                self.advance();
                full.push('_');
                self.subscript(&mut full)?;
            } else {
                break;
            }
        }
        // `u(x,t)`, `f'(1)`: a product has no comma in its brackets, and no derivative before them.
        if self.is_sign('(')
            && self.used == 0
            && self.gap() == Gap::None
            && (full.ends_with('\'') || self.holds_separator(self.at))
        {
            let arguments = self.arguments()?;
            return Ok(Expr::Apply(full, arguments));
        }
        if full.len() > 64 {
            return Err(Stop::TooComplex);
        }
        Ok(match full.as_str() {
            "e" => Expr::E,
            "i" => Expr::I,
            _ => Expr::Sym(full),
        })
    }

    fn subscript(&mut self, into: &mut String) -> Result<(), Stop> {
        let piece = |token: &Token<'_>, into: &mut String| match token {
            Token::Number(t) | Token::Word(t) => into.push_str(t),
            Token::Text(t) => into.push_str(t.trim()),
            // `T_{\max}` is `T_{max}`.
            Token::Command(t) => into.push_str(t),
            Token::Sign(c) => into.push(*c),
            _ => {}
        };
        match self.peek().ok_or(Stop::Unreadable)? {
            Token::Sign('{') => {
                let close = self.closes[self.at].ok_or(Stop::Unreadable)?;
                for (token, _) in &self.tokens[self.at + 1..close] {
                    piece(token, into);
                }
                self.at = close;
                self.advance();
            }
            Token::Word(word) => into.push_str(self.first_letter(word)),
            token @ (Token::Number(_) | Token::Text(_) | Token::Command(_)) => {
                piece(&token, into);
                self.advance();
            }
            _ => return Err(Stop::Unreadable),
        }
        Ok(())
    }

    /// A run of letters: a function, a constant, or a product of variables.
    fn word(&mut self, word: &'a str) -> Result<Expr, Stop> {
        if self.used == 0 {
            match word {
                "pi" => {
                    self.advance();
                    return Ok(Expr::Pi);
                }
                "infinity" | "inf" | "infty" | "oo" => {
                    self.advance();
                    return Ok(Expr::Infinity(false));
                }
                "sqrt" | "cbrt" => {
                    self.advance();
                    let root = self.root()?;
                    return Ok(match (word, root) {
                        ("cbrt", Expr::Root(x, _)) => Expr::Root(x, Box::new(Expr::int(3))),
                        (_, root) => root,
                    });
                }
                _ if is_letter_command(word) && word.len() > 2 => {
                    self.advance();
                    return self.symbol(word);
                }
                _ => {}
            }
            if let Some(func) = Func::named(word) {
                self.advance();
                return self.call(func);
            }
            // `sinx`: a function that swallowed its one-letter argument.
            if let Some(func) = word.get(..word.len() - 1).and_then(Func::named)
                && word.len() > 3
            {
                self.advance_within(word.len() - 1);
                return self.call(func);
            }
            let is_application = matches!(word, "f" | "g" | "h" | "F" | "G" | "H" | "P" | "Q")
                && matches!(self.peek_at(1), Some(Token::Sign('(')))
                && self.gap_at(1) == Gap::None;
            let is_inverse = matches!(word, "f" | "g" | "h")
                && [
                    Token::Sign('^'),
                    Token::Sign('{'),
                    Token::Sign('-'),
                    Token::Number("1"),
                    Token::Sign('}'),
                    Token::Sign('('),
                ]
                .iter()
                .enumerate()
                .all(|(i, token)| self.peek_at(i + 1) == Some(token));
            if is_inverse {
                self.at += 6;
                let arguments = self.arguments()?;
                return Ok(Expr::Apply(format!("{word}^-1"), arguments));
            }
            if is_application {
                self.advance();
                let arguments = self.arguments()?;
                return Ok(Expr::Apply(word.to_owned(), arguments));
            }
        }
        let mut letters = Vec::new();
        for c in word.chars() {
            self.fuel.spend(1)?;
            self.advance_within(c.len_utf8());
            let name = c.to_string();
            // Only the last letter can carry a subscript; the others end inside the word.
            letters.push(if self.used == 0 {
                self.symbol(&name)?
            } else {
                letter_expr(&name)
            });
            if self.used == 0 {
                break;
            }
        }
        // An exponent belongs to the last letter of a run.
        if letters.len() > 1
            && self.is_sign('^')
            && let Some(last) = letters.pop()
        {
            letters.push(self.postfix(last)?);
        }
        Ok(product(letters))
    }

    /// A function's exponent, base and argument, in the many ways they are written.
    fn call(&mut self, func: Func) -> Result<Expr, Stop> {
        let mut func = func;
        let mut base = None;
        let mut power = None;
        for _ in 0..2 {
            if func == Func::Log && base.is_none() && self.eat_sign('_') {
                base = Some(match self.peek() {
                    Some(Token::Number(digits)) => {
                        self.advance();
                        super::number::literal(digits)?
                    }
                    _ => self.argument()?,
                });
            } else if power.is_none() && self.is_sign('^') && !self.is_degree() {
                self.advance();
                power = Some(self.exponent()?);
            }
        }
        if power == Some(Expr::int(-1)) {
            func = func.inverse().ok_or(Stop::Unreadable)?;
            power = None;
        }
        let bracketed = matches!(
            self.peek(),
            Some(Token::Sign('(' | '[') | Token::Command("{"))
        );
        let mut arguments = if bracketed {
            self.arguments()?
        } else {
            vec![self.nested(Self::bare_argument)?]
        };
        if func == Func::Log {
            arguments.insert(0, base.unwrap_or_else(|| Expr::int(10)));
        }
        readable(func.takes(arguments.len()))?;
        let call = Expr::Call(func, arguments);
        Ok(match power {
            Some(power) => call.pow(power),
            None => call,
        })
    }

    /// `(a, b, …)`.
    pub(super) fn arguments(&mut self) -> Result<Vec<Expr>, Stop> {
        let close = self.closes[self.at].ok_or(Stop::Unreadable)?;
        self.advance();
        let outer = (self.brackets, self.in_list);
        (self.brackets, self.in_list) = (self.brackets + 1, true);
        let mut arguments = vec![self.nested(Self::expr)?];
        while self.eat_sign(',') {
            arguments.push(self.nested(Self::expr)?);
        }
        (self.brackets, self.in_list) = outer;
        readable(self.at == close)?;
        self.advance();
        Ok(arguments)
    }

    /// The argument of `\sin 2x`: factors up to a sign, a bracket or another function.
    fn bare_argument(&mut self) -> Result<Expr, Stop> {
        let negative = self.eat_sign('-');
        let mut factors = vec![self.factor()?];
        loop {
            let continues = match self.peek() {
                Some(Token::Word(word)) => {
                    self.gap() == Gap::None
                        && Func::named(word).is_none()
                        && word.chars().count() == 1
                        || self.used > 0
                }
                Some(Token::Command(c)) => {
                    matches!(c, "pi" | "frac" | "sqrt") || is_letter_command(c)
                }
                _ => false,
            };
            if !continues {
                break;
            }
            factors.push(self.factor()?);
        }
        let mut argument = product(factors);
        if self.is_sign('/') && matches!(self.peek_at(1), Some(Token::Number(_))) {
            self.advance();
            argument = argument.div(self.factor()?);
        }
        Ok(argument.negated_if(negative))
    }
}

/// Determinants of more rows are refused.
const MAX_DETERMINANT: usize = 4;

/// Expansion by the first row; `columns` are those that are left.
fn determinant(rows: &[Vec<Expr>], columns: &[usize]) -> Expr {
    let Some((first, rest)) = rows.split_first() else {
        return Expr::int(1);
    };
    let terms = columns.iter().enumerate().map(|(i, &column)| {
        let others: Vec<usize> = columns.iter().copied().filter(|c| *c != column).collect();
        let minor = Expr::Mul(vec![first[column].clone(), determinant(rest, &others)]);
        if i % 2 == 0 { minor } else { minor.negated() }
    });
    Expr::Add(terms.collect())
}

/// The complex conjugate of a constant, as far as it is written with `i` and arithmetic.
fn conjugate(e: &Expr) -> Option<Expr> {
    let all = |items: &[Expr]| items.iter().map(conjugate).collect::<Option<Vec<_>>>();
    Some(match e {
        Expr::I => Expr::I.negated(),
        Expr::Num(_) | Expr::Decimal(_) | Expr::Pi | Expr::E => e.clone(),
        Expr::Neg(x) => conjugate(x)?.negated(),
        Expr::Add(terms) => Expr::Add(all(terms)?),
        Expr::Mul(factors) => Expr::Mul(all(factors)?),
        Expr::Div(a, b) => conjugate(a)?.div(conjugate(b)?),
        Expr::Pow(base, power) if matches!(**power, Expr::Num(_)) => {
            conjugate(base)?.pow((**power).clone())
        }
        // Real, where nothing complex is in it.
        other if !other.any(|part| *part == Expr::I) => other.clone(),
        _ => return None,
    })
}

/// One name for marks that mean the same.
fn accent(name: &str) -> &str {
    match name {
        "overrightarrow" => "vec",
        "overline" => "bar",
        "widehat" => "hat",
        "widetilde" => "tilde",
        "measuredangle" | "sphericalangle" => "angle",
        other => other,
    }
}

/// `dy`, or `d` alone above `dx`.
fn is_differential(e: &Expr) -> bool {
    let is_d = |e: &Expr| matches!(e, Expr::Sym(name) if name == "d");
    match e {
        Expr::Mul(factors) => {
            factors.len() == 2 && is_d(&factors[0]) && matches!(factors[1], Expr::Sym(_))
        }
        e => is_d(e),
    }
}
