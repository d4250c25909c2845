//! Rows of files that cannot be read from the middle, one a line in a file without a name.

use std::fmt;
use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Seek, Write};
use std::path::Path;

use serde::de::{Deserializer, Error as _, SeqAccess, Visitor};
use serde_json::Value;

use crate::error::{Error, Result};

/// Rows on their way to a temporary file, which has no name and goes with the program.
pub(crate) struct Spool(BufWriter<File>);

impl Spool {
    /// In the folder for temporary files.
    pub(crate) fn new() -> Result<Self> {
        let file = tempfile::tempfile().map_err(Self::io)?;
        Ok(Self(BufWriter::new(file)))
    }

    fn io(error: std::io::Error) -> Error {
        Error::io(&std::env::temp_dir())(error)
    }

    /// One row more.
    pub(crate) fn push(&mut self, row: &Value) -> Result<()> {
        serde_json::to_writer(&mut self.0, row)
            .map_err(std::io::Error::from)
            .and_then(|()| self.0.write_all(b"\n"))
            .map_err(Self::io)
    }

    /// The file, from its start.
    pub(crate) fn finish(self) -> Result<File> {
        let file = self.0.into_inner().map_err(|e| e.into_error());
        let mut file = file.map_err(Self::io)?;
        file.rewind().map_err(Self::io)?;
        Ok(file)
    }
}

/// Bytes of a byte order mark, which means nothing in UTF-8, and whether an array begins behind it.
pub(crate) fn start(reader: &mut BufReader<File>) -> std::io::Result<(usize, bool)> {
    let bytes = reader.fill_buf()?;
    let mark = if bytes.starts_with(b"\xef\xbb\xbf") {
        3
    } else {
        0
    };
    let array = bytes[mark..].iter().find(|b| !b.is_ascii_whitespace()) == Some(&b'[');
    Ok((mark, array))
}

/// The elements of a file that holds a JSON array, never all in memory.
pub(crate) fn spool_array(path: &Path) -> Result<File> {
    let mut reader = BufReader::new(File::open(path).map_err(Error::io(path))?);
    let (mark, _) = start(&mut reader).map_err(Error::io(path))?;
    reader.consume(mark);
    let mut elements = Elements {
        spool: Spool::new()?,
        failed: None,
    };
    let mut json = serde_json::Deserializer::from_reader(reader);
    let read = (json.deserialize_seq(&mut elements)).and_then(|()| json.end());
    if let Some(error) = elements.failed {
        return Err(error);
    }
    read.map_err(|error| Error::data(path, error))?;
    elements.spool.finish()
}

struct Elements {
    spool: Spool,
    /// What the spool itself said.
    failed: Option<Error>,
}

impl<'de> Visitor<'de> for &mut Elements {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of rows")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut rows: A) -> std::result::Result<(), A::Error> {
        while let Some(row) = rows.next_element::<Value>()? {
            if let Err(error) = self.spool.push(&row) {
                self.failed = Some(error);
                return Err(A::Error::custom("the rows cannot be written"));
            }
        }
        Ok(())
    }
}
