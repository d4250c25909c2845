//! JSON with the order of its fields kept, and printed as Python prints it.

use std::io;

use serde::Serialize;
use serde_json::ser::{CharEscape, Formatter};

/// The arguments of Python's `json.dumps`.
#[derive(Debug, Default)]
pub(super) struct Style {
    /// Blanks per level, if every entry has a line of its own.
    pub(super) indent: Option<usize>,
    /// Escape what is not ASCII.
    pub(super) ascii: bool,
    /// Between entries, and between key and value; Python's own if `None`.
    pub(super) separators: Option<(String, String)>,
    /// Fields by their names.
    pub(super) sort_keys: bool,
}

/// `json.dumps` of Python, floats as Python prints them.
pub(super) fn dumps<T: Serialize + ?Sized>(value: &T, style: Style) -> serde_json::Result<String> {
    let mut out = Vec::new();
    let comma = if style.indent.is_some() { "," } else { ", " };
    let separators = style.separators.clone();
    let printer = Python {
        separators: separators.unwrap_or_else(|| (comma.into(), ": ".into())),
        style: &style,
        depth: 0,
        empty: false,
    };
    let mut serializer = serde_json::Serializer::with_formatter(&mut out, printer);
    match style.sort_keys {
        // Objects of such values are sorted.
        true => serde_json::to_value(value)?.serialize(&mut serializer)?,
        false => value.serialize(&mut serializer)?,
    }
    String::from_utf8(out).map_err(serde::ser::Error::custom)
}

struct Python<'a> {
    style: &'a Style,
    separators: (String, String),
    depth: usize,
    empty: bool,
}

impl Python<'_> {
    fn open<W: io::Write + ?Sized>(&mut self, out: &mut W, bracket: &[u8]) -> io::Result<()> {
        self.depth += 1;
        self.empty = true;
        out.write_all(bracket)
    }

    fn close<W: io::Write + ?Sized>(&mut self, out: &mut W, bracket: &[u8]) -> io::Result<()> {
        self.depth -= 1;
        if !self.empty {
            self.line(out)?;
        }
        self.empty = false;
        out.write_all(bracket)
    }

    fn next<W: io::Write + ?Sized>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        self.empty = false;
        if !first {
            out.write_all(self.separators.0.as_bytes())?;
        }
        self.line(out)
    }

    fn line<W: io::Write + ?Sized>(&self, out: &mut W) -> io::Result<()> {
        match self.style.indent {
            None => Ok(()),
            Some(n) => write!(out, "\n{:1$}", "", n * self.depth),
        }
    }
}

impl Formatter for Python<'_> {
    fn begin_array<W: io::Write + ?Sized>(&mut self, out: &mut W) -> io::Result<()> {
        self.open(out, b"[")
    }

    fn end_array<W: io::Write + ?Sized>(&mut self, out: &mut W) -> io::Result<()> {
        self.close(out, b"]")
    }

    fn begin_array_value<W: io::Write + ?Sized>(
        &mut self,
        out: &mut W,
        first: bool,
    ) -> io::Result<()> {
        self.next(out, first)
    }

    fn begin_object<W: io::Write + ?Sized>(&mut self, out: &mut W) -> io::Result<()> {
        self.open(out, b"{")
    }

    fn end_object<W: io::Write + ?Sized>(&mut self, out: &mut W) -> io::Result<()> {
        self.close(out, b"}")
    }

    fn begin_object_key<W: io::Write + ?Sized>(
        &mut self,
        out: &mut W,
        first: bool,
    ) -> io::Result<()> {
        self.next(out, first)
    }

    fn begin_object_value<W: io::Write + ?Sized>(&mut self, out: &mut W) -> io::Result<()> {
        out.write_all(self.separators.1.as_bytes())
    }

    fn end_array_value<W: io::Write + ?Sized>(&mut self, _: &mut W) -> io::Result<()> {
        self.empty = false;
        Ok(())
    }

    fn end_object_value<W: io::Write + ?Sized>(&mut self, _: &mut W) -> io::Result<()> {
        self.empty = false;
        Ok(())
    }

    fn write_string_fragment<W: io::Write + ?Sized>(
        &mut self,
        out: &mut W,
        text: &str,
    ) -> io::Result<()> {
        if !self.style.ascii || text.is_ascii() {
            return out.write_all(text.as_bytes());
        }
        for c in text.chars() {
            if c.is_ascii() {
                write!(out, "{c}")?;
                continue;
            }
            for unit in c.encode_utf16(&mut [0; 2]) {
                write!(out, "\\u{unit:04x}")?;
            }
        }
        Ok(())
    }

    fn write_char_escape<W: io::Write + ?Sized>(
        &mut self,
        out: &mut W,
        escape: CharEscape,
    ) -> io::Result<()> {
        // serde_json's own, but for the letters of \u00xx, which are lower case in both.
        serde_json::ser::CompactFormatter.write_char_escape(out, escape)
    }

    fn write_f64<W: io::Write + ?Sized>(&mut self, out: &mut W, x: f64) -> io::Result<()> {
        out.write_all(python_float(x).as_bytes())
    }
}

/// `repr` of a finite float: the shortest digits that read back as the number, with an exponent
/// below 1e-4 and from 1e16 on.
pub(super) fn python_float(x: f64) -> String {
    let shortest = format!("{x:e}");
    let Some((digits, exponent)) = shortest.split_once('e') else {
        return shortest;
    };
    let exponent: i32 = exponent.parse().unwrap_or(0);
    match (-4..16).contains(&exponent) || x == 0.0 {
        true => format!("{x:?}"),
        false => {
            let sign = if exponent < 0 { '-' } else { '+' };
            format!("{digits}e{sign}{:02}", exponent.abs())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn floats_are_those_of_python() {
        // From Python's repr.
        for (x, text) in [
            (0.0, "0.0"),
            (-0.0, "-0.0"),
            (1.0, "1.0"),
            (0.1, "0.1"),
            (1e15, "1000000000000000.0"),
            (1e16, "1e+16"),
            (1.5e300, "1.5e+300"),
            (1e-4, "0.0001"),
            (1e-5, "1e-05"),
            (1.25e-7, "1.25e-07"),
            (123456.789, "123456.789"),
        ] {
            assert_eq!(python_float(x), text);
        }
    }

    #[test]
    fn strings_are_escaped_as_python_does() {
        let value = json!(["a\"\\\n\u{1}é\u{1F600}"]);
        let ascii = Style {
            ascii: true,
            ..Style::default()
        };
        assert_eq!(
            dumps(&value, Style::default()).unwrap(),
            "[\"a\\\"\\\\\\n\\u0001é\u{1F600}\"]"
        );
        assert_eq!(
            dumps(&value, ascii).unwrap(),
            r#"["a\"\\\n\u0001\u00e9\ud83d\ude00"]"#
        );
    }

    #[test]
    fn empty_things_stay_on_their_line() {
        let value = json!({"a": [], "b": {}, "c": [[]]});
        let indented = Style {
            indent: Some(1),
            ..Style::default()
        };
        let text = dumps(&value, indented).unwrap();
        assert_eq!(text, "{\n \"a\": [],\n \"b\": {},\n \"c\": [\n  []\n ]\n}");
        assert_eq!(
            dumps(&value, Style::default()).unwrap(),
            r#"{"a": [], "b": {}, "c": [[]]}"#
        );
    }
}
