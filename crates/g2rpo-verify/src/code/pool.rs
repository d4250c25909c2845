//! The pool of sandboxes: as many workers as completions may run at a time.

use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use g2rpo_sandbox::{Helper, Isolation, IsolationLevel, SandboxError, Spec, test_filter};

use super::canary;
use super::job::Limits;
use super::marshal::marshal;
use super::python::{self, ARGUMENTS, DRIVER, ENVIRONMENT, Interpreter, PRELOAD, PRELUDE};
use super::slot::Slot;
use super::value::Value;
use super::worker::Worker;

/// How code is run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolConfig {
    /// Which isolation is accepted.
    pub isolation: Isolation,
    /// Which program confines the interpreter.
    pub helper: Helper,
    /// The Python interpreter; absent: the first `python3` on `PATH`, in `/usr/bin` or in
    /// `/usr/local/bin` that works inside the sandbox.
    pub python: Option<PathBuf>,
    /// Folders of modules beyond the standard library, such as a `site-packages` with numpy.
    pub python_path: Vec<PathBuf>,
    /// Modules to import before the first completion, besides those that solutions import most.
    pub preload: Vec<String>,
    /// What one test may use.
    pub limits: Limits,
    /// Completions that run at the same time; 0 stands for the number of available cores.
    pub workers: usize,
    /// When started by root: the first of the user ids that sandboxes run as, two for each worker.
    /// Absent: a range derived from the process id, past all ordinary users.
    pub first_uid: Option<u32>,
}

impl Default for PoolConfig {
    /// The strongest isolation that works, and nothing without; one worker for each core.
    fn default() -> Self {
        Self {
            isolation: Isolation::Auto,
            helper: Helper::Auto,
            python: None,
            python_path: Vec::new(),
            preload: Vec::new(),
            limits: Limits::default(),
            workers: 0,
            first_uid: None,
        }
    }
}

/// No isolation that is accepted works here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "no sandbox for code: {}. Untrusted code is not run without one; on a machine that is itself \
     thrown away, Isolation::UnsafeNone overrides this",
    tried.join("; ")
)]
pub struct SandboxUnavailable {
    /// Each combination of level and interpreter that was tried, why it failed, and what to do.
    pub tried: Vec<String>,
}

/// Sandboxes for as many completions as may run at a time.
///
/// Cheap to clone; clones share the sandboxes, which start when they are first needed and end with
/// the last clone.
#[derive(Debug, Clone)]
pub struct SandboxPool {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    level: Option<IsolationLevel>,
    limits: Limits,
    python: PathBuf,
    idle: Mutex<Vec<Worker>>,
    returned: Condvar,
    workers: usize,
}

impl SandboxPool {
    /// Finds the strongest accepted isolation by trying it: a probe runs through the whole set-up
    /// and attempts what must not be possible.
    ///
    /// # Errors
    /// When nothing accepted works, with the reason and the remedy for each attempt.
    pub fn new(config: &PoolConfig) -> Result<Self, SandboxUnavailable> {
        if cfg!(not(target_os = "linux")) {
            let tried = vec![SandboxError::Unsupported.to_string()];
            return Err(SandboxUnavailable { tried });
        }
        let workers = match config.workers {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            n => n,
        };
        let mut tried = Vec::new();
        let candidates = python::candidates(config.python.as_deref());
        if candidates.is_empty() {
            tried.push("no Python 3 interpreter: name one in `python`".to_owned());
        }
        for level in config.isolation.candidates() {
            for candidate in &candidates {
                let started = python::examine(candidate)
                    .and_then(|interpreter| Self::start(config, level, &interpreter, workers));
                match started {
                    Ok(pool) => return Ok(pool),
                    Err(why) => tried.push(format!("{}: {why}", candidate.display())),
                }
            }
        }
        tried.dedup();
        Err(SandboxUnavailable { tried })
    }

    fn start(
        config: &PoolConfig,
        level: Option<IsolationLevel>,
        interpreter: &Interpreter,
        workers: usize,
    ) -> Result<Self, String> {
        let first_uid = config
            .first_uid
            .unwrap_or_else(|| default_first_uid(workers));
        let slot = |index: usize| -> Result<Slot, SandboxError> {
            let uid = first_uid + u32::try_from(index).unwrap_or(0);
            let spec = specification(config, level, interpreter, uid)?;
            Ok(Slot::new(config.helper.clone(), spec, config.limits))
        };
        let mut idle = (0..workers)
            .map(|i| {
                Ok(Worker {
                    solution: slot(2 * i)?,
                    judge: slot(2 * i + 1)?,
                })
            })
            .collect::<Result<Vec<_>, SandboxError>>()
            .map_err(|error| error.to_string())?;
        if let Some(worker) = idle.last_mut() {
            canary::check(worker, level)?;
        }
        Ok(Self {
            shared: Arc::new(Shared {
                level,
                limits: config.limits,
                python: interpreter.program.clone(),
                idle: Mutex::new(idle),
                returned: Condvar::new(),
                workers,
            }),
        })
    }

    /// The isolation in use; `None` only under [`Isolation::UnsafeNone`].
    #[must_use]
    pub fn level(&self) -> Option<IsolationLevel> {
        self.shared.level
    }

    /// The interpreter in use.
    #[must_use]
    pub fn python(&self) -> &std::path::Path {
        &self.shared.python
    }

    /// What one test may use.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.shared.limits
    }

    /// Completions that run at the same time.
    #[must_use]
    pub fn workers(&self) -> usize {
        self.shared.workers
    }

    /// Waits for a free worker.
    pub(super) fn worker(&self) -> Lease<'_> {
        let mut idle = self.shared.idle();
        loop {
            if let Some(worker) = idle.pop() {
                return Lease {
                    shared: &self.shared,
                    worker: Some(worker),
                };
            }
            idle = self
                .shared
                .returned
                .wait(idle)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Shared {
    fn idle(&self) -> MutexGuard<'_, Vec<Worker>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A worker that goes back to the pool.
#[derive(Debug)]
pub(super) struct Lease<'a> {
    shared: &'a Shared,
    worker: Option<Worker>,
}

impl Lease<'_> {
    pub(super) fn get(&mut self) -> &mut Worker {
        match &mut self.worker {
            Some(worker) => worker,
            None => unreachable!("only the drop takes the worker"),
        }
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        if let Some(mut worker) = self.worker.take() {
            if std::thread::panicking() {
                // An answer may be under way, which would be taken for that of the next question.
                worker.solution.abandon();
                worker.judge.abandon();
            }
            // A slot whose end cannot be told starts afresh when it is next opened.
            let _ = worker.solution.close();
            self.shared.idle().push(worker);
            self.shared.returned.notify_one();
        }
    }
}

fn specification(
    config: &PoolConfig,
    level: Option<IsolationLevel>,
    interpreter: &Interpreter,
    uid: u32,
) -> Result<Spec, SandboxError> {
    let filter = match level {
        Some(_) => Value::Bytes(test_filter()?),
        None => Value::None,
    };
    let strings =
        |items: &mut dyn Iterator<Item = String>| Value::List(items.map(Value::Str).collect());
    let preload = PRELOAD.iter().map(|&name| name.to_owned());
    let greeting = Value::Tuple(vec![
        filter,
        strings(&mut preload.chain(config.preload.iter().cloned())),
        PRELUDE.into(),
        strings(
            &mut config
                .python_path
                .iter()
                .map(|path| path.display().to_string()),
        ),
    ]);
    let mut read_paths = interpreter.read_paths.clone();
    read_paths.extend(config.python_path.iter().cloned());
    Ok(Spec {
        level,
        program: interpreter.program.clone(),
        args: ARGUMENTS
            .iter()
            .copied()
            .chain([DRIVER])
            .map(str::to_owned)
            .collect(),
        env: ENVIRONMENT
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .to_vec(),
        read_paths,
        uid,
        limits: config.limits.process,
        greeting: marshal(&greeting),
        reply_bytes: 48 << 20,
    })
}

/// A range of ids that no ordinary user has and that another run on this machine is unlikely to
/// use at the same time; within the ids that a container maps.
fn default_first_uid(workers: usize) -> u32 {
    const HIGH: u32 = 0x7000_0000;
    const LOW: u32 = 61_184;
    let width = 2 * u32::try_from(workers).unwrap_or(1 << 12).clamp(1, 1 << 12);
    let process = std::process::id() & 0xffff;
    let mapped = std::fs::read_to_string("/proc/self/uid_map")
        .ok()
        .is_some_and(|map| {
            map.lines().any(|line| {
                let fields: Vec<u64> = line
                    .split_whitespace()
                    .filter_map(|n| n.parse().ok())
                    .collect();
                matches!(fields[..], [inside, _, count] if inside + count > 0x7fff_ffff)
            })
        });
    if mapped {
        HIGH + process * 0x2000 % 0x0fff_0000
    } else {
        LOW + process * width % (4336 - width.min(4335))
    }
}
