//! `g2rpo train` and `g2rpo resume`: from a recipe to a run.

use std::io::{BufRead, IsTerminal, stdin};
use std::path::Path;

use g2rpo::train::Trainer;
use g2rpo::train::recipe::read::{merge, parse_set, parse_toml};
use g2rpo::train::recipe::settings::Recipe;
use g2rpo::train::recipe::write::{differences, to_toml};
use g2rpo::train::run::folder::{RunFolder, Start};
use g2rpo::train::write_atomically;

use super::cli::{ResumeArgs, TrainArgs};
use super::console::Console;
use super::data::{Files, prepare};
use super::failure::Failure;
use super::run::Run;
use super::stop::Stop;
use super::{plan, setup};

/// What is done with a recipe.
#[derive(Clone, Copy)]
enum What<'a> {
    /// Nothing but saying what would be done.
    DryRun,
    /// A run in this folder from its beginning.
    Begin(&'a RunFolder),
    /// The run in this folder from its last checkpoint.
    GoOn(&'a RunFolder),
}

/// `g2rpo train`.
pub(crate) fn train(args: &TrainArgs) -> Result<(), Failure> {
    let console = Console::of_run(args.show.quiet);
    let recipe = setup::read_recipe(&args.recipe, &console)?;
    if args.dry_run {
        return work(&recipe, What::DryRun, console);
    }
    let start = if args.overwrite {
        Start::Overwrite
    } else {
        Start::New
    };
    let folder = RunFolder::open(&recipe.save.output_dir, start)?;
    work(&recipe, What::Begin(&folder), console)
}

/// `g2rpo resume`.
pub(crate) fn resume(args: &ResumeArgs) -> Result<(), Failure> {
    let console = Console::of_run(args.show.quiet);
    let folder = RunFolder::open(&args.run, Start::Resume)?;
    let old = read_run(&folder.recipe(), &[])?;
    let mut new = read_run(&folder.recipe(), &args.sets)?;
    // A run that was moved goes on where it is.
    new.save.output_dir.clone_from(&args.run);
    let mut moved = old.clone();
    moved.save.output_dir.clone_from(&args.run);
    let changed = differences(&moved, &new);
    if !changed.is_empty() {
        for (key, was, is) in &changed {
            console.warn(format_args!("{key}: {was} → {is}"));
        }
        if !args.yes && !confirmed(&console) {
            let message = "the recipe is changed: say --yes to go on with it, or leave --set out";
            return Err(Failure::new(Failure::SETTINGS, message));
        }
        write_atomically(&folder.recipe(), to_toml(&new, false).as_bytes())?;
    }
    work(&new, What::GoOn(&folder), console)
}

/// The recipe of a run, with settings over it.
fn read_run(path: &Path, sets: &[String]) -> Result<Recipe, Failure> {
    let name = path.display().to_string();
    let text = std::fs::read_to_string(path)
        .map_err(|e| Failure::new(Failure::RUN, format!("{name}: {e}")))?;
    let mut settings =
        parse_toml(&text, &name).map_err(|p| Failure::new(Failure::RUN, p.join("\n")))?;
    for set in sets {
        settings.push(parse_set(set).map_err(|p| Failure::new(Failure::SETTINGS, p))?);
    }
    Ok(merge(settings, Vec::new())?)
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

fn work(recipe: &Recipe, what: What<'_>, console: Console) -> Result<(), Failure> {
    let files = Files::read(recipe, true, &console)?;
    let verifier = setup::verifier(
        recipe.verify.verifier,
        files.format(),
        recipe.verify.verify_threads,
    )?;
    let model = setup::open_model(recipe)?;
    let look = !matches!(what, What::GoOn(_));
    let data = prepare(files, recipe, &model, &*verifier, look, &console)?;
    let steps = setup::steps(recipe, data.train.len());
    let method = recipe.method.build(steps)?;
    let memory = plan::say(recipe, &method, &model, &data, steps, &console);
    for finding in &data.findings {
        console.say(format_args!("data: {finding}"));
    }
    let engine = setup::engine(recipe, &model)?;
    let learner = setup::learner(recipe, &model, &method)?;
    for fallback in engine.fallbacks() {
        console.warn(fallback);
    }
    let config = setup::trainer_config(recipe, &model, steps);
    let rewards = setup::rewards(recipe, &method, &verifier);
    let eval_config = setup::eval_config(recipe, &model, &method);
    let mut trainer = Trainer::new(
        method.clone(),
        &data.train,
        engine,
        learner,
        std::sync::Arc::clone(&verifier),
        config,
    )?
    .with_rewards(rewards);
    let (folder, resumed) = match what {
        What::DryRun => {
            plan::samples(recipe, &method, &data.train, &console)?;
            return plan::rehearse(&mut trainer, steps, &memory, &console);
        }
        What::Begin(folder) => {
            write_atomically(&folder.recipe(), to_toml(recipe, false).as_bytes())?;
            (folder, false)
        }
        What::GoOn(folder) => (folder, true),
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
    };
    run.go(resumed)
}
