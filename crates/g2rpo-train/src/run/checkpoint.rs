//! Checkpoints of a run: whole or absent, proven by checksums, rotated without losing the last
//! good one or the best.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::run::files::{if_there, partial, sync_folder_of, write_atomically};
use crate::{Error, Result};

const MANIFEST: &str = "manifest.json";
const BEST: &str = "best.json";

/// The folder in which a run keeps its checkpoints, each a folder such as `step_000020` with a
/// manifest of the sizes and SHA-256 sums of its files.
///
/// ```
/// use g2rpo_train::run::checkpoint::Checkpoints;
/// let dir = tempfile::tempdir()?;
/// let checkpoints = Checkpoints::open(dir.path().join("checkpoints"), Some(2))?;
/// for step in [10, 20, 30] {
///     checkpoints.save(step, |folder| {
///         std::fs::write(folder.join("state.json"), step.to_string()).map_err(Into::into)
///     })?;
/// }
/// let steps: Vec<u64> = checkpoints.list()?.iter().map(|c| c.step).collect();
/// assert_eq!(steps, [20, 30]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Checkpoints {
    folder: PathBuf,
    save_total_limit: Option<usize>,
}

/// A checkpoint that was written to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// The next step: that many steps are done.
    pub step: u64,
    /// Its folder.
    pub path: PathBuf,
}

/// A checkpoint that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damaged {
    /// The checkpoint.
    pub checkpoint: Checkpoint,
    /// Which file, and what is wrong with it.
    pub problem: String,
}

/// The checkpoint with the best evaluation so far.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Best {
    /// Its step.
    pub step: u64,
    /// What it is best in.
    pub value: f64,
}

#[derive(Serialize, Deserialize)]
struct Manifest {
    step: u64,
    files: Vec<Entry>,
}

#[derive(Serialize, Deserialize)]
struct Entry {
    path: String,
    bytes: u64,
    sha256: String,
}

/// What a caller's writing of a checkpoint may fail with.
pub type SaveError = Box<dyn std::error::Error + Send + Sync>;

impl Checkpoints {
    /// Opens the folder, makes it if need be, and removes what an interrupted save or removal left.
    /// At most `save_total_limit` checkpoints are kept, the newest ones, and the best besides.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Config`] for a limit of 0.
    pub fn open(folder: impl Into<PathBuf>, save_total_limit: Option<usize>) -> Result<Self> {
        let folder = folder.into();
        if save_total_limit == Some(0) {
            let problem = "at least one checkpoint must be kept; leave it out to keep all";
            return Err(Error::config("save_total_limit", 0, problem));
        }
        fs::create_dir_all(&folder).map_err(Error::io(&folder))?;
        for entry in fs::read_dir(&folder).map_err(Error::io(&folder))? {
            let path = entry.map_err(Error::io(&folder))?.path();
            if path.extension().is_some_and(|e| e == "partial") && path.is_dir() {
                fs::remove_dir_all(&path).map_err(Error::io(&path))?;
            }
        }
        Ok(Self {
            folder,
            save_total_limit,
        })
    }

    /// Writes a checkpoint: `write` fills a folder, which gets its name when every file in it is on
    /// the disk. A checkpoint of the same step is replaced. Then the oldest ones are removed.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] with what `write` said, [`Error::Io`]; checkpoints that were there are
    /// there still.
    pub fn save(
        &self,
        step: u64,
        write: impl FnOnce(&Path) -> Result<(), SaveError>,
    ) -> Result<Checkpoint> {
        let path = self.folder.join(name(step));
        let unfinished = partial(&path);
        let fill = || -> Result<()> {
            remove_if_there(&unfinished)?;
            fs::create_dir_all(&unfinished).map_err(Error::io(&unfinished))?;
            write(&unfinished).map_err(|source| Error::Checkpoint {
                path: path.clone(),
                source,
            })?;
            write_manifest(&unfinished, step)?;
            remove(&path)?;
            fs::rename(&unfinished, &path).map_err(Error::io(&path))?;
            sync_folder_of(&path).map_err(Error::io(&path))
        };
        if let Err(error) = fill() {
            // The save failed already; a rest that cannot be removed is removed by the next one.
            let _ = fs::remove_dir_all(&unfinished);
            return Err(error);
        }
        self.rotate()?;
        Ok(Checkpoint { step, path })
    }

    /// Where the checkpoint of a step is, or would be, in the folder of checkpoints of a run.
    pub fn at(folder: &Path, step: u64) -> Checkpoint {
        Checkpoint {
            step,
            path: folder.join(name(step)),
        }
    }

    /// All checkpoints, oldest first, damaged ones among them.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn list(&self) -> Result<Vec<Checkpoint>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.folder).map_err(Error::io(&self.folder))? {
            let path = entry.map_err(Error::io(&self.folder))?.path();
            let name = path.file_name().and_then(|n| n.to_str());
            let step = name.and_then(|n| n.strip_prefix("step_")?.parse().ok());
            if let Some(step) = step {
                found.push(Checkpoint { step, path });
            }
        }
        found.sort_by_key(|c| c.step);
        Ok(found)
    }

    /// The newest checkpoint whose files are what was written, and those newer ones that are not.
    /// Every byte is read.
    ///
    /// # Errors
    /// [`Error::Io`] if the folder cannot be read.
    pub fn latest(&self) -> Result<(Option<Checkpoint>, Vec<Damaged>)> {
        let mut damaged = Vec::new();
        for checkpoint in self.list()?.into_iter().rev() {
            match verify(&checkpoint.path, true) {
                Ok(()) => return Ok((Some(checkpoint), damaged)),
                Err(problem) => damaged.push(Damaged {
                    checkpoint,
                    problem,
                }),
            }
        }
        Ok((None, damaged))
    }

    /// Notes that the checkpoint of a step is the best so far; rotation leaves it alone.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn set_best(&self, best: Best) -> Result<()> {
        let path = self.folder.join(BEST);
        let json = serde_json::to_vec(&best).map_err(|e| Error::io(&path)(e.into()))?;
        write_atomically(&path, &json)
    }

    /// Forgets which checkpoint is the best.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn clear_best(&self) -> Result<()> {
        let path = self.folder.join(BEST);
        (if_there(fs::remove_file(&path)).map(drop)).map_err(Error::io(&path))
    }

    /// The best checkpoint so far, if one was noted.
    ///
    /// # Errors
    /// [`Error::Io`] if the note cannot be read. Until it is noted anew or [forgotten](Self::clear_best) nothing is removed,
    /// as any checkpoint may be the best.
    pub fn best(&self) -> Result<Option<Best>> {
        let path = self.folder.join(BEST);
        let json = if_there(fs::read(&path)).map_err(Error::io(&path))?;
        let best = json.map(|json| serde_json::from_slice(&json)).transpose();
        best.map_err(|e| Error::io(&path)(e.into()))
    }

    /// Removes the oldest checkpoints beyond the limit, never the best, and nothing at all while
    /// the newest is not whole or the note of the best cannot be read.
    fn rotate(&self) -> Result<()> {
        let Some(limit) = self.save_total_limit else {
            return Ok(());
        };
        let all = self.list()?;
        let newest_is_whole = all.last().is_some_and(|c| verify(&c.path, false).is_ok());
        if !newest_is_whole {
            return Ok(());
        }
        let Ok(best) = self.best() else {
            return Ok(());
        };
        let best = best.map(|b| b.step);
        for old in &all[..all.len().saturating_sub(limit)] {
            if best != Some(old.step) {
                remove(&old.path)?;
            }
        }
        Ok(())
    }
}

/// Whether a checkpoint's files are those of its manifest: their sizes, and with `read` their sums.
///
/// # Errors
/// Which file is not, in words.
pub fn verify(checkpoint: &Path, read: bool) -> Result<(), String> {
    let path = checkpoint.join(MANIFEST);
    let manifest = fs::read(&path).map_err(|e| format!("{MANIFEST}: {e}"))?;
    let manifest: Manifest =
        serde_json::from_slice(&manifest).map_err(|e| format!("{MANIFEST}: {e}"))?;
    for entry in manifest.files {
        let path = checkpoint.join(&entry.path);
        let fault = |problem: String| format!("{}: {problem}", entry.path);
        let bytes = fs::metadata(&path).map_err(|e| fault(e.to_string()))?.len();
        if bytes != entry.bytes {
            let problem = format!("{bytes} bytes where {} were written", entry.bytes);
            return Err(fault(problem));
        }
        if read && sha256(&path).map_err(|e| fault(e.to_string()))? != entry.sha256 {
            return Err(fault("its content is not what was written".into()));
        }
    }
    Ok(())
}

fn name(step: u64) -> String {
    format!("step_{step:06}")
}

fn write_manifest(folder: &Path, step: u64) -> Result<()> {
    let mut files = Vec::new();
    collect(folder, folder, &mut files).map_err(Error::io(folder))?;
    files.sort_by(|a, b| a.path.cmp(&b.path));
    let path = folder.join(MANIFEST);
    let json = serde_json::to_vec_pretty(&Manifest { step, files });
    write_atomically(&path, &json.map_err(|e| Error::io(&path)(e.into()))?)
}

/// Sums of all files below a folder, each brought onto the disk, and the folders with them.
fn collect(root: &Path, folder: &Path, files: &mut Vec<Entry>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(root, &path, files)?;
            continue;
        }
        File::open(&path)?.sync_all()?;
        let relative = path.strip_prefix(root).unwrap_or(&path);
        files.push(Entry {
            path: relative.to_string_lossy().into_owned(),
            bytes: fs::metadata(&path)?.len(),
            sha256: sha256(&path)?,
        });
    }
    sync_folder_of(&folder.join(MANIFEST))
}

fn sha256(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            n => hasher.update(&buffer[..n]),
        }
    }
    let sum = hasher.finalize();
    Ok(sum.iter().map(|b| format!("{b:02x}")).collect())
}

/// Removes a checkpoint under another name, so that a kill in between leaves none that looks whole.
fn remove(path: &Path) -> Result<()> {
    let going = path.with_extension("old.partial");
    remove_if_there(&going)?;
    if_there(fs::rename(path, &going)).map_err(Error::io(path))?;
    remove_if_there(&going)
}

fn remove_if_there(path: &Path) -> Result<()> {
    (if_there(fs::remove_dir_all(path)).map(drop)).map_err(Error::io(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(dir: &Path, limit: Option<usize>) -> Checkpoints {
        Checkpoints::open(dir.join("checkpoints"), limit).unwrap()
    }

    fn save(checkpoints: &Checkpoints, step: u64) -> Checkpoint {
        let write = |folder: &Path| -> Result<(), SaveError> {
            fs::create_dir(folder.join("model"))?;
            fs::write(folder.join("model/weights"), vec![step as u8; 3000])?;
            Ok(fs::write(folder.join("state.json"), "{}")?)
        };
        checkpoints.save(step, write).unwrap()
    }

    fn steps(checkpoints: &Checkpoints) -> Vec<u64> {
        checkpoints.list().unwrap().iter().map(|c| c.step).collect()
    }

    #[test]
    fn rotation_keeps_the_newest_and_the_best() {
        let dir = tempfile::tempdir().unwrap();
        let checkpoints = open(dir.path(), Some(2));
        save(&checkpoints, 10);
        let (step, value) = (10, 0.5);
        let best = Best { step, value };
        checkpoints.set_best(best).unwrap();
        for step in [20, 30, 1_000_000] {
            save(&checkpoints, step);
        }
        assert_eq!(steps(&checkpoints), [10, 30, 1_000_000]);
        assert_eq!(open(dir.path(), Some(2)).best().unwrap(), Some(best));
        let newest = checkpoints.latest().unwrap().0.unwrap();
        assert!(newest.path.ends_with("checkpoints/step_1000000"));
    }

    #[test]
    fn nothing_is_removed_while_any_may_be_the_best() {
        let dir = tempfile::tempdir().unwrap();
        let checkpoints = open(dir.path(), Some(1));
        save(&checkpoints, 10);
        for damaged in ["{", "{\"step\": \"x\", \"value\": 1}"] {
            fs::write(dir.path().join("checkpoints").join(BEST), damaged).unwrap();
            let told = checkpoints.best().unwrap_err().to_string();
            assert!(told.contains("best.json: "), "{told}");
            save(&checkpoints, 20);
            save(&checkpoints, 30);
            assert_eq!(steps(&checkpoints), [10, 20, 30]);
        }
        checkpoints.clear_best().unwrap();
        save(&checkpoints, 40);
        assert_eq!(
            (steps(&checkpoints), checkpoints.best().unwrap()),
            (vec![40], None)
        );
    }

    #[test]
    fn damage_is_found_and_the_one_before_is_used() {
        let dir = tempfile::tempdir().unwrap();
        let checkpoints = open(dir.path(), None);
        let good = save(&checkpoints, 10);
        let (changed, shorter) = ([1; 3000], [0; 2999]);
        for (file, content, told) in [
            (
                "model/weights",
                Some(&changed[..]),
                "its content is not what was written",
            ),
            (
                "model/weights",
                Some(&shorter),
                "2999 bytes where 3000 were written",
            ),
            ("state.json", None, "No such"),
            (MANIFEST, Some(b"{"), "EOF"),
            (MANIFEST, None, "No such"),
        ] {
            let bad = save(&checkpoints, 20).path.join(file);
            match content {
                Some(content) => fs::write(bad, content).unwrap(),
                None => fs::remove_file(bad).unwrap(),
            }
            let (latest, damaged) = checkpoints.latest().unwrap();
            assert_eq!(latest.as_ref(), Some(&good));
            assert_eq!(damaged.len(), 1);
            let problem = &damaged[0].problem;
            assert!(problem.starts_with(&format!("{file}: {told}")), "{problem}");
        }
        // A save at the same step replaces the damaged one.
        save(&checkpoints, 20);
        assert_eq!(checkpoints.latest().unwrap().0.unwrap().step, 20);
    }

    #[test]
    fn a_failed_save_leaves_what_was_there() {
        let dir = tempfile::tempdir().unwrap();
        let checkpoints = open(dir.path(), Some(1));
        save(&checkpoints, 10);
        let failed = checkpoints.save(20, |folder| {
            fs::write(folder.join("half"), "x")?;
            Err(io::Error::from(io::ErrorKind::StorageFull).into())
        });
        let told = failed.unwrap_err().to_string();
        assert!(
            told.contains("step_000020") && told.contains("no storage space"),
            "{told}"
        );
        assert_eq!(steps(&checkpoints), [10]);
        let left = fs::read_dir(dir.path().join("checkpoints")).unwrap();
        assert_eq!(left.count(), 1);
    }

    #[test]
    fn what_a_kill_left_is_swept_away() {
        let dir = tempfile::tempdir().unwrap();
        save(&open(dir.path(), None), 10);
        let folder = dir.path().join("checkpoints");
        for rest in ["step_000020.partial", "step_000005.old.partial"] {
            fs::create_dir(folder.join(rest)).unwrap();
        }
        let checkpoints = open(dir.path(), None);
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
        assert_eq!(checkpoints.latest().unwrap().0.unwrap().step, 10);
    }

    #[test]
    fn a_newest_that_is_not_whole_stops_the_rotation() {
        let dir = tempfile::tempdir().unwrap();
        let checkpoints = open(dir.path(), None);
        for step in [10, 20] {
            save(&checkpoints, step);
        }
        fs::remove_file(dir.path().join("checkpoints/step_000020/state.json")).unwrap();
        open(dir.path(), Some(1)).rotate().unwrap();
        assert_eq!(steps(&checkpoints), [10, 20]);
        let none = Checkpoints::open(dir.path().join("x"), Some(0)).unwrap_err();
        assert!(none.to_string().starts_with("save_total_limit = 0"));
    }
}
