//! Files that are whole or not there.

use std::fs::File;
use std::io;
use std::path::Path;

/// Writes a file beside its final place, makes sure that it is on the disk, and only then puts it
/// into place. If anything fails, a full disk for one, the file that was there before is still
/// there, and nothing else. Folders on the way are made. [Streams](is_stream) are written to as they are.
///
/// # Errors
/// The system's.
pub fn write_atomically(path: impl AsRef<Path>, bytes: &[u8]) -> io::Result<()> {
    replace_atomically(path, |beside| std::fs::write(beside, bytes))?
}

/// Whether a path leads to a device, a pipe or a stream of this process, which is written to where it is and never replaced.
///
/// ```
/// assert!(g2rpo_rollout::is_stream("/dev/null"));
/// assert!(!g2rpo_rollout::is_stream("report.html"));
/// ```
pub fn is_stream(path: impl AsRef<Path>) -> bool {
    let path = path.as_ref();
    // Behind them may be a file, to which something else is written as well.
    let own = ["/dev/stdout", "/dev/stderr", "/dev/fd", "/proc"];
    own.iter().any(|own| path.starts_with(own))
        || std::fs::metadata(path).is_ok_and(|found| !found.is_file() && !found.is_dir())
}

/// Writes beside, and appends what was written to a stream. A reader that went away wanted no more.
fn write_through<E>(
    path: &Path,
    write: impl FnOnce(&Path) -> Result<(), E>,
) -> io::Result<Result<(), E>> {
    let file = tempfile::NamedTempFile::new()?;
    if let Err(error) = write(file.path()) {
        return Ok(Err(error));
    }
    let mut whole = File::open(file.path())?;
    let mut stream = std::fs::OpenOptions::new().append(true).open(path)?;
    match io::copy(&mut whole, &mut stream) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error),
        _ => Ok(Ok(())),
    }
}

/// As [`write_atomically`], for writers that want a path to write to.
///
/// # Errors
/// The system's outside, those of `write` inside.
pub fn replace_atomically<E>(
    path: impl AsRef<Path>,
    write: impl FnOnce(&Path) -> Result<(), E>,
) -> io::Result<Result<(), E>> {
    let path = path.as_ref();
    if is_stream(path) {
        return write_through(path, write);
    }
    let dir = path.parent().filter(|p| !p.as_os_str().is_empty());
    let dir = dir.unwrap_or(Path::new("."));
    std::fs::create_dir_all(dir)?;
    let mut builder = tempfile::Builder::new();
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        // The usual permissions, from which the umask is taken; temporary files default to 600.
        builder.permissions(std::fs::Permissions::from_mode(0o666));
    }
    let file = builder.prefix(".tmp-").tempfile_in(dir)?;
    let permissions = file.as_file().metadata()?.permissions();
    if let Err(error) = write(file.path()) {
        return Ok(Err(error));
    }
    // By its name: a writer may have put another file there, as that of safetensors does.
    std::fs::set_permissions(file.path(), permissions)?;
    std::fs::OpenOptions::new()
        .write(true)
        .open(file.path())?
        .sync_all()?;
    file.persist(path)?;
    // The new name is on the disk once the folder is.
    #[cfg(unix)]
    File::open(dir)?.sync_all()?;
    Ok(Ok(()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_write_leaves_the_old_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("new").join("a.txt");
        write_atomically(&path, b"old").unwrap();
        let failed = replace_atomically(&path, |beside| {
            std::fs::write(beside, b"ne").unwrap();
            Err("full")
        });
        assert_eq!(failed.unwrap(), Err("full"));
        assert_eq!(std::fs::read(&path).unwrap(), b"old");
        let files = std::fs::read_dir(path.parent().unwrap()).unwrap().count();
        assert_eq!(files, 1, "no temporary file stays");
        write_atomically(&path, b"new").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
    }

    #[test]
    fn what_is_no_folder_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, b"x").unwrap();
        assert!(write_atomically(file.join("a"), b"y").is_err());
        assert!(write_atomically(dir.path(), b"y").is_err());
    }

    #[cfg(unix)]
    #[test]
    fn a_pipe_is_written_to_and_stays_one() {
        use std::os::unix::fs::FileTypeExt;
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status();
        assert!(made.unwrap().success());
        let from = pipe.clone();
        let reader = std::thread::spawn(move || std::fs::read(from).unwrap());
        write_atomically(&pipe, b"page").unwrap();
        assert_eq!(reader.join().unwrap(), b"page");
        let kind = std::fs::symlink_metadata(&pipe).unwrap().file_type();
        assert!(kind.is_fifo());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        // A reader that goes away.
        let from = pipe.clone();
        let reader = std::thread::spawn(move || drop(File::open(from).unwrap()));
        write_atomically(&pipe, &vec![b'x'; 1 << 20]).unwrap();
        reader.join().unwrap();
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
        let private = dir.path().join("c");
        let replaced = replace_atomically(&ours, |beside| {
            std::fs::write(&private, b"y")?;
            std::fs::set_permissions(&private, std::fs::Permissions::from_mode(0o600))?;
            std::fs::rename(&private, beside)
        });
        replaced.unwrap().unwrap();
        assert_eq!(std::fs::read(&ours).unwrap(), b"y");
        assert_eq!(mode(&ours), mode(&plain));
    }
}
