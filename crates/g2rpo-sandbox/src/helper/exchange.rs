//! One message to the confined process and its answer, in bounded time.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use super::confined::Confined;
use super::sys;
use super::waiting::Waiting;

/// What became of one message.
#[derive(Debug)]
pub(super) enum Exchange {
    /// With the time that it took, less what was spent waiting for a core.
    Answer(Vec<u8>, Duration),
    Deadline,
    Ended,
    TooLong(usize),
    CallerGone,
}

/// How long the helper sleeps at most. A sleep that took longer than twice that counts as twice, so that a
/// machine that is overloaded, or was suspended, does not use up the patience.
const TICK: Duration = Duration::from_millis(100);

/// From here on it is looked at whether what runs has to wait for a core. Most answers come sooner.
const SOON: Duration = Duration::from_secs(1);
/// Where the kernel does not tell how long a process waited for a core, a tick counts as this part of itself: the
/// machine may be loaded.
const UNTOLD: u32 = 4;

/// Writes the message to the confined process and reads one answer, each behind a 32-bit length.
///
/// Never waits longer than `patience`, and gives up at once when the caller goes away. Patience is counted in
/// ticks, and time that a process inside was ready to run and had no core does not count, so that a loaded machine
/// makes nothing late.
pub(super) fn exchange(
    process: &mut Confined,
    message: &[u8],
    patience: Duration,
    caller: &File,
    reply_bytes: usize,
) -> Exchange {
    let Ok(length) = u32::try_from(message.len()) else {
        return Exchange::TooLong(message.len());
    };
    let mut outgoing = Vec::with_capacity(4 + message.len());
    outgoing.extend_from_slice(&length.to_le_bytes());
    outgoing.extend_from_slice(message);
    let mut sent = 0;
    let mut incoming = Vec::new();
    let mut waited = Duration::ZERO;
    let mut before: Option<Waiting> = None;
    loop {
        if let Some(wanted) = wanted(&incoming) {
            if wanted > reply_bytes {
                return Exchange::TooLong(wanted);
            }
            if incoming.len() >= 4 + wanted {
                // Nothing may follow an answer before the next message.
                return if incoming.len() == 4 + wanted {
                    Exchange::Answer(incoming.split_off(4), waited)
                } else {
                    Exchange::TooLong(incoming.len() - 4)
                };
            }
        }
        if waited >= patience {
            return Exchange::Deadline;
        }
        let writing = if sent < outgoing.len() {
            libc::POLLOUT
        } else {
            0
        };
        let began = Instant::now();
        let ready = sys::poll(
            [
                (process.answers.as_fd(), libc::POLLIN),
                (process.messages.as_fd(), writing),
                (caller.as_fd(), libc::POLLIN),
            ],
            TICK.as_millis() as i32,
        );
        let passed = began.elapsed().min(2 * TICK);
        waited += if waited < SOON {
            passed
        } else {
            let now = Waiting::of(process.pid);
            let counted = match (&now, &before) {
                (Some(now), Some(before)) => passed.saturating_sub(now.since(before)),
                // The first look only says from where to count.
                (Some(_), None) => passed,
                (None, _) => passed / UNTOLD,
            };
            before = now;
            counted
        };
        let Ok([answers, messages, from_caller]) = ready else {
            return Exchange::Ended;
        };
        // The caller waits for the reply; anything that it does now is an end of the pipe.
        if from_caller != 0 {
            return Exchange::CallerGone;
        }
        if messages != 0 && sent < outgoing.len() {
            match process.messages.write(&outgoing[sent..]) {
                Ok(n) => sent += n,
                Err(error) if is_temporary(&error) => {}
                Err(_) => return Exchange::Ended,
            }
        }
        if answers != 0 {
            let room = wanted(&incoming).map_or(4, |wanted| wanted + 5) - incoming.len();
            let mut chunk = vec![0; room.min(1 << 16)];
            match process.answers.read(&mut chunk) {
                Ok(0) => return Exchange::Ended,
                Ok(n) => incoming.extend_from_slice(&chunk[..n]),
                Err(error) if is_temporary(&error) => {}
                Err(_) => return Exchange::Ended,
            }
        }
    }
}

/// The length that the answer's head announces, once it is there.
fn wanted(incoming: &[u8]) -> Option<usize> {
    let head = incoming.first_chunk::<4>()?;
    Some(u32::from_le_bytes(*head) as usize)
}

fn is_temporary(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
    )
}
