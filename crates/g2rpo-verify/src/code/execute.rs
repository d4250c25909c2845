//! The tests of one completion in a worker of the pool, and who is to blame when the sandbox ends.

use std::ops::ControlFlow;

use g2rpo_sandbox::SandboxError;

use super::job::{Failure, Observation, Request};
use super::pool::SandboxPool;
use super::value::Value;
use super::worker::Worker;

/// Runs the requests in order until `each` has seen enough.
///
/// # Errors
/// When no sandbox starts, or when it does not even run a program that is known to be harmless.
pub(super) fn execute<'a>(
    pool: &SandboxPool,
    program: &str,
    with_prelude: bool,
    requests: impl Iterator<Item = &'a Request>,
    each: &mut dyn FnMut(Observation) -> ControlFlow<()>,
) -> Result<(), SandboxError> {
    let mut lease = pool.worker();
    let worker = lease.get();
    open(worker, program, with_prelude)?;
    let budget = pool.limits().completion;
    let began = worker.spent();
    for request in requests {
        let left = budget.saturating_sub(worker.spent() - began);
        let observed = if left.is_zero() {
            Observation::Failed(Failure::OutOfTime)
        } else {
            match worker.run(request, left) {
                Ok(observed) => observed,
                Err(_) => {
                    open(worker, program, with_prelude)?;
                    match worker.run(request, left) {
                        Ok(observed) => observed,
                        Err(error) => {
                            check_with_harmless_code(worker, error)?;
                            Observation::Failed(Failure::EndedSandbox)
                        }
                    }
                }
            }
        };
        if each(observed).is_break() {
            break;
        }
    }
    Ok(())
}

/// A sandbox that ended while it was idle says so once.
fn open(worker: &mut Worker, program: &str, with_prelude: bool) -> Result<(), SandboxError> {
    worker
        .solution
        .open(program, with_prelude)
        .or_else(|_| worker.solution.open(program, with_prelude))
}

/// The sandbox ended twice under the code under test. When other code runs in it, the code is what ended it; were
/// that a fault, a solution could have itself masked.
///
/// # Errors
/// The given error, when the machine is to blame.
fn check_with_harmless_code(worker: &mut Worker, error: SandboxError) -> Result<(), SandboxError> {
    let request = Request::Call {
        function: "harmless".to_owned(),
        args: Vec::new(),
        kwargs: Vec::new(),
    };
    let budget = worker.budget();
    let ran = open(worker, "def harmless():\n    return 1\n", false)
        .and_then(|()| worker.run(&request, budget));
    if matches!(ran, Ok(Observation::Returned(value)) if value == Value::from(1)) {
        Ok(())
    } else {
        Err(error)
    }
}
