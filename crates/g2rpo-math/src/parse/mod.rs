//! Reads an answer. Recursive descent that must consume every token; what it cannot read is
//! unreadable, never guessed.

mod atom;
mod based;
mod combination;
mod command;
mod form;
mod number;
mod scalar;
mod suffix;

use crate::fold::{fold, text_key, unwrap, without_delimiters};
use crate::form::{Form, Sign};
use crate::fuel::{Fuel, Stop, readable};
use crate::lex::{Gap, Token, lex};

/// Longer answers are refused: the longest gold of MATH has 400 bytes.
pub(crate) const MAX_BYTES: usize = 4096;
const MAX_TOKENS: usize = 2000;
const MAX_DEPTH: usize = 200;

/// How commas between digits are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Commas {
    /// `1,234` is one number.
    #[default]
    Thousands,
    /// `1,234` is two numbers.
    Separate,
    /// `1,5` is 3/2.
    Decimal,
}

/// Reads `text` as an answer.
pub(crate) fn parse(text: &str, commas: Commas, fuel: &mut Fuel) -> Result<Form, Stop> {
    if text.len() > MAX_BYTES {
        return Err(Stop::TooComplex);
    }
    fuel.spend(1 + text.len() as u64 / 64)?;
    let folded = fold(text);
    let bare = without_delimiters(unwrap(&folded));
    let bare = unwrap_text(unwrap(&bare)).replace(".m.", "m");
    let bare = bare.trim();
    match read(bare, commas, fuel) {
        Err(Stop::Unreadable) if is_prose(bare) => Ok(Form::Text(text_key(bare))),
        Err(Stop::Unreadable) => named(bare, commas, fuel),
        other => other,
    }
}

/// `\mathrm{E}[X] = 3`: a statement about a quantity whose name no grammar reads. The name is kept as text.
fn named(text: &str, commas: Commas, fuel: &mut Fuel) -> Result<Form, Stop> {
    let at = name_end(text).ok_or(Stop::Unreadable)?;
    let name = Form::Text(text_key(text[..at].trim()));
    let (mut all, mut signs) = (vec![name], vec![Sign::Equal]);
    match read(text[at + 1..].trim(), commas, fuel)? {
        Form::Relation(sides, more) => {
            all.extend(sides);
            signs.extend(more);
        }
        Form::List(..) => return Err(Stop::Unreadable),
        value => all.push(value),
    }
    Ok(Form::Relation(all, signs))
}

/// Where the `=` behind a name stands. A name begins with a letter or sign, not with a number, and does not
/// say anything itself.
fn name_end(text: &str) -> Option<usize> {
    let mut depth = 0usize;
    let mut end = None;
    let mut escaped = false;
    for (i, b) in text.bytes().enumerate().take(200) {
        let is_sign = !std::mem::replace(&mut escaped, b == b'\\');
        match b {
            // `\,` separates nothing.
            _ if !is_sign => {}
            b'{' | b'(' | b'[' => depth += 1,
            b'}' | b')' | b']' => depth = depth.saturating_sub(1),
            b'=' if depth == 0 => {
                end = Some(i);
                break;
            }
            b',' | b';' | b'<' | b'>' | b'!' if depth == 0 => return None,
            _ => {}
        }
    }
    let name = &text[..end?];
    let says = [
        "not", "or", "and", "is", "are", "because", "but", "if", "when", "so", "then", "ne", "neq",
        "approx", "le", "ge", "leq", "geq", "lt", "gt", "either", "pm",
    ];
    let begins = name
        .trim_start()
        .starts_with(|c: char| c.is_alphabetic() || matches!(c, '\\' | '|' | '[' | '#' | '('));
    let is_name = begins
        && name.contains(char::is_alphabetic)
        && !name
            .split(|c: char| !c.is_alphabetic())
            .any(|word| says.contains(&word.to_lowercase().as_str()));
    end.filter(|_| is_name)
}

fn read(text: &str, commas: Commas, fuel: &mut Fuel) -> Result<Form, Stop> {
    let tokens = lex(text)?;
    if tokens.len() > MAX_TOKENS {
        return Err(Stop::TooComplex);
    }
    let mut parser = Parser::new(tokens, commas, fuel)?;
    let form = parser.whole()?;
    readable(parser.at == parser.tokens.len())?;
    Ok(form)
}

/// Takes `\text{…}` off when it wraps everything and holds more than words.
fn unwrap_text(text: &str) -> &str {
    for open in ["\\text{", "\\textbf{", "\\mathrm{", "\\mbox{"] {
        if let Some(inner) = text.strip_prefix(open).and_then(|t| t.strip_suffix('}'))
            && !inner.contains(['{', '}'])
            && inner.contains(|c: char| c.is_ascii_digit())
        {
            return inner;
        }
    }
    text
}

/// Words, and numbers among words of three letters or more, as in `June 20`.
fn is_prose(text: &str) -> bool {
    let (mut letters, mut run, mut longest, mut digits) = (0, 0, 0, false);
    for c in text.chars() {
        run = if c.is_alphabetic() { run + 1 } else { 0 };
        longest = longest.max(run);
        match c {
            c if c.is_alphabetic() => letters += 1,
            '0'..='9' => digits = true,
            ' ' | '-' | '\'' | '.' | '"' => {}
            _ => return false,
        }
    }
    letters >= 2 && (!digits || longest >= 3)
}

pub(super) struct Parser<'a, 'f> {
    tokens: Vec<(Token<'a>, Gap)>,
    /// For every opening bracket, the index of its closing one.
    closes: Vec<Option<usize>>,
    at: usize,
    /// Bytes of the current number or word that are already used: `\frac12` reads one digit each.
    used: usize,
    depth: usize,
    /// Depth of brackets in which a comma separates items.
    brackets: usize,
    commas: Commas,
    /// Whether a comma can only separate: among arguments, in a tuple or a set.
    in_list: bool,
    /// Whether a bar closes what a bar has opened: `|x||y|` is a product of two.
    in_bars: bool,
    /// What `±` means now, and whether one was met.
    upper_sign: bool,
    saw_double_sign: bool,
    /// Where the last exponent ended.
    power_end: Option<usize>,
    fuel: &'f mut Fuel,
}

impl<'a, 'f> Parser<'a, 'f> {
    fn new(
        tokens: Vec<(Token<'a>, Gap)>,
        commas: Commas,
        fuel: &'f mut Fuel,
    ) -> Result<Self, Stop> {
        Ok(Self {
            closes: match_brackets(&tokens)?,
            tokens,
            at: 0,
            used: 0,
            depth: 0,
            brackets: 0,
            commas,
            in_list: false,
            in_bars: false,
            upper_sign: true,
            saw_double_sign: false,
            power_end: None,
            fuel,
        })
    }

    /// The current token, less what is used of it.
    fn peek(&self) -> Option<Token<'a>> {
        let token = &self.tokens.get(self.at)?.0;
        Some(match token {
            Token::Number(text) => Token::Number(&text[self.used..]),
            Token::Word(text) => Token::Word(&text[self.used..]),
            other => other.clone(),
        })
    }

    /// The word here, or the text of a text command; blank where neither stands.
    fn word_or_text(&self) -> &'a str {
        match self.peek() {
            Some(Token::Word(word)) => word,
            Some(Token::Text(text)) => text.trim(),
            _ => "",
        }
    }

    /// The first letter of a word, which is used up with it.
    fn first_letter(&mut self, word: &'a str) -> &'a str {
        let length = word.chars().next().map_or(1, char::len_utf8);
        self.advance_within(length);
        &word[..length]
    }

    fn peek_at(&self, offset: usize) -> Option<&Token<'a>> {
        self.tokens.get(self.at + offset).map(|t| &t.0)
    }

    fn gap(&self) -> Gap {
        match self.tokens.get(self.at) {
            Some((_, gap)) if self.used == 0 => *gap,
            _ => Gap::None,
        }
    }

    fn gap_at(&self, offset: usize) -> Gap {
        self.tokens.get(self.at + offset).map_or(Gap::None, |t| t.1)
    }

    fn advance(&mut self) {
        self.at += 1;
        self.used = 0;
    }

    /// Uses `bytes` of the current number or word.
    fn advance_within(&mut self, bytes: usize) {
        self.used += bytes;
        let length = match &self.tokens[self.at].0 {
            Token::Number(text) | Token::Word(text) => text.len(),
            _ => 0,
        };
        if self.used >= length {
            self.advance();
        }
    }

    fn is_sign(&self, c: char) -> bool {
        self.peek() == Some(Token::Sign(c))
    }

    fn is_command(&self, name: &str) -> bool {
        matches!(self.peek(), Some(Token::Command(n)) if n == name)
    }

    fn eat_sign(&mut self, c: char) -> bool {
        let found = self.is_sign(c);
        if found {
            self.advance();
        }
        found
    }

    fn eat_command(&mut self, name: &str) -> bool {
        let found = self.is_command(name);
        if found {
            self.advance();
        }
        found
    }

    fn expect_sign(&mut self, c: char) -> Result<(), Stop> {
        readable(self.eat_sign(c))
    }

    /// Runs `read` one level deeper.
    fn nested<T>(&mut self, read: impl FnOnce(&mut Self) -> Result<T, Stop>) -> Result<T, Stop> {
        self.fuel.spend(1)?;
        if self.depth >= MAX_DEPTH {
            return Err(Stop::TooComplex);
        }
        self.depth += 1;
        let outer = std::mem::take(&mut self.in_bars);
        let result = read(self);
        self.in_bars = outer;
        self.depth -= 1;
        result
    }

    /// Whether a comma or semicolon stands directly between the bracket at `open` and its partner.
    fn holds_separator(&self, open: usize) -> bool {
        let Some(close) = self.closes[open] else {
            return false;
        };
        let mut i = open + 1;
        while i < close {
            match (&self.tokens[i].0, self.closes[i]) {
                (Token::Sign(',' | ';'), _) => return true,
                (_, Some(inner)) => i = inner,
                _ => {}
            }
            i += 1;
        }
        false
    }
}

/// Pairs brackets; `[` may close with `)` and `(` with `]`, as half-open intervals do.
fn match_brackets(tokens: &[(Token<'_>, Gap)]) -> Result<Vec<Option<usize>>, Stop> {
    let mut closes = vec![None; tokens.len()];
    let mut open: Vec<(usize, u8)> = Vec::new();
    for (i, (token, _)) in tokens.iter().enumerate() {
        let (kind, opens) = match token {
            Token::Sign('(' | '[') => (0, true),
            Token::Sign(')' | ']') => (0, false),
            Token::Sign('{') => (1, true),
            Token::Sign('}') => (1, false),
            Token::Command("{") => (2, true),
            Token::Command("}") => (2, false),
            Token::Command("langle") => (3, true),
            Token::Command("rangle") => (3, false),
            Token::Command("lfloor") => (4, true),
            Token::Command("rfloor") => (4, false),
            Token::Command("lceil") => (5, true),
            Token::Command("rceil") => (5, false),
            _ => continue,
        };
        if opens {
            open.push((i, kind));
            continue;
        }
        match open.pop() {
            Some((start, k)) if k == kind => closes[start] = Some(i),
            _ => return Err(Stop::Unreadable),
        }
    }
    readable(open.is_empty())?;
    Ok(closes)
}
