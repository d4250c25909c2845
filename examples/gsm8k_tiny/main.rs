//! G²RPO-A from end to end: a small language model learns word problems that it can almost never
//! solve, because some of its rollouts start from the first lines of a worked solution.
//!
//! Everything that happens in a training step is in [`train`], in order; what it calls is library.
//! Left out for the sake of reading: learning-rate decay, several devices. Run with `--help` for what
//! can be changed.

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
use g2rpo::core::{AdvantageEstimator, LossConfig, LossType};
use g2rpo::guidance::{
    Caps, CutLimits, Detectors, FixedFraction, Parts, Placement, Rounding, Unit, UnitCutter,
};
use g2rpo::libtorch::{LearnerConfig, Reference, TorchEngine, TorchLearner};
use g2rpo::rollout::{SamplingParams, TaskSampler, collect, pack};
use g2rpo::train::{
    EvalSet, MetricsWriter, UpdateConfig, current_amount, evaluate, plan_step, prepare, score,
    step_row, step_stats, update,
};
use indicatif::{ProgressBar, ProgressStyle};

use options::{LengthSchedule, Options};
use problems::{PROMPT, Problems};
use report::Outcome;

fn main() -> Result<()> {
    let options = Options::parse();
    options.check()?;
    tch::set_num_threads(options.threads);
    let problems = Problems::load(&options)?;
    problems.warn_unverifiable();
    let start = warm_up::checkpoint(&options, &problems)?;
    let run =
        |schedule, seed, folder: &Path| train(&options, &problems, &start, schedule, seed, folder);
    if options.imitate {
        return warm_up::imitate(&options, &problems, &start);
    }
    if options.compare {
        return report::compare(&options, &problems, run);
    }
    let outcome = run(options.schedule, options.seed, &options.out)?;
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
    schedule: LengthSchedule,
    seed: u64,
    folder: &Path,
) -> Result<Outcome> {
    fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    let clock = Instant::now();

    // The policy: one set of parameters, which the learner changes and the engine samples from.
    let model = warm_up::load(start)?;
    let tokenizer = &model.tokenizer;
    let reference = match options.beta > 0.0 {
        true => Reference::FrozenCopy,
        false => Reference::None,
    };
    let settings = LearnerConfig {
        reference,
        ..warm_up::learner_config()
    };
    let mut learner = TorchLearner::new(&model.config, model.parameters, settings)?;
    let mut engine = TorchEngine::new(learner.policy());

    // What it is asked, what it is paid for, and how it is guided.
    let prepared = prepare(&problems.train, tokenizer, PROMPT)?;
    let prompts: Vec<_> = prepare(&problems.held_out, tokenizer, PROMPT)?
        .into_iter()
        .map(|p| p.prompt)
        .collect();
    let verifier = problems.verifier();
    let held_out = EvalSet {
        tasks: &problems.held_out,
        prompts: &prompts,
        tokenizer,
        verifier: &verifier,
    };
    let selector = FixedFraction {
        alpha: match schedule {
            LengthSchedule::None => 0.0,
            _ => options.alpha,
        },
        rounding: Rounding::Ceil,
    };
    let mut controller = options.controller(schedule)?;
    let cutter = UnitCutter {
        unit: Unit::Line,
        ..UnitCutter::default()
    };
    let limits = CutLimits::default();
    let caps = Caps {
        max_completion_length: options.max_completion_length(),
        ..Caps::new(&limits)
    };
    let mut detectors = Detectors::default();
    let estimator = AdvantageEstimator {
        strata: options.baseline.strata(),
        ..AdvantageEstimator::default()
    };
    let config = UpdateConfig {
        loss: LossConfig {
            loss_type: LossType::Dapo,
            beta: options.beta,
            guidance_token_loss: options.guidance_loss.token_loss(),
            ..LossConfig::default()
        },
        num_iterations: options.num_iterations,
        ..UpdateConfig::default()
    };
    let eos = vec![model.eos];
    let sampling = SamplingParams {
        stop_token_ids: eos.clone(),
        ..SamplingParams::default()
    };
    let greedy = SamplingParams {
        stop_token_ids: eos,
        ..SamplingParams::greedy()
    };
    let sampler = TaskSampler::new(problems.train.len(), seed);
    let max_len = options.max_completion_length();

    let before = evaluate(&mut engine, &held_out, &greedy, max_len, seed)?;
    let sampled_before = evaluate(&mut engine, &held_out, &sampling, max_len, seed)?;
    // Every schedule may sample as many tokens as plain GRPO would in the given updates.
    let rollouts = (options.prompts * options.num_generations) as f64;
    let token_budget = (options.updates as f64 * rollouts * before.mean_length) as u64;
    let mut outcome = Outcome::new(schedule, seed, before.accuracy());
    let mut metrics = MetricsWriter::create(folder.join("metrics.jsonl"))?;
    let bar = ProgressBar::new(token_budget).with_style(ProgressStyle::with_template(
        "{prefix} {wide_bar} {human_pos}/{human_len} tokens, {eta} left",
    )?);
    bar.set_prefix(format!("{} seed {seed}", schedule.name()));

    for step in 0.. {
        if outcome.sampled_tokens >= token_budget {
            break;
        }
        let step_clock = Instant::now();
        // Who is asked what, and which members start from how much of the worked solution.
        let parts = Parts {
            selector: &selector,
            controller: &controller,
            cutter: &cutter,
            placement: Placement::AssistantPrefix,
            caps,
        };
        let length = current_amount(&controller, step);
        let chosen = sampler.batch(step, options.prompts);
        let group_size = options.num_generations;
        let plan = plan_step(
            &problems.train,
            &prepared,
            &chosen,
            &parts,
            group_size,
            seed,
            step,
        )?;

        // Rollouts, rewards, advantages within each group, one update.
        let groups = collect(
            &mut engine,
            plan.groups.clone(),
            &sampling,
            seed,
            step,
            max_len,
        )?;
        let scores = score(&groups, &problems.train, tokenizer, &verifier)?;
        let batch = pack(&groups)?;
        let advantages =
            estimator.advantages(&scores.rewards, &batch.groups, &batch.guided, None)?;
        let lr = options.learning_rate;
        let done = update(
            &mut learner,
            &batch,
            &advantages.advantages,
            &config,
            &sampling.scoring(true),
            lr,
        )?;

        // The length of the next step follows from what this one earned.
        let feedback = plan.feedback(&problems.train, &scores, step);
        controller.observe(&feedback);
        let mut stats = step_stats(&plan, &batch, &feedback, &advantages, &done, length);
        options.tell_bounds(schedule, &mut stats);
        for warning in detectors.observe(&stats) {
            bar.suspend(|| eprintln!("step {step}: {warning}"));
        }

        let mut row = step_row(&plan, &batch, &feedback, &advantages, &done, length);
        let sampled = batch.sampled_tokens();
        outcome.record(&row, sampled);
        bar.set_position(outcome.sampled_tokens);
        row.put("num_tokens", outcome.sampled_tokens as f64);
        row.put("step_time", step_clock.elapsed().as_secs_f64());
        row.put(
            "tokens_per_second",
            sampled as f64 / step_clock.elapsed().as_secs_f64(),
        );
        if step % 10 == 9 {
            let now = evaluate(&mut engine, &held_out, &greedy, max_len, seed)?;
            outcome.measured(now.accuracy());
            row.put("eval/accuracy", now.accuracy());
        }
        if step % 5 == 4 {
            bar.suspend(|| eprintln!("{}", report::line(&row)));
        }
        metrics.write(&row)?;
    }

    let after = evaluate(&mut engine, &held_out, &greedy, max_len, seed)?;
    let sampled_after = evaluate(&mut engine, &held_out, &sampling, max_len, seed)?;
    outcome.measured(after.accuracy());
    outcome.sampled_accuracy = (sampled_before.accuracy(), sampled_after.accuracy());
    outcome.seconds = clock.elapsed().as_secs_f64();
    bar.finish_and_clear();
    warm_up::save(
        &folder.join("checkpoint"),
        &model.config,
        learner.updated(),
        tokenizer,
    )?;
    report::write(folder, problems, &outcome, &after)?;
    Ok(outcome)
}
