//! Questions to the machine: is there an NVIDIA driver, how much disk is free, which version is a libtorch.

use crate::error::{Error, Result};
use crate::pins::TORCH_VERSION;
use std::ffi::OsString;
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
    let smi = Command::new("nvidia-smi")
        .args(["--query-gpu=driver_version", "--format=csv,noheader"])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output();
    if let Ok(output) = smi
        && output.status.success()
    {
        let text = String::from_utf8_lossy(&output.stdout);
        if let Some(line) = text.lines().find(|line| !line.trim().is_empty()) {
            return Some(Driver {
                major: driver_major(line),
            });
        }
    }
    if let Ok(text) = fs::read_to_string("/proc/driver/nvidia/version") {
        let major = text
            .lines()
            .next()
            .and_then(|line| line.split_whitespace().find_map(driver_major));
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
    let output = Command::new("df")
        .arg("-Pk")
        .arg(dir)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    parse_df(&String::from_utf8_lossy(&output.stdout))
}

/// The column before the percentage: names of file systems and mount points may hold spaces.
fn parse_df(text: &str) -> Option<u64> {
    let words: Vec<&str> = text.lines().nth(1)?.split_whitespace().collect();
    let percent = words.iter().rposition(|word| {
        word.strip_suffix('%')
            .is_some_and(|number| number.parse::<u32>().is_ok())
    })?;
    words
        .get(percent.checked_sub(1)?)?
        .parse::<u64>()
        .ok()?
        .checked_mul(1024)
}

/// The version of the libtorch in `dir`, without its local part (`+cpu`); `None` where no file says it.
///
/// The zip files of libtorch carry `build-version`, the Python packages `version.py`.
pub(crate) fn libtorch_version(dir: &Path) -> Option<String> {
    let whole = if let Ok(text) = fs::read_to_string(dir.join("build-version")) {
        text.trim().to_owned()
    } else {
        let text = fs::read_to_string(dir.join("version.py")).ok()?;
        let line = text.lines().find(|line| line.starts_with("__version__"))?;
        line.split(['\'', '"']).nth(1)?.to_owned()
    };
    let public = whole.split('+').next().unwrap_or_default().to_owned();
    (!public.is_empty()).then_some(public)
}

/// Checks a libtorch that the user brought through `LIBTORCH`.
pub(crate) fn check_user_libtorch(dir: &Path, bypass_version: bool) -> Result<()> {
    let shown = dir.display();
    if !dir.is_dir() {
        return Err(Error::new(format!(
            "LIBTORCH is {shown}, which is not a folder: point it to a libtorch {TORCH_VERSION}, or unset it and run `cargo xtask setup`"
        )));
    }
    match libtorch_version(dir) {
        Some(version) if version != TORCH_VERSION && !bypass_version => Err(Error::new(format!(
            "LIBTORCH is {shown}, which holds libtorch {version}, but {TORCH_VERSION} is needed: point it to a libtorch {TORCH_VERSION}, or unset it and run `cargo xtask setup`"
        ))),
        _ => Ok(()),
    }
}

/// Checks the PyTorch that the user asked for with `LIBTORCH_USE_PYTORCH`; `python` is the command line to run.
pub(crate) fn check_user_pytorch(python: &[OsString], bypass_version: bool) -> Result<()> {
    let shown = python[0].to_string_lossy();
    let output = Command::new(&python[0])
        .args(&python[1..])
        .args(["-c", "from importlib.metadata import version; print(version('torch'))"])
        .stdin(Stdio::null())
        .output()
        .map_err(|error| {
            Error::new(format!(
                "LIBTORCH_USE_PYTORCH is set, but {shown} does not run ({error}): install Python 3 with torch {TORCH_VERSION}, or unset the variable and run `cargo xtask setup`"
            ))
        })?;
    let text = String::from_utf8_lossy(&output.stdout);
    let version = text.trim().split('+').next().unwrap_or_default();
    if !output.status.success() || version.is_empty() {
        return Err(Error::new(format!(
            "LIBTORCH_USE_PYTORCH is set, but {shown} has no torch: run `{shown} -m pip install torch=={TORCH_VERSION}`, or unset the variable and run `cargo xtask setup`"
        )));
    }
    if version != TORCH_VERSION && !bypass_version {
        return Err(Error::new(format!(
            "LIBTORCH_USE_PYTORCH is set, but the torch of {shown} is {version} and {TORCH_VERSION} is needed: run `{shown} -m pip install torch=={TORCH_VERSION}`, or unset the variable and run `cargo xtask setup`"
        )));
    }
    Ok(())
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
        let message = check_user_libtorch(dir.path(), false)
            .unwrap_err()
            .to_string();
        assert!(
            message.contains("libtorch 2.9.1") && message.contains("2.11.0 is needed"),
            "{message}"
        );
        check_user_libtorch(dir.path(), true).unwrap();
        let message = check_user_libtorch(&dir.path().join("nothing"), false)
            .unwrap_err()
            .to_string();
        assert!(
            message.contains("not a folder") && message.contains("cargo xtask setup"),
            "{message}"
        );
    }

    fn script(text: &str) -> Vec<OsString> {
        ["sh", "-c", text].iter().map(OsString::from).collect()
    }

    #[test]
    fn a_wrong_or_missing_user_pytorch_is_named() {
        check_user_pytorch(&script("echo 2.11.0+cu130"), false).unwrap();
        let message = check_user_pytorch(&script("echo 2.4.0"), false)
            .unwrap_err()
            .to_string();
        assert!(
            message.contains("is 2.4.0 and 2.11.0 is needed"),
            "{message}"
        );
        check_user_pytorch(&script("echo 2.4.0"), true).unwrap();
        let message = check_user_pytorch(&script("exit 1"), false)
            .unwrap_err()
            .to_string();
        assert!(message.contains("has no torch"), "{message}");
        let message = check_user_pytorch(&["/no/such/python".into()], false)
            .unwrap_err()
            .to_string();
        assert!(message.contains("does not run"), "{message}");
    }
}
