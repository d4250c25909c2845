//! Every controller on the smallest task where guidance matters: opening combination locks.
//!
//! A lock has 12 positions of 4 symbols; a rollout is rewarded if every symbol is right. The policy
//! is a table of logits, learnt with GRPO from groups of 8 rollouts for each of 16 locks. Guidance
//! is the first ℓ symbols of the code. A *cold* policy is uniform and opens a lock with probability
//! 6·10⁻⁸; a *warm* one with 0.002. Accuracy is exact, and always without guidance.
//!
//! Left out, because a table can do without: clipping, KL, several updates per batch, a tokenizer.
//! The codes can be learnt by imitation alone (last row), so this task tells controllers apart, not
//! guided RL from fine-tuning. The learning rate is the smallest tried, among 10, 25, 60, 100 and
//! 200, at which plain GRPO opens half of the locks from the warm start within the 400 steps; all arms share it.
//!
//!     cargo run --example adaptive_guidance -- [--seeds 8] [--steps 400] [--lr X] [--out FILE.svg]

mod arms;
mod curves;
mod lock;
mod train;

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::ScopedJoinHandle;
use std::time::Instant;

use anyhow::{Context, Result};
use clap::{Parser, value_parser};

use train::{Arm, Run, Setting};

/// Every controller on the smallest task where guidance matters: opening combination locks.
#[derive(Parser)]
struct Args {
    /// Runs of every arm.
    #[arg(long, default_value_t = 8, value_parser = value_parser!(u64).range(1..))]
    seeds: u64,
    /// Training steps of a run.
    #[arg(long, default_value_t = 400, value_parser = value_parser!(u64).range(1..))]
    steps: u64,
    /// Learning rate.
    #[arg(long, default_value_t = 100.0)]
    lr: f64,
    /// The picture of the curves.
    #[arg(long, default_value = "target/adaptive_guidance.svg")]
    out: PathBuf,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let arms = arms::all()?;
    let start = Instant::now();
    let mut panels = Vec::new();
    for (title, success) in [("cold start", 0.25f64.powi(12)), ("warm start", 0.002)] {
        let runs = run_all(&arms, success, &args)?;
        print_table(title, &arms, &runs);
        panels.push((title, runs));
    }
    curves::draw(&args.out, &arms, &panels)?;
    println!(
        "{} runs of {} steps in {:.0} s; curves in {}",
        2 * arms.len() as u64 * args.seeds,
        args.steps,
        start.elapsed().as_secs_f64(),
        args.out.display()
    );
    Ok(())
}

/// All seeds of all arms, on all cores; `runs[arm][seed]`.
fn run_all(arms: &[Arm], success: f64, args: &Args) -> Result<Vec<Vec<Run>>> {
    let seeds = args.seeds as usize;
    let next = AtomicUsize::new(0);
    let work = || {
        let mut done = Vec::new();
        loop {
            let job = next.fetch_add(1, Ordering::Relaxed);
            let Some(arm) = arms.get(job / seeds) else {
                return done;
            };
            let setting = Setting {
                seed: (job % seeds) as u64,
                steps: args.steps,
                lr: args.lr,
                success,
            };
            done.push((job, train::run(arm, &setting)));
        }
    };
    let workers = std::thread::available_parallelism().map_or(1, |n| n.get());
    let mut done: Vec<(usize, Result<Run>)> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        let of = |worker: ScopedJoinHandle<'_, _>| worker.join().expect("no worker panics");
        workers.into_iter().flat_map(of).collect()
    });
    done.sort_by_key(|(job, _)| *job);
    let mut runs = done.into_iter().map(|(_, run)| run);
    arms.iter()
        .map(|arm| {
            let of_arm: Result<Vec<Run>> = runs.by_ref().take(seeds).collect();
            of_arm.with_context(|| arm.name.to_owned())
        })
        .collect()
}

fn print_table(title: &str, arms: &[Arm], runs: &[Vec<Run>]) {
    println!("{title}");
    println!(
        "| {:<34} | {:>6} | {:>8} | {:>5} | {:>6} | {:>7} | {:>7} | {:>6} | {:>6} | warnings |",
        "arm", "solved", "accuracy", "sd", "steps", "0-var", "id-only", "last ℓ", "k own"
    );
    println!("|{}|", ["---"; 10].join("|"));
    for (arm, runs) in arms.iter().zip(runs) {
        let n = runs.len() as f64;
        let mean = |f: &dyn Fn(&Run) -> f64| runs.iter().map(f).sum::<f64>() / n;
        let last = |r: &Run| r.accuracy.last().copied().unwrap_or(0.0);
        let accuracy = mean(&last);
        let spread = mean(&|r| (last(r) - accuracy).powi(2)).sqrt();
        let solved = runs.iter().filter(|r| r.steps_to_half().is_some()).count();
        let mut steps: Vec<_> = runs
            .iter()
            .map(|r| r.steps_to_half().unwrap_or(usize::MAX))
            .collect();
        steps.sort_unstable();
        let median = match steps[(steps.len() - 1) / 2] {
            usize::MAX => "–".to_owned(),
            steps => steps.to_string(),
        };
        let warned: std::collections::BTreeSet<_> = runs.iter().flat_map(|r| &r.warnings).collect();
        let warned: Vec<_> = warned.iter().map(|d| d.name()).collect();
        println!(
            "| {:<34} | {:>6} | {:>8.3} | {:>5.3} | {:>6} | {:>7.2} | {:>7.2} | {:>6.1} | {:>6.0} | {} |",
            arm.name,
            format!("{solved}/{}", runs.len()),
            accuracy,
            spread,
            median,
            mean(&|r| r.zero_variance),
            mean(&|r| r.identity_only),
            mean(&|r| r.length.last().copied().unwrap_or(0.0)),
            mean(&|r| r.own_tokens as f64 / 1000.0),
            warned.join(", ")
        );
    }
    println!();
}
