//! Evaluations: within a run, by themselves, and compared.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use g2rpo::rollout::RolloutEngine;
use g2rpo::train::evaluate::graded::{GradedSample, read_graded, write_graded};
use g2rpo::train::evaluate::summary::{Summary, compare, summarize};
use g2rpo::train::recipe::settings::Recipe;
use g2rpo::train::run::folder::RunFolder;
use g2rpo::train::{EvalConfig, MetricsRow, evaluate};
use g2rpo::verify::Verifier;

use super::cli::{CompareArgs, EvalArgs};
use super::console::Console;
use super::data::{EvalSet, Files, prepare};
use super::failure::{Failure, because, refuse_file};
use super::setup;

/// Evaluates a set; the summary's numbers go into `row` under `eval/`.
pub(crate) fn evaluate_set<E: RolloutEngine>(
    engine: &mut E,
    set: &EvalSet<'_>,
    verifier: &dyn Verifier,
    config: &EvalConfig,
    row: &mut MetricsRow,
) -> Result<(Vec<GradedSample>, Option<Summary>), Failure> {
    let mut samples = evaluate(engine, &set.data, verifier, config)?.samples;
    for sample in &mut samples {
        sample.level = set.levels.get(&sample.task).cloned();
    }
    let summary = summarize(&samples, config.seed);
    if let Some(summary) = &summary {
        put(row, &set.name, summary);
    }
    Ok((samples, summary))
}

fn put(row: &mut MetricsRow, set: &str, summary: &Summary) {
    let mut put = |name: &str, value: f64| row.put(&format!("eval/{set}/{name}"), value);
    put("accuracy", summary.accuracy);
    put("low", summary.interval.low);
    put("high", summary.interval.high);
    put("problems", summary.problems as f64);
    put("mean_length", summary.mean_tokens);
    let share = |n: usize| n as f64 / summary.samples.max(1) as f64;
    put("clipped_ratio", share(summary.truncated));
    put("undecided", share(summary.undecided));
    for (k, value) in summary.pass_at.iter().skip(1) {
        put(&format!("pass@{k}"), *value);
    }
    if let Some((k, value)) = summary.maj_at {
        put(&format!("maj@{k}"), value);
    }
    for (level, of_level) in &summary.levels {
        put(&format!("level/{level}"), of_level.accuracy);
    }
}

/// A summary in a line or a few.
pub(crate) fn tell(name: &str, summary: &Summary) -> String {
    let mut text = format!(
        "{name}: {:.3} (95 % {:.3} to {:.3}) on {} problems, {:.0} tokens a completion",
        summary.accuracy,
        summary.interval.low,
        summary.interval.high,
        summary.problems,
        summary.mean_tokens
    );
    for (k, value) in summary.pass_at.iter().skip(1) {
        text.push_str(&format!(", pass@{k} {value:.3}"));
    }
    if let Some((k, value)) = summary.maj_at {
        text.push_str(&format!(", maj@{k} {value:.3}"));
    }
    if summary.undecided > 0 {
        text.push_str(&format!("; no verdict on {}", summary.undecided));
    }
    if summary.truncated > 0 {
        text.push_str(&format!("; {} cut off", summary.truncated));
    }
    for (level, of_level) in &summary.levels {
        let (accuracy, problems) = (of_level.accuracy, of_level.problems);
        text.push_str(&format!("\n  {level}: {accuracy:.3} on {problems}"));
    }
    text
}

/// `g2rpo eval`.
pub(crate) fn eval(args: &EvalArgs) -> Result<(), Failure> {
    let console = Console::new(args.show.quiet);
    let mut recipe = setup::read_recipe(&args.recipe, &console)?;
    if let Some(model) = &args.model {
        recipe.model.model_name_or_path.clone_from(model);
    }
    recipe.model.use_peft = false;
    if recipe.data.eval_datasets.is_empty() {
        let message = "eval_datasets: is missing: files for evaluation by name, such as { test = \"test.jsonl\" }";
        return Err(Failure::new(Failure::SETTINGS, message));
    }
    if let Some(out) = &args.out {
        refuse_file("--out ", out)?;
        refuse_data_sets(out, &recipe)?;
        std::fs::create_dir_all(out).map_err(because(Failure::RUN, out.display()))?;
    }
    let files = Files::read(&recipe, false, &console)?;
    let method = recipe.method.build(1000)?;
    let verifier = setup::verifier(&recipe.verify, files.format())?;
    let model = setup::open_model(&recipe, None)?;
    let data = prepare(files, &recipe, &model, &*verifier, false, &console)?;
    let mut engine = setup::own_engine(&recipe, &model)?;
    let config = setup::eval_config(&recipe, &model, &method);
    for set in &data.evals {
        let mut row = MetricsRow::new(0);
        let (samples, summary) = evaluate_set(&mut engine, set, &*verifier, &config, &mut row)?;
        if let Some(out) = &args.out {
            write_graded(&out.join(format!("{}.jsonl", set.name)), &samples)?;
        }
        if let Some(summary) = summary {
            console.say(tell(&set.name, &summary));
        }
    }
    Ok(())
}

/// Refuses a folder in which completions would be written over what they answer.
fn refuse_data_sets(out: &Path, recipe: &Recipe) -> Result<(), Failure> {
    let data = &recipe.data;
    for name in data.eval_datasets.keys() {
        let file = format!("{name}.jsonl");
        let Ok(target) = out.join(&file).canonicalize() else {
            continue;
        };
        let mut files = data.eval_datasets.values();
        if files.any(|path| path.canonicalize().is_ok_and(|path| path == target)) {
            let message = format!(
                "--out {}: {file} in it is the data set of eval_datasets, and would be overwritten: choose another folder",
                out.display()
            );
            return Err(Failure::new(Failure::SETTINGS, message));
        }
    }
    Ok(())
}

/// `g2rpo compare`.
pub(crate) fn compare_runs(args: &CompareArgs) -> Result<(), Failure> {
    let console = Console::new(false);
    let first = &args.runs[0];
    let mut compared = 0;
    for second in &args.runs[1..] {
        for (name, a, b) in pairs(first, second)? {
            let (a, b) = (read_graded(&a)?, read_graded(&b)?);
            let Some(found) = compare(&a, &b, 0) else {
                continue;
            };
            compared += 1;
            let tasks =
                |samples: &[GradedSample]| BTreeSet::from_iter(samples.iter().map(|s| s.task));
            let alone = tasks(&a).symmetric_difference(&tasks(&b)).count();
            if alone > 0 {
                console.warn(format_args!(
                    "{name}: {alone} problems were answered in one of the two alone and are left out"
                ));
            }
            let sure = match found.p_value {
                p if p < 0.05 => "",
                _ => ": that may be luck",
            };
            console.say(format_args!(
                "{name}: {} {:.3}, {} {:.3}, difference {:+.3} (95 % {:+.3} to {:+.3}) on {} problems; better on {}, worse on {}, p = {:.3}{sure}",
                first.display(),
                found.first,
                second.display(),
                found.second,
                found.difference,
                found.interval.low,
                found.interval.high,
                found.n,
                found.wins,
                found.losses,
                found.p_value
            ));
        }
    }
    if compared == 0 {
        let message =
            "there is no problem that both answered: are the evaluations of the same set?";
        return Err(Failure::new(Failure::INPUT, message));
    }
    Ok(())
}

/// Files to compare: two files, or the last evaluation of each set that both have.
fn pairs(first: &Path, second: &Path) -> Result<Vec<(String, PathBuf, PathBuf)>, Failure> {
    if first.is_file() && second.is_file() {
        return Ok(vec![("graded".into(), first.into(), second.into())]);
    }
    let (a, b) = (evaluations(first)?, evaluations(second)?);
    // A file says only by its name of which set it is, and against a single set needs not.
    let lone = [(first, &b), (second, &a)]
        .into_iter()
        .any(|(file, others)| file.is_file() && others.len() == 1);
    if lone {
        let named = |((x, file), (y, other))| {
            let name = if first.is_file() { y } else { x };
            (name, file, other)
        };
        return Ok(a.into_iter().zip(b).map(named).collect());
    }
    let names = |sets: &[(String, PathBuf)]| {
        let names: Vec<&str> = sets.iter().map(|(set, _)| set.as_str()).collect();
        names.join(", ")
    };
    let (of_first, of_second) = (names(&a), names(&b));
    let both = a.into_iter().filter_map(|(set, file)| {
        let other = b.iter().find(|(s, _)| *s == set)?;
        Some((set, file, other.1.clone()))
    });
    let both: Vec<_> = both.collect();
    if both.is_empty() {
        let message = format!(
            "no set was evaluated in both: {} has {of_first}, {} has {of_second}; two files of graded completions are compared by what is in them",
            first.display(),
            second.display()
        );
        return Err(Failure::new(Failure::INPUT, message));
    }
    Ok(both)
}

/// Evaluations by the names of their sets: the last of each of a run, those of a folder of `eval --out`, or a file.
fn evaluations(path: &Path) -> Result<Vec<(String, PathBuf)>, Failure> {
    let refuse = |problem: &str| {
        let message = format!(
            "{}: {problem}: expected the folder of a run that evaluated, a folder of `g2rpo eval --out`, or a JSONL file in one",
            path.display()
        );
        Failure::new(Failure::RUN, message)
    };
    if path.is_file() {
        return Ok(vec![(of_set(path).0, path.into())]);
    }
    if !path.is_dir() {
        return Err(refuse("there is no such file or folder"));
    }
    let of_run = path.join("evaluations");
    // A recipe may lie beside what `eval --out .` wrote.
    let run = RunFolder::beside(path);
    let is_run = run.agreed_recipe().is_file() || run.metrics().is_file();
    let folder = match of_run.is_dir() {
        true => of_run,
        false if is_run => return Err(refuse("the run was not evaluated")),
        false => path.into(),
    };
    let entries = std::fs::read_dir(&folder).map_err(because(Failure::RUN, folder.display()))?;
    let entries = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let mut files: Vec<PathBuf> = entries
        .filter(|file| file.is_file() && file.extension().is_some_and(|end| end == "jsonl"))
        .collect();
    files.sort();
    let mut last: BTreeMap<String, (Option<u64>, PathBuf)> = BTreeMap::new();
    for file in files {
        let (set, step) = of_set(&file);
        if last.get(&set).is_none_or(|(before, _)| *before <= step) {
            last.insert(set, (step, file));
        }
    }
    if last.is_empty() {
        return Err(refuse("there is no evaluation in it"));
    }
    let sets = last.into_iter().map(|(set, (_, file))| (set, file));
    Ok(sets.collect())
}

/// The set whose evaluation a file is, and after which step of a run.
fn of_set(file: &Path) -> (String, Option<u64>) {
    let name = file.file_stem().unwrap_or_default().to_string_lossy();
    match name.rsplit_once("_step_") {
        Some((set, step)) if step.parse::<u64>().is_ok() => (set.to_owned(), step.parse().ok()),
        _ => (name.into_owned(), None),
    }
}
