//! Whole answers: lists, relations, sets, tuples, matrices, words.

use super::Parser;
use crate::expr::Expr;
use crate::fold::text_key;
use crate::form::{Form, Join, SetOperation, Sign};
use crate::fuel::{Stop, readable};
use crate::lex::Token;
use crate::units::spelled;

impl<'a> Parser<'a, '_> {
    /// A whole answer: items separated by commas, `and`, `or`.
    pub(super) fn whole(&mut self) -> Result<Form, Stop> {
        let mut items = Vec::new();
        let join = self.items(&mut items)?;
        Ok(if items.len() == 1 {
            items.remove(0)
        } else {
            Form::List(items, join)
        })
    }

    /// Reads at least one item, and says by which word they are joined.
    fn items(&mut self, into: &mut Vec<Form>) -> Result<Join, Stop> {
        let mut join = Join::Comma;
        loop {
            self.item(into)?;
            let separator = self.at;
            if !self.eat_separator() {
                return Ok(join);
            }
            let word = match &self.tokens[self.at.max(separator + 1) - 1].0 {
                Token::Word(w) => *w,
                Token::Text(t) => t.trim(),
                Token::Sign('&') => "and",
                _ => continue,
            };
            if word == "and" && join == Join::Comma {
                join = Join::And;
            } else if word != "and" {
                join = Join::Or;
            }
        }
    }

    /// One item, or two when it holds `±`: the upper and the lower signs.
    fn item(&mut self, into: &mut Vec<Form>) -> Result<(), Stop> {
        let start = (self.at, self.used);
        let outer = (self.upper_sign, self.saw_double_sign);
        (self.upper_sign, self.saw_double_sign) = (true, false);
        into.push(self.relation()?);
        if self.saw_double_sign {
            (self.at, self.used) = start;
            self.upper_sign = false;
            into.push(self.relation()?);
        }
        (self.upper_sign, self.saw_double_sign) = outer;
        Ok(())
    }

    fn eat_separator(&mut self) -> bool {
        let mut found = self.eat_sign(',') || self.eat_sign(';');
        if self.is_conjunction() {
            self.advance();
            found = true;
        }
        found
    }

    fn is_conjunction(&self) -> bool {
        self.is_sign('&') || matches!(self.word_or_text(), "and" | "or" | "or else")
    }

    /// Whether the current token ends an item.
    pub(super) fn at_item_end(&self) -> bool {
        self.is_conjunction()
            || self.relation_sign().is_some()
            || match self.peek() {
                None | Some(Token::Row | Token::End(_)) => true,
                Some(Token::Sign(c)) => matches!(c, ',' | ';' | ')' | ']' | '}' | '&'),
                Some(Token::Command(c)) => {
                    matches!(c, "}" | "rangle" | "cup" | "cap" | "setminus")
                }
                _ => false,
            }
    }

    fn relation_sign(&self) -> Option<Sign> {
        Some(match self.peek()? {
            Token::Sign('=' | '≡') => Sign::Equal,
            Token::Sign('<') => Sign::Less,
            Token::Sign('>') => Sign::Greater,
            Token::Command("le") => Sign::LessEqual,
            Token::Command("ge") => Sign::GreaterEqual,
            Token::Command("ne") => Sign::NotEqual,
            Token::Command("equiv" | "doteq") => Sign::Equal,
            Token::Command("approx" | "simeq" | "cong") => Sign::Approx,
            Token::Command("in") => Sign::In,
            Token::Word("in") if self.at > 0 => match self.peek_at(1)? {
                Token::Sign('(' | '[' | '{') => Sign::In,
                Token::Command("{" | "Reals" | "Integers" | "Naturals" | "Rationals") => Sign::In,
                _ => return None,
            },
            _ => return None,
        })
    }

    fn relation(&mut self) -> Result<Form, Stop> {
        // "= 5" continues a sentence; the relation is with nothing.
        if matches!(self.relation_sign(), Some(Sign::Equal | Sign::Approx)) {
            self.advance();
        }
        let first = self.set_chain()?;
        let (mut sides, mut signs) = (vec![first], Vec::new());
        while let Some(sign) = self.relation_sign() {
            self.advance();
            signs.push(sign);
            sides.push(self.set_chain()?);
        }
        Ok(if signs.is_empty() {
            sides.remove(0)
        } else {
            Form::Relation(sides, signs)
        })
    }

    fn set_chain(&mut self) -> Result<Form, Stop> {
        let first = self.primary()?;
        let mut rest = Vec::new();
        loop {
            let operation = match self.peek() {
                Some(Token::Command("cup" | "bigcup")) => SetOperation::Union,
                Some(Token::Command("cap" | "bigcap")) => SetOperation::Intersection,
                Some(Token::Command("setminus")) => SetOperation::Difference,
                Some(Token::Word("U" | "u"))
                    if matches!(first, Form::Tuple(..) | Form::Set(_))
                        && matches!(
                            self.peek_at(1),
                            Some(Token::Sign('(' | '[' | '{') | Token::Command("{"))
                        ) =>
                {
                    SetOperation::Union
                }
                Some(Token::Sign('-')) if matches!(first, Form::NamedSet(_)) => {
                    SetOperation::Difference
                }
                _ => break,
            };
            self.advance();
            rest.push((operation, self.primary()?));
        }
        Ok(if rest.is_empty() {
            first
        } else {
            Form::SetChain(Box::new(first), rest)
        })
    }

    fn primary(&mut self) -> Result<Form, Stop> {
        let open = self.at;
        match self.peek().ok_or(Stop::Unreadable)? {
            Token::Command("emptyset") => {
                self.advance();
                Ok(Form::NamedSet("Empty"))
            }
            Token::Command(
                name @ ("Reals" | "Integers" | "Naturals" | "Rationals" | "Complexes"),
            ) => {
                self.advance();
                Ok(Form::NamedSet(match name {
                    "Reals" => "Reals",
                    "Integers" => "Integers",
                    "Naturals" => "Naturals",
                    "Rationals" => "Rationals",
                    _ => "Complexes",
                }))
            }
            Token::Command("{") => self.nested(Self::set),
            Token::Sign('{')
                if self.used == 0 && (self.holds_separator(open) || self.is_set_operand(open)) =>
            {
                self.nested(Self::set)
            }
            Token::Sign('(' | '[') | Token::Command("langle") if self.holds_separator(open) => {
                self.nested(Self::tuple)
            }
            Token::Sign('(' | '[') if matches!(self.peek_at(1), Some(Token::Begin(_))) => {
                self.nested(Self::bracketed_matrix)
            }
            Token::Begin(kind) if kind != "vmatrix" => self.matrix(kind),
            Token::Text(_) | Token::Word(_) => match self.words() {
                Some(form) => Ok(form),
                None => self.scalar_form(),
            },
            _ => self.scalar_form(),
        }
    }

    /// Whether the braces at `open` stand beside `\cup` and its relatives: `{1} \cup {2}`.
    fn is_set_operand(&self, open: usize) -> bool {
        let joins = |token: Option<&(Token<'_>, super::Gap)>| {
            matches!(token, Some((Token::Command("cup" | "cap" | "setminus"), _)))
        };
        let close = self.closes[open];
        joins(self.tokens[..open].last()) || close.is_some_and(|c| joins(self.tokens.get(c + 1)))
    }

    fn tuple(&mut self) -> Result<Form, Stop> {
        let open = match self.peek() {
            Some(Token::Sign(c)) => c,
            _ => '(',
        };
        self.advance();
        let outer = (self.brackets, self.in_list);
        (self.brackets, self.in_list) = (self.brackets + 1, true);
        let mut items = vec![self.relation()?];
        while self.eat_sign(',') || self.eat_sign(';') {
            items.push(self.relation()?);
        }
        (self.brackets, self.in_list) = outer;
        let close = match self.peek() {
            Some(Token::Sign(c @ (')' | ']'))) => c,
            Some(Token::Command("rangle")) => ')',
            _ => return Err(Stop::Unreadable),
        };
        self.advance();
        Ok(Form::Tuple(open, items, close))
    }

    /// `\{…\}` or a plain `{a, b}`.
    fn set(&mut self) -> Result<Form, Stop> {
        let close = self.closes[self.at].ok_or(Stop::Unreadable)?;
        self.advance();
        if self.at == close {
            self.advance();
            return Ok(Form::NamedSet("Empty"));
        }
        let outer = (self.brackets, self.in_list);
        (self.brackets, self.in_list) = (self.brackets + 1, true);
        let form = if let Some(variable) = self.builder_head() {
            let condition = self.whole()?;
            Form::Builder(variable, Box::new(condition))
        } else {
            let mut items = Vec::new();
            self.items(&mut items)?;
            Form::Set(items)
        };
        (self.brackets, self.in_list) = outer;
        readable(self.at == close)?;
        self.advance();
        Ok(form)
    }

    /// `x :`, `x \mid`, `x \in \mathbb{R} :`.
    fn builder_head(&mut self) -> Option<String> {
        let Some(Token::Word(variable)) = self.peek() else {
            return None;
        };
        let mut i = 1;
        if self.peek_at(i) == Some(&Token::Command("in"))
            && self.peek_at(i + 1) == Some(&Token::Command("Reals"))
        {
            i += 2;
        }
        let is_bar = matches!(
            self.peek_at(i),
            Some(Token::Sign(':' | '|') | Token::Command("mid"))
        );
        if variable.chars().count() != 1 || !is_bar {
            return None;
        }
        self.at += i + 1;
        Some(variable.to_owned())
    }

    /// `\left(\begin{array}{cc}…\end{array}\right)`: the brackets are those of the matrix.
    fn bracketed_matrix(&mut self) -> Result<Form, Stop> {
        let close = self.closes[self.at].ok_or(Stop::Unreadable)?;
        self.advance();
        let Some(Token::Begin(kind)) = self.peek() else {
            return Err(Stop::Unreadable);
        };
        let matrix = self.matrix(kind)?;
        readable(self.at == close)?;
        self.advance();
        Ok(matrix)
    }

    fn matrix(&mut self, kind: &'a str) -> Result<Form, Stop> {
        const KINDS: &str = "pmatrix bmatrix matrix Bmatrix smallmatrix array";
        readable(KINDS.split(' ').any(|known| known == kind))?;
        self.advance();
        if kind == "array" && self.is_sign('{') {
            self.at = self.closes[self.at].ok_or(Stop::Unreadable)?;
            self.advance();
        }
        let mut rows = self.rows(kind)?;
        if self.eat_transpose() {
            rows = (0..rows[0].len())
                .map(|j| rows.iter().map(|row| row[j].clone()).collect())
                .collect();
        }
        Ok(Form::Matrix(rows))
    }

    /// The cells up to the end of the environment; all rows are equally long.
    pub(super) fn rows(&mut self, kind: &str) -> Result<Vec<Vec<Expr>>, Stop> {
        let mut rows = vec![vec![self.nested(Self::expr)?]];
        loop {
            match self.peek() {
                Some(Token::Sign('&')) => {
                    self.advance();
                    let cell = self.nested(Self::expr)?;
                    if let Some(row) = rows.last_mut() {
                        row.push(cell);
                    }
                }
                Some(Token::Row) => {
                    self.advance();
                    if !matches!(self.peek(), Some(Token::End(_))) {
                        rows.push(vec![self.nested(Self::expr)?]);
                    }
                }
                Some(Token::End(end)) if end == kind => {
                    self.advance();
                    break;
                }
                _ => return Err(Stop::Unreadable),
            }
        }
        readable(rows.iter().all(|row| row.len() == rows[0].len()))?;
        Ok(rows)
    }

    fn eat_transpose(&mut self) -> bool {
        let is_t = |token: Option<&Token<'_>>| {
            matches!(
                token,
                Some(Token::Word("T") | Token::Command("top" | "intercal"))
            )
        };
        if !self.is_sign('^') {
            return false;
        }
        let length = if is_t(self.peek_at(1)) {
            2
        } else if self.peek_at(1) == Some(&Token::Sign('{')) && is_t(self.peek_at(2)) {
            4
        } else {
            return false;
        };
        self.at += length;
        true
    }

    /// An item that consists of words. Leaves the position alone when it does not.
    fn words(&mut self) -> Option<Form> {
        let start = self.at;
        if self.used > 0 {
            return None;
        }
        let (mut text, mut words, mut quoted) = (String::new(), 0, false);
        while !self.at_item_end() {
            let (piece, gap) = match self.peek() {
                Some(Token::Text(t)) => {
                    quoted = true;
                    (t, self.gap())
                }
                Some(Token::Word(w)) => (w, self.gap()),
                Some(Token::Sign('-')) if words > 0 && self.is_hyphen() => ("-", self.gap()),
                Some(Token::Sign('\'')) if words > 0 => ("'", self.gap()),
                _ => {
                    self.at = start;
                    return None;
                }
            };
            if gap != super::Gap::None && !text.is_empty() {
                text.push(' ');
            }
            text.push_str(piece);
            words += 1;
            self.advance();
        }
        let form = self.word_form(&text, words, quoted);
        if form.is_none() {
            self.at = start;
        }
        form
    }

    /// Whether the `-` here joins two words of more than one letter.
    fn is_hyphen(&self) -> bool {
        let is_long = |token: Option<&(Token<'_>, super::Gap)>| matches!(token, Some((Token::Word(w), _)) if w.chars().count() > 1);
        self.gap() == super::Gap::None
            && self.gap_at(1) == super::Gap::None
            && is_long(self.tokens[..self.at].last())
            && is_long(self.tokens.get(self.at + 1))
    }

    fn word_form(&self, text: &str, words: usize, quoted: bool) -> Option<Form> {
        let key = text_key(text);
        if let Some(n) = spelled(&key) {
            return Some(Form::Scalar(Expr::int(n)));
        }
        if key == "infinity" {
            return Some(Form::Scalar(Expr::Infinity(false)));
        }
        if words > 1 {
            let is_prose = quoted || key.split(' ').all(|w| w.chars().count() > 1);
            return is_prose.then_some(Form::Text(key));
        }
        if quoted {
            let inner = key.trim_matches(['(', ')']);
            let is_formula = matches!(text.trim(), "e" | "i")
                || inner.contains(|c: char| !c.is_alphabetic() && !matches!(c, ' ' | '-' | '\''));
            return (!is_formula).then(|| Form::Text(inner.to_owned()));
        }
        let is_name = matches!(
            text,
            "pi" | "infinity" | "inf" | "infty" | "oo" | "theta" | "alpha" | "beta" | "phi"
        );
        (text.chars().count() > 1 && !is_name).then(|| Form::Letters(text.to_owned()))
    }
}
