//! The probe: a sandbox counts as working only after code inside it has tried to get out.

use std::fs;
use std::path::PathBuf;

use g2rpo_sandbox::IsolationLevel;

use super::job::{Limits, Observation, Request};
use super::value::Value;
use super::worker::Worker;

/// Returns the list of what worked and must not.
const PROGRAM: &str = r#"
def canary(path):
    import os, socket
    def read():
        open(path).read()
    def write():
        open(path + ".new", "w")
    def fork():
        if os.fork() == 0:
            os._exit(0)
    def execute():
        os.execv("/bin/true", ["true"])
    def signal():
        os.kill(os.getppid(), 0)
    def change():
        os.chmod(path, 0o777)
    def connect():
        socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    def environment():
        known = "LANG LC_CTYPE LD_BIND_NOW MALLOC_ARENA_MAX OMP_NUM_THREADS PATH PYTHONHASHSEED"
        extra = set(os.environ) - set(known.split())
        if not extra:
            raise OSError
    breaches = []
    for attempt in (read, write, fork, signal, change, connect, environment, execute):
        try:
            attempt()
            breaches.append(attempt.__name__)
        except OSError:
            pass
    return breaches
"#;

/// # Errors
/// What does not work, in words.
pub(super) fn check(worker: &mut Worker, level: Option<IsolationLevel>) -> Result<(), String> {
    let file = CanaryFile::new().map_err(|error| format!("cannot write the canary: {error}"))?;
    let request = Request::Call {
        function: "canary".to_owned(),
        args: vec![Value::Str(file.0.display().to_string())],
        kwargs: vec![],
    };
    let program = if level.is_some() {
        PROGRAM
    } else {
        "def canary(path):\n    return []\n"
    };
    // Whether the sandbox holds is no question of time, however little the caller gives to tests.
    let limits = worker.solution.replace_limits(Limits::default());
    let observed = worker
        .solution
        .open(program, false)
        .and_then(|()| worker.run(&request, Limits::default().completion));
    worker.solution.replace_limits(limits);
    let observed = observed.map_err(|error| error.to_string())?;
    let name = level.map_or("none", IsolationLevel::name);
    match observed {
        Observation::Returned(Value::List(breaches)) if breaches.is_empty() => Ok(()),
        Observation::Returned(breaches) => Err(format!(
            "isolation {name} does not hold: the probe could {breaches:?}"
        )),
        other => Err(format!(
            "isolation {name}: the probe did not run: {other:?}"
        )),
    }
}

/// A file that everybody on the machine may read, so that only the sandbox can hide it.
struct CanaryFile(PathBuf);

impl CanaryFile {
    fn new() -> std::io::Result<Self> {
        use std::sync::atomic::{AtomicUsize, Ordering};
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let name = format!(
            "g2rpo-canary-{}-{}",
            std::process::id(),
            COUNT.fetch_add(1, Ordering::Relaxed)
        );
        let file = Self(std::env::temp_dir().join(name));
        fs::write(&file.0, "canary")?;
        Ok(file)
    }
}

impl Drop for CanaryFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}
