//! The folder of a run: who may write to it, and where things are in it.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};

use crate::run::files::{if_there, write_atomically};
use crate::{Error, Result};

/// What to do about a folder that holds a run already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// A new run; a folder that holds one is refused.
    New,
    /// A new run; what an earlier one left is removed by [`RunFolder::clear`]. A folder with files of these names and no
    /// recipe is no run of ours and refused.
    Overwrite,
    /// The run that is there goes on.
    Resume,
}

/// The folder of a run, locked for as long as this value lives.
///
/// The lock belongs to the process: the system takes it back when the process ends in whatever way,
/// so a run that was killed leaves nothing behind that has to be removed by hand.
///
/// ```
/// use g2rpo_train::run::folder::{RunFolder, Start};
/// let dir = tempfile::tempdir()?;
/// let run = RunFolder::open(dir.path().join("first"), Start::New)?;
/// let second = RunFolder::open(dir.path().join("first"), Start::Resume);
/// assert!(second.unwrap_err().to_string().contains("is in use by process"));
/// assert!(run.metrics().ends_with("first/metrics.jsonl"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct RunFolder {
    path: PathBuf,
    _lock: Option<File>,
}

const LOCK: &str = "run.lock";
/// Files and folders of a run; nothing else in the folder is ever removed.
const PARTS: [&str; 11] = [
    "recipe.toml",
    ".recipe.toml",
    "metrics.jsonl",
    "samples.jsonl",
    "samples.parquet",
    "warnings.jsonl",
    "checkpoints",
    "evaluations",
    "tensorboard",
    "weights",
    "report.html",
];

impl RunFolder {
    /// Makes the folder if need be, locks it and looks at what is in it.
    ///
    /// # Errors
    /// [`Error::RunFolder`] if another process works in it, if there is a run where none should be
    /// or none where one should be; [`Error::Io`].
    pub fn open(path: impl Into<PathBuf>, start: Start) -> Result<Self> {
        let path = path.into();
        let refuse = |problem: &str| Err(Error::run_folder(&path, problem));
        if start == Start::Resume && !path.is_dir() {
            return refuse("there is no such run to resume");
        }
        fs::create_dir_all(&path).map_err(Error::io(&path))?;
        let was_locked = path.join(LOCK).exists();
        let lock = lock(&path)?;
        let there = || PARTS.iter().filter(|part| path.join(part).exists());
        let used = there().next();
        // Every run writes its recipe first, and metrics or a checkpoint behind it.
        let is_run = path.join(PARTS[0]).is_file();
        match (start, used) {
            (Start::Overwrite | Start::New, Some(part)) if !is_run => {
                return refuse(&format!(
                    "{part} is there and no recipe.toml, so this is not the folder of a run and nothing in it is replaced: choose another"
                ));
            }
            (Start::New, Some(part)) => {
                return refuse(&format!(
                    "it holds a run already ({part} is there): resume it, overwrite it, or choose another folder"
                ));
            }
            // A recipe alone may have been written by hand.
            (Start::Resume, Some(_)) if !was_locked && there().eq([&PARTS[0]]) => {
                return refuse("it holds a recipe and nothing of a run: `g2rpo train` begins one");
            }
            (Start::Resume, None) => {
                return refuse("no run was started in it, so there is nothing to resume");
            }
            _ => {}
        }
        Ok(Self {
            path,
            _lock: Some(lock),
        })
    }

    /// Removes what an earlier run left, which is done when a new one is about to write.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn clear(&self) -> Result<()> {
        // The recipe goes last: as long as it is there this is the folder of a run.
        for part in PARTS.iter().rev() {
            remove(&self.path.join(part))?;
        }
        Ok(())
    }

    /// Whether a run writes or removes what has this name in its folder.
    pub fn writes(&self, name: &str) -> bool {
        ["model", "adapter"].contains(&name) || PARTS.contains(&name)
    }

    /// The folder of a run that another process writes, to read from.
    pub fn beside(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            _lock: None,
        }
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The recipe that the run follows, with all that was left to defaults.
    pub fn recipe(&self) -> PathBuf {
        self.path.join("recipe.toml")
    }

    /// The recipe as the run was begun or last gone on with, to see what was written into the other since.
    pub fn agreed_recipe(&self) -> PathBuf {
        self.path.join(".recipe.toml")
    }

    /// Writes the recipe that the run follows from now on.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn write_recipe(&self, text: &str) -> Result<()> {
        for path in [self.agreed_recipe(), self.recipe()] {
            write_atomically(&path, text.as_bytes())?;
        }
        Ok(())
    }

    /// One row of numbers for each step.
    pub fn metrics(&self) -> PathBuf {
        self.path.join("metrics.jsonl")
    }

    /// Completions of some steps.
    pub fn samples(&self) -> PathBuf {
        self.path.join("samples.jsonl")
    }

    /// The same as Parquet.
    pub fn samples_parquet(&self) -> PathBuf {
        self.path.join("samples.parquet")
    }

    /// What the detectors said.
    pub fn warnings(&self) -> PathBuf {
        self.path.join("warnings.jsonl")
    }

    /// Weights on their way to servers.
    pub fn weights(&self) -> PathBuf {
        self.path.join("weights")
    }

    /// Folder of the checkpoints.
    pub fn checkpoints(&self) -> PathBuf {
        self.path.join("checkpoints")
    }

    /// Folder of TensorBoard's event files.
    pub fn tensorboard(&self) -> PathBuf {
        self.path.join("tensorboard")
    }

    /// Every completion of the evaluation of a set at a step; its folder is made.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn evaluation(&self, set: &str, step: u64) -> Result<PathBuf> {
        let folder = self.path.join("evaluations");
        fs::create_dir_all(&folder).map_err(Error::io(&folder))?;
        Ok(folder.join(format!("{set}_step_{step:06}.jsonl")))
    }
}

fn lock(path: &Path) -> Result<File> {
    let file = path.join(LOCK);
    let mut lock = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&file)
        .map_err(Error::io(&file))?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut owner = String::new();
            // The number is for the message only; the lock itself is not in the file's text.
            let _ = lock.read_to_string(&mut owner);
            let owner = owner.trim();
            let problem = format!(
                "it is in use by process {owner}: end that one first, or choose another folder"
            );
            return Err(Error::run_folder(path, problem));
        }
        Err(TryLockError::Error(error)) => return Err(Error::io(&file)(error)),
    }
    let write = |lock: &mut File| {
        lock.set_len(0)?;
        lock.rewind()?;
        writeln!(lock, "{}", std::process::id())
    };
    write(&mut lock).map_err(Error::io(&file))?;
    Ok(lock)
}

fn remove(path: &Path) -> Result<()> {
    let removed = if path.is_dir() {
        fs::remove_dir_all(path)
    } else {
        fs::remove_file(path)
    };
    (if_there(removed).map(drop)).map_err(Error::io(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(path: &Path, start: Start) -> String {
        RunFolder::open(path, start).unwrap_err().to_string()
    }

    #[test]
    fn a_used_folder_wants_a_decision() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run");
        assert!(message(&path, Start::Resume).contains("no such run"));
        let run = RunFolder::open(&path, Start::New).unwrap();
        drop(run);
        assert!(message(&path, Start::Resume).contains("nothing to resume"));
        fs::write(path.join("metrics.jsonl"), "x").unwrap();
        fs::write(path.join("mine.txt"), "x").unwrap();
        fs::create_dir(path.join("checkpoints")).unwrap();
        // Somebody's own files of such names are left alone.
        for start in [Start::New, Start::Overwrite] {
            let error = message(&path, start);
            assert!(error.contains("metrics.jsonl is there and no recipe.toml"));
        }
        fs::write(path.join("recipe.toml"), "").unwrap();
        assert!(message(&path, Start::New).contains("holds a run already (recipe.toml"));
        drop(RunFolder::open(&path, Start::Resume).unwrap());
        let run = RunFolder::open(&path, Start::Overwrite).unwrap();
        assert!(path.join("metrics.jsonl").exists());
        run.clear().unwrap();
        assert!(!path.join("metrics.jsonl").exists() && !path.join("checkpoints").exists());
        assert!(path.join("mine.txt").exists());
    }
}
