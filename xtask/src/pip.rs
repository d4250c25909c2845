//! Running pip, and turning its failures into one sentence.

use crate::error::{Error, Result};
use crate::pins::{Pins, TORCH_VERSION};
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

/// How Python is started: the program and its first arguments.
#[derive(Debug)]
pub(crate) struct Python(Vec<OsString>);

impl fmt::Display for Python {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0[0].display())
    }
}

impl Python {
    /// The rule is the one of `tch`'s build script, so that both look at the same installation.
    pub(crate) fn new() -> Self {
        let in_venv = std::env::var_os("VIRTUAL_ENV").is_some();
        Self(vec![if in_venv { "python" } else { "python3" }.into()])
    }

    pub(crate) fn command<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(&self.0[0]);
        command.args(&self.0[1..]).args(args).stdin(Stdio::null());
        command
    }

    /// For tests: a program that stands for Python.
    #[cfg(test)]
    pub(crate) fn fake<S: AsRef<OsStr>>(words: impl IntoIterator<Item = S>) -> Self {
        let words = words.into_iter().map(|word| word.as_ref().to_owned());
        Self(words.collect())
    }

    /// Checks that Python is there and has pip.
    pub(crate) fn check(&self) -> Result<()> {
        let otherwise = format!("or set LIBTORCH to a libtorch {TORCH_VERSION} of your own");
        let output = self.command(["-m", "pip", "--version"]).output().map_err(|error| {
            Error::new(format!(
                "{self} does not run ({error}), and libtorch comes from Python wheels: install Python 3 with pip (on Debian and Ubuntu: apt-get install python3 python3-pip), {otherwise}"
            ))
        })?;
        if output.status.success() {
            return Ok(());
        }
        Err(Error::new(format!(
            "{self} has no pip, and libtorch comes from Python wheels: install it (on Debian and Ubuntu: apt-get install python3-pip; elsewhere: {self} -m ensurepip), {otherwise}"
        )))
    }
}

/// pip, set to one system's wheels.
pub(crate) struct Pip<'a> {
    pub(crate) python: &'a Python,
    pub(crate) pins: &'a Pins,
    /// Where the wheels are kept.
    pub(crate) wheels: &'a Path,
    /// pip unpacks here before it moves files to their place: the same disk makes that a rename,
    /// and a small /tmp does no harm.
    pub(crate) tmp: &'a Path,
}

impl Pip<'_> {
    /// Downloads wheels. Those that are there whole, by their hash, are not fetched again.
    pub(crate) fn download(&self, requirements: &Path) -> Result<()> {
        let mut command = self.command();
        command.args(["download", "--dest"]).arg(self.wheels);
        self.run(command, requirements)
    }

    /// Installs wheels into `target` without any network.
    pub(crate) fn install(&self, requirements: &Path, target: &Path) -> Result<()> {
        let mut command = self.command();
        command.args(["install", "--no-compile", "--no-index", "--find-links"]);
        command.arg(self.wheels).arg("--target").arg(target);
        self.run(command, requirements)
    }

    /// pip with the user's configuration, but for settings that contradict an installation into a folder.
    fn command(&self) -> Command {
        let mut command = self.python.command(["-m", "pip"]);
        command.env("TMPDIR", self.tmp);
        if std::env::var_os("PIP_RESUME_RETRIES").is_none() {
            command.env("PIP_RESUME_RETRIES", "5");
        }
        command.envs([
            ("PIP_USER", "false"),
            ("PIP_REQUIRE_VIRTUALENV", "false"),
            ("PIP_NO_INPUT", "1"),
            ("PIP_DISABLE_PIP_VERSION_CHECK", "1"),
            ("PIP_ROOT_USER_ACTION", "ignore"),
        ]);
        command
    }

    fn run(&self, mut command: Command, requirements: &Path) -> Result<()> {
        command.args(["--no-deps", "--only-binary=:all:"]);
        command.args(["--implementation", "cp", "--python-version", "3.11"]);
        for platform in self.pins.platforms {
            command.args(["--platform", platform]);
        }
        command.args(["--require-hashes", "--requirement"]);
        command.arg(requirements);
        run(command)
    }
}

/// Runs pip, shows what it prints, and explains a failure.
fn run(mut command: Command) -> Result<()> {
    let shown = command.get_program().to_string_lossy().into_owned();
    let mut child = command
        .stdout(std::io::stderr())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(Error::io("start", shown))?;
    let mut complaints = String::new();
    if let Some(stderr) = child.stderr.take() {
        for line in BufReader::new(stderr).split(b'\n') {
            let line = line.map_err(Error::io("read", "what pip says"))?;
            let line = String::from_utf8_lossy(&line);
            eprintln!("{line}");
            complaints.push_str(&line);
            complaints.push('\n');
        }
    }
    let status = child.wait().map_err(Error::io("wait for", "pip"))?;
    if status.success() {
        return Ok(());
    }
    match status.code() {
        None => Err(Error::new(format!(
            "pip was interrupted ({status}): run the same command again; wheels that arrived whole are kept"
        ))),
        Some(_) => Err(explain(&complaints)),
    }
}

const NETWORK_SIGNS: &[&str] = &[
    "NewConnectionError",
    "Failed to establish a new connection",
    "name resolution",
    "Name or service not known",
    "nodename nor servname",
    "Connection refused",
    "Connection broken",
    "Connection aborted",
    "ConnectionResetError",
    "Network is unreachable",
    "timed out",
    "ProxyError",
    "Cannot connect to proxy",
    "SSLError",
    "CERTIFICATE_VERIFY_FAILED",
    "IncompleteRead",
    "Max retries exceeded",
    "HTTP error",
    "Server Error",
];

/// The last line that says something.
pub(crate) fn last_line(text: &str) -> Option<&str> {
    text.lines()
        .rev()
        .map(str::trim)
        .find(|line| !line.is_empty())
}

/// One sentence from pip's error output.
fn explain(complaints: &str) -> Error {
    let says = |sign: &str| complaints.contains(sign);
    let sentence = if says("No space left on device") || says("Disk quota exceeded") {
        "the disk filled up while libtorch was being installed: free some space, or set XDG_CACHE_HOME (and pip's cache, PIP_CACHE_DIR) to a larger disk, and run the same command again".to_owned()
    } else if says("DO NOT MATCH THE HASHES") {
        format!(
            "a wheel from pip's index does not have the pinned hash: it is damaged, or the index serves another build of torch {TORCH_VERSION}; run the same command again, and if it repeats, point pip to the ordinary Python Package Index (see `python3 -m pip config list`)"
        )
    } else if NETWORK_SIGNS.iter().any(|sign| says(sign)) {
        "pip cannot reach its package index: check the network, the proxy and pip's settings (`python3 -m pip config list`), then run the same command again; wheels that arrived whole are kept".to_owned()
    } else if says("No matching distribution found") || says("Could not find a version") {
        format!(
            "the package index that pip is set to has no wheel of torch {TORCH_VERSION} or of what it needs for this system: point pip to the ordinary Python Package Index (see `python3 -m pip config list`), then run the same command again"
        )
    } else if says("Permission denied") {
        "pip may not write into the cache folder: make it writable, or set XDG_CACHE_HOME to another folder, and run the same command again".to_owned()
    } else {
        let last = last_line(complaints).unwrap_or("without a word");
        format!("pip failed ({last}): see its output above, then run the same command again")
    };
    Error::new(sentence)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_of_pip_are_told_apart() {
        for (complaint, expected) in [
            ("[Errno 28] No space left on device", "disk filled up"),
            ("PACKAGES DO NOT MATCH THE HASHES FROM", "pinned hash"),
            (
                "WARNING: Retrying ... NewConnectionError('...: [Errno -3] Temporary failure in name resolution')\n\
                 ERROR: Could not find a version that satisfies the requirement torch==2.11.0\n\
                 ERROR: No matching distribution found for torch==2.11.0",
                "check the network",
            ),
            ("ERROR: No matching distribution found for", "has no wheel"),
            ("[Errno 13] Permission denied: '/x'", "make it writable"),
            ("Traceback\nValueError: odd\n\n", "ValueError: odd"),
            ("", "without a word"),
        ] {
            let message = explain(complaint).to_string();
            assert!(message.contains(expected), "{complaint:?} gave {message:?}");
            assert!(message.contains("run the same command again"));
        }
    }

    #[test]
    fn python_without_pip_and_no_python() {
        Python::fake(["sh", "-c", "exit 0"]).check().unwrap();
        let broken = Python::fake(["sh", "-c", "echo 'No module named pip' >&2; exit 1"]);
        for (python, words, advice) in [
            (broken, "has no pip", "python3-pip"),
            (
                Python::fake(["/no/such/python3"]),
                "does not run",
                "install Python 3",
            ),
        ] {
            let message = python.check().unwrap_err().to_string();
            assert!(
                message.contains(words) && message.contains(advice),
                "{message}"
            );
        }
    }

    #[test]
    fn a_killed_pip_is_an_interruption() {
        let python = Python::fake(["sh", "-c", "kill -9 $$"]);
        let message = run(python.command([""; 0])).unwrap_err().to_string();
        assert!(
            message.contains("interrupted") && message.contains("again"),
            "{message}"
        );
    }
}
