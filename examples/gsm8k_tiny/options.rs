use std::path::PathBuf;

use anyhow::{Result, ensure};
use clap::{Parser, ValueEnum};
use g2rpo::core::{GuidanceTokenLoss, Strata};
use g2rpo::guidance::{
    Amount, AmountUnit, Fixed, LengthController, Ratio, RatioConfig, Schedule, Shape, StepStats,
    Target, TargetConfig,
};

/// Trains a small Qwen3 from a warm-up checkpoint by G²RPO-A on word problems in GSM8K's format,
/// and shows what guidance does for it.
#[derive(Debug, Clone, Parser)]
#[command(name = "gsm8k_tiny")]
pub struct Options {
    /// How the guidance length changes.
    #[arg(long, value_enum, default_value_t = LengthSchedule::Target)]
    pub schedule: LengthSchedule,
    /// α: fraction of each group that starts from guidance.
    #[arg(long, default_value_t = 0.5)]
    pub alpha: f64,
    /// ℓ0: solution lines given at the start of training.
    #[arg(long, default_value_t = 2.5)]
    pub length: f64,
    /// G: rollouts per problem.
    #[arg(long, default_value_t = 8)]
    pub num_generations: usize,
    /// Problems per update.
    #[arg(long, default_value_t = 16)]
    pub prompts: usize,
    /// Updates of plain GRPO; 0 only evaluates. Guided runs sample fewer tokens per update, so they get more
    /// updates: every run stops at the same number of sampled tokens.
    #[arg(long, default_value_t = 60)]
    pub updates: u64,
    /// μ: optimiser steps on each batch of rollouts.
    #[arg(long, default_value_t = 1)]
    pub num_iterations: usize,
    /// Learning rate of the RL phase.
    #[arg(long, default_value_t = 1e-4)]
    pub learning_rate: f64,
    /// Weight of the k3 KL term.
    #[arg(long, default_value_t = 0.0)]
    pub beta: f64,
    /// Longest completion in tokens, guidance included. Default 100, for problems from a file 400.
    #[arg(long)]
    pub max_completion_length: Option<usize>,
    /// Whom a member of a group is compared with.
    #[arg(long, value_enum, default_value_t = Baseline::Joint)]
    pub baseline: Baseline,
    /// What the guidance tokens themselves contribute to the loss.
    #[arg(long, value_enum, default_value_t = GuidanceLoss::Same)]
    pub guidance_loss: GuidanceLoss,
    /// Seed of everything random in the RL phase.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Steps of the target problems; short ones of one and two steps fill the warm-up.
    #[arg(long, default_value_t = 5)]
    pub difficulty: usize,
    /// Problems of the held-out evaluation.
    #[arg(long, default_value_t = 200)]
    pub eval_problems: usize,
    /// Train on this file in GSM8K's JSONL format instead of generated problems.
    #[arg(long, requires = "test")]
    pub train: Option<PathBuf>,
    /// Evaluate on this file; goes with --train.
    #[arg(long, requires = "train")]
    pub test: Option<PathBuf>,
    /// Start from this checkpoint folder. Without it: the one shipped with the example for
    /// generated problems, a fresh warm-up for problems from a file.
    #[arg(long)]
    pub from: Option<PathBuf>,
    /// Make a new warm-up checkpoint with this many supervised steps.
    #[arg(long, conflicts_with = "from")]
    pub warm_up: Option<u64>,
    /// Part of the warm-up problems that is as long as the target problems. Without any, a prefix
    /// of three lines is nothing the policy has ever seen and no schedule learns; with many there
    /// is nothing left for RL to do.
    #[arg(long, default_value_t = 0.0105)]
    pub long_share: f64,
    /// Run every schedule from the same checkpoint with equal sampled tokens, and print a table.
    #[arg(long)]
    pub compare: bool,
    /// Control: no RL, but supervised steps on the worked solutions, --updates of --prompts problems.
    #[arg(long, conflicts_with = "compare")]
    pub imitate: bool,
    /// Seeds per schedule of --compare, counted from --seed.
    #[arg(long, default_value_t = 5)]
    pub seeds: u64,
    /// Schedules of --compare.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = LengthSchedule::ALL)]
    pub arms: Vec<LengthSchedule>,
    /// CPU threads of libtorch. With one thread, runs repeat to the bit.
    #[arg(long, default_value_t = 2)]
    pub threads: i32,
    /// Where the run folder goes.
    #[arg(long, default_value = "runs/gsm8k_tiny")]
    pub out: PathBuf,
}

/// The length controllers that the example compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LengthSchedule {
    /// Plain GRPO.
    None,
    /// ℓ0 throughout.
    Fixed,
    /// From ℓ0 down to nothing at the last update.
    Linear,
    /// The paper's rule: ℓ times the mean of recent rewards over the current one.
    Ratio,
    /// A set-point: half of the guided rollouts shall succeed.
    Target,
}

impl LengthSchedule {
    /// In the order of the table.
    pub const ALL: [Self; 5] = [
        Self::None,
        Self::Fixed,
        Self::Linear,
        Self::Ratio,
        Self::Target,
    ];

    /// The name on the command line and in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Fixed => "fixed",
            Self::Linear => "linear",
            Self::Ratio => "ratio",
            Self::Target => "target",
        }
    }
}

/// The baseline of the advantages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Baseline {
    /// Guided and unguided members of a group share one (the paper).
    Joint,
    /// Guided members among themselves, unguided ones among themselves.
    Split,
}

impl Baseline {
    /// The same in the words of the library.
    pub fn strata(self) -> Strata {
        match self {
            Self::Joint => Strata::Joint,
            Self::Split => Strata::Split,
        }
    }
}

/// What guidance tokens contribute to the loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum GuidanceLoss {
    /// They are learned with the advantage of the rollout that they start (the paper).
    Same,
    /// The same where that advantage is positive, nothing elsewhere.
    Positive,
    /// Nothing: guidance is context only.
    Masked,
}

impl GuidanceLoss {
    /// The same in the words of the library.
    pub fn token_loss(self) -> GuidanceTokenLoss {
        match self {
            Self::Same => GuidanceTokenLoss::SameAdvantage,
            Self::Positive => GuidanceTokenLoss::PositiveOnly,
            Self::Masked => GuidanceTokenLoss::Masked,
        }
    }
}

impl Options {
    /// Checks what the libraries cannot know.
    pub fn check(&self) -> Result<()> {
        ensure!(
            (0.0..=1.0).contains(&self.alpha),
            "--alpha {} is outside [0, 1]: it is the fraction of a group that is guided",
            self.alpha
        );
        ensure!(
            self.num_generations >= 2,
            "--num-generations {} is too few: advantages compare at least 2 rollouts of a problem",
            self.num_generations
        );
        ensure!(
            self.length.is_finite() && self.length >= 0.0,
            "--length {} is no number of lines",
            self.length
        );
        ensure!(
            (0.0..=1.0).contains(&self.long_share),
            "--long-share {} is outside [0, 1]",
            self.long_share
        );
        for (name, value) in [
            ("prompts", self.prompts),
            ("num-iterations", self.num_iterations),
            ("difficulty", self.difficulty),
            ("eval-problems", self.eval_problems),
            ("max-completion-length", self.max_completion_length()),
            ("seeds", self.seeds as usize),
        ] {
            ensure!(value > 0, "--{name} must be at least 1");
        }
        Ok(())
    }

    /// Longest completion in tokens, guidance included.
    pub fn max_completion_length(&self) -> usize {
        let default = if self.train.is_some() { 400 } else { 100 };
        self.max_completion_length.unwrap_or(default)
    }

    /// Tells the detectors what the loop cannot see: how many members should be guided, and where
    /// the length may move.
    pub fn tell_bounds(&self, schedule: LengthSchedule, stats: &mut StepStats) {
        let guided = match schedule {
            LengthSchedule::None => 0.0,
            _ => (self.alpha * self.num_generations as f64).ceil(),
        };
        stats.guided_expected = Some(guided as usize);
        stats.steered = matches!(schedule, LengthSchedule::Ratio | LengthSchedule::Target);
        if stats.steered {
            stats.signal = match schedule {
                LengthSchedule::Ratio => stats.reward,
                _ => stats.success_guided,
            };
            stats.length_min = Some(0.0);
            stats.length_max = Some(self.max_length());
        }
    }

    fn max_length(&self) -> f64 {
        (self.difficulty as f64 - 1.0).max(self.length)
    }

    /// The controller of a schedule; lengths count solution lines.
    pub fn controller(&self, schedule: LengthSchedule) -> Result<Box<dyn LengthController>> {
        let (initial, unit) = (self.length, AmountUnit::Units);
        let max = self.max_length();
        Ok(match schedule {
            LengthSchedule::None => Box::new(Fixed(Amount::NONE)),
            LengthSchedule::Fixed => Box::new(Fixed(Amount::Units(initial))),
            LengthSchedule::Linear => {
                let schedule = Schedule {
                    shape: Shape::Linear,
                    start: initial,
                    end: 0.0,
                    steps: self.updates,
                    after: None,
                    unit,
                };
                schedule.check()?;
                Box::new(schedule)
            }
            LengthSchedule::Ratio => Box::new(Ratio::new(RatioConfig {
                unit,
                initial,
                max,
                min: 0.0,
                ..RatioConfig::paper()
            })?),
            LengthSchedule::Target => Box::new(Target::new(TargetConfig {
                unit,
                initial,
                max,
                ..TargetConfig::default()
            })?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use g2rpo::train::current_amount;

    fn options(arguments: &str) -> Options {
        let arguments = std::iter::once("gsm8k_tiny").chain(arguments.split_whitespace());
        Options::try_parse_from(arguments).unwrap()
    }

    #[test]
    fn what_cannot_work_is_named() {
        assert!(options("").check().is_ok());
        for (arguments, named) in [
            ("--alpha 1.5", "--alpha 1.5 is outside [0, 1]"),
            ("--alpha NaN", "--alpha NaN is outside [0, 1]"),
            ("--num-generations 1", "--num-generations 1 is too few"),
            ("--length=-2", "--length -2 is no number of lines"),
            ("--long-share 2", "--long-share 2 is outside [0, 1]"),
            ("--prompts 0", "--prompts must be at least 1"),
            (
                "--max-completion-length 0",
                "--max-completion-length must be at least 1",
            ),
        ] {
            let error = options(arguments).check().unwrap_err().to_string();
            assert!(error.contains(named), "{arguments}: {error}");
        }
        for arguments in [
            "--train a.jsonl",
            "--schedule cubic",
            "--imitate --compare",
            "--from a --warm-up 3",
        ] {
            let arguments = std::iter::once("gsm8k_tiny").chain(arguments.split_whitespace());
            assert!(Options::try_parse_from(arguments).is_err());
        }
    }

    #[test]
    fn every_schedule_starts_where_it_should() {
        let options = options("--length 2.5 --updates 40");
        for schedule in LengthSchedule::ALL {
            let controller = options.controller(schedule).unwrap();
            let start = current_amount(&controller, 0);
            let end = current_amount(&controller, 40);
            let expected = match schedule {
                LengthSchedule::None => (0.0, 0.0),
                LengthSchedule::Linear => (2.5, 0.0),
                LengthSchedule::Fixed | LengthSchedule::Ratio | LengthSchedule::Target => {
                    (2.5, 2.5)
                }
            };
            assert_eq!((start, end), expected, "{}", schedule.name());
        }
    }

    #[test]
    fn detectors_learn_the_bounds_of_adaptive_schedules_only() {
        let options = options("--alpha 0.3 --difficulty 5");
        let mut stats = StepStats::default();
        options.tell_bounds(LengthSchedule::Fixed, &mut stats);
        assert_eq!((stats.steered, stats.length_max), (false, None));
        assert_eq!(stats.guided_expected, Some(3), "0.3 of 8, rounded up");
        options.tell_bounds(LengthSchedule::Target, &mut stats);
        assert_eq!((stats.steered, stats.length_max), (true, Some(4.0)));
        options.tell_bounds(LengthSchedule::None, &mut stats);
        assert_eq!(stats.guided_expected, Some(0));
    }
}
