//! Data sets in the format of GSM8K, read and written.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::files::write_atomically;
use crate::{Error, Result, Task};

#[derive(Serialize, Deserialize)]
struct Line<S> {
    question: S,
    answer: S,
}

/// Reads a JSONL file in the format of GSM8K: `question`, and `answer` with solution lines and a
/// last line `#### number`. Other fields are ignored, blank lines are skipped.
///
/// Task ids are line indices, the reference is the text behind `####`, and the difficulty is the
/// number of solution lines.
///
/// # Errors
/// [`Error::Io`] if the file cannot be read; [`Error::Line`] with the line number for text that
/// is not UTF-8 or begins with a byte order mark, is not JSON, lacks a field, or has no number behind
/// `####`; [`Error::EmptyDataSet`].
pub fn read_gsm8k(path: impl AsRef<Path>) -> Result<Vec<Task>> {
    let path = path.as_ref();
    let bytes = fs::read(path).map_err(|source| Error::Io {
        path: path.into(),
        source,
    })?;
    parse_gsm8k(&bytes, path)
}

/// [`read_gsm8k`] on bytes in memory; `path` names them in errors.
///
/// ```
/// use g2rpo_rollout::parse_gsm8k;
/// let line = br#"{"question": "2 and 3?", "answer": "It is <<2+3=5>>5.\n#### 5"}"#;
/// let tasks = parse_gsm8k(line, "inline".as_ref())?;
/// assert_eq!(tasks[0].reference, "5");
/// let error = parse_gsm8k(b"\n{}", "inline".as_ref()).unwrap_err();
/// assert!(error.to_string().starts_with("inline, line 2: missing field `question`"));
/// # Ok::<(), g2rpo_rollout::Error>(())
/// ```
///
/// # Errors
/// As [`read_gsm8k`].
pub fn parse_gsm8k(bytes: &[u8], path: &Path) -> Result<Vec<Task>> {
    let mut tasks = Vec::new();
    for (index, line) in bytes.split(|&b| b == b'\n').enumerate() {
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        let fault = |problem: String| Error::Line {
            path: path.into(),
            line: index + 1,
            problem,
        };
        if line.starts_with(BYTE_ORDER_MARK) {
            return Err(fault(
                "the file begins with a byte order mark; save it as UTF-8 without one".into(),
            ));
        }
        let Line::<String> { question, answer } = serde_json::from_slice(line).map_err(|e| {
            // The parser sees one line and counts lines within it.
            let problem = e.to_string().replace(" at line 1 column ", " at column ");
            fault(format!(
                "{problem}; expected a JSON object with the strings \"question\" and \"answer\""
            ))
        })?;
        let Some((steps, reference)) = answer.rsplit_once("####") else {
            return Err(fault(
                "the answer has no line \"#### number\" that holds the final result".into(),
            ));
        };
        let reference = reference.trim().to_owned();
        if reference.is_empty() {
            return Err(fault("nothing follows \"####\" in the answer".into()));
        }
        if !is_number(&reference) {
            return Err(fault(format!(
                "{reference:?} follows \"####\" in the answer; expected a number"
            )));
        }
        let difficulty = steps.lines().filter(|l| !l.trim().is_empty()).count() as f64;
        tasks.push(Task {
            id: index as u64,
            question,
            reference,
            solution: Some(answer),
            difficulty: Some(difficulty),
            ..Task::default()
        });
    }
    if tasks.is_empty() {
        return Err(Error::EmptyDataSet { path: path.into() });
    }
    Ok(tasks)
}

const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// Digits with the signs of numbers, fractions and money.
fn is_number(text: &str) -> bool {
    text.contains(|c: char| c.is_ascii_digit())
        && text
            .chars()
            .all(|c| c.is_ascii_digit() || c.is_whitespace() || ",.-−+$€£%/".contains(c))
}

/// Writes tasks as GSM8K JSONL, atomically: a reader sees the old file or the whole new one.
///
/// # Errors
/// [`Error::Io`].
pub fn write_gsm8k(path: impl AsRef<Path>, tasks: &[Task]) -> Result<()> {
    let path = path.as_ref();
    let io = |source| Error::Io {
        path: path.into(),
        source,
    };
    let mut text = Vec::new();
    for task in tasks {
        let answer = (task.solution.clone()).unwrap_or_else(|| format!("#### {}", task.reference));
        let line = Line {
            question: &task.question,
            answer: &answer,
        };
        serde_json::to_writer(&mut text, &line).map_err(|e| io(e.into()))?;
        text.push(b'\n');
    }
    write_atomically(path, &text).map_err(io)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(bytes: &[u8]) -> String {
        parse_gsm8k(bytes, "train.jsonl".as_ref())
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn errors_name_file_line_and_fault() {
        let good = r#"{"question":"q","answer":"x\n#### 1"}"#;
        let after = |bad: &str| message(format!("{good}\n\n{bad}\n").as_bytes());
        assert!(after("{\"question\": 3").starts_with("train.jsonl, line 3: "));
        assert!(after("[1]").contains("expected a JSON object"));
        assert!(after(r#"{"question":"q"}"#).contains("missing field `answer`"));
        assert_eq!(
            after(r#"{"question":"q","answer":"no mark"}"#),
            "train.jsonl, line 3: the answer has no line \"#### number\" that holds the final result"
        );
        assert!(after(r#"{"question":"q","answer":"x ####  "}"#).contains("nothing follows"));
        assert_eq!(
            after(r#"{"question":"q","answer":"x #### five"}"#),
            "train.jsonl, line 3: \"five\" follows \"####\" in the answer; expected a number"
        );
        assert!(after(r#"{"question": x}"#).contains("line 3: expected value at column 14;"));
        let marked = message(format!("\u{feff}{good}").as_bytes());
        assert!(
            marked.contains("line 1: the file begins with a byte order mark"),
            "{marked}"
        );
        assert!(message(b"{\"question\":\"\xff\",\"answer\":\"#### 1\"}").contains("line 1"));
    }

    #[test]
    fn empty_files_are_refused() {
        for bytes in [&b""[..], b"\n \n"] {
            assert_eq!(
                message(bytes),
                "train.jsonl: the data set is empty; expected at least one JSON line"
            );
        }
    }

    #[test]
    fn a_missing_file_is_named() {
        let err = read_gsm8k("no/such/file.jsonl").unwrap_err().to_string();
        assert!(err.starts_with("no/such/file.jsonl: "), "{err}");
    }

    #[test]
    fn what_is_written_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t.jsonl");
        let task = Task {
            id: 0,
            question: "\"1\" and 2?".into(),
            reference: "3".into(),
            solution: Some("<<1+2=3>>3\n#### 3".into()),
            difficulty: Some(1.0),
            ..Task::default()
        };
        write_gsm8k(&path, std::slice::from_ref(&task)).unwrap();
        assert_eq!(read_gsm8k(&path).unwrap(), [task]);
    }

    #[test]
    fn reads_the_published_files() {
        let Some(data) = std::env::var_os("G2RPO_DATA") else {
            eprintln!("skipped: G2RPO_DATA does not name the folder with gsm8k/train.jsonl");
            return;
        };
        let folder = Path::new(&data).join("gsm8k");
        assert_eq!(read_gsm8k(folder.join("train.jsonl")).unwrap().len(), 7473);
        assert_eq!(read_gsm8k(folder.join("test.jsonl")).unwrap().len(), 1319);
    }
}
