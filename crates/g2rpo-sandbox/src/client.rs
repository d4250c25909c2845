//! The caller's side: starts a helper process, sends requests and reads replies.

use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use crate::error::SandboxError;
use crate::isolation::{IsolationLevel, remedy};
use crate::locate::{Helper, locate};
use crate::spec::Spec;
use crate::wire::{self, ReplyKind, SetupFailure};

/// One helper process and the confined process that it looks after.
///
/// Dropping it kills everything inside and waits until it is gone.
#[derive(Debug)]
pub struct Sandbox {
    level: Option<IsolationLevel>,
    helper: Child,
    // Present until the drop, whose first step is to close it.
    requests: Option<ChildStdin>,
    replies: ChildStdout,
    waited: Duration,
}

impl Sandbox {
    /// Starts the helper and hands it the specification. The confined process starts with the
    /// first request, and again with the first request after it ended or was killed.
    ///
    /// # Errors
    /// When no helper is found or it does not start.
    pub fn start(helper: &Helper, spec: &Spec) -> Result<Self, SandboxError> {
        if cfg!(not(target_os = "linux")) {
            return Err(SandboxError::Unsupported);
        }
        let located = locate(helper)?;
        let mut command = Command::new(&located.program);
        command
            .args(located.args)
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit());
        // A program that is its own helper may need it to find its libraries. The helper hands
        // nothing of its environment on.
        if let Some(path) = std::env::var_os("LD_LIBRARY_PATH") {
            command.env("LD_LIBRARY_PATH", path);
        }
        let mut helper = command
            .spawn()
            .map_err(|source| SandboxError::HelperStart {
                path: located.program,
                source,
            })?;
        let (Some(requests), Some(replies)) = (helper.stdin.take(), helper.stdout.take()) else {
            unreachable!("both pipes were asked for");
        };
        let mut sandbox = Self {
            level: spec.level,
            helper,
            requests: Some(requests),
            replies,
            waited: Duration::ZERO,
        };
        let spec =
            serde_json::to_vec(spec).map_err(|error| SandboxError::Protocol(error.to_string()))?;
        sandbox.send(|to| wire::write_block(to, &spec))?;
        Ok(sandbox)
    }

    /// Sends one message to the confined process and waits for its answer, for as long as `patience`,
    /// which the helper counts so that a loaded or suspended machine does not use it up: time in which a process
    /// inside was ready to run and had no core is left out.
    ///
    /// # Errors
    /// [`SandboxError::Setup`] when the isolation cannot be set up, [`SandboxError::Deadline`] when
    /// no answer came in time (then everything inside was killed), [`SandboxError::Ended`] when the
    /// process ended. After these the next request starts a fresh process. After
    /// [`SandboxError::HelperDied`] the sandbox is of no more use.
    pub fn request(&mut self, message: &[u8], patience: Duration) -> Result<Vec<u8>, SandboxError> {
        let patience_ms = u32::try_from(patience.as_millis()).unwrap_or(u32::MAX);
        self.send(|to| wire::write_request(to, patience_ms, message))?;
        self.wait_for_reply(patience)?;
        let (kind, body) = wire::read_reply(&mut self.replies).map_err(died)?;
        let text = || String::from_utf8_lossy(&body).into_owned();
        match kind {
            ReplyKind::Answer => {
                let (head, answer) = body.split_first_chunk::<4>().ok_or_else(|| {
                    SandboxError::Protocol("an answer without its time".to_owned())
                })?;
                self.waited = Duration::from_millis(u32::from_le_bytes(*head).into());
                Ok(answer.to_vec())
            }
            ReplyKind::Ended => Err(SandboxError::Ended(text())),
            ReplyKind::Deadline => Err(SandboxError::Deadline(patience)),
            ReplyKind::Protocol => Err(SandboxError::Protocol(text())),
            ReplyKind::Setup => Err(self.setup_error(&body)),
        }
    }

    /// How long the last answer took, less the time that what runs inside was ready to run and had no core.
    #[must_use]
    pub const fn waited(&self) -> Duration {
        self.waited
    }

    /// The isolation level; `None` without isolation.
    #[must_use]
    pub const fn level(&self) -> Option<IsolationLevel> {
        self.level
    }

    /// The helper's process id.
    #[must_use]
    pub fn helper_id(&self) -> u32 {
        self.helper.id()
    }

    fn send(
        &mut self,
        write: impl FnOnce(&mut ChildStdin) -> std::io::Result<()>,
    ) -> Result<(), SandboxError> {
        match self.requests.as_mut() {
            Some(requests) => write(requests).map_err(died),
            None => unreachable!("only the drop takes the pipe"),
        }
    }

    /// The helper answers within `patience` as it counts it. One that says nothing for much longer hangs; it is
    /// killed, so that whoever waits for it goes on.
    fn wait_for_reply(&mut self, patience: Duration) -> Result<(), SandboxError> {
        #[cfg(target_os = "linux")]
        {
            use std::os::fd::AsFd;
            use std::time::Instant;

            // Only a machine that gives the helper no core for minutes makes it so late.
            const HANGS: Duration = Duration::from_secs(60);
            let end = Instant::now() + HANGS + 20 * patience;
            loop {
                let replies = [(self.replies.as_fd(), libc::POLLIN)];
                let [ready] = crate::helper::sys::poll(replies, 1000).map_err(died)?;
                if ready != 0 {
                    return Ok(());
                }
                if Instant::now() >= end {
                    let _ = self.helper.kill();
                    return Err(SandboxError::HelperDied(
                        "it hung and was killed".to_owned(),
                    ));
                }
            }
        }
        #[cfg(not(target_os = "linux"))]
        {
            let _ = patience;
            Ok(())
        }
    }

    fn setup_error(&self, body: &[u8]) -> SandboxError {
        match serde_json::from_slice::<SetupFailure>(body) {
            Ok(failure) => SandboxError::Setup {
                level: self.level,
                remedy: remedy(&failure.stage, failure.errno),
                stage: failure.stage,
                detail: failure.detail,
            },
            Err(error) => SandboxError::Protocol(error.to_string()),
        }
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        // The helper reads the end of its input, kills what it started, and ends.
        drop(self.requests.take());
        let _ = self.helper.wait();
    }
}

fn died(error: std::io::Error) -> SandboxError {
    SandboxError::HelperDied(error.to_string())
}
