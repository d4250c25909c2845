//! One graded completion, and JSONL files of them.

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::Path;

use g2rpo_verify::{Outcome, Verdict};
use serde::{Deserialize, Serialize};

use super::statistics::Vote;
use crate::run::files::replace_file;
use crate::{Error, Result};

/// What a verifier decided, without its reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VerdictKind {
    /// Right.
    Correct,
    /// Wrong.
    Incorrect,
    /// The reference cannot decide it.
    Unverifiable,
    /// The machinery failed.
    Fault,
}

impl From<&Outcome> for VerdictKind {
    fn from(outcome: &Outcome) -> Self {
        match outcome {
            Outcome::Correct => Self::Correct,
            Outcome::Incorrect(_) => Self::Incorrect,
            Outcome::Unverifiable(_) => Self::Unverifiable,
            Outcome::Fault(_) => Self::Fault,
        }
    }
}

/// One completion and what the verifier said about it: a line of an evaluation's JSONL file.
///
/// ```
/// use g2rpo_train::evaluate::graded::{VerdictKind, GradedSample};
/// use g2rpo_verify::Verdict;
/// let sample = GradedSample::new(7, 0, "It is 42.", &Verdict::correct().at(6..8));
/// assert_eq!((sample.answer.as_deref(), sample.verdict), (Some("42"), VerdictKind::Correct));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct GradedSample {
    /// Id of the task in its data set.
    pub task: u64,
    /// Which of the task's samples, from 0.
    pub sample: u32,
    /// Level or subject of the task, where the data set has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub level: Option<String>,
    /// The completion.
    pub text: String,
    /// The part of it that was graded, where the verifier found one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<String>,
    /// The decision.
    pub verdict: VerdictKind,
    /// Why, in the verifier's words; empty for a right answer.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// Tokens of the completion.
    pub tokens: usize,
    /// Whether the length limit cut it off.
    pub truncated: bool,
}

impl GradedSample {
    /// A sample with its verdict; no tokens are counted and nothing is truncated.
    pub fn new(task: u64, sample: u32, text: impl Into<String>, verdict: &Verdict) -> Self {
        let text = text.into();
        let answer = verdict.span.clone().and_then(|span| text.get(span));
        let told = verdict.to_string();
        let reason = told.split_once(": ").map_or("", |(_, why)| why);
        Self {
            task,
            sample,
            level: None,
            answer: answer.map(str::to_owned),
            text,
            verdict: (&verdict.outcome).into(),
            reason: reason.to_owned(),
            tokens: 0,
            truncated: false,
        }
    }

    /// What the sample votes for in maj@k. Without a graded part the whole text is the answer, as
    /// for verifiers that look at no part; a sample that was masked or answered nothing abstains.
    pub fn vote(&self) -> Vote<'_> {
        let answer = self.answer.as_deref().unwrap_or(&self.text).trim();
        match self.verdict {
            VerdictKind::Correct => Vote::Right,
            VerdictKind::Incorrect if !answer.is_empty() => Vote::Wrong(answer),
            _ => Vote::Abstained,
        }
    }

    /// Whether the answer is right. What could not be decided is not.
    pub fn is_correct(&self) -> bool {
        self.verdict == VerdictKind::Correct
    }
}

/// Writes samples as JSONL, one a line; the file appears whole or not at all.
///
/// # Errors
/// [`Error::Io`].
pub fn write_graded<'a>(
    path: &Path,
    samples: impl IntoIterator<Item = &'a GradedSample>,
) -> Result<()> {
    replace_file(path, |file| {
        let mut file = BufWriter::new(file);
        for sample in samples {
            serde_json::to_writer(&mut file, sample)?;
            file.write_all(b"\n")?;
        }
        file.flush()
    })
}

/// Reads a file of [`write_graded`]; blank lines are skipped.
///
/// # Errors
/// [`Error::Io`], and [`Error::Line`] for a line that is not a graded sample.
pub fn read_graded(path: &Path) -> Result<Vec<GradedSample>> {
    let file = File::open(path).map_err(Error::io(path))?;
    let mut samples = Vec::new();
    for (index, line) in BufReader::new(file).lines().enumerate() {
        let line = line.map_err(Error::io(path))?;
        if line.trim().is_empty() {
            continue;
        }
        let sample = serde_json::from_str(&line).map_err(|e| Error::Line {
            path: path.into(),
            line: index + 1,
            problem: format!("not a graded sample: {e}"),
        })?;
        samples.push(sample);
    }
    Ok(samples)
}

#[cfg(test)]
mod tests {
    use super::*;
    use g2rpo_verify::{Fault, Incorrect};

    #[test]
    fn what_is_written_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("eval.jsonl");
        let mut right = GradedSample::new(0, 1, "naïve \u{2028} 42", &Verdict::correct());
        right.level = Some("3".into());
        right.tokens = 5;
        let wrong = GradedSample::new(1, 0, "", &Incorrect::NoAnswer.into());
        write_graded(&path, [&right, &wrong]).unwrap();
        assert_eq!(read_graded(&path).unwrap(), [right, wrong]);
        std::fs::write(&path, "\n{\"task\": 1}\n").unwrap();
        let error = read_graded(&path).unwrap_err().to_string();
        assert!(error.contains("eval.jsonl, line 2: not a graded sample: missing field"));
    }

    #[test]
    fn votes_merge_right_answers_and_equal_texts() {
        let vote = |text: &str, verdict: Verdict| {
            GradedSample::new(0, 0, text, &verdict).vote() == Vote::Wrong("7")
        };
        assert!(vote(" 7 ", Incorrect::Different.into()));
        assert!(vote("so 7", Verdict::from(Incorrect::Different).at(3..4)));
        let none = GradedSample::new(0, 0, " ", &Incorrect::NoAnswer.into());
        assert_eq!(none.vote(), Vote::Abstained);
        let fault = GradedSample::new(0, 0, "7", &Fault::ScriptExhausted.into());
        assert_eq!(fault.vote(), Vote::Abstained);
    }

    #[test]
    fn a_span_that_does_not_fit_is_no_answer() {
        let sample = GradedSample::new(0, 0, "é", &Verdict::correct().at(1..9));
        assert_eq!(sample.answer, None);
    }
}
