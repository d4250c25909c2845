use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;

use serde::Serialize;
use serde::ser::SerializeMap;

use crate::run::files::write_atomically;
use crate::{Error, Result};

/// Named numbers of one step, in the order in which they were put in.
///
/// ```
/// use g2rpo_train::MetricsRow;
/// let mut row = MetricsRow::new(3);
/// row.put("reward", 0.25);
/// assert_eq!(row.get("reward"), Some(0.25));
/// assert_eq!(serde_json::to_string(&row).unwrap(), r#"{"step":3,"reward":0.25}"#);
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct MetricsRow {
    step: u64,
    values: Vec<(String, f64)>,
}

impl MetricsRow {
    /// An empty row of a step.
    pub fn new(step: u64) -> Self {
        Self {
            step,
            values: Vec::new(),
        }
    }

    /// The step.
    pub fn step(&self) -> u64 {
        self.step
    }

    /// Sets a number; an earlier one of the same name is replaced. A number that is not finite is
    /// written as `null`, which JSON readers take for a missing value.
    pub fn put(&mut self, name: &str, value: f64) {
        match self.values.iter_mut().find(|(n, _)| n == name) {
            Some((_, old)) => *old = value,
            None => self.values.push((name.to_owned(), value)),
        }
    }

    /// The number of that name.
    pub fn get(&self, name: &str) -> Option<f64> {
        self.values.iter().find(|(n, _)| n == name).map(|&(_, v)| v)
    }

    /// All names and numbers, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, f64)> {
        self.values.iter().map(|(n, v)| (n.as_str(), *v))
    }
}

impl<'a> Extend<(&'a str, f64)> for MetricsRow {
    fn extend<I: IntoIterator<Item = (&'a str, f64)>>(&mut self, items: I) {
        for (name, value) in items {
            self.put(name, value);
        }
    }
}

impl Serialize for MetricsRow {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.values.len() + 1))?;
        map.serialize_entry("step", &self.step)?;
        for (name, value) in &self.values {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

/// Appends rows to a `metrics.jsonl`, one JSON object a line, each on disk before the next step.
#[derive(Debug)]
pub struct MetricsWriter {
    file: File,
    path: PathBuf,
}

impl MetricsWriter {
    /// Starts a new file.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be created.
    pub fn create(path: impl Into<PathBuf>) -> Result<Self> {
        let path = path.into();
        let file = File::create(&path).map_err(Error::io(&path))?;
        Ok(Self { file, path })
    }

    /// Goes on with the file of an interrupted run that is resumed at `step`: rows from that step
    /// on, and a half-written last line, are dropped, since the resumed run writes them again.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn resume(path: impl Into<PathBuf>, step: u64) -> Result<Self> {
        let path = path.into();
        let mut kept = Vec::new();
        match File::open(&path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            Err(e) => return Err(Error::io(&path)(e)),
            Ok(file) => {
                for line in BufReader::new(file).split(b'\n') {
                    let line = line.map_err(Error::io(&path))?;
                    match serde_json::from_slice::<serde_json::Value>(&line) {
                        Ok(row) if row["step"].as_u64().is_some_and(|s| s < step) => {
                            kept.extend_from_slice(&line);
                            kept.push(b'\n');
                        }
                        _ => break,
                    }
                }
            }
        }
        write_atomically(&path, &kept)?;
        let file = OpenOptions::new()
            .append(true)
            .open(&path)
            .map_err(Error::io(&path))?;
        Ok(Self { file, path })
    }

    /// Writes one row.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn write(&mut self, row: &MetricsRow) -> Result<()> {
        let mut line = serde_json::to_vec(row).map_err(|e| Error::io(&self.path)(e.into()))?;
        line.push(b'\n');
        self.file.write_all(&line).map_err(Error::io(&self.path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_keep_order_and_write_missing_numbers_as_null() {
        let mut row = MetricsRow::new(0);
        row.extend([("b", 1.0), ("a", f64::NAN), ("b", 2.0)]);
        assert_eq!(
            serde_json::to_string(&row).unwrap(),
            r#"{"step":0,"b":2.0,"a":null}"#
        );
    }

    #[test]
    fn resuming_drops_what_will_be_written_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("metrics.jsonl");
        let mut writer = MetricsWriter::create(&path).unwrap();
        for step in 0..4 {
            writer.write(&MetricsRow::new(step)).unwrap();
        }
        writer.file.write_all(b"{\"step\":").unwrap();
        drop(writer);
        let mut writer = MetricsWriter::resume(&path, 2).unwrap();
        writer.write(&MetricsRow::new(2)).unwrap();
        assert_eq!(
            std::fs::read_to_string(&path).unwrap(),
            "{\"step\":0}\n{\"step\":1}\n{\"step\":2}\n"
        );
    }
}
