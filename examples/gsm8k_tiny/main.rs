//! G²RPO-A from end to end: a small language model learns word problems that it can almost never
//! solve, because some of its rollouts start from the first lines of a worked solution.
//!
//! What happens in a training step is [`g2rpo::train::Trainer`]'s; [`train`] joins the pieces, watches,
//! evaluates and stops. Left out for the sake of reading: learning-rate decay, several devices. Run
//! with `--help` for what can be changed.

#![allow(
    unreachable_pub,
    reason = "modules of a program: nothing is reachable from outside"
)]

mod options;
mod problems;
mod report;
mod warm_up;

use std::fs;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};
use clap::Parser;
use g2rpo::libtorch::{LearnerConfig, Reference, TorchEngine, TorchLearner};
use g2rpo::train::{
    Ahead, Dataset, LrSchedule, StepLog, Trainer, TrainerConfig, UpdateConfig, evaluate,
};
use indicatif::{ProgressBar, ProgressStyle};

use options::{Arm, Options};
use problems::{PROMPT, Problems};
use report::Outcome;

fn main() -> Result<()> {
    let options = Options::parse();
    options.check()?;
    tch::set_num_threads(options.threads);
    let problems = Problems::load(&options)?;
    problems.warn_unverifiable();
    let start = warm_up::checkpoint(&options, &problems)?;
    let run = |arm, seed, folder: &Path| match arm {
        Arm::Imitate => warm_up::imitate(&options, &problems, &start, seed, folder),
        _ => train(&options, &problems, &start, arm, seed, folder),
    };
    if options.compare {
        return report::compare(&options, &problems, run);
    }
    let outcome = run(options.arm(), options.seed, &options.out)?;
    println!(
        "Held-out accuracy without guidance: {:.3} after warm-up, {:.3} after {} updates \
         ({:.2} M tokens, {:.0} s).\nIn {}: metrics.jsonl, curves.svg, samples.md, checkpoint/",
        outcome.before(),
        outcome.after(),
        outcome.updates,
        outcome.sampled_tokens as f64 / 1e6,
        outcome.seconds,
        options.out.display()
    );
    Ok(())
}

fn train(
    options: &Options,
    problems: &Problems,
    start: &Path,
    arm: Arm,
    seed: u64,
    folder: &Path,
) -> Result<Outcome> {
    fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    let clock = Instant::now();

    // The policy: one set of parameters, which the learner changes and the engine samples from.
    let model = warm_up::load(start, options)?;
    let reference = if options.beta > 0.0 {
        Reference::FrozenCopy
    } else {
        Reference::None
    };
    let settings = LearnerConfig {
        reference,
        ..warm_up::learner_config()
    };
    let learner = TorchLearner::of(&model, settings)?;
    // Rollouts ahead of the learner are sampled from numbers that stay while it learns.
    let twin = (options.max_staleness > 0)
        .then(|| model.twin())
        .transpose()?;
    let mut engine = TorchEngine::of(twin.as_ref().unwrap_or(&model))?;

    // What it is asked, how it is guided, how it is measured.
    let data = Dataset::with_template(problems.train.clone(), &*model.tokenizer, PROMPT)?;
    let held_out = Dataset::with_template(problems.held_out.clone(), &*model.tokenizer, PROMPT)?;
    let method = options.method(arm);
    let verifier = problems.verifier();
    let sampling = model.sampling();
    let (greedy, sampled) = options.exams(sampling.clone(), seed);
    let config = TrainerConfig {
        seed,
        prompts_per_step: options.prompts,
        sampling,
        update: UpdateConfig {
            num_iterations: options.num_iterations,
            ..UpdateConfig::default()
        },
        ahead: Ahead {
            max_staleness: options.max_staleness,
            correction: options.staleness_correction,
        },
        schedule: LrSchedule::constant(options.learning_rate),
        ..TrainerConfig::default()
    };

    let before = evaluate(&mut engine, &held_out, &verifier, &greedy)?;
    let sampled_before = evaluate(&mut engine, &held_out, &verifier, &sampled)?;
    // Every arm may sample as many tokens as plain GRPO would in the given updates.
    let rollouts = (options.prompts * options.num_generations) as f64;
    let token_budget = (options.updates as f64 * rollouts * before.mean_length()) as u64;
    let mut outcome = Outcome::new(arm, seed, before.accuracy());
    let mut metrics = StepLog::create(folder.join("metrics.jsonl"))?;
    let bar = ProgressBar::new(token_budget).with_style(ProgressStyle::with_template(
        "{prefix} {wide_bar} {human_pos}/{human_len} tokens, {eta} left",
    )?);
    bar.set_prefix(format!("{arm} seed {seed}"));

    let mut trainer = Trainer::new(method, &data, engine, learner, problems.verifier(), config)?;
    if let Some(mut twin) = twin {
        trainer = trainer.with_sync(move |_, learner| Ok(twin.take(learner)?));
    }
    while trainer.sampled_tokens() < token_budget {
        let report = trainer.step()?;
        for warning in &report.warnings {
            bar.suspend(|| eprintln!("step {}: {warning}", report.step));
        }
        let mut row = report.row();
        row.put("num_tokens", trainer.sampled_tokens() as f64);
        outcome.record(&row, report.sampled_tokens());
        bar.set_position(trainer.sampled_tokens());
        let mut line = report.line();
        if report.step % 10 == 9 {
            let now = evaluate(trainer.engine(), &held_out, &verifier, &greedy)?;
            outcome.measured(now.accuracy());
            row.put("eval/accuracy", now.accuracy());
            line += &format!("  held-out {:.3}", now.accuracy());
        }
        if report.step % 5 == 4 {
            bar.suspend(|| eprintln!("{line}"));
        }
        metrics.write(&row)?;
    }

    let after = evaluate(trainer.engine(), &held_out, &verifier, &greedy)?;
    let sampled_after = evaluate(trainer.engine(), &held_out, &verifier, &sampled)?;
    outcome.measured(after.accuracy());
    outcome.sampled_accuracy = (sampled_before.accuracy(), sampled_after.accuracy());
    outcome.seconds = clock.elapsed().as_secs_f64();
    bar.finish_and_clear();
    model.save(folder.join("checkpoint"), trainer.learner())?;
    report::write(folder, &held_out, &outcome, &after)?;
    Ok(outcome)
}
