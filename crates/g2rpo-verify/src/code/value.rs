//! Python values as they cross the pipe from the sandbox.

use std::fmt;

/// A value of Python's built-in types, as it crosses the pipe to and from the sandbox.
///
/// ```
/// use g2rpo_verify::code::Value;
///
/// let pair = Value::Tuple(vec![Value::from(3), Value::Float(0.5)]);
/// assert_eq!(Value::decode(&pair.encode()).unwrap(), pair);
/// ```
///
/// The derived equality compares representations. Python's `==`, in which `1`, `1.0` and `True` are
/// equal and the order in a set is not looked at, is [`python_eq`](Self::python_eq).
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// `None`
    None,
    /// `True` or `False`
    Bool(bool),
    /// A whole number of any size.
    Int(Int),
    /// A double.
    Float(f64),
    /// A complex number: real and imaginary part.
    Complex(f64, f64),
    /// A string.
    Str(String),
    /// A byte string.
    Bytes(Vec<u8>),
    /// A list.
    List(Vec<Self>),
    /// A tuple.
    Tuple(Vec<Self>),
    /// A set.
    Set(Vec<Self>),
    /// A frozen set.
    FrozenSet(Vec<Self>),
    /// A dictionary, in its order of insertion.
    Dict(Vec<(Self, Self)>),
    /// A value of another type by its name and parts, such as `Decimal` and its digits, or an object that stays
    /// where it is, by its number. Only between tests that are programs and the code that they test.
    Typed(String, Vec<Self>),
}

/// A whole number of any size: lower-case hexadecimal digits without leading zeros, after a minus
/// sign for negative numbers.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Int(String);

/// Why bytes are not a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ValueError {
    /// The bytes end inside the value.
    #[error("the value ends early, at byte {at}")]
    EndsEarly {
        /// Where more was expected.
        at: usize,
    },
    /// There are bytes after the value.
    #[error("the value ends at byte {at}, and more follows")]
    Trailing {
        /// Where the value ends.
        at: usize,
    },
    /// A tag byte is unknown.
    #[error("unknown tag {tag:#04x} at byte {at}")]
    UnknownTag {
        /// The byte.
        tag: u8,
        /// Where it is.
        at: usize,
    },
    /// The content of an integer or a string is malformed.
    #[error("malformed {what} before byte {at}")]
    Malformed {
        /// `integer`, `string` or `name`.
        what: &'static str,
        /// Where it ends.
        at: usize,
    },
    /// The value is nested more than [`Value::MAX_DEPTH`] deep.
    #[error("the value is nested too deeply, at byte {at}")]
    TooDeep {
        /// Where the limit was passed.
        at: usize,
    },
}

impl Value {
    /// Deepest nesting that is encoded or decoded; `[]` is nested 0 deep.
    pub const MAX_DEPTH: usize = 100;

    /// The value as bytes: a tag, then the content. Lengths and counts are 32-bit little-endian.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        self.written(&Format {
            tags: b"nftdcsblFSum",
            int: |int, out| write_sized(out, b'i', int.0.as_bytes()),
            typed: |name, parts, out| {
                write_sized(out, b'x', name.as_bytes());
                write_count(out, parts);
            },
            dict_end: None,
        })
    }

    /// The value in a format that counts and measures with 32-bit little-endian numbers behind a tag.
    pub(super) fn written(&self, format: &Format) -> Vec<u8> {
        let mut out = Vec::new();
        self.write(format, &mut out);
        out
    }

    fn write(&self, format: &Format, out: &mut Vec<u8>) {
        let [
            none,
            no,
            yes,
            float,
            complex,
            text,
            bytes,
            list,
            frozen,
            set,
            tuple,
            dict,
        ] = *format.tags;
        let items = |out: &mut Vec<u8>, tag: u8, items: &[Self]| {
            out.push(tag);
            write_count(out, items.len());
            items.iter().for_each(|item| item.write(format, out));
        };
        match self {
            Self::None => out.push(none),
            Self::Bool(truth) => out.push(if *truth { yes } else { no }),
            Self::Int(int) => (format.int)(int, out),
            Self::Float(x) => {
                out.push(float);
                out.extend_from_slice(&x.to_le_bytes());
            }
            Self::Complex(re, im) => {
                out.push(complex);
                out.extend_from_slice(&re.to_le_bytes());
                out.extend_from_slice(&im.to_le_bytes());
            }
            Self::Str(content) => write_sized(out, text, content.as_bytes()),
            Self::Bytes(content) => write_sized(out, bytes, content),
            Self::List(parts) => items(out, list, parts),
            Self::Tuple(parts) => items(out, tuple, parts),
            Self::Set(parts) => items(out, set, parts),
            Self::FrozenSet(parts) => items(out, frozen, parts),
            Self::Typed(name, parts) => {
                (format.typed)(name, parts.len(), out);
                parts.iter().for_each(|part| part.write(format, out));
            }
            Self::Dict(pairs) => {
                out.push(dict);
                if format.dict_end.is_none() {
                    write_count(out, pairs.len());
                }
                for (key, value) in pairs {
                    key.write(format, out);
                    value.write(format, out);
                }
                out.extend(format.dict_end);
            }
        }
    }

    /// Reads a value that takes up all the bytes.
    ///
    /// Total: any bytes give a value or an error, in time linear in their number. A false count
    /// takes no memory, because every element of a collection has at least one byte.
    ///
    /// # Errors
    /// When the bytes are anything but one encoded value.
    pub fn decode(bytes: &[u8]) -> Result<Self, ValueError> {
        let mut reader = Reader { bytes, at: 0 };
        let value = reader.value(0)?;
        if reader.at == bytes.len() {
            Ok(value)
        } else {
            Err(ValueError::Trailing { at: reader.at })
        }
    }
}

/// How a format of values differs from others.
pub(super) struct Format {
    /// `None`, `False`, `True`, float, complex, string, bytes, list, frozen set, set, tuple, dictionary.
    pub(super) tags: &'static [u8; 12],
    pub(super) int: fn(&Int, &mut Vec<u8>),
    /// Writes the name of a [`Value::Typed`] and how many parts follow.
    pub(super) typed: fn(&str, usize, &mut Vec<u8>),
    /// What ends a dictionary; without it, its entries are counted.
    pub(super) dict_end: Option<u8>,
}

/// Counts past 31 bits cannot be written in all formats; 2 GiB values are refused long before.
pub(super) fn write_count(out: &mut Vec<u8>, count: usize) {
    let count = i32::try_from(count).unwrap_or(i32::MAX);
    out.extend_from_slice(&count.to_le_bytes());
}

pub(super) fn write_sized(out: &mut Vec<u8>, tag: u8, content: &[u8]) {
    out.push(tag);
    write_count(out, content.len());
    out.extend_from_slice(content);
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, n: usize) -> Result<&'a [u8], ValueError> {
        let early = ValueError::EndsEarly {
            at: self.bytes.len(),
        };
        let end = self.at.checked_add(n).ok_or(early)?;
        let piece = self.bytes.get(self.at..end).ok_or(early)?;
        self.at = end;
        Ok(piece)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], ValueError> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    fn count(&mut self) -> Result<usize, ValueError> {
        let count = u32::from_le_bytes(self.array()?) as usize;
        if count > self.bytes.len() - self.at {
            return Err(ValueError::EndsEarly {
                at: self.bytes.len(),
            });
        }
        Ok(count)
    }

    fn sized(&mut self) -> Result<&'a [u8], ValueError> {
        let count = self.count()?;
        self.take(count)
    }

    fn float(&mut self) -> Result<f64, ValueError> {
        Ok(f64::from_le_bytes(self.array()?))
    }

    fn malformed(&self, what: &'static str) -> ValueError {
        ValueError::Malformed { what, at: self.at }
    }

    fn value(&mut self, depth: usize) -> Result<Value, ValueError> {
        if depth > Value::MAX_DEPTH {
            return Err(ValueError::TooDeep { at: self.at });
        }
        let at = self.at;
        Ok(match self.array::<1>()?[0] {
            b'n' => Value::None,
            b't' => Value::Bool(true),
            b'f' => Value::Bool(false),
            b'i' => {
                let digits = str::from_utf8(self.sized()?).ok().and_then(Int::parse);
                Value::Int(digits.ok_or_else(|| self.malformed("integer"))?)
            }
            b'd' => Value::Float(self.float()?),
            b'c' => Value::Complex(self.float()?, self.float()?),
            b's' => {
                let text = str::from_utf8(self.sized()?);
                Value::Str(text.map_err(|_| self.malformed("string"))?.to_owned())
            }
            b'b' => Value::Bytes(self.sized()?.to_vec()),
            b'l' => Value::List(self.items(depth)?),
            b'u' => Value::Tuple(self.items(depth)?),
            b'S' => Value::Set(self.items(depth)?),
            b'F' => Value::FrozenSet(self.items(depth)?),
            b'x' => {
                let name = str::from_utf8(self.sized()?);
                let name = name.map_err(|_| self.malformed("name"))?.to_owned();
                Value::Typed(name, self.items(depth)?)
            }
            b'm' => {
                let count = self.count()?;
                (0..count)
                    .map(|_| Ok((self.value(depth + 1)?, self.value(depth + 1)?)))
                    .collect::<Result<_, _>>()
                    .map(Value::Dict)?
            }
            tag => return Err(ValueError::UnknownTag { tag, at }),
        })
    }

    fn items(&mut self, depth: usize) -> Result<Vec<Value>, ValueError> {
        let count = self.count()?;
        (0..count).map(|_| self.value(depth + 1)).collect()
    }
}

impl Int {
    /// Reads hexadecimal digits in the one form that each number has.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.strip_prefix('-').unwrap_or(text);
        let canonical = !digits.is_empty()
            && digits
                .bytes()
                .all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
            && (text == "0" || !digits.starts_with('0'));
        canonical.then(|| Self(text.to_owned()))
    }

    /// The whole number that a double is, if it is one.
    #[must_use]
    pub fn from_float(x: f64) -> Option<Self> {
        if !x.is_finite() || x.fract() != 0.0 {
            return None;
        }
        let magnitude = x.abs();
        let bits = magnitude.to_bits();
        let exponent = i32::try_from(bits >> 52).ok()? - 1075;
        let digits = if exponent <= 0 {
            // Below 2^53, where the conversion is exact.
            format!("{:x}", magnitude as u64)
        } else {
            let mantissa = u128::from(bits & ((1 << 52) - 1) | 1 << 52);
            let zeros = usize::try_from(exponent / 4).ok()?;
            format!("{:x}{}", mantissa << (exponent % 4), "0".repeat(zeros))
        };
        let sign = if x < 0.0 { "-" } else { "" };
        Some(Self(format!("{sign}{digits}")))
    }

    /// The nearest double; infinite past the largest.
    #[must_use]
    pub fn to_f64(&self) -> f64 {
        let digits = self.digits();
        // Sixteen digits hold more bits than a double; the rest only scales.
        let head = &digits[..digits.len().min(16)];
        let leading = u64::from_str_radix(head, 16).unwrap_or(0) as f64;
        let scale = i32::try_from(4 * (digits.len() - head.len())).unwrap_or(i32::MAX);
        let magnitude = leading * 2_f64.powi(scale);
        if self.is_negative() {
            -magnitude
        } else {
            magnitude
        }
    }

    /// Whether the number is below zero.
    #[must_use]
    pub fn is_negative(&self) -> bool {
        self.0.starts_with('-')
    }

    /// Whether the number is zero.
    #[must_use]
    pub fn is_zero(&self) -> bool {
        self.0 == "0"
    }

    /// The hexadecimal digits without the sign.
    #[must_use]
    pub fn digits(&self) -> &str {
        self.0.trim_start_matches('-')
    }

    /// The number in hexadecimal.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Int {
    /// `-0xff`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.is_negative() { "-" } else { "" };
        write!(f, "{sign}0x{}", self.digits())
    }
}

impl From<i64> for Int {
    fn from(n: i64) -> Self {
        let sign = if n < 0 { "-" } else { "" };
        Self(format!("{sign}{:x}", n.unsigned_abs()))
    }
}

impl From<u64> for Int {
    fn from(n: u64) -> Self {
        Self(format!("{n:x}"))
    }
}

impl From<i64> for Value {
    fn from(n: i64) -> Self {
        Self::Int(n.into())
    }
}

impl From<bool> for Value {
    fn from(truth: bool) -> Self {
        Self::Bool(truth)
    }
}

impl From<f64> for Value {
    fn from(x: f64) -> Self {
        Self::Float(x)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Str(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Str(text)
    }
}

impl From<&serde_json::Value> for Value {
    /// Arrays become lists and objects dictionaries with string keys.
    fn from(json: &serde_json::Value) -> Self {
        match json {
            serde_json::Value::Null => Self::None,
            serde_json::Value::Bool(truth) => Self::Bool(*truth),
            serde_json::Value::Number(number) => match (number.as_i64(), number.as_u64()) {
                (Some(n), _) => Self::Int(n.into()),
                (None, Some(n)) => Self::Int(n.into()),
                (None, None) => Self::Float(number.as_f64().unwrap_or(f64::NAN)),
            },
            serde_json::Value::String(text) => Self::Str(text.clone()),
            serde_json::Value::Array(items) => Self::List(items.iter().map(Self::from).collect()),
            serde_json::Value::Object(pairs) => Self::Dict(
                pairs
                    .iter()
                    .map(|(key, value)| (Self::Str(key.clone()), Self::from(value)))
                    .collect(),
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(super) fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::None),
            any::<bool>().prop_map(Value::Bool),
            any::<i64>().prop_map(Value::from),
            any::<f64>()
                .prop_filter("NaN differs from itself", |x| !x.is_nan())
                .prop_map(Value::Float),
            ".{0,8}".prop_map(Value::Str),
            prop::collection::vec(any::<u8>(), 0..8).prop_map(Value::Bytes),
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            let many = prop::collection::vec(inner.clone(), 0..4);
            prop_oneof![
                many.clone().prop_map(Value::List),
                many.clone().prop_map(Value::Tuple),
                many.clone().prop_map(Value::Set),
                (".{0,4}", many.clone()).prop_map(|(name, parts)| Value::Typed(name, parts)),
                many.prop_map(Value::FrozenSet),
                prop::collection::vec((inner.clone(), inner), 0..4).prop_map(Value::Dict),
            ]
        })
    }

    proptest! {
        #[test]
        fn values_survive_the_pipe(value in any_value()) {
            prop_assert_eq!(Value::decode(&value.encode()), Ok(value));
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            if let Ok(value) = Value::decode(&bytes) {
                prop_assert_eq!(value.encode(), bytes);
            }
        }
    }

    #[test]
    fn false_lengths_and_counts_end_early() {
        for bytes in [
            &b"l\xff\xff\xff\xff"[..],
            b"s\xff\xff\xff\x7fab",
            b"m\x02\0\0\0n",
            b"",
        ] {
            assert!(matches!(
                Value::decode(bytes),
                Err(ValueError::EndsEarly { .. })
            ));
        }
    }

    #[test]
    fn one_number_has_one_spelling() {
        for bad in ["", "-", "-0", "00", "0a", "A", "+1", "0x1", "1 "] {
            assert_eq!(Int::parse(bad), None, "{bad}");
        }
        assert_eq!(Int::parse("-ff").unwrap(), Int::from(-255_i64));
    }

    #[test]
    fn depth_is_bounded() {
        let nested = |depth: usize| {
            let mut bytes = b"l\x01\0\0\0".repeat(depth);
            bytes.extend_from_slice(b"l\0\0\0\0");
            Value::decode(&bytes)
        };
        assert!(nested(Value::MAX_DEPTH).is_ok());
        assert!(matches!(
            nested(Value::MAX_DEPTH + 1),
            Err(ValueError::TooDeep { .. })
        ));
        assert!(nested(1_000_000).is_err());
    }

    #[test]
    fn whole_doubles_become_exact_integers() {
        assert_eq!(Int::from_float(-10.0), Some(Int::from(-10_i64)));
        assert_eq!(
            Int::from_float(2_f64.powi(53)).unwrap().as_str(),
            "20000000000000"
        );
        assert_eq!(
            Int::from_float(2_f64.powi(70)).unwrap().as_str(),
            "400000000000000000"
        );
        assert_eq!(Int::from_float(0.5), None);
        assert_eq!(Int::from_float(f64::INFINITY), None);
        assert_eq!(Int::from(-256_i64).to_f64(), -256.0);
        assert_eq!(
            Int::parse(&"f".repeat(400)).unwrap().to_f64(),
            f64::INFINITY
        );
    }
}
