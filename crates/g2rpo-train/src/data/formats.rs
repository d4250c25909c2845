//! Data sets on the disk: rows of JSON in the shapes in which problems are published.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use g2rpo_rollout::Task;
use serde_json::{Map, Value, json};

use crate::data::spool::{spool_array, start};
use crate::data::spot::Spot;
use crate::recipe::settings::{BrokenRows, DataFormat, DataSettings};
use crate::{Error, Result};

/// A row of a data set: values by the names of their columns.
pub type Row = Map<String, Value>;

/// One problem of a data set.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Problem {
    /// Index of the row, from 0.
    pub id: u64,
    /// What is asked.
    pub question: String,
    /// What the verifier compares with.
    pub reference: String,
    /// The worked solution, where there is one.
    pub solution: Option<String>,
    /// Hints, from the weakest to the strongest.
    pub hints: Vec<String>,
    /// Larger is harder.
    pub difficulty: Option<f64>,
    /// Share of attempts that succeeded before training, in [0, 1].
    pub pass_rate: Option<f64>,
    /// Level or subject, by which evaluations are broken down.
    pub level: Option<String>,
}

impl From<Problem> for Task {
    fn from(problem: Problem) -> Self {
        Self {
            id: problem.id,
            question: problem.question,
            reference: problem.reference,
            solution: problem.solution,
            hints: problem.hints,
            difficulty: problem.difficulty,
            pass_rate: problem.pass_rate,
        }
    }
}

/// The problems of a file.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Problems {
    /// What its rows look like, found out where it was `auto`.
    pub format: DataFormat,
    /// The problems.
    pub problems: Vec<Problem>,
    /// Rows left out: where they stand, and what is wrong.
    pub broken: Vec<(Spot, String)>,
}

/// Reads a file of JSON objects, one a line, or of one array of them.
///
/// The file is read line by line; what is kept are the problems. `limit` ends it early. An array goes to a temporary file.
///
/// # Errors
/// [`Error::Data`] where rows cannot be used and `broken_rows` is `fail`, or none can; [`Error::Io`].
pub fn read_problems(
    path: &Path,
    settings: &DataSettings,
    limit: Option<usize>,
) -> Result<Problems> {
    let mut reader = BufReader::new(File::open(path).map_err(Error::io(path))?);
    let (mark, array) = start(&mut reader).map_err(Error::io(path))?;
    reader.consume(mark);
    let mut spot: fn(usize) -> Spot = Spot::Line;
    if array {
        (reader, spot) = (BufReader::new(spool_array(path)?), Spot::Row);
    }
    let blank = |line: &Vec<u8>| line.iter().all(u8::is_ascii_whitespace);
    let lines = (1..).zip(reader.split(b'\n'));
    let rows = lines.filter(|(_, line)| !line.as_ref().is_ok_and(blank));
    let rows = rows.map(|(number, line)| {
        let line = line.map_err(Error::io(path))?;
        Ok((spot(number), parse(&line)))
    });
    collect_problems(path, rows, settings, limit)
}

/// The problems of rows, each with its place, from any source.
///
/// # Errors
/// As [`read_problems`].
pub fn collect_problems(
    path: &Path,
    rows: impl Iterator<Item = Result<(Spot, Result<Row, String>)>>,
    settings: &DataSettings,
    limit: Option<usize>,
) -> Result<Problems> {
    let mut format = settings.dataset_format;
    let (mut problems, mut broken) = (Vec::new(), Vec::new());
    let mut n_rows = 0;
    for (index, row) in rows.enumerate() {
        if limit.is_some_and(|limit| problems.len() >= limit) {
            break;
        }
        n_rows += 1;
        let (spot, row) = row?;
        let problem = row.and_then(|row| {
            if format == DataFormat::Auto {
                format = detect(&row, settings)?;
            }
            let mut problem = problem(&row, format, settings)?;
            problem.id = index as u64;
            Ok(problem)
        });
        match problem {
            Ok(problem) => problems.push(problem),
            Err(problem) => broken.push((spot, problem)),
        }
    }
    check_broken(path, &broken, n_rows, settings)?;
    Ok(Problems {
        format,
        problems,
        broken,
    })
}

/// Refuses a file of which no row can be used, or not all where they must.
pub(crate) fn check_broken(
    path: &Path,
    broken: &[(Spot, String)],
    n_rows: usize,
    settings: &DataSettings,
) -> Result<()> {
    if n_rows == 0 {
        return Err(Error::data(path, "the file holds no row"));
    }
    let fails = settings.broken_rows == BrokenRows::Fail || broken.len() == n_rows;
    if fails && !broken.is_empty() {
        return Err(Error::data(path, tell_broken(broken, n_rows)));
    }
    Ok(())
}

/// What is wrong with the rows that cannot be used, in a few lines.
pub fn tell_broken(broken: &[(Spot, String)], n_rows: usize) -> String {
    const SHOWN: usize = 5;
    let mut text = format!("{} of {n_rows} rows cannot be used", broken.len());
    for (spot, problem) in broken.iter().take(SHOWN) {
        text.push_str(&format!("\n  {spot}: {problem}"));
    }
    if broken.len() > SHOWN {
        text.push_str("\n  …");
    }
    text
}

/// A row from a line of JSON.
///
/// # Errors
/// In words, for what is not UTF-8, not JSON, or no object.
pub fn parse(line: &[u8]) -> Result<Row, String> {
    let text =
        std::str::from_utf8(line.trim_ascii_end()).map_err(|_| "it is not UTF-8".to_owned())?;
    let value = serde_json::from_str(text).map_err(|e| {
        // The line within the row is always the first.
        e.to_string().replace(" at line 1 column ", " at column ")
    });
    object(value?)
}

pub(crate) fn object(value: Value) -> Result<Row, String> {
    match value {
        Value::Object(row) => Ok(row),
        _ => Err("expected a JSON object".into()),
    }
}

pub(crate) fn detect(row: &Row, settings: &DataSettings) -> Result<DataFormat, String> {
    let has = |name: &str| row.contains_key(name);
    let answer = row.get("answer").and_then(Value::as_str);
    let mapped =
        settings.columns.contains_key("question") && settings.columns.contains_key("reference");
    Ok(match () {
        () if has("entry_point") && has("test") => DataFormat::Humaneval,
        () if has("test_list") => DataFormat::Mbpp,
        () if has("question_content") => DataFormat::Livecodebench,
        () if has("input_output") => DataFormat::Apps,
        () if has("question") && answer.is_some_and(|a| a.contains("####")) => DataFormat::Gsm8k,
        () if has("problem") && (has("answer") || has("solution")) => DataFormat::Math,
        () if mapped || (has("prompt") && has("answer")) => DataFormat::Prompt,
        () => {
            let columns: Vec<&str> = row.keys().map(String::as_str).collect();
            return Err(format!(
                "its columns ({}) are those of no known format: set dataset_format, or columns for question and reference",
                columns.join(", ")
            ));
        }
    })
}

/// The problem of a row.
///
/// # Errors
/// What is missing or not as the format has it.
pub fn problem(row: &Row, format: DataFormat, settings: &DataSettings) -> Result<Problem, String> {
    let reader = Reader { row, settings };
    let mut problem = match format {
        DataFormat::Auto => problem(row, detect(row, settings)?, settings)?,
        DataFormat::Gsm8k => reader.gsm8k()?,
        DataFormat::Math => reader.math()?,
        DataFormat::Humaneval => reader.humaneval()?,
        DataFormat::Mbpp => reader.mbpp()?,
        DataFormat::Apps => reader.apps()?,
        DataFormat::Livecodebench => reader.livecodebench()?,
        DataFormat::Prompt => reader.prompt()?,
    };
    reader.further(&mut problem)?;
    for (name, text) in [
        ("question", &problem.question),
        ("reference", &problem.reference),
    ] {
        if text.trim().is_empty() {
            return Err(format!("its {name} is empty"));
        }
    }
    Ok(problem)
}

struct Reader<'a> {
    row: &'a Row,
    settings: &'a DataSettings,
}

impl Reader<'_> {
    fn mapped(&self, part: &str) -> Option<&str> {
        self.settings.columns.get(part).map(String::as_str)
    }

    /// The text of a part: from the column that it is mapped to, else from the first of `columns`
    /// that is there.
    fn text(&self, part: &str, columns: &[&str]) -> Result<String, String> {
        let column = match self.mapped(part) {
            Some(column) => column,
            None => (columns.iter())
                .find(|column| self.row.contains_key(**column))
                .ok_or_else(|| format!("there is no column {:?}", columns.join(" or ")))?,
        };
        let value = self.row.get(column);
        let value = value.ok_or_else(|| format!("there is no column {column:?}"))?;
        text_of(value).map_err(|problem| format!("column {column:?}: {problem}"))
    }

    /// What a column holds, if that is anything.
    fn value(&self, column: &str) -> Option<&Value> {
        self.row.get(column).filter(|value| !value.is_null())
    }

    fn optional(&self, part: &str, columns: &[&str]) -> Result<Option<String>, String> {
        let nothing = match self.mapped(part) {
            Some(column) => self.row.get(column).is_some_and(Value::is_null),
            None => !columns.iter().any(|column| self.value(column).is_some()),
        };
        if nothing {
            return Ok(None);
        }
        Ok(Some(self.text(part, columns)?).filter(|text| !text.trim().is_empty()))
    }

    fn gsm8k(&self) -> Result<Problem, String> {
        let question = self.text("question", &["question"])?;
        let solution = self.text("solution", &["answer"])?;
        let reference = match self.mapped("reference") {
            Some(_) => self.text("reference", &[])?,
            None => {
                let mark = solution.rsplit_once("####");
                let (_, reference) = mark.ok_or("the answer has no line \"#### number\"")?;
                if reference.trim().is_empty() {
                    return Err("nothing follows \"####\" in the answer".into());
                }
                reference.trim().to_owned()
            }
        };
        let steps = solution.split("####").next().unwrap_or_default();
        let steps = steps.lines().filter(|l| !l.trim().is_empty()).count();
        Ok(Problem {
            question,
            reference,
            solution: Some(solution),
            difficulty: Some(steps as f64),
            ..Problem::default()
        })
    }

    fn math(&self) -> Result<Problem, String> {
        let solution = self.optional("solution", &["solution"])?;
        let reference = match self.optional("reference", &["answer"])? {
            Some(reference) => reference,
            None => (solution.as_deref().and_then(last_boxed))
                .ok_or("there is no column \"answer\", and no \\boxed in the solution")?
                .to_owned(),
        };
        let level = self.optional("level", &["level"])?;
        let digits = (level.as_deref()).map(|l| l.trim_start_matches("Level").trim());
        Ok(Problem {
            question: self.text("question", &["problem", "question"])?,
            reference,
            solution,
            difficulty: digits.and_then(|digits| digits.parse().ok()),
            level: digits.map(str::to_owned),
            ..Problem::default()
        })
    }

    fn humaneval(&self) -> Result<Problem, String> {
        let prompt = self.text("question", &["prompt"])?;
        let entry = self.text("", &["entry_point"])?;
        let test = self.text("", &["test"])?;
        let solution = self.optional("solution", &["canonical_solution"])?;
        Ok(Problem {
            reference: json!({"prompt": prompt, "entry_point": entry, "test": test}).to_string(),
            solution: solution.map(|body| fenced(&format!("{prompt}{body}"))),
            question: format!("Complete this function.\n\n{}", fenced(&prompt)),
            ..Problem::default()
        })
    }

    fn mbpp(&self) -> Result<Problem, String> {
        let tests = self.row.get("test_list").and_then(Value::as_array);
        let tests: Option<Vec<&str>> =
            tests.and_then(|tests| tests.iter().map(Value::as_str).collect());
        let tests = tests.ok_or("column \"test_list\": expected a list of texts")?;
        let mut reference = json!({"test_list": tests});
        for column in ["test_setup_code", "test_imports"] {
            if let Some(value) = self.row.get(column) {
                reference[column] = value.clone();
            }
        }
        let question = self.text("question", &["text", "prompt"])?;
        let shown = fenced(&tests.join("\n"));
        Ok(Problem {
            question: format!("{question}\n\nThe code must pass these tests:\n\n{shown}"),
            reference: reference.to_string(),
            solution: self
                .optional("solution", &["code"])?
                .map(|code| fenced(&code)),
            ..Problem::default()
        })
    }

    fn apps(&self) -> Result<Problem, String> {
        let tests = self.json("input_output")?;
        let with_function = tests.get("fn_name").is_some();
        let solutions = match self.value("solutions") {
            None => Value::Null,
            Some(Value::String(text)) if text.trim().is_empty() => Value::Null,
            Some(_) => self.json("solutions")?,
        };
        Ok(Problem {
            question: self.programming(&["question"], with_function)?,
            reference: tests.to_string(),
            solution: solutions.get(0).and_then(Value::as_str).map(fenced),
            difficulty: self.rank(["introductory", "interview", "competition"]),
            level: self.optional("level", &["difficulty"])?,
            ..Problem::default()
        })
    }

    fn livecodebench(&self) -> Result<Problem, String> {
        let mut tests = json!({"test_cases": self.json("public_test_cases")?});
        let metadata = match self.value("metadata") {
            None => Value::Null,
            Some(_) => self.json("metadata")?,
        };
        let function = metadata.get("func_name").filter(|name| !name.is_null());
        if let Some(function) = function {
            tests["func_name"] = function.clone();
        }
        Ok(Problem {
            question: self.programming(&["question_content"], function.is_some())?,
            reference: tests.to_string(),
            difficulty: self.rank(["easy", "medium", "hard"]),
            level: self.optional("level", &["difficulty"])?,
            ..Problem::default()
        })
    }

    fn prompt(&self) -> Result<Problem, String> {
        Ok(Problem {
            question: self.text("question", &["prompt"])?,
            reference: self.text("reference", &["answer"])?,
            solution: self.optional("solution", &["solution"])?,
            ..Problem::default()
        })
    }

    /// The difficulty that one of three words says, from the easiest.
    fn rank(&self, words: [&str; 3]) -> Option<f64> {
        let word = self.row.get("difficulty")?.as_str()?;
        Some(words.iter().position(|w| *w == word)? as f64 + 1.0)
    }

    /// The task of a programming contest and in what form its answer is wanted.
    fn programming(&self, columns: &[&str], function: bool) -> Result<String, String> {
        let question = self.text("question", columns)?;
        let starter = self.optional("", &["starter_code"])?;
        let form = match starter {
            Some(starter) => format!("Complete this code.\n\n{}", fenced(&starter)),
            None if function => "Write a Python function.".into(),
            None => {
                "Write a Python program that reads standard input and prints the answer.".into()
            }
        };
        Ok(format!("{}\n\n{form}", question.trim_end()))
    }

    /// A column that holds JSON, or a text of JSON.
    fn json(&self, column: &str) -> Result<Value, String> {
        match self.row.get(column) {
            None => Err(format!("there is no column {column:?}")),
            Some(Value::String(text)) => {
                serde_json::from_str(text).map_err(|e| format!("column {column:?}: {e}"))
            }
            Some(value) => Ok(value.clone()),
        }
    }

    /// What every format may have in columns of its own.
    fn further(&self, problem: &mut Problem) -> Result<(), String> {
        let hints = self.mapped("hints").unwrap_or("hints");
        match self.row.get(hints) {
            Some(Value::Array(items)) => {
                let texts: Option<Vec<&str>> = items.iter().map(Value::as_str).collect();
                let texts = texts.ok_or_else(|| format!("column {hints:?}: expected texts"))?;
                problem.hints = texts.into_iter().map(str::to_owned).collect();
            }
            Some(Value::String(hint)) => problem.hints = vec![hint.clone()],
            _ => {}
        }
        if self.mapped("reference").is_some() {
            problem.reference = self.text("reference", &[])?;
        }
        if self.mapped("solution").is_some() {
            problem.solution = self.optional("solution", &[])?;
        }
        if self.mapped("level").is_some() {
            problem.level = self.optional("level", &[])?;
        }
        if let Some(column) = self.mapped("difficulty") {
            problem.difficulty = self.number(column)?;
        }
        let is_share = |rate: &f64| (0.0..=1.0).contains(rate);
        problem.pass_rate = match self.mapped("pass_rate") {
            Some(column) => self.number(column)?,
            None => (self.row.get("pass_rate").and_then(Value::as_f64)).filter(is_share),
        };
        match problem.pass_rate.filter(|rate| !is_share(rate)) {
            Some(rate) => Err(format!("pass_rate: {rate} is no share in [0, 1]")),
            None => Ok(()),
        }
    }

    /// A number, or nothing for `null`.
    fn number(&self, column: &str) -> Result<Option<f64>, String> {
        match self.row.get(column) {
            Some(Value::Null) => Ok(None),
            value => match value.and_then(Value::as_f64) {
                Some(number) => Ok(Some(number)),
                None => Err(format!("column {column:?}: expected a number")),
            },
        }
    }
}

/// A value as text. A conversation of a single message of the user is its content.
fn text_of(value: &Value) -> Result<String, String> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Number(number) => Ok(number.to_string()),
        Value::Array(messages) => match &messages[..] {
            [message] if message["role"] == "user" => {
                let content = message["content"].as_str();
                content
                    .map(str::to_owned)
                    .ok_or_else(|| "the message has no text".into())
            }
            _ => Err(format!(
                "a conversation of {} messages; one message of the user is read, and system_prompt is a setting",
                messages.len()
            )),
        },
        _ => Err("expected a text".into()),
    }
}

fn fenced(code: &str) -> String {
    format!("```python\n{}\n```", code.trim_end())
}

/// The content of the last `\boxed{…}`.
fn last_boxed(text: &str) -> Option<&str> {
    let start = text.rfind("\\boxed{")? + "\\boxed{".len();
    let mut depth = 1;
    for (i, byte) in text[start..].bytes().enumerate() {
        match byte {
            b'{' => depth += 1,
            b'}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some(&text[start..start + i]);
        }
    }
    None
}
