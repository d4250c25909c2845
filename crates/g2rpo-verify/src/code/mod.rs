//! Python code judged by tests, in a sandbox that does not know the answers.
//!
//! ```no_run
//! use g2rpo_verify::Verifier;
//! use g2rpo_verify::code::{CodeVerifier, PoolConfig, SandboxPool, main_if_requested};
//!
//! // First thing in `main`: the program is its own sandbox helper.
//! main_if_requested();
//! let pool = SandboxPool::new(&PoolConfig::default())?;
//! let verifier = CodeVerifier::new(pool);
//! let tests = r#"["assert add(2, 3) == 5", "assert add(-1, 1) == 0"]"#;
//! let verdict = verifier.verify("```python\ndef add(a, b):\n    return a + b\n```", tests);
//! assert!(verdict.is_correct());
//! # Ok::<(), g2rpo_verify::code::SandboxUnavailable>(())
//! ```
//!
//! What the sandbox promises, at which level, and what to do where none works: `docs/sandbox.md`.

mod canary;
mod compare;
mod execute;
mod extract;
mod frame;
mod job;
mod marshal;
mod outcome;
mod output;
mod pool;
mod python;
mod remote;
mod show;
mod slot;
mod suite;
mod value;
mod verifier;
mod worker;

pub use extract::{CodeBlock, CodeExtraction};
pub use frame::{Exception, Frame, FrameError};
pub use job::{Failure, JudgeProgram, Limits, Observation, Request};
pub use output::same_output;
pub use pool::{PoolConfig, SandboxPool, SandboxUnavailable};
pub use remote::{RemoteExecutor, ScriptedExecutor};
pub use suite::{Expectation, TestCase, TestSuite, Tests};
pub use value::{Int, Value, ValueError};
pub use verifier::{CodeReport, CodeVerifier, PassRate};

pub use g2rpo_sandbox::{
    Helper, Isolation, IsolationLevel, ProcessLimits, SandboxError, main_if_requested,
};
