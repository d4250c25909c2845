//! Questions to the machine: is there an NVIDIA driver, how much disk is free, which version is a libtorch.

use crate::error::{Error, Result};
use crate::pins::TORCH_VERSION;
use crate::pip::Python;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

/// An NVIDIA driver, and the major number of its version where it can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Driver {
    pub(crate) major: Option<u32>,
}

/// Looks for an NVIDIA driver: asks `nvidia-smi`, then the kernel, then the usual places of `libcuda.so.1`.
pub(crate) fn nvidia_driver() -> Option<Driver> {
    let mut smi = Command::new("nvidia-smi");
    smi.args(["--query-gpu=driver_version", "--format=csv,noheader"]);
    let text = output(&mut smi).unwrap_or_default();
    if let Some(line) = text.lines().find(|line| !line.trim().is_empty()) {
        let major = driver_major(line);
        return Some(Driver { major });
    }
    if let Ok(text) = fs::read_to_string("/proc/driver/nvidia/version") {
        let line = text.lines().next().unwrap_or_default();
        let major = line.split_whitespace().find_map(driver_major);
        return Some(Driver { major });
    }
    [
        "/usr/lib/x86_64-linux-gnu/libcuda.so.1",
        "/usr/lib64/libcuda.so.1",
        "/usr/lib/libcuda.so.1",
        "/usr/lib/wsl/lib/libcuda.so.1",
    ]
    .iter()
    .any(|path| Path::new(path).exists())
    .then_some(Driver { major: None })
}

/// `580.65.06` → 580. Words without a dotted number give nothing.
fn driver_major(word: &str) -> Option<u32> {
    let (major, rest) = word.trim().split_once('.')?;
    let dotted = !rest.is_empty() && rest.chars().all(|c| c.is_ascii_digit() || c == '.');
    if dotted { major.parse().ok() } else { None }
}

/// Bytes free for this user on the file system of `dir`, as `df` says; `None` where it cannot be asked.
pub(crate) fn free_bytes(dir: &Path) -> Option<u64> {
    parse_df(&output(Command::new("df").arg("-Pk").arg(dir))?)
}

/// What a program that succeeds prints.
fn output(command: &mut Command) -> Option<String> {
    let quiet = command.stdin(Stdio::null()).stderr(Stdio::null());
    let output = quiet.output().ok().filter(|o| o.status.success())?;
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The column before the percentage: names of file systems and mount points may hold spaces.
fn parse_df(text: &str) -> Option<u64> {
    let words: Vec<&str> = text.lines().nth(1)?.split_whitespace().collect();
    let is_percent = |word: &&str| {
        word.strip_suffix('%')
            .is_some_and(|n| n.parse::<u32>().is_ok())
    };
    let percent = words.iter().rposition(is_percent)?;
    let free: u64 = words.get(percent.checked_sub(1)?)?.parse().ok()?;
    free.checked_mul(1024)
}

/// The version of the libtorch in `dir`, without its local part (`+cpu`); `None` where no file says it.
///
/// The zip files of libtorch carry `build-version`, the Python packages `version.py`.
pub(crate) fn libtorch_version(dir: &Path) -> Option<String> {
    let whole = if let Ok(text) = fs::read_to_string(dir.join("build-version")) {
        text
    } else {
        let text = fs::read_to_string(dir.join("version.py")).ok()?;
        let line = text.lines().find(|line| line.starts_with("__version__"))?;
        line.split(['\'', '"']).nth(1)?.to_owned()
    };
    public(&whole).map(str::to_owned)
}

/// A version without its local part.
fn public(version: &str) -> Option<&str> {
    version
        .trim()
        .split('+')
        .next()
        .filter(|public| !public.is_empty())
}

/// Checks a libtorch that the user brought through `LIBTORCH`.
pub(crate) fn check_user_libtorch(dir: &Path, bypass_version: bool) -> Result<()> {
    let problem = match libtorch_version(dir) {
        _ if !dir.is_dir() => "is not a folder".to_owned(),
        Some(version) if version != TORCH_VERSION && !bypass_version => {
            format!("holds libtorch {version}, but {TORCH_VERSION} is needed")
        }
        _ => return Ok(()),
    };
    Err(Error::new(format!(
        "LIBTORCH is {}, which {problem}: point it to a libtorch {TORCH_VERSION}, or unset it and run `cargo xtask setup`",
        dir.display()
    )))
}

/// Checks the PyTorch that the user asked for with `LIBTORCH_USE_PYTORCH`.
pub(crate) fn check_user_pytorch(python: &Python, bypass_version: bool) -> Result<()> {
    let ask = "from importlib.metadata import version; print(version('torch'))";
    let install = format!("run `{python} -m pip install torch=={TORCH_VERSION}`");
    let problem = match python.command(["-c", ask]).output() {
        Err(error) => {
            format!("{python} does not run ({error}): install Python 3 with torch {TORCH_VERSION}")
        }
        Ok(output) => {
            let text = String::from_utf8_lossy(&output.stdout);
            match public(&text).filter(|_| output.status.success()) {
                None => format!("{python} has no torch: {install}"),
                Some(version) if version != TORCH_VERSION && !bypass_version => format!(
                    "the torch of {python} is {version} and {TORCH_VERSION} is needed: {install}"
                ),
                Some(_) => return Ok(()),
            }
        }
    };
    Err(Error::new(format!(
        "LIBTORCH_USE_PYTORCH is set, but {problem}, or unset the variable and run `cargo xtask setup`"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn driver_versions() {
        assert_eq!(driver_major("580.65.06"), Some(580));
        assert_eq!(driver_major(" 535.104\n"), Some(535));
        assert_eq!(driver_major("NVRM"), None);
        assert_eq!(driver_major("12.x"), None);
        assert_eq!(driver_major("580."), None);
    }

    #[test]
    fn df_with_spaces_in_names() {
        let text = "Filesystem 1024-blocks Used Available Capacity Mounted on\n\
                    map auto home 1000 250 750 25% /Volumes/My Disk\n";
        assert_eq!(parse_df(text), Some(750 * 1024));
        assert_eq!(parse_df("df: no such file\n"), None);
        assert_eq!(parse_df(""), None);
        assert!(free_bytes(Path::new("/")).is_some());
        assert_eq!(free_bytes(Path::new("/no/such/folder")), None);
    }

    #[test]
    fn versions_of_zip_and_wheel() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(libtorch_version(dir.path()), None);
        let py = "from typing import Optional\n__all__ = ['__version__']\n__version__ = '2.11.0+cu130'\n";
        fs::write(dir.path().join("version.py"), py).unwrap();
        assert_eq!(libtorch_version(dir.path()).as_deref(), Some("2.11.0"));
        fs::write(dir.path().join("build-version"), "2.9.1+cpu\n").unwrap();
        assert_eq!(libtorch_version(dir.path()).as_deref(), Some("2.9.1"));
    }

    #[test]
    fn a_wrong_or_missing_user_libtorch_is_named() {
        let dir = tempfile::tempdir().unwrap();
        check_user_libtorch(dir.path(), false).unwrap();
        fs::write(dir.path().join("build-version"), "2.9.1\n").unwrap();
        check_user_libtorch(dir.path(), true).unwrap();
        for (dir, words) in [
            (dir.path(), "holds libtorch 2.9.1, but 2.11.0 is needed"),
            (&dir.path().join("nothing"), "which is not a folder"),
        ] {
            let message = check_user_libtorch(dir, false).unwrap_err().to_string();
            assert!(
                message.contains(words) && message.contains("cargo xtask setup"),
                "{message}"
            );
        }
    }

    #[test]
    fn a_wrong_or_missing_user_pytorch_is_named() {
        let python = |script| Python::fake(["sh", "-c", script]);
        check_user_pytorch(&python("echo 2.11.0+cu130"), false).unwrap();
        check_user_pytorch(&python("echo 2.4.0"), true).unwrap();
        for (python, words) in [
            (python("echo 2.4.0"), "is 2.4.0 and 2.11.0 is needed"),
            (python("exit 1"), "has no torch"),
            (Python::fake(["/no/such/python"]), "does not run"),
        ] {
            let message = check_user_pytorch(&python, false).unwrap_err().to_string();
            assert!(message.contains(words), "{message}");
        }
    }
}
