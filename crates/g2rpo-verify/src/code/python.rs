//! The interpreter: which one, what it reads, and the driver that it runs.

use std::collections::BTreeMap;
use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};

use crate::list::words;

/// The program that runs inside, in the order in which its parts depend on each other.
pub(super) const DRIVER: &str = concat!(
    // The current folder is no place for modules.
    "import sys\nsys.path[:] = [p for p in sys.path if p]\n",
    include_str!("py/values.py"),
    include_str!("py/process.py"),
    include_str!("py/typed.py"),
    include_str!("py/solution.py"),
    include_str!("py/session.py"),
    include_str!("py/judge.py"),
    include_str!("py/convert.py"),
    include_str!("py/zygote.py"),
);

/// What stands before every solution in the harnesses of data sets of calls and programs, whose solutions rely on
/// it: the imports of `LiveCodeBench` 28fef95 (`lcb_runner/evaluation/testing_util.py`), in its order, of which those
/// of APPS, TACO and PRIME are a part, numpy aside.
pub(super) const PRELUDE: &str = include_str!("py/prelude.py");

/// Arguments before [`DRIVER`]: no user or other site-packages, no bytecode written. Not `-I`,
/// which would ignore the fixed hash seed; the environment is the sandbox's own anyway.
pub(super) const ARGUMENTS: [&str; 4] = ["-s", "-S", "-B", "-c"];

/// The whole environment inside. The fixed seed makes the order of sets, and so the verdict on code
/// that depends on it, the same every time. With `LD_BIND_NOW` functions of shared libraries are looked up
/// at the start, and not again in each process that first calls them.
/// Each memory arena of a thread reserves address space, of which there is a limit.
pub(super) const ENVIRONMENT: [(&str, &str); 6] = [
    ("LANG", "C.UTF-8"),
    ("LD_BIND_NOW", "1"),
    ("MALLOC_ARENA_MAX", "2"),
    ("OMP_NUM_THREADS", "1"),
    ("PATH", "/usr/bin:/bin"),
    ("PYTHONHASHSEED", "0"),
];

/// Imported once, before anything is forked: what solutions import most. Not `hashlib`, whose libraries each
/// fork would have to map; a test that wants it imports it.
pub(super) const PRELOAD: &[&str] = words!(
    "array bisect cmath collections copy dataclasses datetime decimal enum fractions functools \
     heapq io itertools json math numbers operator queue random re statistics string textwrap \
     threading typing"
);

/// A Python interpreter and what it reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Interpreter {
    pub(super) program: PathBuf,
    pub(super) read_paths: Vec<PathBuf>,
}

/// Asks an interpreter, outside of any sandbox, where it and its libraries are. Versioned launchers
/// and shims answer for the real program. Python 3.8 is the oldest that [`DRIVER`] runs on: the first that tells where
/// statements end.
const PROBE: &str = "
import sys, os
if sys.version_info < (3, 8):
    sys.exit('Python %d.%d is too old: 3.8 or later is needed' % sys.version_info[:2])
for name in sys.argv[1:]:
    __import__(name)
import ctypes, resource
print(os.path.realpath('/proc/self/exe'))
for path in sys.path:
    print(path)
for line in open('/proc/self/maps'):
    path = line.split(maxsplit=5)[5:]
    if path and path[0].startswith('/'):
        print(os.path.dirname(path[0].strip()))
";

/// Interpreters to try: the named one, or those on `PATH` and in the usual places.
pub(super) fn candidates(named: Option<&Path>) -> Vec<PathBuf> {
    if let Some(path) = named {
        return vec![path.to_owned()];
    }
    let on_path: Vec<PathBuf> = env::var_os("PATH")
        .map(|path| {
            env::split_paths(&path)
                .map(|folder| folder.join("python3"))
                .collect()
        })
        .unwrap_or_default();
    let usual = ["/usr/bin/python3", "/usr/local/bin/python3"].map(PathBuf::from);
    let mut found: Vec<PathBuf> = Vec::new();
    for path in on_path.into_iter().chain(usual) {
        if path.is_file() && !found.contains(&path) {
            found.push(path);
        }
    }
    found
}

/// What an interpreter says about itself. Asked once in the life of this process.
pub(super) fn examine(candidate: &Path) -> Result<Interpreter, String> {
    static KNOWN: Mutex<BTreeMap<PathBuf, Result<Interpreter, String>>> =
        Mutex::new(BTreeMap::new());
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    known
        .entry(candidate.to_owned())
        .or_insert_with(|| ask(candidate))
        .clone()
}

fn ask(candidate: &Path) -> Result<Interpreter, String> {
    let output = Command::new(candidate)
        .args(["-I", "-S", "-c", PROBE])
        .args(PRELOAD)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| error.to_string())?;
    if !output.status.success() {
        let why = String::from_utf8_lossy(&output.stderr);
        return Err(format!(
            "{}, {}",
            output.status,
            why.lines().last().unwrap_or_default()
        ));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let mut lines = text.lines().map(PathBuf::from);
    let program = lines
        .next()
        .filter(|path| path.is_absolute())
        .ok_or_else(|| "it does not say where it is".to_owned())?;
    // Its own folder holds programs, not libraries; it is granted by itself.
    let own = program.parent().map(Path::to_owned);
    let mut read_paths: Vec<PathBuf> = ["/etc/ld.so.cache", "/lib64", "/usr/share/zoneinfo"]
        .map(PathBuf::from)
        .to_vec();
    read_paths.extend(lines.filter(|path| path.is_absolute() && Some(path) != own.as_ref()));
    read_paths.sort();
    read_paths.dedup();
    Ok(Interpreter {
        program,
        read_paths,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_named_interpreter_is_the_only_candidate() {
        let named = Path::new("/opt/python");
        assert_eq!(candidates(Some(named)), [named]);
    }

    #[test]
    fn a_program_that_is_no_python_is_refused_with_its_reason() {
        let why = examine(Path::new("/bin/false")).unwrap_err();
        assert!(why.contains("exit status: 1"), "{why}");
        assert!(examine(Path::new("/nonexistent")).is_err());
    }

    #[test]
    fn the_driver_holds_every_part() {
        for part in [
            "def encode(",
            "def confine(",
            "def run_call(",
            "def convert(",
            "zygote()",
        ] {
            assert!(DRIVER.contains(part), "{part}");
        }
    }
}
