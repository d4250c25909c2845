//! Code that runs elsewhere: the executor's contract and a test double.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use super::job::{Limits, Observation, Request};

/// Runs code somewhere else: a sandbox service, another machine, a virtual machine.
///
/// It gets the code and the requests, never an expected value, and reports what the code did. The
/// comparison stays with [`CodeVerifier`](super::CodeVerifier), so a service that is broken into
/// learns nothing that helps to cheat.
pub trait RemoteExecutor: Send + Sync {
    /// Runs the requests in order against `source` and returns one observation for each. May stop
    /// early, after the first that is a [`Failed`](Observation::Failed); fewer observations than
    /// requests count as a fault otherwise.
    ///
    /// # Errors
    /// When the service did not do its work, in words. The sample is then masked.
    fn execute(
        &self,
        source: &str,
        requests: &[Request],
        limits: &Limits,
    ) -> Result<Vec<Observation>, String>;
}

/// A test double: answers each job with the next entry of a script, whatever the code.
#[derive(Debug, Default)]
pub struct ScriptedExecutor {
    script: Mutex<VecDeque<Result<Vec<Observation>, String>>>,
}

impl ScriptedExecutor {
    /// Answers in this order.
    pub fn new(script: impl IntoIterator<Item = Result<Vec<Observation>, String>>) -> Self {
        Self {
            script: Mutex::new(script.into_iter().collect()),
        }
    }
}

impl RemoteExecutor for ScriptedExecutor {
    fn execute(
        &self,
        _source: &str,
        _requests: &[Request],
        _limits: &Limits,
    ) -> Result<Vec<Observation>, String> {
        let mut script = self.script.lock().unwrap_or_else(PoisonError::into_inner);
        script
            .pop_front()
            .unwrap_or_else(|| Err("the script is exhausted".to_owned()))
    }
}
