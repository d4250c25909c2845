//! Files that are whole or not there.

#[cfg(unix)]
use std::fs::File;
use std::path::Path;

use serde_json::Value;

use crate::{Error, Result};

/// Writes a file beside its final place, makes sure that it is on the disk, and only then puts it
/// into place. If anything fails, a full disk for one, the file that was there before is still
/// there.
///
/// # Errors
/// [`Error::Io`] with the path of the final place.
pub(crate) fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    replace_atomically(path, |beside| {
        std::fs::write(beside, bytes).map_err(Error::io(path))
    })
}

/// As [`write_atomically`], for writers that want a path to write to.
///
/// # Errors
/// Those of `write`; [`Error::Io`] with the path of the final place.
pub(crate) fn replace_atomically(
    path: &Path,
    write: impl FnOnce(&Path) -> Result<()>,
) -> Result<()> {
    let failed = || Error::io(path);
    let dir = path.parent().filter(|p| !p.as_os_str().is_empty());
    let dir = dir.unwrap_or(Path::new("."));
    std::fs::create_dir_all(dir).map_err(Error::io(dir))?;
    let mut builder = tempfile::Builder::new();
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        // The usual permissions, from which the umask is taken; temporary files default to 600.
        builder.permissions(std::fs::Permissions::from_mode(0o666));
    }
    let file = builder.prefix(".tmp-").tempfile_in(dir).map_err(failed())?;
    write(file.path())?;
    file.as_file().sync_all().map_err(failed())?;
    file.persist(path).map_err(|e| failed()(e.error))?;
    // The new name is on the disk once the folder is.
    #[cfg(unix)]
    File::open(dir)
        .and_then(|d| d.sync_all())
        .map_err(Error::io(dir))?;
    Ok(())
}

/// Reads a JSON file.
///
/// # Errors
/// [`Error::Io`], [`Error::File`] if it is not JSON.
pub(crate) fn read_json(path: &Path) -> Result<Value> {
    let text = std::fs::read_to_string(path).map_err(Error::io(path))?;
    serde_json::from_str(&text).map_err(|e| Error::File {
        path: path.into(),
        what: format!("not JSON: {e}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_write_leaves_the_old_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("new").join("a.txt");
        write_atomically(&path, b"old").unwrap();
        let err = replace_atomically(&path, |beside| {
            std::fs::write(beside, b"ne").unwrap();
            Err(Error::io(&path)(std::io::ErrorKind::StorageFull.into()))
        })
        .unwrap_err();
        assert!(
            err.to_string().starts_with(&path.display().to_string()),
            "{err}"
        );
        assert_eq!(std::fs::read(&path).unwrap(), b"old");
        let files = std::fs::read_dir(path.parent().unwrap()).unwrap().count();
        assert_eq!(files, 1, "no temporary file stays");
        write_atomically(&path, b"new").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
    }

    #[cfg(unix)]
    #[test]
    fn others_may_read_what_the_umask_lets_them() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let (ours, plain) = (dir.path().join("a"), dir.path().join("b"));
        write_atomically(&ours, b"x").unwrap();
        std::fs::write(&plain, "x").unwrap();
        let mode = |p: &Path| std::fs::metadata(p).unwrap().permissions().mode();
        assert_eq!(mode(&ours), mode(&plain));
    }
}
