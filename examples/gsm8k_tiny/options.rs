//! What the example can be told on the command line, and what that means to the library.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use anyhow::{Result, bail, ensure};
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use clap::{Parser, ValueEnum};
use g2rpo::core::GuidanceTokenLoss::{Masked, PositiveOnly, SameAdvantage};
use g2rpo::core::{AdvantageEstimator, GuidanceTokenLoss, LossConfig, LossType, Strata};
use g2rpo::guidance::{
    Amount, AmountUnit, ControllerConfig, FixedFraction, Method, RatioConfig, Rounding, Schedule,
    SelectorConfig, Shape, TargetConfig, Unit, UnitCutter,
};
use g2rpo::libtorch::DType;
use g2rpo::rollout::SamplingParams;
use g2rpo::train::StalenessCorrection::{Decoupled, Dppo, Ratio, Tis};
use g2rpo::train::{EvalConfig, StalenessCorrection};

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
    /// Steps that rollouts are ahead of the learner; 1 samples the next step while this one is learned from.
    #[arg(long, default_value_t = 0)]
    pub max_staleness: u64,
    /// How the loss accounts for that.
    #[arg(long, value_parser = one_of(CORRECTIONS), default_value = "ratio")]
    pub staleness_correction: StalenessCorrection,
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
    #[arg(long, value_parser = one_of(BASELINES), default_value = "joint")]
    pub baseline: Strata,
    /// What the guidance tokens themselves contribute to the loss.
    #[arg(long, value_parser = one_of(GUIDANCE_LOSSES), default_value = "same")]
    pub guidance_loss: GuidanceTokenLoss,
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
    /// Run every arm from the same checkpoint with equal sampled tokens, and print a table.
    #[arg(long)]
    pub compare: bool,
    /// Control: no RL, but supervised steps on the worked solutions, --updates of --prompts problems.
    #[arg(long, conflicts_with = "compare")]
    pub imitate: bool,
    /// Seeds per arm of --compare, counted from --seed.
    #[arg(long, default_value_t = 5)]
    pub seeds: u64,
    /// Arms of --compare: schedules, `fixed:4` for a fixed schedule of another length than --length,
    /// and `imitate`.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "none,fixed:1,fixed:2.5,fixed:4,linear,ratio,target,imitate"
    )]
    pub arms: Vec<Arm>,
    /// auto, cpu, cuda or cuda:N.
    #[arg(long, default_value = "auto")]
    pub device: String,
    /// Number format of the policy: f32, bf16 or f16. Moments and master weights are f32.
    #[arg(long, default_value = "f32")]
    pub dtype: DType,
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

/// What one row of the table trains with.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Arm {
    /// RL under a schedule that starts at --length.
    Rl(LengthSchedule),
    /// RL under this many lines throughout.
    FixedAt(f64),
    /// Supervised steps on the worked solutions.
    Imitate,
}

impl fmt::Display for Arm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rl(schedule) => {
                let value = schedule.to_possible_value();
                f.write_str(value.as_ref().map_or("", |value| value.get_name()))
            }
            Self::FixedAt(lines) => write!(f, "fixed:{lines}"),
            Self::Imitate => f.write_str("imitate"),
        }
    }
}

impl FromStr for Arm {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        if text == "imitate" {
            return Ok(Self::Imitate);
        }
        if let Some(lines) = text.strip_prefix("fixed:") {
            return match lines.parse() {
                Ok(lines) if lines >= 0.0 && f64::is_finite(lines) => Ok(Self::FixedAt(lines)),
                _ => bail!("{lines} is no number of lines"),
            };
        }
        match LengthSchedule::from_str(text, false) {
            Ok(schedule) => Ok(Self::Rl(schedule)),
            Err(_) => bail!("known are none, fixed, fixed:LINES, linear, ratio, target, imitate"),
        }
    }
}

/// Choices by the words of the command line, with what `--help` says of them.
type Words<T> = &'static [(&'static str, &'static str, T)];

const BASELINES: Words<Strata> = &[
    (
        "joint",
        "Guided and unguided members of a group share one (the paper)",
        Strata::Joint,
    ),
    (
        "split",
        "Guided members among themselves, unguided ones among themselves",
        Strata::Split,
    ),
];

const GUIDANCE_LOSSES: Words<GuidanceTokenLoss> = &[
    (
        "same",
        "They are learned with the advantage of the rollout that they start (the paper)",
        SameAdvantage,
    ),
    (
        "positive",
        "The same where that advantage is positive, nothing elsewhere",
        PositiveOnly,
    ),
    ("masked", "Nothing: guidance is context only", Masked),
];

const CORRECTIONS: Words<StalenessCorrection> = &[
    ("ratio", "Ratios against the policy that sampled", Ratio),
    ("tis", "Truncated importance weights", Tis),
    ("dppo", "DPPO's mask", Dppo),
    ("decoupled", "AReaL's decoupled form", Decoupled),
];

fn one_of<T: Copy + Send + Sync + 'static>(words: Words<T>) -> impl TypedValueParser<Value = T> {
    let value =
        |(name, help, _): &(&'static str, &'static str, T)| PossibleValue::new(*name).help(*help);
    PossibleValuesParser::new(words.iter().map(value)).map(|name| {
        let known = words.iter().find(|word| word.0 == name);
        known.expect("only these are let through").2
    })
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

    /// The held-out evaluations, greedy and sampled.
    pub fn exams(&self, sampling: SamplingParams, seed: u64) -> (EvalConfig, EvalConfig) {
        let exam = |sampling| EvalConfig {
            max_completion_length: self.max_completion_length(),
            sampling,
            seed,
            ..EvalConfig::default()
        };
        let greedy = SamplingParams {
            temperature: 0.0,
            ..sampling.clone()
        };
        (exam(greedy), exam(sampling))
    }

    /// The arm of a single run.
    pub fn arm(&self) -> Arm {
        if self.imitate {
            Arm::Imitate
        } else {
            Arm::Rl(self.schedule)
        }
    }

    fn max_length(&self) -> f64 {
        (self.difficulty as f64 - 1.0).max(self.length)
    }

    /// The method of an arm; lengths count solution lines.
    pub fn method(&self, arm: Arm) -> Method {
        let (initial, unit) = (self.length, AmountUnit::Units);
        let max = self.max_length();
        let fixed = |lines| ControllerConfig::Fixed {
            amount: Amount::Units(lines),
        };
        let controller = match arm {
            Arm::Imitate | Arm::Rl(LengthSchedule::None) => fixed(0.0),
            Arm::FixedAt(lines) => fixed(lines),
            Arm::Rl(LengthSchedule::Fixed) => fixed(initial),
            Arm::Rl(LengthSchedule::Linear) => ControllerConfig::Schedule(Schedule {
                shape: Shape::Linear,
                start: initial,
                end: 0.0,
                steps: self.updates,
                after: None,
                unit,
            }),
            Arm::Rl(LengthSchedule::Ratio) => ControllerConfig::Ratio(RatioConfig {
                unit,
                initial,
                max,
                min: 0.0,
                ..RatioConfig::paper()
            }),
            Arm::Rl(LengthSchedule::Target) => ControllerConfig::Target(TargetConfig {
                unit,
                initial,
                max,
                ..TargetConfig::default()
            }),
        };
        let alpha = match arm {
            Arm::Imitate | Arm::Rl(LengthSchedule::None) => 0.0,
            _ => self.alpha,
        };
        Method {
            num_generations: self.num_generations,
            selector: SelectorConfig::FixedFraction(FixedFraction {
                alpha,
                rounding: Rounding::Ceil,
            }),
            controller,
            cutter: UnitCutter {
                unit: Unit::Line,
                ..UnitCutter::default()
            },
            loss: LossConfig {
                loss_type: LossType::Dapo,
                beta: self.beta,
                guidance_token_loss: self.guidance_loss,
                max_completion_length: self.max_completion_length(),
                ..LossConfig::default()
            },
            advantages: AdvantageEstimator {
                strata: self.baseline,
                ..AdvantageEstimator::default()
            },
            ..Method::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use g2rpo::guidance::{LengthController, Query, Signal};
    use g2rpo::rollout::{Purpose, RolloutKey};

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
    fn every_arm_is_a_method_that_starts_where_it_should() {
        let options = options("--length 2.5 --updates 40");
        for (name, start, end) in [
            ("none", 0.0, 0.0),
            ("fixed", 2.5, 2.5),
            ("fixed:4", 4.0, 4.0),
            ("linear", 2.5, 0.0),
            ("ratio", 2.5, 2.5),
            ("target", 2.5, 2.5),
        ] {
            let arm: Arm = name.parse().unwrap();
            assert_eq!(arm.to_string(), name);
            let method = options.method(arm);
            method.check().unwrap();
            let controller = method.controller.build().unwrap();
            let mut rng = RolloutKey::default().rng(Purpose::Guidance);
            let mut amount = |step| {
                let query = Query {
                    step,
                    ..Query::default()
                };
                controller.amount(&query, &mut rng).value()
            };
            assert_eq!((amount(0), amount(40)), (start, end), "{name}");
        }
        for wrong in ["fixed:-1", "fixed:x", "cubic"] {
            assert!(wrong.parse::<Arm>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn adaptive_arms_say_what_they_steer_on() {
        let options = options("--difficulty 5");
        let steering = |name: &str| {
            let method = options.method(name.parse().unwrap());
            method.controller.build().unwrap().steering()
        };
        assert_eq!(steering("fixed"), None);
        assert_eq!(steering("target").map(|s| s.max), Some(4.0));
        assert_eq!(steering("target").unwrap().signal, Signal::GUIDED_SUCCESS);
        assert_eq!(steering("ratio").unwrap().signal, Signal::REWARD);
    }
}
