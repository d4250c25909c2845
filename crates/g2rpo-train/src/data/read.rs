//! Data sets by the names of their files.

use std::fs::File;
use std::path::Path;

use g2rpo_rollout::Task;

use crate::data::formats::{Problems, check_broken, collect_problems, object, read_problems};
#[cfg(feature = "parquet")]
use crate::data::parquet::values;
use crate::data::rows::{Rows, Scanned};
use crate::data::spool::{Spool, spool_array};
use crate::data::spot::Spot;
use crate::data::tasks::{Listed, TaskStore};
use crate::error::{Error, Result};
use crate::recipe::settings::{DataFormat, DataSettings};

/// Reads a file whose name ends in `.parquet` as Parquet, with the feature `parquet`, and any other as
/// [`read_problems`] does. Parquet is compressed by Snappy, Zstandard, gzip or LZ4, or not at all.
///
/// # Errors
/// As there; [`Error::Data`] for a file that is no Parquet or is damaged, and for Parquet without the feature.
pub fn read_data(path: &Path, settings: &DataSettings, limit: Option<usize>) -> Result<Problems> {
    if path.extension().is_some_and(|e| e == "parquet") {
        let rows = values(path)?.map(|row| row.map(|(i, row)| (Spot::Row(i), object(row))));
        collect_problems(path, rows, settings, limit)
    } else {
        read_problems(path, settings, limit)
    }
}

/// The problems of a file, for as long as it is in use.
pub struct Opened {
    /// What its rows look like, found out where it was `auto`.
    pub format: DataFormat,
    /// Rows left out: where they stand, and what is wrong.
    pub broken: Vec<(Spot, String)>,
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

/// As [`read_data`], without keeping what can be read again: the problems of a JSONL file stay where they are, and those
/// of a whole array or Parquet file go to a temporary file, so that memory grows by 56 bytes a row.
///
/// # Errors
/// As [`read_data`]; [`Error::Io`] where there is no room for that file.
pub fn open_data(path: &Path, settings: &DataSettings, limit: Option<usize>) -> Result<Opened> {
    let is_parquet = path.extension().is_some_and(|e| e == "parquet");
    let mut scanned = None;
    if !is_parquet {
        let file = File::open(path).map_err(Error::io(path))?;
        scanned = Rows::scan(file, path, Spot::Line, settings, limit)?;
    }
    // A few of many rows are kept as easily as written elsewhere.
    if scanned.is_none() && limit.is_none() {
        let spool = if is_parquet {
            spool_parquet(path)?
        } else {
            spool_array(path)?
        };
        scanned = Rows::scan(spool, path, Spot::Row, settings, limit)?;
    }
    if let Some(Scanned { rows, broken }) = scanned {
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

fn spool_parquet(path: &Path) -> Result<File> {
    let rows = values(path)?;
    let mut spool = Spool::new()?;
    for row in rows {
        spool.push(&row?.1)?;
    }
    spool.finish()
}

/// Says what is missing to read Parquet.
#[cfg(not(feature = "parquet"))]
fn values(path: &Path) -> Result<std::iter::Empty<Result<(usize, serde_json::Value)>>> {
    Err(Error::data(
        path,
        "this program was built without Parquet: build it with the feature `parquet`, or write the file as JSONL",
    ))
}
