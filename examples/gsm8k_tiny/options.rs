use std::path::PathBuf;

use anyhow::{Result, ensure};
use clap::{Parser, ValueEnum};
use g2rpo::guidance::{
    Amount, AmountUnit, Fixed, LengthController, Ratio, RatioConfig, Schedule, Shape, Target,
    TargetConfig,
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
    #[arg(long, default_value_t = 40)]
    pub updates: u64,
    /// Learning rate of the RL phase.
    #[arg(long, default_value_t = 1e-4)]
    pub learning_rate: f64,
    /// Weight of the k3 KL term.
    #[arg(long, default_value_t = 0.0)]
    pub beta: f64,
    /// Longest completion in tokens, guidance included. Default 100, for problems from a file 400.
    #[arg(long)]
    pub max_completion_length: Option<usize>,
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
    #[arg(long)]
    pub warm_up: Option<u64>,
    /// Part of the warm-up problems that is as long as the target problems. Without any, a prefix
    /// of three lines is nothing the policy has ever seen and no schedule learns; with many there
    /// is nothing left for RL to do.
    #[arg(long, default_value_t = 0.012)]
    pub long_share: f64,
    /// Run every schedule from the same checkpoint with equal sampled tokens, and print a table.
    #[arg(long)]
    pub compare: bool,
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

    /// The controller of a schedule; lengths count solution lines.
    pub fn controller(&self, schedule: LengthSchedule) -> Result<Box<dyn LengthController>> {
        let (initial, unit) = (self.length, AmountUnit::Units);
        let max = (self.difficulty as f64 - 1.0).max(initial);
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
