//! The helper process: sets up the isolation, executes the interpreter in it, passes messages, and
//! kills.
//!
//! Single-threaded, and trusted: it holds no secrets beyond the rights of whoever started it, and
//! parses nothing that comes out of the sandbox except a length.

mod confine;
mod confined;
mod entry;
mod exchange;
mod files;
mod kill;
mod root;
mod start;
pub(crate) mod sys;
mod waiting;

use std::fs::File;
use std::io::{self, stdin, stdout};
use std::os::fd::AsFd;
use std::time::Duration;

use crate::spec::Spec;
use crate::wire::{self, ReplyKind};
use confined::Confined;
use exchange::Exchange;

/// Serves requests until the caller closes the pipe.
pub(crate) fn run() -> i32 {
    match serve() {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("g2rpo-sandbox: {error}");
            1
        }
    }
}

fn serve() -> io::Result<()> {
    // Whatever the caller's libraries left open must not be handed on.
    sys::close_range(3, u32::MAX)?;
    sys::become_subreaper()?;
    std::env::set_current_dir("/")?;
    // Unbuffered, so that `poll` sees everything that has not been read.
    let mut requests = File::from(stdin().as_fd().try_clone_to_owned()?);
    let mut replies = File::from(stdout().as_fd().try_clone_to_owned()?);
    let Some(spec) = until_closed(wire::read_block(&mut requests))? else {
        return Err(io::Error::other(
            "this program is started by g2rpo, which hands it a specification",
        ));
    };
    let spec: Spec = serde_json::from_slice(&spec)?;
    let mut confined = None;
    while let Some((patience_ms, message)) = until_closed(wire::read_request(&mut requests))? {
        let patience = Duration::from_millis(patience_ms.into());
        let (kind, body) = answer(&mut confined, &spec, &message, patience, &requests);
        if kind != ReplyKind::Answer {
            kill_confined(&mut confined);
        }
        wire::write_reply(&mut replies, kind, &body)?;
    }
    kill_confined(&mut confined);
    Ok(())
}

/// The end of the input is the caller's way to say that it is done.
fn until_closed<T>(read: io::Result<T>) -> io::Result<Option<T>> {
    match read {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(error),
    }
}

fn answer(
    confined: &mut Option<Confined>,
    spec: &Spec,
    message: &[u8],
    patience: Duration,
    caller: &File,
) -> (ReplyKind, Vec<u8>) {
    let process = match confined {
        Some(process) => process,
        None => match start::start(spec, caller) {
            Ok(process) => confined.insert(process),
            Err(failure) => {
                let body = serde_json::to_vec(&failure).unwrap_or_default();
                return (ReplyKind::Setup, body);
            }
        },
    };
    match exchange::exchange(process, message, patience, caller, spec.reply_bytes) {
        Exchange::Answer(bytes, waited) => {
            let ms = u32::try_from(waited.as_millis()).unwrap_or(u32::MAX);
            (
                ReplyKind::Answer,
                [&ms.to_le_bytes(), bytes.as_slice()].concat(),
            )
        }
        Exchange::Deadline => (ReplyKind::Deadline, Vec::new()),
        Exchange::Ended => (ReplyKind::Ended, process.last_words().into_bytes()),
        Exchange::TooLong(length) => (
            ReplyKind::Protocol,
            format!("{length} bytes where {} are allowed", spec.reply_bytes).into_bytes(),
        ),
        Exchange::CallerGone => (ReplyKind::Ended, b"the caller is gone".to_vec()),
    }
}

fn kill_confined(confined: &mut Option<Confined>) {
    if let Some(process) = confined.take() {
        kill::everything(process.pid);
    }
}
