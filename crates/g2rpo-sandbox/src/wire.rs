//! Messages between a [`Sandbox`](crate::Sandbox) and its helper.
//!
//! First the [`Spec`](crate::Spec) as JSON behind a length, then requests and replies in strict
//! turns. Numbers are little-endian.

use std::io::{self, Read, Write};

/// No message between the caller and the helper is longer.
pub(crate) const MAX_MESSAGE: usize = 64 << 20;

/// What the helper answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum ReplyKind {
    /// The process's own answer.
    Answer = 0,
    /// The process ended; the body says how.
    Ended = 1,
    /// No answer came in time.
    Deadline = 2,
    /// The isolation could not be set up; the body is a [`SetupFailure`] as JSON.
    Setup = 3,
    /// The process wrote something that is not a message.
    Protocol = 4,
}

impl ReplyKind {
    fn from_byte(byte: u8) -> Option<Self> {
        [
            Self::Answer,
            Self::Ended,
            Self::Deadline,
            Self::Setup,
            Self::Protocol,
        ]
        .into_iter()
        .find(|&kind| kind as u8 == byte)
    }
}

/// Which step of the set-up failed, and how.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct SetupFailure {
    pub(crate) stage: String,
    pub(crate) errno: i32,
    pub(crate) detail: String,
}

pub(crate) fn write_block(to: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    write_behind(to, &[], bytes)
}

pub(crate) fn write_request(to: &mut impl Write, patience_ms: u32, bytes: &[u8]) -> io::Result<()> {
    write_behind(to, &patience_ms.to_le_bytes(), bytes)
}

pub(crate) fn write_reply(to: &mut impl Write, kind: ReplyKind, bytes: &[u8]) -> io::Result<()> {
    write_behind(to, &[kind as u8], bytes)
}

fn write_behind(to: &mut impl Write, head: &[u8], bytes: &[u8]) -> io::Result<()> {
    to.write_all(&[head, &length(bytes)?.to_le_bytes(), bytes].concat())
}

pub(crate) fn read_block(from: &mut impl Read) -> io::Result<Vec<u8>> {
    let length = read_u32(from)? as usize;
    if length > MAX_MESSAGE {
        return Err(io::Error::other(format!("a message of {length} bytes")));
    }
    let mut bytes = vec![0; length];
    from.read_exact(&mut bytes)?;
    Ok(bytes)
}

pub(crate) fn read_request(from: &mut impl Read) -> io::Result<(u32, Vec<u8>)> {
    let patience_ms = read_u32(from)?;
    Ok((patience_ms, read_block(from)?))
}

pub(crate) fn read_reply(from: &mut impl Read) -> io::Result<(ReplyKind, Vec<u8>)> {
    let mut kind = [0];
    from.read_exact(&mut kind)?;
    let kind = ReplyKind::from_byte(kind[0])
        .ok_or_else(|| io::Error::other(format!("unknown reply kind {}", kind[0])))?;
    Ok((kind, read_block(from)?))
}

fn read_u32(from: &mut impl Read) -> io::Result<u32> {
    let mut bytes = [0; 4];
    from.read_exact(&mut bytes)?;
    Ok(u32::from_le_bytes(bytes))
}

fn length(bytes: &[u8]) -> io::Result<u32> {
    u32::try_from(bytes.len())
        .ok()
        .filter(|&n| n as usize <= MAX_MESSAGE)
        .ok_or_else(|| io::Error::other(format!("a message of {} bytes", bytes.len())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_survive_the_pipe() {
        let mut pipe = Vec::new();
        write_request(&mut pipe, 250, b"run").unwrap();
        write_reply(&mut pipe, ReplyKind::Deadline, b"").unwrap();
        let mut from = pipe.as_slice();
        assert_eq!(read_request(&mut from).unwrap(), (250, b"run".to_vec()));
        assert_eq!(
            read_reply(&mut from).unwrap(),
            (ReplyKind::Deadline, vec![])
        );
        assert!(from.is_empty());
    }

    #[test]
    fn a_false_length_is_refused_before_memory_is_taken() {
        assert!(read_block(&mut u32::MAX.to_le_bytes().as_slice()).is_err());
        assert!(read_reply(&mut [9, 0, 0, 0, 0].as_slice()).is_err());
    }
}
