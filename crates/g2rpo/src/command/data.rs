//! The problems of a recipe, read, looked at and turned into what a policy is asked.

use std::collections::HashMap;
use std::path::Path;

use g2rpo::libtorch::Model;
use g2rpo::rollout::{Task, Tokenizer};
use g2rpo::train::data::formats::{Problem, Problems, tell_broken};
use g2rpo::train::data::lint::{Finding, LintConfig, lint};
use g2rpo::train::data::read::read_data;
use g2rpo::train::recipe::settings::{DataFormat, Recipe};
use g2rpo::train::{Dataset, Error};
use g2rpo::verify::Verifier;

use super::console::Console;
use super::failure::Failure;
use super::setup;

/// An evaluation set.
pub(crate) struct EvalSet<'a> {
    pub(crate) name: String,
    pub(crate) data: Dataset<'a>,
    /// Level of each task, by its id.
    pub(crate) levels: HashMap<u64, String>,
}

/// What is trained and evaluated on.
pub(crate) struct Data<'a> {
    pub(crate) train: Dataset<'a>,
    pub(crate) evals: Vec<EvalSet<'a>>,
    /// What lint found, unless nobody asked.
    pub(crate) findings: Vec<Finding>,
}

/// The problems of all files of a recipe, before a model is needed.
pub(crate) struct Files {
    pub(crate) train: Option<Problems>,
    pub(crate) evals: Vec<(String, Problems)>,
}

impl Files {
    /// Reads them; those for training only if asked.
    pub(crate) fn read(recipe: &Recipe, train: bool, console: &Console) -> Result<Self, Failure> {
        let data = &recipe.data;
        let read = |path: &Path, limit| -> Result<Problems, Failure> {
            let read = read(path, recipe, limit)?;
            if !read.broken.is_empty() {
                let n = read.problems.len() + read.broken.len();
                console.warn(format_args!(
                    "{}: {}",
                    path.display(),
                    tell_broken(&read.broken, n)
                ));
            }
            Ok(read)
        };
        let evals = data.eval_datasets.iter();
        Ok(Self {
            train: train
                .then(|| read(&data.dataset_name, data.max_train_samples))
                .transpose()?,
            evals: evals
                .map(|(name, path)| Ok((name.clone(), read(path, data.max_eval_samples)?)))
                .collect::<Result<_, Failure>>()?,
        })
    }

    /// What the rows look like.
    pub(crate) fn format(&self) -> DataFormat {
        let first = self
            .train
            .iter()
            .chain(self.evals.iter().map(|e| &e.1))
            .next();
        first.map_or(DataFormat::Auto, |problems| problems.format)
    }
}

fn read(path: &Path, recipe: &Recipe, limit: Option<usize>) -> Result<Problems, Failure> {
    read_data(path, &recipe.data, limit).map_err(|error| match error {
        Error::Io { .. } => Failure::new(Failure::INPUT, error.to_string()),
        error => error.into(),
    })
}

/// Turns problems into data sets for a model; `look` asks lint.
pub(crate) fn prepare<'a>(
    files: Files,
    recipe: &Recipe,
    model: &'a Model,
    verifier: &dyn Verifier,
    look: bool,
    console: &Console,
) -> Result<Data<'a>, Failure> {
    let mut train = files.train.map(|t| t.problems).unwrap_or_default();
    let prompt = setup::prompt(model, &recipe.data)?;
    let tokenizer = &*model.tokenizer;
    let length = |question: &str| {
        let text = prompt(question).unwrap_or_default();
        Tokenizer::encode(tokenizer, &text).map_or(0, |encoding| encoding.ids.len())
    };
    let mut findings = Vec::new();
    if look {
        let evals: Vec<Problem> = files
            .evals
            .iter()
            .flat_map(|e| e.1.problems.clone())
            .collect();
        let config = LintConfig {
            max_prompt_length: recipe.data.max_prompt_length,
            ..LintConfig::default()
        };
        findings = lint(&train, &evals, verifier, Some(&length), &config);
    }
    if let Some(most) = recipe.data.max_prompt_length {
        let before = train.len();
        train.retain(|problem| length(&problem.question) <= most);
        let left_out = before - train.len();
        if left_out > 0 {
            console.say(format_args!(
                "{left_out} of {before} problems are longer than max_prompt_length, and left out"
            ));
        }
    }
    let dataset = |problems: Vec<Problem>| -> Result<Dataset<'a>, Failure> {
        let tasks = problems.into_iter().map(task).collect();
        Ok(Dataset::new(tasks, tokenizer, prompt.clone())?)
    };
    let mut evals = Vec::new();
    for (name, read) in files.evals {
        let level = |p: &Problem| Some((p.id, p.level.clone()?));
        evals.push(EvalSet {
            levels: read.problems.iter().filter_map(level).collect(),
            data: dataset(read.problems)?,
            name,
        });
    }
    let mut train = dataset(train)?;
    if recipe.data.think {
        let tag = model.tokenizer.encode("<think>")?;
        let tag = g2rpo::guidance::ThinkTag {
            tokens: tag,
            text: "<think>".into(),
        };
        train = train.with_think_tag(&tag)?;
    }
    Ok(Data {
        train,
        evals,
        findings,
    })
}

fn task(problem: Problem) -> Task {
    Task {
        id: problem.id,
        question: problem.question,
        reference: problem.reference,
        solution: problem.solution,
        hints: problem.hints,
        difficulty: problem.difficulty,
        pass_rate: problem.pass_rate,
    }
}
