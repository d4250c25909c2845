//! Lines to standard output and error that never hold up what writes them.

use std::io::{Write, stderr, stdout};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// Where a line goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum To {
    Output,
    Error,
}

impl To {
    /// Writes a line. A reader that went away is no reason to stop.
    pub(crate) fn write(self, line: &str) {
        let _ = match self {
            Self::Output => writeln!(stdout(), "{line}"),
            Self::Error => writeln!(stderr(), "{line}"),
        };
    }
}

/// Lines that a thread of their own writes, so that a pipe that nobody empties does not stop a run:
/// what is more than it holds and [`Self::KEPT`] lines is left out, and told when there is room again.
#[derive(Debug)]
pub(crate) struct Lines {
    sender: Option<SyncSender<(To, String)>>,
    lost: Arc<AtomicU64>,
    done: Mutex<Receiver<()>>,
}

impl Lines {
    const KEPT: usize = 1000;
    /// How long the end of a command waits for its last lines to be read.
    const PATIENCE: Duration = Duration::from_secs(2);

    pub(crate) fn start() -> Self {
        let (sender, lines) = sync_channel::<(To, String)>(Self::KEPT);
        let (ended, done) = sync_channel(1);
        let lost = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&lost);
        thread::spawn(move || {
            for (to, line) in lines {
                to.write(&line);
                match count.swap(0, Ordering::Relaxed) {
                    0 => {}
                    n => To::Error.write(&format!("nobody read on, so {n} lines were left out")),
                }
            }
            let _ = ended.send(());
        });
        Self {
            sender: Some(sender),
            lost,
            done: Mutex::new(done),
        }
    }

    pub(crate) fn write(&self, to: To, line: String) {
        let sent = self.sender.as_ref().map(|s| s.try_send((to, line)));
        if !matches!(sent, Some(Ok(()))) {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        self.sender = None;
        if let Ok(done) = self.done.lock() {
            let _ = done.recv_timeout(Self::PATIENCE);
        }
    }
}
