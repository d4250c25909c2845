//! Places in the checkout, and running cargo in it.

use crate::error::{Error, Result};
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The root of the checkout.
pub(crate) fn root() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here)
}

/// The link that a set-up leaves in the checkout.
pub(crate) fn libtorch_link() -> PathBuf {
    root().join(".libtorch")
}

/// What `LIBTORCH` is by default, as in `.cargo/config.toml`.
pub(crate) fn libtorch_dir() -> PathBuf {
    libtorch_link().join("torch")
}

/// What a folder holds, in the order of names.
pub(crate) fn sorted(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).map_err(Error::io("read", folder.display()))?;
    let mut paths: Vec<PathBuf> = entries.filter_map(|e| e.ok().map(|e| e.path())).collect();
    paths.sort();
    Ok(paths)
}

/// Cargo in the root of the checkout, without the variables of the cargo that started us.
pub(crate) fn cargo<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(args).current_dir(root());
    for (name, _) in std::env::vars_os() {
        let own = name.to_str().is_some_and(|name| {
            name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_")
        });
        if own {
            command.env_remove(name);
        }
    }
    if std::env::var_os("LIBTORCH").is_some_and(|dir| Path::new(&dir) == libtorch_dir()) {
        command.env_remove("LIBTORCH");
    }
    command
}

/// Runs a command with our standard streams; its exit code is the result.
pub(crate) fn run(mut command: Command) -> Result<u8> {
    let shown = command.get_program().to_string_lossy().into_owned();
    let status = command.status().map_err(Error::io("start", shown))?;
    Ok(status
        .code()
        .map_or(1, |code| u8::try_from(code).unwrap_or(1)))
}
