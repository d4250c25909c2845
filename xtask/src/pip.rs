//! Running pip, and turning its failures into one sentence.

use crate::error::{Error, Result};
use crate::pins::{Pins, TORCH_VERSION};
use std::ffi::OsString;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

/// The command line that starts Python.
///
/// The rule is the one of `tch`'s build script, so that both look at the same installation.
pub(crate) fn python() -> Vec<OsString> {
    let in_venv = std::env::var_os("VIRTUAL_ENV").is_some();
    vec![OsString::from(if in_venv { "python" } else { "python3" })]
}

/// Checks that Python is there and has pip.
pub(crate) fn check(python: &[OsString]) -> Result<()> {
    let shown = python[0].to_string_lossy();
    let otherwise = format!("or set LIBTORCH to a libtorch {TORCH_VERSION} of your own");
    let output = Command::new(&python[0])
        .args(&python[1..])
        .args(["-m", "pip", "--version"])
        .stdin(Stdio::null())
        .output()
        .map_err(|error| {
            Error::new(format!(
                "{shown} does not run ({error}), and libtorch comes from Python wheels: install Python 3 with pip (on Debian and Ubuntu: apt-get install python3 python3-pip), {otherwise}"
            ))
        })?;
    if output.status.success() {
        return Ok(());
    }
    Err(Error::new(format!(
        "{shown} has no pip, and libtorch comes from Python wheels: install it (on Debian and Ubuntu: apt-get install python3-pip; elsewhere: {shown} -m ensurepip), {otherwise}"
    )))
}

/// Downloads the wheels into `wheels`. Those that are there whole, by their hash, are not fetched again.
pub(crate) fn download(
    python: &[OsString],
    pins: &Pins,
    requirements: &Path,
    wheels: &Path,
    tmp: &Path,
) -> Result<()> {
    let mut command = base(python, tmp);
    command.arg("download").arg("--dest").arg(wheels);
    select(&mut command, pins, requirements);
    run(command)
}

/// Installs the wheels in `wheels` into `target` without any network.
pub(crate) fn install(
    python: &[OsString],
    pins: &Pins,
    requirements: &Path,
    wheels: &Path,
    target: &Path,
    tmp: &Path,
) -> Result<()> {
    let mut command = base(python, tmp);
    command
        .args(["install", "--no-compile", "--no-index", "--find-links"])
        .arg(wheels);
    command.arg("--target").arg(target);
    select(&mut command, pins, requirements);
    run(command)
}

/// pip with the user's configuration, but for settings that contradict an installation into a folder.
fn base(python: &[OsString], tmp: &Path) -> Command {
    let mut command = Command::new(&python[0]);
    command.args(&python[1..]).args(["-m", "pip"]);
    // pip unpacks here before it moves files to their place: the same disk makes that a rename,
    // and a small /tmp does no harm.
    command.env("TMPDIR", tmp);
    if std::env::var_os("PIP_RESUME_RETRIES").is_none() {
        command.env("PIP_RESUME_RETRIES", "5");
    }
    command
        .env("PIP_USER", "false")
        .env("PIP_REQUIRE_VIRTUALENV", "false");
    command
        .env("PIP_NO_INPUT", "1")
        .env("PIP_DISABLE_PIP_VERSION_CHECK", "1");
    command.env("PIP_ROOT_USER_ACTION", "ignore");
    command
}

fn select(command: &mut Command, pins: &Pins, requirements: &Path) {
    command.args([
        "--no-deps",
        "--only-binary=:all:",
        "--implementation",
        "cp",
        "--python-version",
        "3.11",
    ]);
    for platform in pins.platforms {
        command.args(["--platform", platform]);
    }
    command
        .arg("--require-hashes")
        .arg("--requirement")
        .arg(requirements);
}

/// Runs pip, shows what it prints, and explains a failure.
fn run(mut command: Command) -> Result<()> {
    let shown = command.get_program().to_string_lossy().into_owned();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(std::io::stderr())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(Error::io(format_args!("start {shown}")))?;
    let mut complaints = String::new();
    if let Some(stderr) = child.stderr.take() {
        for line in BufReader::new(stderr).split(b'\n') {
            let line = line.map_err(Error::io("read what pip says"))?;
            let line = String::from_utf8_lossy(&line);
            eprintln!("{line}");
            complaints.push_str(&line);
            complaints.push('\n');
        }
    }
    let status = child.wait().map_err(Error::io("wait for pip"))?;
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

/// One sentence from pip's error output.
pub(crate) fn explain(complaints: &str) -> Error {
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
        let last = complaints
            .lines()
            .rev()
            .find(|line| !line.trim().is_empty());
        format!(
            "pip failed ({}): see its output above, then run the same command again",
            last.unwrap_or("without a word").trim()
        )
    };
    Error::new(sentence)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_of_pip_are_told_apart() {
        for (complaint, expected) in [
            (
                "OSError: [Errno 28] No space left on device",
                "disk filled up",
            ),
            (
                "ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE.",
                "pinned hash",
            ),
            (
                "WARNING: Retrying ... NewConnectionError('...: [Errno -3] Temporary failure in name resolution')\n\
                 ERROR: Could not find a version that satisfies the requirement torch==2.11.0\n\
                 ERROR: No matching distribution found for torch==2.11.0",
                "check the network",
            ),
            (
                "ERROR: No matching distribution found for torch==2.11.0",
                "has no wheel",
            ),
            (
                "ERROR: Could not install packages: [Errno 13] Permission denied: '/x'",
                "make it writable",
            ),
            ("Traceback\nValueError: odd\n\n", "ValueError: odd"),
            ("", "without a word"),
        ] {
            let message = explain(complaint).to_string();
            assert!(message.contains(expected), "{complaint:?} gave {message:?}");
            assert!(
                message.contains("run the same command again"),
                "{message:?}"
            );
        }
    }

    #[test]
    fn python_without_pip_and_no_python() {
        let script = |text: &str| ["sh", "-c", text].map(OsString::from).to_vec();
        check(&script("exit 0")).unwrap();
        let message = check(&script("echo 'No module named pip' >&2; exit 1"))
            .unwrap_err()
            .to_string();
        assert!(
            message.contains("has no pip") && message.contains("python3-pip"),
            "{message}"
        );
        let message = check(&["/no/such/python3".into()]).unwrap_err().to_string();
        assert!(
            message.contains("does not run") && message.contains("install Python 3"),
            "{message}"
        );
    }

    #[test]
    fn a_killed_pip_is_an_interruption() {
        let mut command = Command::new("sh");
        command.args(["-c", "kill -9 $$"]);
        let message = run(command).unwrap_err().to_string();
        assert!(
            message.contains("interrupted") && message.contains("again"),
            "{message}"
        );
    }
}
