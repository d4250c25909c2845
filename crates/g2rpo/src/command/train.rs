//! `g2rpo train` and `g2rpo resume`: from a recipe to a run.

use std::io::{BufRead, IsTerminal, stdin};
use std::path::Path;
use std::sync::Arc;

use g2rpo::libtorch::Launch;
use g2rpo::rollout::ranks::{Collective, RankedEngine, RankedLearner, Solo};
use g2rpo::train::recipe::read::{read_files, with_arguments};
use g2rpo::train::recipe::settings::Recipe;
use g2rpo::train::recipe::write::{differences, to_toml};
use g2rpo::train::run::folder::{RunFolder, Start};
use g2rpo::train::{RankedVerifier, Trainer};
use g2rpo::verify::Verifier;

use super::cli::{ResumeArgs, TrainArgs};
use super::console::Console;
use super::data::{Files, prepare};
use super::failure::{Failure, refuse_file};
use super::run::{Begin, Run};
use super::stop::Stop;
use super::{plan, ranks, sampling, setup};

/// What is done with a recipe.
#[derive(Clone, Copy)]
enum What<'a> {
    /// Nothing but saying what would be done.
    DryRun,
    /// A run in this folder from its beginning.
    Begin(&'a RunFolder),
    /// The run in this folder from its last checkpoint, by a recipe that was changed or not.
    GoOn(&'a RunFolder, bool),
}

/// This process among those of the run.
struct Place {
    launch: Option<Launch>,
    ranks: Arc<dyn Collective>,
}

/// `g2rpo train`.
pub(crate) fn train(args: &TrainArgs) -> Result<(), Failure> {
    on_rank(args.show.quiet, |launch, console| {
        let recipe = setup::read_recipe(&args.recipe, &console)?;
        let place = Place::join(launch, || Ok(recipe.clone()))?;
        if args.dry_run {
            refuse_file("output_dir = ", &recipe.save.output_dir)?;
            return work(&recipe, What::DryRun, &place, console);
        }
        let start = if args.overwrite {
            Start::Overwrite
        } else {
            Start::New
        };
        let folder = place.open(&recipe.save.output_dir, start)?;
        work(&recipe, What::Begin(&folder), &place, console)
    })
}

/// `g2rpo resume`.
pub(crate) fn resume(args: &ResumeArgs) -> Result<(), Failure> {
    on_rank(args.show.quiet, |launch, console| {
        let recipe = RunFolder::beside(&args.run).recipe();
        let place = Place::join(launch, || read_run(&recipe, &args.unsets, &args.sets))?;
        let folder = place.open(&args.run, Start::Resume)?;
        let agreed = folder.agreed_recipe();
        let old = read_run(if agreed.is_file() { &agreed } else { &recipe }, &[], &[])?;
        let mut new = read_run(&recipe, &args.unsets, &args.sets)?;
        if new.save.output_dir != old.save.output_dir {
            let message =
                "output_dir: a run goes on in its folder; move that, or begin another run";
            return Err(Failure::new(Failure::SETTINGS, message));
        }
        // A run that was moved goes on where it is.
        new.save.output_dir.clone_from(&args.run);
        let mut moved = old.clone();
        moved.save.output_dir.clone_from(&args.run);
        let changed = differences(&moved, &new);
        if !changed.is_empty() && place.ranks.rank() == 0 {
            for (key, was, is) in &changed {
                console.warn(format_args!("{key}: {was} → {is}"));
            }
            // Of several processes nobody can be asked.
            let agreed = args.yes || (place.launch.is_none() && confirmed(&console));
            if !agreed {
                let mut edited = read_run(&recipe, &[], &[])?;
                edited.save.output_dir.clone_from(&args.run);
                let mut ways = Vec::new();
                if !(args.sets.is_empty() && args.unsets.is_empty()) {
                    ways.push("leave --set and --unset out".to_owned());
                }
                if !differences(&moved, &edited).is_empty() {
                    ways.push(format!(
                        "undo the edit of {}: {} has it as it was",
                        recipe.display(),
                        folder.agreed_recipe().display()
                    ));
                }
                let message = format!(
                    "the recipe is changed: say --yes to go on with it, or {}",
                    ways.join(", and ")
                );
                return Err(Failure::new(Failure::SETTINGS, message));
            }
        }
        let what = What::GoOn(&folder, !changed.is_empty());
        work(&new, what, &place, console)
    })
}

/// Finds out which process this is; what goes wrong is told with its number.
fn on_rank(
    quiet: bool,
    run: impl FnOnce(Option<Launch>, Console) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let launch = Launch::from_env()?;
    let rank = launch.as_ref().map(|launch| launch.rank);
    let console = match rank {
        None | Some(0) => Console::of_run(quiet),
        Some(_) => Console::silent(),
    };
    let named = |failure: Failure| match rank {
        Some(rank) => failure.of_rank(rank),
        None => failure,
    };
    run(launch, console).map_err(named)
}

impl Place {
    /// Connects the processes; `recipe` says how long they wait for each other.
    fn join(
        launch: Option<Launch>,
        recipe: impl FnOnce() -> Result<Recipe, Failure>,
    ) -> Result<Self, Failure> {
        let ranks: Arc<dyn Collective> = match &launch {
            Some(launch) => ranks::join(launch, &recipe()?)?,
            None => Arc::new(Solo),
        };
        Ok(Self { launch, ranks })
    }

    /// The folder of the run: rank 0 opens it for all.
    fn open(&self, path: &Path, start: Start) -> Result<RunFolder, Failure> {
        let opened = match self.ranks.rank() {
            0 => match start {
                Start::Resume => Ok(()),
                Start::New | Start::Overwrite => refuse_file("output_dir = ", path),
            }
            .and_then(|()| Ok(RunFolder::open(path, start)?)),
            _ => Ok(RunFolder::beside(path)),
        };
        ranks::together(&*self.ranks, "the folder of the run", opened)
    }
}

/// The recipe of a run, with what the command line says over it.
fn read_run(path: &Path, unsets: &[String], sets: &[String]) -> Result<Recipe, Failure> {
    let settings = read_files(&[path]).map_err(|e| Failure::new(Failure::RUN, e.to_string()))?;
    Ok(with_arguments(settings, unsets, sets)?)
}

fn confirmed(console: &Console) -> bool {
    if !stdin().is_terminal() {
        return false;
    }
    console.warn("go on with these changes? [y/N]");
    let mut answer = String::new();
    let read = stdin().lock().read_line(&mut answer);
    read.is_ok() && answer.trim().eq_ignore_ascii_case("y")
}

fn work(recipe: &Recipe, what: What<'_>, place: &Place, console: Console) -> Result<(), Failure> {
    setup::check_features(recipe)?;
    let ranks = &place.ranks;
    let first = ranks.rank() == 0;
    if ranks.size() > 1 && recipe.train.max_staleness > 0 {
        let message = "max_staleness: several processes sample and learn one after the other; set it to 0, or start one process";
        return Err(Failure::new(Failure::SETTINGS, message));
    }
    let files = Files::read(recipe, true, &console)?;
    let own_verifier = setup::verifier(&recipe.verify, files.format())?;
    let local_rank = place.launch.as_ref().map(|launch| launch.local_rank);
    let model = setup::open_model(recipe, local_rank)?;
    let look = first && !matches!(what, What::GoOn(..));
    let data = prepare(files, recipe, &model, &*own_verifier, look, &console)?;
    let steps = setup::steps(recipe, data.train.len());
    let method = recipe.method.build(steps)?;
    setup::check_sizes(&method)?;
    let resumed = matches!(what, What::GoOn(..));
    let memory = plan::say(recipe, &method, &model, &data, steps, resumed, &console);
    if let (Some(launch), true) = (&place.launch, first) {
        console.say(format_args!("{} processes share every step", launch.size));
    }
    for finding in &data.findings {
        console.say(format_args!("data: {finding}"));
    }
    let twin = sampling::sampled_model(recipe, &model)?;
    let sampled = twin.as_ref().unwrap_or(&model);
    let engine = sampling::engine(recipe, sampled, &method, &data, &**ranks, &console)?;
    let learner = setup::learner(recipe, &model, &method)?;
    let learner = RankedLearner::new(learner, ranks.clone(), recipe.train.compare_ranks_steps)
        .map_err(|e| Failure::new(Failure::OTHER, e.to_string()))?;
    let mut engine = RankedEngine::new(engine, ranks.clone());
    if recipe.server.use_vllm {
        engine = engine.by_first();
    }
    let config = setup::trainer_config(recipe, &model, steps);
    let rewards = setup::rewards(recipe, &method, &own_verifier);
    let eval_config = setup::eval_config(recipe, &model, &method);
    let verifier: Arc<dyn Verifier> = Arc::new(RankedVerifier::new(own_verifier, ranks.clone()));
    let (tasks, judge) = (&data.train, Arc::clone(&verifier));
    let trainer = Trainer::new(method.clone(), tasks, engine, learner, judge, config)?;
    let mut trainer = trainer.with_rewards(rewards);
    if let (true, Some(set)) = (recipe.server.use_vllm, data.evals.first()) {
        sampling::check_evaluation(trainer.engine(), &set.data, &eval_config)?;
    }
    #[cfg(feature = "remote")]
    if recipe.server.use_vllm {
        trainer = match what {
            // The servers keep what they have.
            What::DryRun => trainer.with_sync(|_, _| Ok(())),
            What::Begin(folder) | What::GoOn(folder, _) => {
                let weights = folder.weights();
                trainer.with_sync(super::server::sync(recipe, &model, weights, ranks.clone()))
            }
        };
    }
    if let Some(mut twin) = twin {
        trainer = trainer.with_sync(move |_, learner| Ok(twin.take(learner.get())?));
    }
    trainer.end_at(steps);
    let (folder, begin) = match what {
        What::DryRun => {
            plan::samples(recipe, &method, &model.tokenizer, &data.train, &console)?;
            return plan::rehearse(&mut trainer, steps, &memory, &console);
        }
        What::Begin(folder) => {
            if first {
                setup::check_kept(recipe, folder)?;
                folder.clear()?;
                folder.write_recipe(&to_toml(recipe, false))?;
            }
            (folder, Begin::Anew)
        }
        What::GoOn(folder, changed) => (folder, Begin::FromCheckpoint { changed }),
    };
    let run = Run {
        recipe,
        folder,
        model: &model,
        trainer,
        evals: &data.evals,
        eval_config,
        verifier: &*verifier,
        steps,
        memory,
        console,
        stop: Stop::listen()?,
        ranks: ranks.clone(),
    };
    run.go(begin)
}
