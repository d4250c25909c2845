//! What stands behind a number: units, percent signs, ratios, times of day.

use dashu::rational::RBig;

use super::Parser;
use super::scalar::sum;
use crate::expr::Expr;
use crate::form::Form;
use crate::fuel::Stop;
use crate::lex::{Gap, Token};
use crate::units::{Unit, multiplier};

impl Parser<'_, '_> {
    /// A number with what belongs to it: currency sign, unit, ratio, time of day.
    pub(super) fn scalar_form(&mut self) -> Result<Form, Stop> {
        if let Some(form) = self.time().or_else(|| self.ordinal()) {
            return Ok(form);
        }
        let negative = self.is_sign('-') && self.currency_at(1).is_some();
        let currency = self.currency_at(usize::from(negative));
        if let Some((_, length)) = &currency {
            self.at += length + usize::from(negative);
        }
        let currency = currency.map(|(unit, _)| unit);
        let mut value = self.expr()?;
        value = value.negated_if(negative);
        if self.is_sign(':') && currency.is_none() {
            return self.ratio(value);
        }
        value = self.multiplied(value);
        if let Some(currency) = currency {
            // "$5 dollars" says it twice; anything else behind a price is another quantity.
            if let Some(again) = self.unit()?
                && (!again.converts_to(&currency) || again.factor != currency.factor)
            {
                return Err(Stop::Unreadable);
            }
            return Ok(Form::Quantity(value, currency, 1));
        }
        let (value, mark) = match value {
            Expr::Degree(x) => (*x, Some(self.after_degree())),
            Expr::Percent(x) => (*x, Some(Unit::mark("%"))),
            other => (other, None),
        };
        let unit = match mark {
            Some(unit) => Some(unit),
            None => self.unit()?,
        };
        match unit {
            None => Ok(Form::Scalar(value)),
            Some(unit) => self.compound(value, unit),
        }
    }

    /// A currency before its number, and how many tokens it takes: `$`, `US$`, `USD`, `Rs.`
    fn currency_at(&self, offset: usize) -> Option<(Unit, usize)> {
        let sign = |offset: usize| match self.peek_at(offset)? {
            Token::Sign(c) => Unit::currency(*c),
            Token::Command("$") => Unit::currency('$'),
            _ => None,
        };
        if let Some(unit) = sign(offset) {
            return Some((unit, 1));
        }
        let (Token::Word(name) | Token::Text(name)) = self.peek_at(offset)? else {
            return None;
        };
        let (unit, length) = match name.trim() {
            "US" => (sign(offset + 1)?, 2),
            code @ ("USD" | "EUR" | "GBP") => (Unit::named(code)?, 1),
            "Rs" if self.peek_at(offset + 1) == Some(&Token::Sign('.')) => {
                (Unit::currency('₹')?, 2)
            }
            "Rs" => (Unit::currency('₹')?, 1),
            _ => return None,
        };
        matches!(self.peek_at(offset + length), Some(Token::Number(_))).then_some((unit, length))
    }

    /// `1st`, `2^{nd}`, `3\text{rd}`, and nothing else: the number.
    fn ordinal(&mut self) -> Option<Form> {
        let Token::Number(digits) = self.peek()? else {
            return None;
        };
        let is_power = self.peek_at(1) == Some(&Token::Sign('^'));
        let is_braced = is_power && self.peek_at(2) == Some(&Token::Sign('{'));
        let at = 1 + usize::from(is_power) + usize::from(is_braced);
        let (Token::Word(ending) | Token::Text(ending)) = self.peek_at(at)? else {
            return None;
        };
        let value: i64 = digits.parse().ok()?;
        let wanted = match (value % 10, value % 100) {
            (_, 11..=13) => "th",
            (1, _) => "st",
            (2, _) => "nd",
            (3, _) => "rd",
            _ => "th",
        };
        let end = at + 1 + usize::from(is_braced);
        if ending.trim() != wanted || self.used > 0 || self.at > 0 || self.peek_at(end).is_some() {
            return None;
        }
        self.at += end;
        Some(Form::Scalar(Expr::int(value)))
    }

    /// `^\circ` may belong to a temperature scale.
    fn after_degree(&mut self) -> Unit {
        match self.word_or_text() {
            name @ ("C" | "F") => {
                self.advance();
                Unit::named(name).unwrap_or_else(|| Unit::mark("°"))
            }
            _ => Unit::mark("°"),
        }
    }

    /// `1.5 million`.
    fn multiplied(&mut self, value: Expr) -> Expr {
        match multiplier(self.word_or_text()) {
            Some(times) => {
                self.advance();
                Expr::Mul(vec![value, Expr::int(times)])
            }
            None => value,
        }
    }

    fn ratio(&mut self, first: Expr) -> Result<Form, Stop> {
        let mut parts = vec![first];
        while self.eat_sign(':') {
            parts.push(self.expr()?);
        }
        Ok(Form::Ratio(parts))
    }

    /// `12:30`, `7:05 pm`. Two digits behind the colon make it a time, not a ratio.
    fn time(&mut self) -> Option<Form> {
        let (Token::Number(hours), Token::Sign(':'), Token::Number(minutes)) =
            (self.peek()?, self.peek_at(1)?, self.peek_at(2)?)
        else {
            return None;
        };
        let is_time = hours.len() <= 2 && minutes.len() == 2 && self.gap_at(2) == Gap::None;
        let (hours, minutes): (u32, u32) = (hours.parse().ok()?, minutes.parse().ok()?);
        if !is_time || hours > 24 || minutes > 59 || self.peek_at(3) == Some(&Token::Sign(':')) {
            return None;
        }
        self.at += 3;
        let half = match self.peek() {
            Some(Token::Word(w)) => w.to_lowercase(),
            Some(Token::Text(t)) => t.replace(['.', ' ', '~'], "").to_lowercase(),
            _ => String::new(),
        };
        let afternoon = match half.as_str() {
            "am" => Some(false),
            "pm" => Some(true),
            _ => None,
        };
        if afternoon.is_some() {
            self.advance();
        }
        Some(Form::Time(hours * 60 + minutes, afternoon))
    }

    /// A unit, if one follows. Words that are no unit are things that are counted.
    fn unit(&mut self) -> Result<Option<Unit>, Stop> {
        let mut text = String::new();
        while !self.at_item_end() {
            match self.peek() {
                Some(Token::Text(t)) => {
                    if text.ends_with('μ') {
                        text.push_str(t.trim_start());
                    } else {
                        text.push(' ');
                        text.push_str(t);
                    }
                    text.push(' ');
                }
                Some(Token::Word(w)) => {
                    if !text.ends_with('μ') {
                        text.push(' ');
                    }
                    text.push_str(w);
                }
                Some(Token::Command("mu")) => text.push_str(" μ"),
                Some(Token::Command("Omega")) => {
                    let prefix = text.trim_end();
                    if prefix.ends_with([' ', 'k', 'M']) {
                        text.truncate(prefix.len());
                    } else {
                        text.push(' ');
                    }
                    text.push_str("Omega");
                }
                // `18$` names the currency behind the number.
                Some(Token::Sign(c)) if text.is_empty() && Unit::currency(c).is_some() => {
                    self.advance();
                    return Ok(Unit::currency(c));
                }
                Some(Token::Command("$")) if text.is_empty() => {
                    self.advance();
                    return Ok(Unit::currency('$'));
                }
                Some(Token::Sign('/')) if !text.is_empty() => text.push('/'),
                Some(Token::Sign('.')) if !text.is_empty() => {}
                Some(Token::Command("cdot")) if !text.is_empty() => text.push(' '),
                Some(Token::Sign('^')) if !text.is_empty() => {
                    self.advance();
                    let braced = self.eat_sign('{');
                    let sign = if self.eat_sign('-') { "-" } else { "" };
                    let Some(Token::Number(power)) = self.peek() else {
                        return Err(Stop::Unreadable);
                    };
                    text = text.trim_end().to_owned();
                    text.push('^');
                    text.push_str(sign);
                    text.push_str(power);
                    if braced && self.peek_at(1) != Some(&Token::Sign('}')) {
                        return Err(Stop::Unreadable);
                    }
                    self.at += usize::from(braced);
                }
                Some(Token::Number(_)) if !text.is_empty() => break,
                _ => return Err(Stop::Unreadable),
            }
            self.advance();
        }
        // `\text{ hours and } 20 \text{ minutes}`
        let text = text.trim_end();
        let text = text.strip_suffix(" and").unwrap_or(text);
        if text.trim().is_empty() {
            return Ok(None);
        }
        read_unit(text).map(Some).ok_or(Stop::Unreadable)
    }

    /// `3 h 20 min`, `5 feet and 3 inches`: later parts are added in the first part's unit.
    fn compound(&mut self, value: Expr, unit: Unit) -> Result<Form, Stop> {
        let (mut terms, mut parts) = (vec![value], 1);
        loop {
            let start = (self.at, self.used);
            if self.word_or_text() == "and" {
                self.advance();
            }
            let next = match self.peek() {
                Some(Token::Number(_)) => {
                    let value = self.expr()?;
                    self.unit()?.map(|unit| (value, unit))
                }
                _ => None,
            };
            match next {
                Some((value, next)) if next.converts_to(&unit) && next.factor != unit.factor => {
                    let factor: RBig = next.factor / unit.factor.clone();
                    terms.push(Expr::Mul(vec![value, Expr::Num(factor)]));
                    parts += 1;
                }
                // Not a part of this quantity: the separator decides what it is.
                _ => {
                    (self.at, self.used) = start;
                    break;
                }
            }
        }
        let value = sum(terms);
        Ok(if unit.is_none() {
            Form::Scalar(value)
        } else {
            Form::Quantity(value, unit, parts)
        })
    }
}

/// Reads `square inches`, `cm^2`, `m/s^2`, `miles per hour`, `red apples`.
fn read_unit(text: &str) -> Option<Unit> {
    // Letters of `\text{μm}` come folded.
    let text = &text.replace("\\mu ", "μ").replace("\\Omega", "Omega");
    let mut unit = Unit::none();
    let (mut direction, mut next_power) = (1, 1);
    let mut things: Vec<&str> = Vec::new();
    for chunk in text.split_inclusive('/') {
        for word in chunk.trim_end_matches('/').split([' ', '~', '·', '*']) {
            let word = word.trim_matches(['.', '(', ')', '\\', ',']);
            match word {
                "" | "of" | "each" => continue,
                "per" | "an" | "a" => {
                    direction = -1;
                    continue;
                }
                "and" | "or" | "not" | "but" | "half" | "third" | "thirds" | "quarter"
                | "quarters" | "to" | "than" | "more" | "less" | "plus" | "minus" | "times"
                | "maybe" | "about" | "nor" | "if" | "unless" | "otherwise" | "either"
                | "neither" | "perhaps" | "possibly" | "except" | "when" => return None,
                "square" | "sq" | "squared" => {
                    next_power = 2;
                    continue;
                }
                "cubic" | "cu" => {
                    next_power = 3;
                    continue;
                }
                _ => {}
            }
            let (name, power) = match word.split_once('^') {
                Some((name, power)) => (name, power.parse::<i32>().ok()?),
                None => (word, next_power),
            };
            next_power = 1;
            if !name.chars().all(char::is_alphabetic) {
                return None;
            }
            match Unit::named(name) {
                Some(known) => unit = unit.times(&known, direction * power)?,
                // A single letter that is no unit is a variable that does not belong here.
                None if name.chars().count() < 2 => return None,
                None => things.push(name),
            }
        }
        if chunk.ends_with('/') {
            direction = -1;
        }
    }
    if let Some((last, before)) = things.split_last() {
        let thing = Unit::counted(last);
        let mut name = thing.powers[0].0.clone();
        for word in before {
            name.push(' ');
            name.push_str(&word.to_lowercase());
        }
        let thing = Unit {
            factor: RBig::ONE,
            powers: vec![(name, 1)],
        };
        unit = unit.times(&thing, 1)?;
    }
    Some(unit)
}
