//! Parquet: rows of data sets in, completions of a run out.

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use parquet::basic::{Compression, ZstdLevel};
use parquet::column::writer::ColumnWriter;
use parquet::data_type::ByteArray;
use parquet::errors::ParquetError;
use parquet::file::metadata::ParquetMetaData;
use parquet::file::properties::WriterProperties;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::record::{Field, Row};
use parquet::schema::parser::parse_message_type;
use serde_json::Value;

use crate::run::files::write_atomically;
use crate::{Error, Result, SampleRow};

/// The rows of a Parquet file with their numbers, from 1. Row groups are read one after the other.
pub(crate) fn values(path: &Path) -> Result<impl Iterator<Item = Result<(usize, Value)>>> {
    let damaged = |error: ParquetError| Error::data(path, error);
    let file = File::open(path).map_err(Error::io(path))?;
    let length = file.metadata().map_err(Error::io(path))?.len();
    let reader = SerializedFileReader::new(file).map_err(damaged)?;
    check_places(reader.metadata(), length).map_err(damaged)?;
    check_codecs(reader.metadata()).map_err(|problem| Error::data(path, problem))?;
    let mut rows = reader.into_iter().enumerate();
    Ok(std::iter::from_fn(move || {
        // The library panics at some damaged pages.
        let next = catch_unwind(AssertUnwindSafe(|| rows.next()));
        let next = next.unwrap_or_else(|_| Some((0, Err(no_sense()))));
        next.map(|(i, row)| match row {
            Ok(row) => Ok((i + 1, in_json(&row))),
            Err(error) => Err(damaged(error)),
        })
    }))
}

/// A row as JSON. Bytes that are UTF-8 are a text, as most writers that do not say so mean; others are nothing.
fn in_json(row: &Row) -> Value {
    let value = |field: &Field| match field {
        Field::Bytes(bytes) => str::from_utf8(bytes.data()).map_or(Value::Null, Value::from),
        other => other.to_json_value(),
    };
    let columns = row.get_column_iter();
    (columns.map(|(name, field)| (name.clone(), value(field)))).collect()
}

fn no_sense() -> ParquetError {
    ParquetError::General("the file is damaged".into())
}

/// Whether every column is where a file of that length can have it, which the library takes for granted.
fn check_places(metadata: &ParquetMetaData, length: u64) -> Result<(), ParquetError> {
    let columns = metadata.row_groups().iter().flat_map(|g| g.columns());
    for column in columns {
        let start = (column.dictionary_page_offset()).unwrap_or_else(|| column.data_page_offset());
        let (start, size) = (
            u64::try_from(start),
            u64::try_from(column.compressed_size()),
        );
        let end = (start.ok().zip(size.ok())).and_then(|(start, size)| start.checked_add(size));
        if end.is_none_or(|end| end > length) {
            return Err(no_sense());
        }
    }
    Ok(())
}

/// Whether every column can be unpacked.
fn check_codecs(metadata: &ParquetMetaData) -> Result<(), String> {
    let mut columns = metadata.row_groups().iter().flat_map(|g| g.columns());
    let unknown = columns.find_map(|column| match column.compression() {
        Compression::BROTLI(_) => Some("Brotli"),
        Compression::LZO => Some("LZO"),
        _ => None,
    });
    match unknown {
        None => Ok(()),
        Some(codec) => Err(format!(
            "it is compressed by {codec}, which is not read here: write it again with Zstandard, for example by \
             pyarrow.parquet.write_table(pyarrow.parquet.read_table(file), file, compression=\"zstd\")"
        )),
    }
}

const SAMPLES: &str = "message samples {
    required int64 step;
    required int64 task;
    required int64 member;
    required binary question (string);
    required binary hint (string);
    required binary guidance (string);
    required binary completion (string);
    required binary reference (string);
    required binary verdict (string);
    optional double reward;
    optional double advantage;
    required int64 tokens;
    required boolean truncated;
}";

/// Writes completions as a Parquet file, whole or not at all, with the columns of samples.jsonl.
///
/// # Errors
/// [`Error::Io`].
pub fn write_samples(path: &Path, samples: &[SampleRow]) -> Result<()> {
    let bytes = samples_as_parquet(samples)
        .map_err(|e| Error::io(path)(std::io::Error::other(e.to_string())))?;
    write_atomically(path, &bytes)
}

fn samples_as_parquet(samples: &[SampleRow]) -> Result<Vec<u8>, ParquetError> {
    let schema = Arc::new(parse_message_type(SAMPLES)?);
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .build();
    let mut bytes = Vec::new();
    let mut file = SerializedFileWriter::new(&mut bytes, schema, Arc::new(properties))?;
    let mut group = file.next_row_group()?;
    let integer = |value: fn(&SampleRow) -> u64| {
        Column::Integers(samples.iter().map(|s| value(s) as i64).collect())
    };
    let text = |value: fn(&SampleRow) -> &str| {
        Column::Texts(samples.iter().map(|s| value(s).into()).collect())
    };
    let number =
        |value: fn(&SampleRow) -> Option<f64>| Column::Numbers(samples.iter().map(value).collect());
    for column in [
        integer(|s| s.step),
        integer(|s| s.task),
        integer(|s| s.member as u64),
        text(|s| &s.question),
        text(|s| &s.hint),
        text(|s| &s.guidance),
        text(|s| &s.completion),
        text(|s| &s.reference),
        text(|s| &s.verdict),
        number(|s| s.reward),
        number(|s| s.advantage),
        integer(|s| s.tokens as u64),
        Column::Flags(samples.iter().map(|s| s.truncated).collect()),
    ] {
        column.write(&mut group)?;
    }
    group.close()?;
    file.close()?;
    Ok(bytes)
}

/// The values of a column; numbers may be missing.
enum Column {
    Integers(Vec<i64>),
    Texts(Vec<ByteArray>),
    Numbers(Vec<Option<f64>>),
    Flags(Vec<bool>),
}

impl Column {
    fn write<W: std::io::Write + Send>(
        self,
        group: &mut SerializedRowGroupWriter<'_, W>,
    ) -> Result<(), ParquetError> {
        let none = || ParquetError::General("fewer columns in the schema than values".into());
        let mut column = group.next_column()?.ok_or_else(none)?;
        match (column.untyped(), self) {
            (ColumnWriter::Int64ColumnWriter(writer), Self::Integers(values)) => {
                writer.write_batch(&values, None, None)?
            }
            (ColumnWriter::ByteArrayColumnWriter(writer), Self::Texts(values)) => {
                writer.write_batch(&values, None, None)?
            }
            (ColumnWriter::BoolColumnWriter(writer), Self::Flags(values)) => {
                writer.write_batch(&values, None, None)?
            }
            (ColumnWriter::DoubleColumnWriter(writer), Self::Numbers(values)) => {
                let there: Vec<i16> = values.iter().map(|v| i16::from(v.is_some())).collect();
                let values: Vec<f64> = values.into_iter().flatten().collect();
                writer.write_batch(&values, Some(&there), None)?
            }
            _ => {
                return Err(ParquetError::General(
                    "a column of another type in the schema".into(),
                ));
            }
        };
        column.close()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn bytes_that_are_a_text_are_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("bytes.parquet");
        let schema = "message rows { required binary question; required binary answer; required binary image; }";
        let schema = Arc::new(parse_message_type(schema).unwrap());
        let file = File::create(&path).unwrap();
        let mut file = SerializedFileWriter::new(file, schema, Arc::default()).unwrap();
        let mut group = file.next_row_group().unwrap();
        for value in ["Wie groß?".as_bytes(), b"#### 7", b"\x00\xff"] {
            let column = Column::Texts(vec![value.to_vec().into()]);
            column.write(&mut group).unwrap();
        }
        group.close().unwrap();
        file.close().unwrap();
        let (_, row) = values(&path).unwrap().next().unwrap().unwrap();
        let expected = json!({"question": "Wie groß?", "answer": "#### 7", "image": null});
        assert_eq!(row, expected);
    }
}
