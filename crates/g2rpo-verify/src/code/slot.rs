//! One confined interpreter as its driver (`py/`) understands it: open a completion, run tests,
//! close it.

use std::time::Duration;

use g2rpo_sandbox::{Helper, Sandbox, SandboxError, Spec};

use super::frame::{Frame, FrameError};
use super::job::{Failure, JudgeProgram, Limits};
use super::marshal::marshal;
use super::value::{Int, Value};

/// A test that got this share of a core, or a larger one, was waiting for it and not idle. A sixteenth is what a
/// process gets on two cores that some thirty others compete for.
const STRETCH: u32 = 16;
/// How long after a test's own budgets the helper waits before it kills the whole sandbox. It is needed when the
/// runner could not end the test, and for a test that is neither idle nor busy: one that takes a little more than
/// its share of a core stays below both budgets of the runner.
const GRACE: Duration = Duration::from_secs(2);
/// Of the time that an answer took, what is not looked at: that of the way to the test and back.
const WAY: Duration = Duration::from_secs(1);
/// The tests of a data set may be large; they are trusted.
const TRUSTED_BYTES: usize = 1 << 25;

#[derive(Debug)]
pub(super) struct Slot {
    helper: Helper,
    spec: Spec,
    sandbox: Option<Sandbox>,
    limits: Limits,
    // What is open: re-sent when the sandbox had to start afresh.
    open: Option<Vec<u8>>,
    fresh: bool,
    spent: Duration,
}

/// What became of a test process.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Report {
    pub(super) how: How,
    pub(super) data: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum How {
    Done,
    /// It wrote a frame and lives.
    Frame,
    Exit(i32),
    Signal(i32),
    OutOfTime,
    TooMuchOutput,
    /// It wrote without being asked.
    Extra,
}

impl Slot {
    pub(super) fn new(helper: Helper, spec: Spec, limits: Limits) -> Self {
        Self {
            helper,
            spec,
            sandbox: None,
            limits,
            open: None,
            fresh: true,
            spent: Duration::ZERO,
        }
    }

    /// The time that all tests so far are the reason for: CPU time, idling, or what of the time that passed they did
    /// not wait for a core.
    pub(super) const fn spent(&self) -> Duration {
        self.spent
    }

    pub(super) const fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Puts other limits on what is opened from now on; returns those so far.
    pub(super) const fn replace_limits(&mut self, limits: Limits) -> Limits {
        std::mem::replace(&mut self.limits, limits)
    }

    /// Begins a completion whose code is `source`. Ends the one before.
    ///
    /// `with_prelude` has the imports that some data sets put before every solution run first.
    pub(super) fn open(&mut self, source: &str, with_prelude: bool) -> Result<(), SandboxError> {
        self.open_with(source, with_prelude, self.limits.result_bytes)
    }

    /// Begins a job of trusted tests.
    pub(super) fn open_trusted(&mut self) -> Result<(), SandboxError> {
        self.open_with("", false, TRUSTED_BYTES)
    }

    fn open_with(
        &mut self,
        source: &str,
        with_prelude: bool,
        result_bytes: usize,
    ) -> Result<(), SandboxError> {
        let number = |n: usize| Value::Int(Int::from(n as u64));
        let message = request(
            "open",
            vec![
                source.into(),
                with_prelude.into(),
                Value::Float(self.limits.cpu.as_secs_f64()),
                Value::Float(self.limits.wall.as_secs_f64()),
                Value::Int(Int::from(u64::from(STRETCH))),
                number(self.limits.output_bytes),
                number(result_bytes),
            ],
        );
        self.close()?;
        self.send(&message)?;
        self.open = Some(message);
        self.fresh = false;
        Ok(())
    }

    /// Ends the sandbox, whatever it is doing.
    pub(super) fn abandon(&mut self) {
        self.sandbox = None;
        self.fresh = true;
        self.open = None;
    }

    /// Ends the completion, if one is open, so that nothing of it is left in memory.
    pub(super) fn close(&mut self) -> Result<(), SandboxError> {
        if self.open.take().is_some() && !self.fresh {
            self.send(&request("close", vec![]))?;
        }
        Ok(())
    }

    pub(super) fn call(
        &mut self,
        function: &str,
        arguments: Vec<u8>,
    ) -> Result<Report, SandboxError> {
        self.run("call", vec![function.into(), Value::Bytes(arguments)])
    }

    pub(super) fn program(&mut self, stdin: &str) -> Result<Report, SandboxError> {
        self.run("program", vec![Value::Bytes(stdin.as_bytes().to_vec())])
    }

    /// Loads the code into a process that answers calls; its first report is a frame.
    pub(super) fn serve(&mut self) -> Result<Report, SandboxError> {
        self.run("serve", vec![])
    }

    pub(super) fn judge(&mut self, program: &JudgeProgram) -> Result<Report, SandboxError> {
        let names = program
            .names
            .iter()
            .map(|name| name.as_str().into())
            .collect();
        let check = program.check.as_deref().map_or(Value::None, Value::from);
        let arguments = vec![
            program.setup.as_str().into(),
            program.tests.as_str().into(),
            Value::List(names),
            check,
        ];
        self.run("judge", arguments)
    }

    pub(super) fn convert(
        &mut self,
        setup: &str,
        tests: &str,
        entry: Option<&str>,
    ) -> Result<Report, SandboxError> {
        let entry = entry.map_or(Value::None, Value::from);
        self.run("convert", vec![setup.into(), tests.into(), entry])
    }

    /// Hands a message to the process of [`serve`](Self::serve) or [`judge`](Self::judge) and waits
    /// for its next frame.
    pub(super) fn say(&mut self, message: Vec<u8>) -> Result<Report, SandboxError> {
        self.run("say", vec![Value::Bytes(message)])
    }

    fn run(&mut self, name: &str, arguments: Vec<Value>) -> Result<Report, SandboxError> {
        if self.fresh
            && let Some(open) = self.open.clone()
        {
            self.send(&open)?;
            self.fresh = false;
        }
        match self.send(&request(name, arguments)) {
            // The runner kills a test at its deadline. When it could not even do that, the test
            // is what kept it from it.
            Err(SandboxError::Deadline(patience)) => {
                self.spent += patience;
                Ok(Report {
                    how: How::OutOfTime,
                    data: Vec::new(),
                })
            }
            Err(error) => Err(error),
            Ok(report) => {
                let (report, spent) = read_report(&report)?;
                let waited = self
                    .sandbox
                    .as_ref()
                    .map_or(Duration::ZERO, Sandbox::waited);
                self.spent += spent.max(waited.saturating_sub(WAY));
                Ok(report)
            }
        }
    }

    fn send(&mut self, message: &[u8]) -> Result<Vec<u8>, SandboxError> {
        let patience = self.limits.wall + self.limits.cpu + GRACE;
        let sandbox = match &mut self.sandbox {
            Some(sandbox) => sandbox,
            None => self
                .sandbox
                .insert(Sandbox::start(&self.helper, &self.spec)?),
        };
        let answer = sandbox.request(message, patience);
        if let Err(error) = &answer {
            self.fresh = true;
            if matches!(error, SandboxError::HelperDied(_)) {
                self.sandbox = None;
            }
        }
        answer
    }
}

impl Report {
    /// The frame of a process that wrote one and ended, or that lives on in a session.
    pub(super) fn into_frame(self) -> Result<Frame, Failure> {
        match self.how {
            How::Frame | How::Exit(0) if !self.data.is_empty() => {
                Frame::decode(&self.data).map_err(|_: FrameError| Failure::Malformed)
            }
            How::Frame | How::Done | How::Extra => Err(Failure::Malformed),
            How::Exit(status) => Err(Failure::Exited(status)),
            How::Signal(number) => Err(Failure::Killed(number)),
            How::OutOfTime => Err(Failure::OutOfTime),
            How::TooMuchOutput => Err(Failure::TooMuchOutput),
        }
    }
}

fn request(name: &str, arguments: Vec<Value>) -> Vec<u8> {
    let mut items = vec![name.into()];
    items.extend(arguments);
    marshal(&Value::List(items))
}

/// `how detail milliseconds` of time spent, a line feed, and data; written by the driver's trusted part.
fn read_report(bytes: &[u8]) -> Result<(Report, Duration), SandboxError> {
    let malformed = || SandboxError::Protocol("the driver's report".to_owned());
    let end = bytes
        .iter()
        .position(|&b| b == b'\n')
        .ok_or_else(malformed)?;
    let line = str::from_utf8(&bytes[..end]).map_err(|_| malformed())?;
    let &[how, detail, spent] = line.split(' ').collect::<Vec<_>>().as_slice() else {
        return Err(malformed());
    };
    let detail = detail.parse().map_err(|_| malformed())?;
    let spent = spent.parse().map_err(|_| malformed())?;
    let how = match how {
        "done" => How::Done,
        "frame" => How::Frame,
        "exit" => How::Exit(detail),
        "signal" => How::Signal(detail),
        "time" | "cpu" => How::OutOfTime,
        "output" => How::TooMuchOutput,
        "extra" => How::Extra,
        _ => return Err(malformed()),
    };
    let data = bytes[end + 1..].to_vec();
    Ok((Report { how, data }, Duration::from_millis(spent)))
}
