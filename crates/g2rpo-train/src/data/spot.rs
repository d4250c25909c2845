//! Where a row of a data set stands in its file.

use std::fmt;

/// A place that a person finds: the line of a file of lines, else the number of the row, both from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Spot {
    /// A line of a JSONL file, blank ones counted.
    Line(usize),
    /// A row of a Parquet file, an element of a JSON array, a task that came from no file.
    Row(usize),
}

impl fmt::Display for Spot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line(number) => write!(f, "line {number}"),
            Self::Row(number) => write!(f, "row {number}"),
        }
    }
}
