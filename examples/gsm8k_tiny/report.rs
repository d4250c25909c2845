//! What a run leaves behind: curves, samples, and the table of a comparison.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use g2rpo::train::{Dataset, Evaluation, MetricsRow, Panel, Series, draw_svg, write_atomically};
use serde::{Deserialize, Serialize};

use crate::options::{Arm, LengthSchedule, Options};
use crate::problems::Problems;

/// What came of one run.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Outcome {
    /// What was trained with.
    pub arm: String,
    /// Seed of the run.
    pub seed: u64,
    /// Updates made.
    pub updates: u64,
    /// Tokens sampled in training.
    pub sampled_tokens: u64,
    /// Wall-clock seconds of training, evaluations included.
    pub seconds: f64,
    /// (sampled tokens, held-out unguided greedy accuracy), from the warm-up checkpoint on.
    pub accuracy: Vec<(f64, f64)>,
    /// Held-out unguided accuracy at temperature 1, after warm-up and at the end: what an unguided
    /// rollout earns.
    pub sampled_accuracy: (f64, f64),
    /// (sampled tokens, guidance length in lines) of every update.
    pub length: Vec<(f64, f64)>,
    /// (sampled tokens, mean reward) of the guided members of every update.
    pub reward_guided: Vec<(f64, f64)>,
    /// The same of the unguided members.
    pub reward_unguided: Vec<(f64, f64)>,
}

impl Outcome {
    /// A run that starts from a checkpoint of this accuracy.
    pub fn new(arm: Arm, seed: u64, accuracy: f64) -> Self {
        Self {
            arm: arm.to_string(),
            seed,
            accuracy: vec![(0.0, accuracy)],
            ..Self::default()
        }
    }

    /// Takes in an update.
    pub fn record(&mut self, row: &MetricsRow, sampled: usize) {
        self.updates += 1;
        self.sampled_tokens += sampled as u64;
        let x = self.sampled_tokens as f64;
        for (name, curve) in [
            ("guidance/length", &mut self.length),
            ("guidance/reward_guided", &mut self.reward_guided),
            ("guidance/reward_unguided", &mut self.reward_unguided),
        ] {
            curve.extend(row.get(name).map(|y| (x, y)));
        }
    }

    /// Takes in a held-out accuracy.
    pub fn measured(&mut self, accuracy: f64) {
        self.accuracy.push((self.sampled_tokens as f64, accuracy));
    }

    /// Accuracy of the warm-up checkpoint.
    pub fn before(&self) -> f64 {
        self.accuracy.first().map_or(f64::NAN, |p| p.1)
    }

    /// Accuracy at the end.
    pub fn after(&self) -> f64 {
        self.accuracy.last().map_or(f64::NAN, |p| p.1)
    }
}

/// Leaves what a finished run has to show in its folder.
pub fn write(
    folder: &Path,
    held_out: &Dataset<'_>,
    outcome: &Outcome,
    evaluation: &Evaluation,
) -> Result<()> {
    draw_run(&folder.join("curves.svg"), outcome)?;
    write_samples(&folder.join("samples.md"), held_out, evaluation)?;
    write_outcome(folder, outcome)
}

/// The numbers of a finished run, which a later `--compare` reads back.
pub fn write_outcome(folder: &Path, outcome: &Outcome) -> Result<()> {
    let json = serde_json::to_vec_pretty(outcome)?;
    Ok(write_atomically(&folder.join("outcome.json"), &json)?)
}

/// The curves of one run, as a picture.
fn draw_run(path: &Path, outcome: &Outcome) -> Result<()> {
    let one = |name: &str, line: &[(f64, f64)]| Series {
        name: name.into(),
        lines: vec![line.to_vec()],
    };
    let accuracy = one(&outcome.arm, &outcome.accuracy);
    let rewards = vec![
        one("unguided", &outcome.reward_unguided),
        one("guided", &outcome.reward_guided),
    ];
    let length = one(&outcome.arm, &outcome.length);
    let panels = [
        panel("held-out accuracy, unguided", vec![accuracy]),
        panel("reward in training", rewards),
        panel("guidance length (lines)", vec![length]),
    ];
    Ok(draw_svg(path, &panels)?)
}

fn panel(title: &str, series: Vec<Series>) -> Panel {
    Panel {
        title: title.into(),
        x_label: "sampled tokens".into(),
        series,
    }
}

/// A few held-out problems with what the policy wrote, for reading.
fn write_samples(path: &Path, held_out: &Dataset<'_>, evaluation: &Evaluation) -> Result<()> {
    let mut text = String::from("# Held-out problems, greedy, unguided\n");
    for (place, sample) in evaluation.samples.iter().enumerate().take(8) {
        let task = held_out.tasks().task(place)?;
        let verdicts = ["wrong", "correct"];
        let verdict = verdicts[usize::from(sample.is_correct())];
        let (question, gold, answer) = (&task.question, &task.reference, &sample.text);
        writeln!(
            text,
            "\n{question}\n\n```\n{answer}\n```\n{verdict}, the answer is {gold}"
        )?;
    }
    Ok(write_atomically(path, text.as_bytes())?)
}

/// Runs every arm with every seed from the same checkpoint and prints one table. An arm that a
/// previous call finished is read back from its folder.
pub fn compare(
    options: &Options,
    problems: &Problems,
    run: impl Fn(Arm, u64, &Path) -> Result<Outcome>,
) -> Result<()> {
    let total = options.arms.len() as u64 * options.seeds;
    let mut outcomes = Vec::new();
    for seed in options.seed..options.seed + options.seeds {
        for &arm in &options.arms {
            let folder = options.out.join(format!("{arm}-{seed}"));
            let file = folder.join("outcome.json");
            let outcome = match fs::read(&file) {
                Ok(bytes) => serde_json::from_slice(&bytes).with_context(|| {
                    format!("{}: remove it to run this arm anew", file.display())
                })?,
                Err(_) => run(arm, seed, &folder)?,
            };
            outcomes.push(outcome);
            let done = outcomes.len() as f64;
            let seconds: f64 = outcomes.iter().map(|o: &Outcome| o.seconds).sum();
            eprintln!(
                "{done} of {total} runs done; about {:.0} minutes to go",
                seconds / done * (total as f64 - done) / 60.0
            );
        }
    }
    let table = table(options, problems, &outcomes);
    println!("\n{table}");
    write_atomically(&options.out.join("compare.md"), table.as_bytes())?;
    let series = |curve: fn(&Outcome) -> &Vec<(f64, f64)>| {
        let arms = options.arms.iter();
        arms.map(|arm| Series {
            name: arm.to_string(),
            lines: of_arm(&outcomes, *arm).map(|o| curve(o).clone()).collect(),
        })
        .collect::<Vec<_>>()
    };
    let panels = [
        panel("held-out accuracy, unguided", series(|o| &o.accuracy)),
        panel("guidance length (lines)", series(|o| &o.length)),
    ];
    let picture = options.out.join("compare.svg");
    draw_svg(&picture, &panels)?;
    println!("Curves: {}", picture.display());
    Ok(())
}

fn of_arm(outcomes: &[Outcome], arm: Arm) -> impl Iterator<Item = &Outcome> {
    let name = arm.to_string();
    outcomes.iter().filter(move |o| o.arm == name)
}

fn table(options: &Options, problems: &Problems, outcomes: &[Outcome]) -> String {
    let seeds = options.seed..options.seed + options.seeds;
    let mut text = String::from("| arm |");
    let columns: Vec<String> = seeds.clone().map(|s| format!(" seed {s} |")).collect();
    text += &columns.concat();
    text += " mean | × warm-up | beats none | sampled | × warm-up | updates | tokens | minutes |\n|---|";
    text += &"---:|".repeat(columns.len() + 8);
    text.push('\n');
    let before = outcomes.first().map_or(f64::NAN, Outcome::before);
    let sampled_before =
        outcomes.iter().map(|o| o.sampled_accuracy.0).sum::<f64>() / outcomes.len().max(1) as f64;
    for &arm in &options.arms {
        let runs: Vec<&Outcome> = of_arm(outcomes, arm).collect();
        let n = runs.len().max(1) as f64;
        let mean = |f: &dyn Fn(&Outcome) -> f64| runs.iter().map(|o| f(o)).sum::<f64>() / n;
        let after = mean(&Outcome::after);
        let sampled = mean(&|o| o.sampled_accuracy.1);
        let wins = of_arm(outcomes, Arm::Rl(LengthSchedule::None))
            .filter(|none| {
                let twin = runs.iter().find(|o| o.seed == none.seed);
                twin.is_some_and(|o| o.after() > none.after())
            })
            .count();
        text += &format!("| {arm} |");
        for run in &runs {
            text += &format!(" {:.3} |", run.after());
        }
        text += &format!(
            " **{after:.3}** | {:.1} | {} | {sampled:.3} | {:.1} | {:.0} | {:.2} M | {:.1} |\n",
            after / before,
            if arm == Arm::Rl(LengthSchedule::None) {
                "–".to_owned()
            } else {
                format!("{wins} of {}", runs.len())
            },
            sampled / sampled_before,
            mean(&|o| o.updates as f64),
            mean(&|o| o.sampled_tokens as f64 / 1e6),
            mean(&|o| o.seconds / 60.0),
        );
    }
    text += &format!(
        "\nUnguided greedy accuracy on {} held-out problems of {} steps, {before:.3} after warm-up; \
         sampled at temperature 1, {sampled_before:.3} after warm-up. \
         A number drawn from the training answers is right with probability {:.3}, and is paid only \
         behind calculator marks that are all right.\n",
        problems.held_out.len(),
        options.difficulty,
        problems.chance()
    );
    text
}
