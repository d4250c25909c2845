//! `g2rpo report`: a page about runs, or a check of their telemetry.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use g2rpo::rollout::is_stream;
use g2rpo::train::run::folder::RunFolder;
use g2rpo::train::run::report::checks::check_run;
use g2rpo::train::run::report::page::render_report;
use g2rpo::train::run::report::record::RunRecord;
use g2rpo::train::write_atomically;

use super::cli::ReportArgs;
use super::console::Console;
use super::failure::{Failure, because};

const PAGE: &str = "report.html";

/// `g2rpo report`.
pub(crate) fn report(args: &ReportArgs) -> Result<(), Failure> {
    let console = Console::new(false);
    let runs: Vec<RunRecord> = (args.runs.iter())
        .map(|path| RunRecord::read(path))
        .collect::<Result<_, _>>()?;
    if args.check {
        let faults = runs.iter().flat_map(|run| {
            let faults = check_run(run).into_iter();
            faults.map(|fault| format!("{}: {}: {}", run.name, fault.name, fault.text))
        });
        let faults: Vec<String> = faults.collect();
        if faults.is_empty() {
            console.say("nothing went wrong");
            return Ok(());
        }
        return Err(Failure::new(Failure::CHECK, faults.join("\n")));
    }
    let out = match &args.out {
        Some(out) => out.clone(),
        None => args.runs[0].join(PAGE),
    };
    for run in &args.runs {
        refuse_parts(&out, run)?;
    }
    refuse_other_files(&out)?;
    write_atomically(&out, render_report(&runs).as_bytes())?;
    if !is_stream(&out) {
        console.say(out.display());
    }
    Ok(())
}

/// Refuses a page over a file that is no page.
fn refuse_other_files(out: &Path) -> Result<(), Failure> {
    if is_stream(out) || !out.exists() {
        return Ok(());
    }
    let mut begin = Vec::new();
    if out.is_file() {
        File::open(out)
            .and_then(|file| file.take(256).read_to_end(&mut begin))
            .map_err(because(Failure::RUN, out.display()))?;
        let text = String::from_utf8_lossy(&begin).to_ascii_lowercase();
        let text = text.trim_start_matches('\u{feff}').trim_start();
        let is_page = text.starts_with("<!doctype html") || text.starts_with("<html");
        if begin.is_empty() || is_page {
            return Ok(());
        }
    }
    let what = match out.is_dir() {
        true => "it is a folder",
        false => "there is a file that is no HTML page, and would be overwritten",
    };
    let message = format!("--out {}: {what}: choose another file", out.display());
    Err(Failure::new(Failure::SETTINGS, message))
}

/// Refuses a page over a part of a run.
fn refuse_parts(out: &Path, run: &Path) -> Result<(), Failure> {
    let part = || {
        let (out, run) = (out.canonicalize().ok()?, run.canonicalize().ok()?);
        let first = out.strip_prefix(&run).ok()?.components().next()?;
        Some(first.as_os_str().to_string_lossy().into_owned())
    };
    let writes = |part: &String| part != PAGE && RunFolder::beside(run).writes(part);
    let Some(part) = part().filter(writes) else {
        return Ok(());
    };
    let message = format!(
        "--out {}: {part} belongs to the run in {}, and would be overwritten: choose another file",
        out.display(),
        run.display()
    );
    Err(Failure::new(Failure::SETTINGS, message))
}
