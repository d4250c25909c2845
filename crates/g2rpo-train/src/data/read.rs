//! Data sets by the names of their files.

use std::path::Path;

use crate::Result;
use crate::data::formats::{Problems, read_problems};
#[cfg(feature = "parquet")]
use crate::data::parquet::read_parquet;
use crate::recipe::settings::DataSettings;

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

/// Says what is missing to read Parquet.
#[cfg(not(feature = "parquet"))]
fn read_parquet(path: &Path, _: &DataSettings, _: Option<usize>) -> Result<Problems> {
    let problem = "this program was built without Parquet: build it with the feature `parquet`, or write the file as JSONL";
    Err(crate::Error::Data {
        path: path.into(),
        problem: problem.into(),
    })
}
