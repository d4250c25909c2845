//! Values and observations as text, for people who want to see what a solution did.

use std::fmt;

use super::frame::Exception;
use super::job::{Failure, Observation};
use super::value::{Int, Value};

impl fmt::Display for Value {
    /// The value as one would write it in Python, all of it. Whole numbers past 128 bits are hexadecimal.
    ///
    /// ```
    /// use g2rpo_verify::code::Value;
    ///
    /// let pair = Value::Tuple(vec![Value::from(3), Value::from("a")]);
    /// assert_eq!(pair.to_string(), "(3, \"a\")");
    /// ```
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("None"),
            Self::Bool(true) => f.write_str("True"),
            Self::Bool(false) => f.write_str("False"),
            Self::Int(int) => write_int(f, int),
            Self::Float(x) => write!(f, "{x:?}"),
            Self::Complex(re, im) => write!(f, "complex({re:?}, {im:?})"),
            Self::Str(text) => write!(f, "{text:?}"),
            Self::Bytes(bytes) => write!(f, "b\"{}\"", bytes.escape_ascii()),
            Self::List(items) => sequence(f, "[", items, "]"),
            Self::Tuple(items) if items.len() == 1 => sequence(f, "(", items, ",)"),
            Self::Tuple(items) => sequence(f, "(", items, ")"),
            Self::Set(items) if items.is_empty() => f.write_str("set()"),
            Self::Set(items) => sequence(f, "{", items, "}"),
            Self::FrozenSet(items) => sequence(f, "frozenset([", items, "])"),
            Self::Dict(pairs) => {
                f.write_str("{")?;
                for (i, (key, value)) in pairs.iter().enumerate() {
                    let comma = if i == 0 { "" } else { ", " };
                    write!(f, "{comma}{key}: {value}")?;
                }
                f.write_str("}")
            }
            Self::Typed(name, parts) => {
                f.write_str(name)?;
                sequence(f, "(", parts, ")")
            }
        }
    }
}

fn sequence(f: &mut fmt::Formatter<'_>, open: &str, items: &[Value], close: &str) -> fmt::Result {
    f.write_str(open)?;
    for (i, item) in items.iter().enumerate() {
        let comma = if i == 0 { "" } else { ", " };
        write!(f, "{comma}{item}")?;
    }
    f.write_str(close)
}

fn write_int(f: &mut fmt::Formatter<'_>, int: &Int) -> fmt::Result {
    match i128::from_str_radix(int.as_str(), 16) {
        Ok(small) => write!(f, "{small}"),
        Err(_) => write!(f, "{int}"),
    }
}

impl fmt::Display for Observation {
    /// What the code did, on one line but for the text that it printed or returned.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Returned(value) => write!(f, "returned {value}"),
            Self::Printed(bytes) => write!(f, "printed {:?}", String::from_utf8_lossy(bytes)),
            Self::Judged(true) => f.write_str("its tests ran through"),
            Self::Judged(false) => f.write_str("an assertion of its tests failed"),
            Self::Failed(failure) => failure.fmt(f),
            Self::BadTests => f.write_str("its tests cannot be run"),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LoadRaised(error) => write!(f, "raised while it was loaded: {error}"),
            Self::NoFunction => f.write_str("does not define the function"),
            Self::Raised(error) => write!(f, "raised {error}"),
            Self::Unsupported(kind) => write!(f, "returned what cannot be compared: {kind}"),
            Self::Exited(status) => write!(f, "ended with status {status} and without a result"),
            Self::Killed(signal) => write!(f, "was ended by signal {signal}"),
            Self::OutOfTime => f.write_str("ran out of time"),
            Self::TooMuchOutput => f.write_str("printed or returned too much"),
            Self::Malformed => f.write_str("wrote something other than a result"),
            Self::EndedSandbox => f.write_str("ended its sandbox, twice"),
        }
    }
}

impl fmt::Display for Exception {
    /// See [`line`](Self::line).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.line())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_shown_as_python_writes_them() {
        let value = Value::Dict(vec![(
            Value::Tuple(vec![1.into()]),
            Value::List(vec![Value::None, true.into(), 0.5.into(), (-255).into()]),
        )]);
        assert_eq!(value.to_string(), "{(1,): [None, True, 0.5, -255]}");
        assert_eq!(Value::Set(vec![]).to_string(), "set()");
        assert_eq!(Value::Bytes(vec![0, 97]).to_string(), "b\"\\x00a\"");
        let big = Value::Int(Int::parse(&"f".repeat(40)).unwrap());
        assert_eq!(big.to_string(), format!("0x{}", "f".repeat(40)));
        let decimal = Value::Typed("Decimal".into(), vec!["1.5".into()]);
        assert_eq!(decimal.to_string(), "Decimal(\"1.5\")");
    }

    #[test]
    fn observations_say_what_was_done() {
        let raised = Observation::Failed(Failure::Raised(Exception {
            kind: "KeyError".into(),
            message: "'a'\n".into(),
        }));
        assert_eq!(raised.to_string(), "raised KeyError: 'a' ");
        let printed = Observation::Printed(b"7\n".to_vec());
        assert_eq!(printed.to_string(), "printed \"7\\n\"");
    }
}
