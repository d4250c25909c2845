//! The problems of a recipe, read, looked at and turned into what a policy is asked.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use g2rpo::libtorch::Model;
use g2rpo::rollout::{Task, Tokenizer};
use g2rpo::train::data::formats::{Problem, Problems, tell_broken};
use g2rpo::train::data::lint::{Finding, LintConfig, lint};
use g2rpo::train::data::parallel::on_threads;
use g2rpo::train::data::read::{Opened, open_data, read_data};
use g2rpo::train::data::spot::Spot;
use g2rpo::train::data::tasks::{Chosen, Listed, TaskStore};
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
    pub(crate) train: Option<Opened>,
    pub(crate) evals: Vec<(String, Problems)>,
}

impl Files {
    /// Reads them; those for training only if asked.
    pub(crate) fn read(recipe: &Recipe, train: bool, console: &Console) -> Result<Self, Failure> {
        let data = &recipe.data;
        let told = |path: &Path, broken: &[(Spot, String)], n: usize| {
            if !broken.is_empty() {
                let n = n + broken.len();
                let told = tell_broken(broken, n);
                console.warn(format_args!("{}: {told}", path.display()));
            }
        };
        let train = train.then(|| {
            let path = &data.dataset_name;
            let opened = open_data(path, data, data.max_train_samples).map_err(unreadable)?;
            told(path, &opened.broken, opened.tasks.len());
            Ok::<_, Failure>(opened)
        });
        let evals = data.eval_datasets.iter().map(|(name, path)| {
            let read = read_data(path, data, data.max_eval_samples).map_err(unreadable)?;
            told(path, &read.broken, read.problems.len());
            Ok((name.clone(), read))
        });
        Ok(Self {
            train: train.transpose()?,
            evals: evals.collect::<Result<_, Failure>>()?,
        })
    }

    /// What the rows look like.
    pub(crate) fn format(&self) -> DataFormat {
        let train = self.train.iter().map(|opened| opened.format);
        let mut all = train.chain(self.evals.iter().map(|(_, read)| read.format));
        all.next().unwrap_or(DataFormat::Auto)
    }
}

fn unreadable(error: Error) -> Failure {
    match error {
        Error::Io { .. } => Failure::new(Failure::INPUT, error.to_string()),
        error => error.into(),
    }
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
    let trains = files.train.is_some();
    let mut tasks: Box<dyn TaskStore> = match files.train {
        Some(opened) => opened.tasks,
        None => Box::new(Listed::default()),
    };
    let prompt = setup::prompt(model, &recipe.data)?;
    let tokenizer = &*model.tokenizer;
    let mut evals = Vec::new();
    for (name, read) in files.evals {
        let level = |p: &Problem| Some((p.id, p.level.clone()?));
        let levels = read.problems.iter().filter_map(level).collect();
        let tasks = read.problems.into_iter().map(Task::from).collect();
        evals.push(EvalSet {
            levels,
            data: Dataset::new(tasks, tokenizer, prompt.clone())?,
            name,
        });
    }
    let mut findings = Vec::new();
    if look {
        let sets: Vec<&dyn TaskStore> = evals.iter().map(|set| set.data.tasks()).collect();
        findings = lint(&*tasks, &sets, verifier, &LintConfig::default())?;
    }
    let length = |question: &str| {
        let text = prompt(question).unwrap_or_default();
        Tokenizer::encode(tokenizer, &text).map_or(0, |encoding| encoding.ids.len())
    };
    if let Some(most) = recipe.data.max_prompt_length {
        let long = too_long(&*tasks, 0..tasks.len(), most, &length)?;
        let faults: Vec<String> = (long.iter())
            .map(|(place, n)| format!("{}: {n} tokens", tasks.spot(*place)))
            .collect();
        const WHAT: &str = "have prompts over max_prompt_length, and are left out";
        findings.extend(Finding::of(WHAT, tasks.len(), faults));
        if trains && long.len() == tasks.len() {
            let message = format!(
                "max_prompt_length = {most}: every prompt of {} has more tokens, the shortest {}, so no problem is left",
                recipe.data.dataset_name.display(),
                long.values().min().copied().unwrap_or_default()
            );
            return Err(Failure::new(Failure::INPUT, message));
        }
        if !long.is_empty() {
            tasks = Box::new(Chosen::new(tasks, |place| !long.contains_key(place)));
        }
    }
    if trains {
        findings.extend(beyond_context(&*tasks, recipe, model, &length)?);
    }
    let mut train = Dataset::over(tasks, tokenizer, prompt)?;
    if recipe.data.think {
        let tag = model.tokenizer.encode("<think>")?;
        let tag = g2rpo::guidance::ThinkTag {
            tokens: tag,
            text: "<think>".into(),
        };
        train = train.with_think_tag(&tag)?;
    }
    let (looked_at, all) = (train.checked().tasks, train.len());
    if looked_at < all {
        console.say(format_args!(
            "{looked_at} of {all} problems were encoded to look at them; the others are when they are drawn"
        ));
    }
    Ok(Data {
        train,
        evals,
        findings,
    })
}

/// Prompts that with a completion of full length go beyond the positions that the model was made for. Where all do, nothing
/// is learned that the model could use.
fn beyond_context(
    tasks: &dyn TaskStore,
    recipe: &Recipe,
    model: &Model,
    length: &(dyn Fn(&str) -> usize + Sync),
) -> Result<Option<Finding>, Failure> {
    /// Tasks that are looked at, evenly spread.
    const MOST: usize = 10_000;
    let context = model.config.max_position_embeddings;
    // How long completions are does not depend on the number of steps.
    let completion = recipe.method.build(1000)?.loss.max_completion_length;
    let (all, most) = (tasks.len(), context.saturating_sub(completion));
    let stride = all.div_ceil(MOST).max(1);
    let mut looked_at = all.div_ceil(stride);
    let mut long = too_long(tasks, (0..all).step_by(stride), most, length)?;
    if long.len() == looked_at && stride > 1 {
        looked_at = all;
        long = too_long(tasks, 0..all, most, length)?;
    }
    if long.len() == looked_at {
        let shortest = long.values().min().copied().unwrap_or_default();
        let message = format!(
            "max_completion_length = {completion}: with the shortest prompt of {shortest} tokens these are {}, and the model's \
             config.json says max_position_embeddings = {context}: lower max_completion_length, or take another model",
            shortest + completion
        );
        return Err(Failure::new(Failure::SETTINGS, message));
    }
    let told = |(place, n): (&usize, &usize)| {
        format!("{}: {n} + {completion} of {context}", tasks.spot(*place))
    };
    const WHAT: &str = "go with max_completion_length beyond max_position_embeddings of the model (max_prompt_length leaves such out)";
    Ok(Finding::of(
        WHAT,
        looked_at,
        long.iter().map(told).collect(),
    ))
}

/// Places of those tasks with prompts of more than `most` ids, and how many those are. An id stands for a byte or more, so
/// short questions need not be encoded.
fn too_long(
    tasks: &dyn TaskStore,
    places: impl Iterator<Item = usize>,
    most: usize,
    length: &(dyn Fn(&str) -> usize + Sync),
) -> Result<BTreeMap<usize, usize>, Failure> {
    let around = length("");
    let near: Vec<usize> = places
        .filter(|place| tasks.sketch(*place).question_len + around > most)
        .collect();
    let one = |place: &usize| Ok::<_, Error>((*place, length(&tasks.task(*place)?.question)));
    let found = on_threads(&near, 1, one)?;
    Ok(found.into_iter().filter(|(_, n)| *n > most).collect())
}
