//! Result frames: what a test process writes, read as untrusted bytes.

use super::value::{Value, ValueError};

/// What a test process wrote: exactly one of these, then the end of the pipe.
///
/// Whoever wrote it was untrusted. A forged frame gains nothing: it is what the code under test
/// returned, and what it should have returned is not known inside.
#[derive(Debug, Clone, PartialEq)]
pub enum Frame {
    /// The called function returned this.
    Value(Value),
    /// The called function raised. With it come the exception's classes, arguments and attributes, for tests that
    /// catch it.
    Raised(Exception, Value),
    /// The code raised, or did not compile, before the function could be called.
    LoadRaised(Exception),
    /// The code does not define the function.
    NoFunction,
    /// The function returned something whose type does not cross the pipe.
    Unsupported(String),
    /// The code is loaded and waits for calls.
    Ready,
    /// The tests ask something of the solution: an operation and its operands.
    Query(Value),
    /// The solution calls a function of the tests: its number and the arguments.
    CallBack(Value),
    /// The tests ran through.
    Passed,
    /// An assertion of the tests failed.
    AssertionFailed,
    /// The tests raised after they had called the solution.
    TestsRaised(Exception),
    /// The tests cannot be run, whatever the solution does; why, in a person's words.
    BadTests(String),
    /// The tests as data: calls, remaining program, names, name to check.
    Table(Value),
}

/// An exception by name and message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exception {
    /// The name of its class, without the module.
    pub kind: String,
    /// Its text, at most a few hundred characters of it.
    pub message: String,
}

impl Exception {
    /// Longest class name and text in [`line`](Self::line), in characters: a forged frame may hold more.
    const LONGEST: (usize, usize) = (100, 300);

    /// Class and text as Python ends its report with them, on one line: `KeyError: 'a'`.
    #[must_use]
    pub fn line(&self) -> String {
        let part = |text: &str, longest| -> String {
            let visible = text.chars().map(|c| if c.is_control() { ' ' } else { c });
            visible.take(longest).collect()
        };
        let kind = part(&self.kind, Self::LONGEST.0);
        let message = part(&self.message, Self::LONGEST.1);
        if message.is_empty() {
            kind
        } else {
            format!("{kind}: {message}")
        }
    }
}

/// Why bytes are not a frame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// There are too few bytes, or other ones than a frame starts with.
    #[error("{got} bytes that do not start with a frame")]
    NoFrame {
        /// How many bytes there are.
        got: usize,
    },
    /// The frame announces another length than that of what follows.
    #[error("a frame of {announced} bytes with {got} bytes in it")]
    Length {
        /// The length in the head.
        announced: usize,
        /// The number of bytes after the head.
        got: usize,
    },
    /// The kind is unknown, or its content has another shape.
    #[error("a frame of kind {0:#04x} with content of another kind")]
    Content(u8),
    /// The content is not a value.
    #[error(transparent)]
    Value(#[from] ValueError),
}

const MAGIC: &[u8; 4] = b"G2F1";
const HEAD: usize = 9;

impl Frame {
    /// Reads a frame that takes up all the bytes: `G2F1`, a kind, a 32-bit little-endian length and
    /// the content. Total: any bytes give a frame or an error.
    ///
    /// # Errors
    /// When the bytes are anything but one frame.
    pub fn decode(bytes: &[u8]) -> Result<Self, FrameError> {
        let no_frame = FrameError::NoFrame { got: bytes.len() };
        let (head, content) = bytes.split_at_checked(HEAD).ok_or(no_frame.clone())?;
        let &[m0, m1, m2, m3, kind, l0, l1, l2, l3] = head else {
            return Err(no_frame);
        };
        if [m0, m1, m2, m3] != *MAGIC {
            return Err(no_frame);
        }
        let announced = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
        if announced != content.len() {
            return Err(FrameError::Length {
                announced,
                got: content.len(),
            });
        }
        Self::from_parts(kind, content)
    }

    fn from_parts(kind: u8, content: &[u8]) -> Result<Self, FrameError> {
        let value = || Value::decode(content);
        let empty = |frame: Self| {
            if content.is_empty() {
                Ok(frame)
            } else {
                Err(FrameError::Content(kind))
            }
        };
        let exception = || match value()? {
            Value::Tuple(items) => match <[Value; 3]>::try_from(items) {
                Ok([Value::Str(kind), Value::Str(message), details]) => {
                    Ok((Exception { kind, message }, details))
                }
                _ => Err(FrameError::Content(kind)),
            },
            _ => Err(FrameError::Content(kind)),
        };
        match kind {
            b'V' => Ok(Self::Value(value()?)),
            b'E' => exception().map(|(error, details)| Self::Raised(error, details)),
            b'L' => exception().map(|(error, _)| Self::LoadRaised(error)),
            b'N' => empty(Self::NoFunction),
            b'U' => match value()? {
                Value::Str(name) => Ok(Self::Unsupported(name)),
                _ => Err(FrameError::Content(kind)),
            },
            b'R' => empty(Self::Ready),
            b'Q' => value().map(Self::Query).map_err(FrameError::from),
            b'C' => value().map(Self::CallBack).map_err(FrameError::from),
            b'P' => empty(Self::Passed),
            b'A' => empty(Self::AssertionFailed),
            b'J' => exception().map(|(error, _)| Self::TestsRaised(error)),
            b'B' => Ok(Self::BadTests(match value()? {
                Value::Str(why) => why,
                _ => exception()?.0.line(),
            })),
            b'T' => Ok(Self::Table(value()?)),
            _ => Err(FrameError::Content(kind)),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(kind: u8, content: &[u8]) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.push(kind);
        bytes.extend_from_slice(&(content.len() as u32).to_le_bytes());
        bytes.extend_from_slice(content);
        bytes
    }

    #[test]
    fn a_frame_is_read_whole() {
        let five = Value::from(5);
        assert_eq!(
            Frame::decode(&frame(b'V', &five.encode())),
            Ok(Frame::Value(five))
        );
        assert_eq!(Frame::decode(&frame(b'N', b"")), Ok(Frame::NoFunction));
        let error = Value::Tuple(vec!["KeyError".into(), "'a'".into(), Value::None]);
        assert!(matches!(
            Frame::decode(&frame(b'L', &error.encode())),
            Ok(Frame::LoadRaised(Exception { kind, .. })) if kind == "KeyError"
        ));
    }

    #[test]
    fn nothing_else_is_a_frame() {
        let good = frame(b'V', b"t");
        for cut in 0..good.len() {
            assert!(Frame::decode(&good[..cut]).is_err());
        }
        let twice = [good.clone(), good].concat();
        assert!(matches!(
            Frame::decode(&twice),
            Err(FrameError::Length { .. })
        ));
        assert_eq!(
            Frame::decode(&frame(b'P', b"t")),
            Err(FrameError::Content(b'P'))
        );
        assert_eq!(
            Frame::decode(&frame(b'Z', b"")),
            Err(FrameError::Content(b'Z'))
        );
        assert!(matches!(
            Frame::decode(b"PASSED"),
            Err(FrameError::NoFrame { got: 6 })
        ));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(kind in any::<u8>(), content in prop::collection::vec(any::<u8>(), 0..48)) {
            let _ = Frame::decode(&frame(kind, &content));
            let _ = Frame::decode(&content);
        }
    }
}
