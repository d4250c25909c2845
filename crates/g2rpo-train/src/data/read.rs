//! Data sets by the names of their files.

use std::path::Path;

use g2rpo_rollout::Task;

use crate::Result;
use crate::data::formats::{Problems, check_broken, read_problems};
#[cfg(feature = "parquet")]
use crate::data::parquet::read_parquet;
use crate::data::rows::{Rows, Scanned};
use crate::data::tasks::{Listed, TaskStore};
use crate::recipe::settings::{DataFormat, DataSettings};

/// Reads a file whose name ends in `.parquet` as Parquet, with the feature `parquet`, and any other as
/// [`read_problems`] does.
///
/// # Errors
/// As there; [`Error::Data`](crate::Error::Data) for Parquet without the feature.
pub fn read_data(path: &Path, settings: &DataSettings, limit: Option<usize>) -> Result<Problems> {
    if path.extension().is_some_and(|e| e == "parquet") {
        read_parquet(path, settings, limit)
    } else {
        read_problems(path, settings, limit)
    }
}

/// The problems of a file, for as long as it is in use.
pub struct Opened {
    /// What its rows look like, found out where it was `auto`.
    pub format: DataFormat,
    /// Rows left out: their line, from 1, and what is wrong.
    pub broken: Vec<(usize, String)>,
    /// The problems.
    pub tasks: Box<dyn TaskStore>,
}

impl std::fmt::Debug for Opened {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Opened")
            .field("format", &self.format)
            .field("broken", &self.broken.len())
            .field("tasks", &self.tasks.len())
            .finish()
    }
}

/// As [`read_data`], without keeping what can be read again: of a JSONL file the problems stay where they are, so that
/// memory grows by 56 bytes a row. Those of an array or of Parquet are kept.
///
/// # Errors
/// As [`read_data`].
pub fn open_data(path: &Path, settings: &DataSettings, limit: Option<usize>) -> Result<Opened> {
    let lines = path.extension().is_none_or(|e| e != "parquet");
    if lines && let Some(scanned) = Rows::scan(path, settings, limit)? {
        let Scanned { rows, broken } = scanned;
        check_broken(path, &broken, rows.len() + broken.len(), settings)?;
        return Ok(Opened {
            format: rows.format(),
            broken,
            tasks: Box::new(rows),
        });
    }
    let read = read_data(path, settings, limit)?;
    let tasks = read.problems.into_iter().map(Task::from).collect();
    Ok(Opened {
        format: read.format,
        broken: read.broken,
        tasks: Box::new(Listed::new(tasks)?),
    })
}

/// Says what is missing to read Parquet.
#[cfg(not(feature = "parquet"))]
fn read_parquet(path: &Path, _: &DataSettings, _: Option<usize>) -> Result<Problems> {
    let problem = "this program was built without Parquet: build it with the feature `parquet`, or write the file as JSONL";
    Err(crate::Error::Data {
        path: path.into(),
        problem: problem.into(),
    })
}
