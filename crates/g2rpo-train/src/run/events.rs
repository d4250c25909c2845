//! TensorBoard event files: records with masked CRC-32C sums around messages of `event.proto`.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::{Error, MetricsRow, Result};

/// Writes scalars and texts that TensorBoard shows.
///
/// The format is TensorFlow's: each record is the length of its data, a sum of that, the data, a
/// sum of those; the data are protocol buffers of `Event`, of which six fields are used.
///
/// ```
/// use g2rpo_train::MetricsRow;
/// use g2rpo_train::run::events::EventWriter;
/// let dir = tempfile::tempdir()?;
/// let mut events = EventWriter::open(dir.path(), 0)?;
/// let mut row = MetricsRow::new(0);
/// row.put("reward", 0.5);
/// events.write_row(&row)?;
/// events.write_text("recipe", 0, "seed = 1")?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct EventWriter {
    file: File,
    path: PathBuf,
    clock: fn() -> f64,
}

impl EventWriter {
    /// Starts an event file in `folder` for a run that begins or goes on at `step`. What older files
    /// in the folder hold from that step on is not shown any more.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn open(folder: &Path, step: u64) -> Result<Self> {
        Self::open_with(folder, step, now)
    }

    fn open_with(folder: &Path, step: u64, clock: fn() -> f64) -> Result<Self> {
        fs::create_dir_all(folder).map_err(Error::io(folder))?;
        let name = next_name(folder).map_err(Error::io(folder))?;
        let path = folder.join(name);
        let file = OpenOptions::new()
            .append(true)
            .create_new(true)
            .open(&path)
            .map_err(Error::io(&path))?;
        let mut writer = Self { file, path, clock };
        let version = Message::default().double(1, clock());
        writer.record(&version.bytes(3, b"brain.Event:2"))?;
        // SessionLog with status START makes readers drop what was logged from this step on.
        writer.event(step, 7, &Message::default().varint(1, 1))?;
        Ok(writer)
    }

    /// Writes the numbers of a step that are finite.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn write_row(&mut self, row: &MetricsRow) -> Result<()> {
        let finite = row.iter().filter(|(_, value)| value.is_finite());
        let summary = finite.fold(Message::default(), |summary, (name, value)| {
            let scalar = Message::default().bytes(1, name.as_bytes());
            summary.bytes(1, &scalar.float(2, value as f32).0)
        });
        self.event(row.step(), 5, &summary)
    }

    /// Writes a text, which TensorBoard shows as Markdown.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn write_text(&mut self, name: &str, step: u64, text: &str) -> Result<()> {
        const DT_STRING: u64 = 7;
        let dim = Message::default().varint(1, 1);
        let shape = Message::default().bytes(2, &dim.0);
        let tensor = Message::default().varint(1, DT_STRING).bytes(2, &shape.0);
        let plugin = Message::default().bytes(1, b"text");
        let metadata = Message::default().bytes(1, &plugin.0);
        let value = (Message::default().bytes(1, name.as_bytes()))
            .bytes(8, &tensor.bytes(8, text.as_bytes()).0)
            .bytes(9, &metadata.0);
        self.event(step, 5, &Message::default().bytes(1, &value.0))
    }

    fn event(&mut self, step: u64, field: u32, content: &Message) -> Result<()> {
        let event = Message::default().double(1, (self.clock)()).varint(2, step);
        self.record(&event.bytes(field, &content.0))
    }

    fn record(&mut self, Message(data): &Message) -> Result<()> {
        let length = (data.len() as u64).to_le_bytes();
        let mut record = length.to_vec();
        record.extend(masked_crc32c(&length).to_le_bytes());
        record.extend(data);
        record.extend(masked_crc32c(data).to_le_bytes());
        self.file.write_all(&record).map_err(Error::io(&self.path))
    }
}

/// A name that sorts behind those in the folder, which is the order in which they are read, also
/// where the clock was set back.
fn next_name(folder: &Path) -> std::io::Result<String> {
    const PREFIX: &str = "events.out.tfevents.";
    let mut time = now() as u64;
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        let used = (name.to_str())
            .and_then(|n| n.strip_prefix(PREFIX)?.split('.').next()?.parse().ok())
            .unwrap_or(0);
        time = time.max(used + 1);
    }
    Ok(format!("{PREFIX}{time:010}.g2rpo.{}", std::process::id()))
}

fn now() -> f64 {
    // A clock before 1970 is as good as none.
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0.0, |time| time.as_secs_f64())
}

/// A protocol buffer under construction.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn varint(self, field: u32, value: u64) -> Self {
        self.key(field, 0).raw_varint(value)
    }

    fn double(self, field: u32, value: f64) -> Self {
        self.key(field, 1).raw(&value.to_le_bytes())
    }

    fn bytes(self, field: u32, bytes: &[u8]) -> Self {
        (self.key(field, 2).raw_varint(bytes.len() as u64)).raw(bytes)
    }

    fn float(self, field: u32, value: f32) -> Self {
        self.key(field, 5).raw(&value.to_le_bytes())
    }

    fn key(self, field: u32, wire_type: u64) -> Self {
        self.raw_varint(u64::from(field) << 3 | wire_type)
    }

    fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend(bytes);
        self
    }

    fn raw_varint(mut self, mut value: u64) -> Self {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
        self
    }
}

/// The sum of TFRecord files: CRC-32C, rotated and shifted so that sums of data with sums inside
/// are sound.
fn masked_crc32c(data: &[u8]) -> u32 {
    crc32c(data).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// CRC-32C (Castagnoli), bit-reversed, a byte at a time.
fn crc32c(data: &[u8]) -> u32 {
    const TABLE: [u32; 256] = {
        let mut table = [0; 256];
        let mut i = 0;
        while i < 256 {
            let mut crc = i as u32;
            let mut bit = 0;
            while bit < 8 {
                crc = crc >> 1 ^ if crc & 1 == 1 { 0x82f6_3b78 } else { 0 };
                bit += 1;
            }
            table[i] = crc;
            i += 1;
        }
        table
    };
    !data.iter().fold(!0, |crc: u32, byte| {
        crc >> 8 ^ TABLE[usize::from(crc as u8 ^ byte)]
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_those_of_the_standard() {
        // RFC 3720, B.4, and the check value of the CRC catalogue.
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
    }

    #[test]
    fn a_file_is_byte_for_byte_what_tensorboard_writes() {
        let dir = tempfile::tempdir().unwrap();
        let mut events = EventWriter::open_with(dir.path(), 1, || 1_700_000_000.25).unwrap();
        for step in 1..4 {
            let mut row = MetricsRow::new(step);
            row.extend([
                ("reward", 0.25 * step as f64),
                ("kl", f64::NAN),
                ("completions/mean_length", 301.0),
            ]);
            events.write_row(&row).unwrap();
        }
        events.write_text("samples", 300, "Größe **4**").unwrap();
        let expected = include_bytes!("../../../../testdata/train/events.bin");
        assert_eq!(fs::read(&events.path).unwrap(), expected);
    }

    #[test]
    fn a_later_file_sorts_behind_although_the_clock_was_set_back() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("events.out.tfevents.9000000000.a.1"), "").unwrap();
        let name = next_name(dir.path()).unwrap();
        assert!(
            name.starts_with("events.out.tfevents.9000000001."),
            "{name}"
        );
    }
}
