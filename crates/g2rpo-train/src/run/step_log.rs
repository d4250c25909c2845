//! JSONL logs of a run, a row or more for each step, that survive a kill and go on when it is resumed.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::run::files::if_there;
use crate::{Error, Result};

/// Appends rows to a JSONL file, one object a line, each handed to the system before the next step.
///
/// A row has a field `step`, and rows come in the order of their steps; [`MetricsRow`] is such a row.
///
/// [`MetricsRow`]: crate::MetricsRow
#[derive(Debug)]
pub struct StepLog {
    file: File,
    path: PathBuf,
    kept: u64,
}

/// The part of a row that says where it belongs.
#[derive(Deserialize)]
struct Position {
    step: u64,
}

impl StepLog {
    /// Starts a new file.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be created.
    pub fn create(path: impl Into<PathBuf>) -> Result<Self> {
        let path = path.into();
        let file = File::create(&path).map_err(Error::io(&path))?;
        let kept = 0;
        Ok(Self { file, path, kept })
    }

    /// Goes on with the file of an interrupted run that is resumed at `step`: rows from that step
    /// on, and what a kill left of a last line, are dropped, since the resumed run writes them
    /// again. A missing file is started.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn resume(path: impl Into<PathBuf>, step: u64) -> Result<Self> {
        let path = path.into();
        let (mut kept, mut last) = (0, None);
        let (whole, _) = scan(&path, |line| {
            let at = serde_json::from_slice(line).map(|at: Position| at.step);
            let at = at.ok().filter(|at| *at < step);
            kept += u64::from(at.is_some() && at != last);
            last = at;
            at.is_some()
        })?;
        let file = OpenOptions::new()
            .append(true)
            .create(true)
            .open(&path)
            .map_err(Error::io(&path))?;
        file.set_len(whole).map_err(Error::io(&path))?;
        Ok(Self { file, path, kept })
    }

    /// Of how many steps there were rows when it was [gone on with](Self::resume): of fewer than were done where somebody
    /// removed or damaged the file.
    pub fn kept_steps(&self) -> u64 {
        self.kept
    }

    /// Writes one row.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn write<R: Serialize + ?Sized>(&mut self, row: &R) -> Result<()> {
        let mut line = serde_json::to_vec(row).map_err(|e| Error::io(&self.path)(e.into()))?;
        line.push(b'\n');
        self.file.write_all(&line).map_err(Error::io(&self.path))
    }

    /// Brings all rows onto the disk. Called with every checkpoint, so that a resumed run finds all
    /// rows before it even where the power went.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn sync(&self) -> Result<()> {
        self.file.sync_data().map_err(Error::io(&self.path))
    }
}

/// Rows of a log; a last line without its end, which a kill leaves, is no row.
///
/// # Errors
/// [`Error::Io`], and [`Error::Line`] for a whole line that is not such a row.
pub fn read_rows<R: serde::de::DeserializeOwned>(path: &Path) -> Result<Vec<R>> {
    let mut rows = Vec::new();
    let mut problem = None;
    let (_, line) = scan(path, |line| {
        let row = serde_json::from_slice(line).map(|row| rows.push(row));
        problem = row.err().map(|error| error.to_string());
        problem.is_none()
    })?;
    match problem {
        None => Ok(rows),
        Some(problem) => Err(Error::Line {
            path: path.into(),
            line,
            problem,
        }),
    }
}

/// Hands whole lines to `keep` until it says no. Returns the bytes of the lines kept and the
/// number of the line at which it stopped. A missing file has no lines.
fn scan(path: &Path, mut keep: impl FnMut(&[u8]) -> bool) -> Result<(u64, usize)> {
    let Some(file) = if_there(File::open(path)).map_err(Error::io(path))? else {
        return Ok((0, 1));
    };
    let mut reader = BufReader::new(file);
    let (mut bytes, mut number, mut line) = (0, 1, Vec::new());
    loop {
        line.clear();
        let read = reader.read_until(b'\n', &mut line);
        let n = read.map_err(Error::io(path))?;
        if line.pop() != Some(b'\n') || !keep(&line) {
            return Ok((bytes, number));
        }
        bytes += n as u64;
        number += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MetricsRow;

    #[test]
    fn resuming_drops_what_will_be_written_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("metrics.jsonl");
        let mut log = StepLog::create(&path).unwrap();
        for step in 0..4 {
            log.write(&MetricsRow::new(step)).unwrap();
        }
        log.file.write_all(b"{\"step\":").unwrap();
        drop(log);
        assert_eq!(read_rows::<MetricsRow>(&path).unwrap().len(), 4);
        let mut log = StepLog::resume(&path, 2).unwrap();
        assert_eq!(log.kept_steps(), 2);
        log.write(&MetricsRow::new(2)).unwrap();
        log.sync().unwrap();
        let written = std::fs::read_to_string(&path).unwrap();
        assert_eq!(written, "{\"step\":0}\n{\"step\":1}\n{\"step\":2}\n");
    }

    #[test]
    fn a_log_cut_at_any_byte_goes_on_as_if_it_was_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("metrics.jsonl");
        let rows = "{\"step\":0}\n{\"step\":1}\n{\"step\":2}\n";
        for cut in 0..=rows.len() {
            std::fs::write(&path, &rows[..cut]).unwrap();
            // A checkpoint is only written after the rows before it.
            let step = rows[..cut].matches('\n').count() as u64;
            let mut log = StepLog::resume(&path, step).unwrap();
            for step in step..3 {
                log.write(&MetricsRow::new(step)).unwrap();
            }
            let written = std::fs::read_to_string(&path).unwrap();
            assert_eq!(written, rows, "cut at {cut}");
        }
    }

    #[test]
    fn rows_that_are_lost_are_counted() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("metrics.jsonl");
        let kept = || StepLog::resume(&path, 3).unwrap().kept_steps();
        assert_eq!(kept(), 0);
        // Two rows of a step are an evaluation before it and its own.
        for (steps, n) in [("0012", 3), ("123", 2), ("0x2", 1)] {
            let row = |step: char| format!("{{\"step\":{step}}}\n");
            std::fs::write(&path, steps.chars().map(row).collect::<String>()).unwrap();
            assert_eq!(kept(), n, "{steps}");
        }
    }

    #[test]
    fn a_broken_line_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("metrics.jsonl");
        std::fs::write(&path, "{\"step\":0}\n{\"stop\":1}\n").unwrap();
        let error = read_rows::<MetricsRow>(&path).unwrap_err().to_string();
        assert!(error.contains("metrics.jsonl, line 2: "), "{error}");
        let none = dir.path().join("none.jsonl");
        assert!(read_rows::<MetricsRow>(&none).unwrap().is_empty());
    }
}
