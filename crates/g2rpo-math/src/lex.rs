//! Splits LaTeX and plain text into tokens.

use crate::fuel::Stop;

/// A piece of a formula.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Token<'a> {
    /// Digits with an optional fraction; may end in a point before a repeating block.
    Number(&'a str),
    /// A run of ASCII letters, or one other letter.
    Word(&'a str),
    /// A TeX command without its backslash.
    Command(&'a str),
    /// The contents of `\text{…}` and its relatives.
    Text(&'a str),
    /// Any other character.
    Sign(char),
    /// A comma that only groups digits: `{,}` or `,\!`.
    GroupComma,
    /// `\\`.
    Row,
    /// `\begin{…}`.
    Begin(&'a str),
    /// `\end{…}`.
    End(&'a str),
}

/// What separates a token from the one before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Gap {
    None,
    Thin,
    Blank,
}

/// Splits folded text into tokens with the gap before each.
pub(crate) fn lex(text: &str) -> Result<Vec<(Token<'_>, Gap)>, Stop> {
    let mut lexer = Lexer {
        text,
        at: 0,
        gap: Gap::None,
        tokens: Vec::with_capacity(text.len() / 2 + 1),
    };
    while lexer.at < text.len() {
        lexer.step()?;
    }
    Ok(lexer.tokens)
}

struct Lexer<'a> {
    text: &'a str,
    at: usize,
    gap: Gap,
    tokens: Vec<(Token<'a>, Gap)>,
}

impl<'a> Lexer<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn push(&mut self, token: Token<'a>, length: usize) {
        self.tokens.push((token, self.gap));
        self.gap = Gap::None;
        self.at += length;
    }

    fn skip(&mut self, length: usize, gap: Gap) {
        self.gap = self.gap.max(gap);
        self.at += length;
    }

    fn step(&mut self) -> Result<(), Stop> {
        let rest = self.rest();
        let Some(c) = rest.chars().next() else {
            return Ok(());
        };
        match c {
            ' ' => self.skip(1, Gap::Blank),
            '~' => self.skip(1, Gap::Thin),
            '\\' => return self.command(),
            '0'..='9' => self.number(),
            '.' if starts_with_digit(&rest[1..]) || starts_block(&rest[1..]) => self.number(),
            '{' if rest.starts_with("{:}") => self.push(Token::Sign(':'), 3),
            '{' if rest.starts_with("{,}") => self.push(Token::GroupComma, 3),
            ',' if rest.starts_with(",\\!") => self.push(Token::GroupComma, 3),
            'a'..='z' | 'A'..='Z' => {
                let end = rest.find(|c: char| !c.is_ascii_alphabetic());
                let end = end.unwrap_or(rest.len());
                self.push(Token::Word(&rest[..end]), end);
            }
            c if c.is_alphabetic() => self.push(Token::Word(&rest[..c.len_utf8()]), c.len_utf8()),
            '<' | '>' | '!' if rest[1..].starts_with('=') => {
                let name = match c {
                    '<' => "le",
                    '>' => "ge",
                    _ => "ne",
                };
                self.push(Token::Command(name), 2);
            }
            '*' if rest.starts_with("**") => self.push(Token::Sign('^'), 2),
            c => self.push(Token::Sign(c), c.len_utf8()),
        }
        Ok(())
    }

    fn number(&mut self) {
        let rest = self.rest();
        let bytes = rest.as_bytes();
        let digits = |from: usize| {
            bytes[from..]
                .iter()
                .position(|b| !b.is_ascii_digit())
                .map_or(bytes.len(), |n| from + n)
        };
        let mut end = digits(0);
        if bytes.get(end) == Some(&b'.') {
            let after = &rest[end + 1..];
            if starts_with_digit(after) {
                end = digits(end + 1);
            } else if starts_block(after) {
                end += 1;
            }
        }
        let sign = usize::from(matches!(bytes.get(end + 1), Some(b'+' | b'-')));
        if matches!(bytes.get(end), Some(b'e' | b'E')) && starts_with_digit(&rest[end + 1 + sign..])
        {
            end = digits(end + 1 + sign);
        }
        self.push(Token::Number(&rest[..end]), end);
    }

    fn command(&mut self) -> Result<(), Stop> {
        let rest = self.rest();
        let body = &rest[1..];
        let letters = body
            .find(|c: char| !c.is_ascii_alphabetic())
            .unwrap_or(body.len());
        if letters == 0 {
            let Some(c) = body.chars().next() else {
                return Err(Stop::Unreadable);
            };
            let length = 1 + c.len_utf8();
            match c {
                ',' | ';' | ':' | '>' | '!' | ' ' => self.skip(length, Gap::Thin),
                '\\' => self.push(Token::Row, length),
                '%' | '&' | '#' | '_' => self.push(Token::Sign(c), length),
                _ => self.push(Token::Command(&body[..c.len_utf8()]), length),
            }
            return Ok(());
        }
        let name = &body[..letters];
        let length = 1 + letters;
        match name {
            "left" | "right" | "big" | "Big" | "bigg" | "Bigg" | "bigl" | "bigr" | "Bigl"
            | "Bigr" | "biggl" | "biggr" | "Biggl" | "Biggr" | "middle" => {
                self.skip(length, Gap::None);
                let after = self.rest().trim_start();
                if after.starts_with('.') && !starts_with_digit(&after[1..]) {
                    self.at = self.text.len() - after.len() + 1;
                }
            }
            "displaystyle" | "textstyle" | "scriptstyle" | "limits" | "nolimits" | "mathbf"
            | "mathit" | "boldsymbol" | "bm" | "mathcal" | "bf" | "rm" | "it" | "boxed"
            | "fbox" | "underline" | "emph" | "large" | "Large" | "mathsf" | "mathnormal" => {
                self.skip(length, Gap::None);
            }
            "quad" | "qquad" | "thinspace" | "space" | "enspace" | "hfill" => {
                self.skip(length, Gap::Blank);
            }
            "text" | "mbox" | "hbox" | "textbf" | "textit" | "textrm" | "textnormal" | "textsf"
            | "texttt" | "mathrm" | "operatorname" | "mathop" | "textup" => {
                // `\mathrm e` takes one letter.
                let after = body[letters..].trim_start();
                if let Some(c) = after.chars().next().filter(char::is_ascii_alphabetic) {
                    let start = rest.len() - after.len();
                    let end = start + c.len_utf8();
                    self.push(Token::Text(&rest[start..end]), end);
                    return Ok(());
                }
                let (start, end) = self.group(length)?;
                let content = &rest[start..end];
                self.push(Token::Text(content), end + 1);
            }
            "mathbb" => {
                let after = body[letters..].trim_start();
                let (symbol, length) = if after.starts_with('{') {
                    let (start, end) = self.group(length)?;
                    (&rest[start..end], end + 1)
                } else {
                    let blank = body[letters..].len() - after.len();
                    let c = after.chars().next().ok_or(Stop::Unreadable)?;
                    let start = length + blank;
                    (&rest[start..start + c.len_utf8()], start + c.len_utf8())
                };
                let name = match symbol.trim() {
                    "R" => "Reals",
                    "Z" => "Integers",
                    "N" => "Naturals",
                    "Q" => "Rationals",
                    "C" => "Complexes",
                    _ => return Err(Stop::Unreadable),
                };
                self.push(Token::Command(name), length);
            }
            // `\color{red}5`, `\textcolor{red}{5}`: the colour says nothing.
            "color" | "textcolor" | "colorbox" => {
                let (_, end) = self.group(length)?;
                self.skip(end + 1, Gap::None);
            }
            "begin" | "end" => {
                let (start, end) = self.group(length)?;
                let what = &rest[start..end];
                let token = if name == "begin" {
                    Token::Begin(what)
                } else {
                    Token::End(what)
                };
                self.push(token, end + 1);
            }
            "dfrac" | "tfrac" | "cfrac" => self.push(Token::Command("frac"), length),
            "dbinom" | "tbinom" => self.push(Token::Command("binom"), length),
            "leq" | "leqslant" | "leqq" => self.push(Token::Command("le"), length),
            "geq" | "geqslant" | "geqq" => self.push(Token::Command("ge"), length),
            "neq" => self.push(Token::Command("ne"), length),
            "lt" => self.push(Token::Sign('<'), length),
            "gt" => self.push(Token::Sign('>'), length),
            "lbrace" => self.push(Token::Command("{"), length),
            "rbrace" => self.push(Token::Command("}"), length),
            "lbrack" => self.push(Token::Sign('['), length),
            "rbrack" => self.push(Token::Sign(']'), length),
            "lparen" => self.push(Token::Sign('('), length),
            "rparen" => self.push(Token::Sign(')'), length),
            "vert" | "lvert" | "rvert" => self.push(Token::Sign('|'), length),
            "Vert" | "lVert" | "rVert" => self.push(Token::Command("|"), length),
            "colon" => self.push(Token::Sign(':'), length),
            "lor" | "vee" => self.push(Token::Word("or"), length),
            "land" | "wedge" => self.push(Token::Word("and"), length),
            "varnothing" => self.push(Token::Command("emptyset"), length),
            "varepsilon" => self.push(Token::Command("epsilon"), length),
            "vartheta" => self.push(Token::Command("theta"), length),
            "varphi" => self.push(Token::Command("phi"), length),
            "imath" => self.push(Token::Word("i"), length),
            "ast" => self.push(Token::Sign('*'), length),
            "degree" | "degrees" => {
                self.push(Token::Sign('^'), 0);
                self.push(Token::Command("circ"), length);
            }
            "prime" => self.push(Token::Sign('\''), length),
            "backslash" => self.push(Token::Command("setminus"), length),
            "euro" => self.push(Token::Sign('€'), length),
            "pounds" => self.push(Token::Sign('£'), length),
            "dollar" => self.push(Token::Command("$"), length),
            "percent" => self.push(Token::Sign('%'), length),
            _ => self.push(Token::Command(name), length),
        }
        Ok(())
    }

    /// Start and end of the contents of the brace group that follows `from` bytes into the rest.
    fn group(&self, from: usize) -> Result<(usize, usize), Stop> {
        let rest = self.rest();
        let blank = rest[from..].len() - rest[from..].trim_start().len();
        let open = from + blank;
        if !rest[open..].starts_with('{') {
            return Err(Stop::Unreadable);
        }
        let (mut depth, mut escaped) = (0usize, false);
        for (i, b) in rest.bytes().enumerate().skip(open) {
            match b {
                b'\\' => {
                    escaped = !escaped;
                    continue;
                }
                b'{' if !escaped => depth += 1,
                b'}' if !escaped => {
                    depth -= 1;
                    if depth == 0 {
                        return Ok((open + 1, i));
                    }
                }
                _ => {}
            }
            escaped = false;
        }
        Err(Stop::Unreadable)
    }
}

/// Whether a repeating block of decimals begins here.
fn starts_block(text: &str) -> bool {
    ["\\overline", "\\bar", "\\dot{"]
        .iter()
        .any(|c| text.trim_start().starts_with(c))
}

fn starts_with_digit(text: &str) -> bool {
    text.as_bytes().first().is_some_and(u8::is_ascii_digit)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(text: &str) -> Vec<Token<'_>> {
        lex(text).unwrap().into_iter().map(|(t, _)| t).collect()
    }

    #[test]
    fn latex_is_split_into_tokens() {
        use Token::{Command, GroupComma, Number, Sign, Text, Word};
        assert_eq!(
            tokens("\\left(\\dfrac12, x\\right]"),
            [
                Sign('('),
                Command("frac"),
                Number("12"),
                Sign(','),
                Word("x"),
                Sign(']')
            ]
        );
        assert_eq!(
            tokens("10,\\!080\\mbox{ cm}^2"),
            [
                Number("10"),
                GroupComma,
                Number("080"),
                Text(" cm"),
                Sign('^'),
                Number("2")
            ]
        );
        assert_eq!(
            tokens("0.\\overline{3}"),
            [
                Number("0."),
                Command("overline"),
                Sign('{'),
                Number("3"),
                Sign('}')
            ]
        );
        assert_eq!(tokens("\\mathbb R"), [Command("Reals")]);
        assert_eq!(tokens("x<=.5"), [Word("x"), Command("le"), Number(".5")]);
    }

    #[test]
    fn gaps_are_kept() {
        let gaps: Vec<Gap> = lex("1\\,234 5 ").unwrap().iter().map(|t| t.1).collect();
        assert_eq!(gaps, [Gap::None, Gap::Thin, Gap::Blank]);
    }

    #[test]
    fn unclosed_groups_are_unreadable() {
        assert_eq!(lex("\\text{a"), Err(Stop::Unreadable));
        assert_eq!(lex("\\mathbb"), Err(Stop::Unreadable));
        assert_eq!(lex("\\"), Err(Stop::Unreadable));
    }
}
