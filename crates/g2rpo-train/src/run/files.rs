//! Files and folders that appear whole or not at all, whatever stops the program.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::{Error, Result};

/// Writes a whole file so that a reader, or a run after a crash, sees the old one or the new one.
///
/// # Errors
/// [`Error::Io`]; the old file is then still there.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    replace_file(path, |file| file.write_all(bytes))
}

/// Like [`write_atomically`], with a function that writes.
///
/// # Errors
/// [`Error::Io`]; the old file is then still there.
pub fn replace_file(path: &Path, write: impl FnOnce(&mut File) -> io::Result<()>) -> Result<()> {
    g2rpo_rollout::replace_atomically(path, |beside| write(&mut File::create(beside)?))
        .flatten()
        .map_err(Error::io(path))
}

/// What came of reading or removing something; nothing where it is not there.
///
/// # Errors
/// Any other than that.
pub fn if_there<T>(done: io::Result<T>) -> io::Result<Option<T>> {
    match done {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        done => done.map(Some),
    }
}

/// The name under which something is written before it is renamed to `path`.
pub(crate) fn partial(path: &Path) -> PathBuf {
    let mut name: OsString = path.as_os_str().to_owned();
    name.push(".partial");
    name.into()
}

/// Brings the names in the folder that holds `path` onto the disk: without it a rename may be lost
/// when the power goes. Systems that cannot open a folder do so by themselves.
pub(crate) fn sync_folder_of(path: &Path) -> io::Result<()> {
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    if cfg!(unix) {
        File::open(parent)?.sync_all()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_failed_write_keeps_the_old_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        write_atomically(&path, b"old").unwrap();
        let full = |file: &mut File| {
            file.write_all(b"new")?;
            Err(io::Error::from(io::ErrorKind::StorageFull))
        };
        let error = replace_file(&path, full).unwrap_err().to_string();
        assert!(error.ends_with("no storage space"), "{error}");
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
