//! Problems of a JSONL file, read where they stand when they are wanted.

use std::fs::File;
use std::hash::{DefaultHasher, Hasher};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use g2rpo_rollout::Task;

use crate::data::formats::{Problem, detect, parse, problem};
use crate::data::parallel::{on_threads, processors};
use crate::data::spool::start;
use crate::data::spot::Spot;
use crate::data::tasks::{Sketch, TaskStore};
use crate::error::{Error, Result};
use crate::recipe::settings::{DataFormat, DataSettings};

/// Bytes of a file that one thread reads problems from at a time.
const BLOCK: u64 = 4 << 20;

/// The problems of a file of JSON objects, one a line. Every line is read once and checked; what is kept of it are 56
/// bytes, and the problem is read again when somebody asks for it.
pub(crate) struct Rows {
    path: PathBuf,
    file: Mutex<File>,
    settings: DataSettings,
    format: DataFormat,
    /// What a line of the file is to a reader.
    spot: fn(usize) -> Spot,
    places: Vec<Place>,
}

/// Where a problem stands, and what is known of it.
struct Place {
    offset: u64,
    question_key: u64,
    /// NaN where it has none.
    difficulty: f64,
    /// NaN where it was not measured.
    pass_rate: f64,
    len: u32,
    /// Of its bytes, to see whether they are still the same.
    sum: u32,
    id: u32,
    line: u32,
    question_len: u32,
    hints: u16,
    has_solution: bool,
}

/// What came of reading a file.
pub(crate) struct Scanned {
    pub(crate) rows: Rows,
    /// Rows that cannot be used: where they stand, and what is wrong.
    pub(crate) broken: Vec<(Spot, String)>,
}

impl Rows {
    /// Reads every line of a file once, on all processors; nothing for a file that holds a JSON array. `limit` ends it
    /// early. Messages call the file `path` and its lines what `spot` makes of their numbers.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Data`] for a file that is too large.
    pub(crate) fn scan(
        file: File,
        path: &Path,
        spot: fn(usize) -> Spot,
        settings: &DataSettings,
        limit: Option<usize>,
    ) -> Result<Option<Scanned>> {
        let io = || Error::io(path);
        let mut reader = BufReader::new(file);
        let (mark, array) = start(&mut reader).map_err(io())?;
        if array {
            return Ok(None);
        }
        reader.consume(mark);
        let mut format = settings.dataset_format;
        let (mut places, mut broken) = (Vec::new(), Vec::new());
        let (mut offset, mut line, mut id) = (mark as u64, 1, 0);
        let most = limit.unwrap_or(usize::MAX);
        let threads = processors();
        while places.len() < most {
            let mut blocks = Vec::new();
            while blocks.len() < threads {
                let mut bytes = Vec::new();
                (reader.by_ref().take(BLOCK).read_to_end(&mut bytes)).map_err(io())?;
                if bytes.is_empty() {
                    break;
                }
                reader.read_until(b'\n', &mut bytes).map_err(io())?;
                let (starts, lines) = (offset, line);
                offset += bytes.len() as u64;
                line += bytes.iter().filter(|b| **b == b'\n').count();
                blocks.push((bytes, starts, lines));
            }
            if blocks.is_empty() {
                break;
            }
            if format == DataFormat::Auto {
                let known = |line: &[u8]| detect(&parse(line).ok()?, settings).ok();
                let lines = (blocks.iter()).flat_map(|block| block.0.split(|b| *b == b'\n'));
                let found = lines.filter(|l| !is_blank(l)).find_map(known);
                format = found.unwrap_or(format);
            }
            let read = on_threads(&blocks, 1, |(bytes, offset, line)| {
                Ok::<_, Error>(rows_of(bytes, *offset, *line, format, settings))
            });
            for (line, row) in read?.into_iter().flatten() {
                if places.len() >= most {
                    break;
                }
                match row {
                    Ok(place) => places.push(Place { id, ..place }),
                    Err(problem) => broken.push((spot(line), problem)),
                }
                let many = || Error::data(path, "it has more rows than can be numbered");
                id = id.checked_add(1).ok_or_else(many)?;
            }
        }
        let rows = Self {
            path: path.into(),
            file: Mutex::new(reader.into_inner()),
            settings: settings.clone(),
            format,
            spot,
            places,
        };
        Ok(Some(Scanned { rows, broken }))
    }

    /// What the rows look like.
    pub(crate) fn format(&self) -> DataFormat {
        self.format
    }

    fn read(&self, place: &Place) -> std::io::Result<Vec<u8>> {
        let mut bytes = vec![0; place.len as usize];
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.seek(SeekFrom::Start(place.offset))?;
        file.read_exact(&mut bytes)?;
        Ok(bytes)
    }
}

impl TaskStore for Rows {
    fn len(&self) -> usize {
        self.places.len()
    }

    fn sketch(&self, place: usize) -> Sketch {
        let place = &self.places[place];
        Sketch {
            id: place.id.into(),
            difficulty: Some(place.difficulty).filter(|d| !d.is_nan()),
            pass_rate: Some(place.pass_rate).filter(|p| !p.is_nan()),
            question_len: place.question_len as usize,
            question_key: place.question_key,
            has_solution: place.has_solution,
            hints: place.hints.into(),
        }
    }

    fn spot(&self, place: usize) -> Spot {
        (self.spot)(self.places[place].line as usize)
    }

    fn task(&self, place: usize) -> Result<Task> {
        let place = &self.places[place];
        let changed = |problem: String| Error::Line {
            path: self.path.clone(),
            line: place.line as usize,
            problem,
        };
        let bytes = self.read(place).map_err(|e| {
            changed(format!(
                "the file changed while it was in use, or is gone: {e}"
            ))
        })?;
        if sum(&bytes) != place.sum {
            return Err(changed("the file changed while it was in use".into()));
        }
        let row = parse(&bytes).and_then(|row| problem(&row, self.format, &self.settings));
        let problem = row.map_err(changed)?;
        Ok(Task::from(Problem {
            id: place.id.into(),
            ..problem
        }))
    }

    fn place_of(&self, id: u64) -> Option<usize> {
        let id = u32::try_from(id).ok()?;
        self.places.binary_search_by_key(&id, |place| place.id).ok()
    }
}

/// A line, from 1, and the problem in it or what is wrong with it.
type Row = (usize, Result<Place, String>);

/// The rows of a block, with the offset of its first byte and the number of its first line.
fn rows_of(
    bytes: &[u8],
    mut offset: u64,
    first: usize,
    format: DataFormat,
    settings: &DataSettings,
) -> Vec<Row> {
    let mut rows = Vec::new();
    for (number, line) in (first..).zip(bytes.split(|b| *b == b'\n')) {
        if !is_blank(line) {
            let read = parse(line).and_then(|row| problem(&row, format, settings));
            let placed = read.and_then(|problem| place(problem, line, offset, number));
            rows.push((number, placed));
        }
        offset += line.len() as u64 + 1;
    }
    rows
}

fn place(problem: Problem, line: &[u8], offset: u64, number: usize) -> Result<Place, String> {
    let task = Task::from(problem);
    let sketch = Sketch::of(&task);
    let large = |_| "it is too large".to_owned();
    Ok(Place {
        offset,
        question_key: sketch.question_key,
        difficulty: sketch.difficulty.unwrap_or(f64::NAN),
        pass_rate: sketch.pass_rate.unwrap_or(f64::NAN),
        len: u32::try_from(line.len()).map_err(large)?,
        sum: sum(line),
        id: 0,
        line: u32::try_from(number).map_err(large)?,
        question_len: u32::try_from(sketch.question_len).map_err(large)?,
        hints: u16::try_from(sketch.hints).map_err(large)?,
        has_solution: sketch.has_solution,
    })
}

fn is_blank(line: &[u8]) -> bool {
    line.iter().all(u8::is_ascii_whitespace)
}

fn sum(bytes: &[u8]) -> u32 {
    let mut hasher = DefaultHasher::new();
    hasher.write(bytes);
    hasher.finish() as u32
}
