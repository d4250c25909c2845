//! `g2rpo verify`: verdicts on a file of responses, without a model.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::sync::Arc;

use g2rpo::train::data::formats::parse;
use g2rpo::train::evaluate::graded::{GradedSample, write_graded};
use g2rpo::train::evaluate::summary::summarize;
use g2rpo::train::recipe::settings::{DataFormat, VerifierName, VerifySettings};
use g2rpo::verify::Verifier;
use serde_json::Value;

use super::cli::VerifyArgs;
use super::console::{Console, short};
use super::failure::{Failure, because};
use super::{evaluation, setup};

/// The verifiers that a line can name.
const VERIFIERS: [&str; 4] = ["gsm8k", "math", "choice", "code"];

/// A line that can be graded.
struct Row {
    /// From 1.
    line: usize,
    response: String,
    reference: String,
    verifier: String,
}

/// `g2rpo verify`.
pub(crate) fn verify(args: &VerifyArgs) -> Result<(), Failure> {
    let console = Console::new(args.show.quiet);
    let path = args.file.display().to_string();
    if let Some(out) = &args.out {
        refuse_itself(out, &args.file)?;
    }
    let file = File::open(&args.file).map_err(because(Failure::INPUT, &path))?;
    let (mut rows, mut broken) = (Vec::new(), 0);
    for (index, line) in BufReader::new(file).split(b'\n').enumerate() {
        let line = line.map_err(because(Failure::INPUT, &path))?;
        let line = line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&line);
        if line.trim_ascii().is_empty() {
            continue;
        }
        match row(line, index + 1, &args.verifier) {
            Ok(row) => rows.push(row),
            Err(problem) => {
                console.warn(format_args!("{path}, line {}: {problem}", index + 1));
                broken += 1;
            }
        }
    }
    if rows.is_empty() && broken == 0 {
        return Err(Failure::new(Failure::INPUT, format!("{path} holds no row")));
    }
    if broken > 0 {
        let told = format!(
            "{path}: {broken} of {} rows cannot be used",
            rows.len() + broken
        );
        if rows.is_empty() {
            return Err(Failure::new(Failure::INPUT, told));
        }
        if args.broken_rows == "fail" {
            let told = format!("{told}: mend them, or leave them out with --broken-rows skip");
            return Err(Failure::new(Failure::INPUT, told));
        }
        console.warn(format_args!("{told} and are left out"));
    }
    let samples = grade(&rows, &console)?;
    if let Some(out) = &args.out {
        write_graded(out, &samples)?;
    }
    if let Some(summary) = summarize(&samples, 0) {
        console.say(evaluation::tell("right", &summary));
    }
    Ok(())
}

fn row(line: &[u8], number: usize, default: &str) -> Result<Row, String> {
    let row = parse(line)?;
    let text = |column: &str| {
        let text = row.get(column).and_then(Value::as_str).map(str::to_owned);
        text.ok_or_else(|| format!("column {column:?} is missing or no text"))
    };
    let verifier = match row.get("verifier") {
        None | Some(Value::Null) => default,
        Some(value) => {
            let name = value.as_str().filter(|name| VERIFIERS.contains(name));
            let names = VERIFIERS.join(", ");
            name.ok_or_else(|| format!("verifier {value} is none of {names}"))?
        }
    };
    Ok(Row {
        line: number,
        response: text("response")?,
        reference: text("reference")?,
        verifier: verifier.to_owned(),
    })
}

fn grade(rows: &[Row], console: &Console) -> Result<Vec<GradedSample>, Failure> {
    let mut verifiers: BTreeMap<&str, Arc<dyn Verifier>> = BTreeMap::new();
    let mut samples = Vec::new();
    for row in rows {
        let verifier = match verifiers.entry(row.verifier.as_str()) {
            Entry::Occupied(made) => made.into_mut(),
            Entry::Vacant(place) => {
                let verifier = match row.verifier.as_str() {
                    "gsm8k" => VerifierName::Gsm8k,
                    "choice" => VerifierName::Choice,
                    "code" => VerifierName::Code,
                    _ => VerifierName::Math,
                };
                let settings = VerifySettings {
                    verifier,
                    ..VerifySettings::default()
                };
                place.insert(setup::verifier(&settings, DataFormat::Auto)?)
            }
        };
        let verdict = verifier.verify(&row.response, &row.reference);
        let shown = short(&row.response, 80);
        console.say(format_args!("{}: {verdict}  │  {shown}", row.line));
        let task = (row.line - 1) as u64;
        samples.push(GradedSample::new(task, 0, row.response.as_str(), &verdict));
    }
    Ok(samples)
}

/// Refuses an output that is the input.
fn refuse_itself(out: &Path, file: &Path) -> Result<(), Failure> {
    match (out.canonicalize(), file.canonicalize()) {
        (Ok(out_path), Ok(path)) if out_path == path => Err(Failure::new(
            Failure::SETTINGS,
            format!(
                "--out {}: that is the file that is read, and would be overwritten: choose another",
                out.display()
            ),
        )),
        _ => Ok(()),
    }
}
