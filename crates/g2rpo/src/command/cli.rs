//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;

/// Guided GRPO with adaptive guidance for language models.
///
/// Exit codes: 0 done; 1 other failures; 2 a wrong recipe or argument; 3 data that cannot be used;
/// 4 a run folder or checkpoint that cannot be used; 5 `report --check` found a fault; 130 stopped by
/// a signal, `g2rpo resume` goes on.
#[derive(Debug, Parser)]
#[command(name = "g2rpo", version, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Train by a recipe
    #[command(
        after_help = "Examples:\n  g2rpo train recipe.toml\n  g2rpo train base.toml mine.toml \
        --set learning_rate=3e-6 --set method=grpo\n  g2rpo train recipe.toml --dry-run\n  \
        g2rpo train --config trl.yaml --set dataset_name=train.jsonl"
    )]
    Train(TrainArgs),
    /// Go on with a run that was interrupted, exactly where it was
    #[command(
        after_help = "Examples:\n  g2rpo resume runs/first\n  g2rpo resume runs/first --set max_steps=400 --yes"
    )]
    Resume(ResumeArgs),
    /// Evaluate a model or a run's model, without guidance
    #[command(
        after_help = "Examples:\n  g2rpo eval recipe.toml --model runs/first/model\n  \
        g2rpo eval recipe.toml --set num_generations_eval=8 --set eval_temperature=0.8 --out samples"
    )]
    Eval(EvalArgs),
    /// Test the difference of evaluations on the same problems
    #[command(
        after_help = "Examples:\n  g2rpo compare runs/grpo runs/guided\n  g2rpo compare before.jsonl after.jsonl"
    )]
    Compare(CompareArgs),
    /// Show what a model answers
    #[command(
        after_help = "Example:\n  g2rpo generate runs/first/model \"What is 17 * 3?\" --temperature 0.7 -n 4"
    )]
    Generate(GenerateArgs),
    /// Grade a JSONL file of responses, without a model
    #[command(
        after_help = "A line is {\"response\": \"… \\\\boxed{5}\", \"reference\": \"5\"}.\n\
        Example:\n  g2rpo verify answers.jsonl --verifier math"
    )]
    Verify(VerifyArgs),
    /// Write one HTML page about runs, or check their telemetry
    #[command(
        after_help = "Examples:\n  g2rpo report runs/a runs/b --out report.html\n  g2rpo report runs/a --check"
    )]
    Report(ReportArgs),
    /// Write a recipe with every key and what it means
    Init(InitArgs),
    /// Write a completion script for a shell
    Completions {
        /// The shell
        shell: Shell,
    },
}

#[derive(Debug, Args)]
pub(crate) struct RecipeArgs {
    /// Recipes in TOML, later ones over earlier ones
    pub(crate) recipes: Vec<PathBuf>,
    /// A config of `trl grpo`, read before the recipes
    #[arg(long, value_name = "YAML")]
    pub(crate) config: Option<PathBuf>,
    /// A setting over all files, such as learning_rate=1e-6
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(crate) sets: Vec<String>,
    /// A setting of the files that is left out, such as max_steps
    #[arg(long = "unset", value_name = "KEY")]
    pub(crate) unsets: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    /// Print nothing but warnings and errors
    #[arg(long, short)]
    pub(crate) quiet: bool,
}

#[derive(Debug, Args)]
pub(crate) struct TrainArgs {
    #[command(flatten)]
    pub(crate) recipe: RecipeArgs,
    /// Say what would be done, look at the data, and end
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Remove the run that is in output_dir
    #[arg(long)]
    pub(crate) overwrite: bool,
    #[command(flatten)]
    pub(crate) show: ShowArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ResumeArgs {
    /// Folder of the run
    pub(crate) run: PathBuf,
    /// A setting that changes from here on
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(crate) sets: Vec<String>,
    /// A setting that is left out from here on
    #[arg(long = "unset", value_name = "KEY")]
    pub(crate) unsets: Vec<String>,
    /// Go on with changed settings without being asked
    #[arg(long)]
    pub(crate) yes: bool,
    #[command(flatten)]
    pub(crate) show: ShowArgs,
}

#[derive(Debug, Args)]
pub(crate) struct EvalArgs {
    #[command(flatten)]
    pub(crate) recipe: RecipeArgs,
    /// Another model than the recipe's
    #[arg(long)]
    pub(crate) model: Option<String>,
    /// Folder for every completion with its verdict
    #[arg(long)]
    pub(crate) out: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) show: ShowArgs,
}

#[derive(Debug, Args)]
pub(crate) struct CompareArgs {
    /// Runs, folders of `eval --out`, or JSONL files of graded completions; the first is what the others are compared with
    #[arg(required = true, num_args = 2..)]
    pub(crate) runs: Vec<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct GenerateArgs {
    /// Folder or hub id of the model
    pub(crate) model: String,
    /// What is asked
    pub(crate) prompt: String,
    /// System message
    #[arg(long)]
    pub(crate) system: Option<String>,
    /// Give the text without the chat template, with what the tokenizer itself puts around a text
    #[arg(long)]
    pub(crate) raw: bool,
    /// Answers
    #[arg(short, default_value_t = 1)]
    pub(crate) n: u32,
    #[command(flatten)]
    pub(crate) sampling: SamplingArgs,
    /// Most tokens of an answer
    #[arg(long, default_value_t = 512)]
    pub(crate) max_completion_length: usize,
    /// Of the draws, 0 by default
    #[arg(long)]
    pub(crate) seed: Option<u64>,
    /// auto, cpu, cuda, cuda:1
    #[arg(long, default_value = "auto")]
    pub(crate) device: String,
    /// What is computed in, as by `train` and `eval`
    #[arg(long, default_value = "float32", value_parser = ["float32", "bfloat16"])]
    pub(crate) dtype: String,
}

/// How tokens are drawn, as the section `[generate]` of a recipe says it.
#[derive(Debug, Args)]
pub(crate) struct SamplingArgs {
    /// 0 is greedy
    #[arg(long, default_value_t = 0.0)]
    pub(crate) temperature: f64,
    /// Keep the most probable tokens of this mass
    #[arg(long)]
    pub(crate) top_p: Option<f64>,
    /// Keep that many tokens; 0 keeps all
    #[arg(long)]
    pub(crate) top_k: Option<usize>,
    /// Keep tokens at least this share as probable as the best
    #[arg(long)]
    pub(crate) min_p: Option<f64>,
    /// Above 1 makes tokens that occurred less probable
    #[arg(long, default_value_t = 1.0)]
    pub(crate) repetition_penalty: f64,
    /// Text that ends an answer; may be given several times
    #[arg(long)]
    pub(crate) stop: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    /// JSONL with response and reference
    pub(crate) file: PathBuf,
    /// Who grades; a field `verifier` of a line wins
    #[arg(long, default_value = "math", value_parser = ["gsm8k", "math", "choice", "code"])]
    pub(crate) verifier: String,
    /// What happens to lines that cannot be used
    #[arg(long, default_value = "fail", value_parser = ["fail", "skip"])]
    pub(crate) broken_rows: String,
    /// File for every line with its verdict
    #[arg(long)]
    pub(crate) out: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) show: ShowArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ReportArgs {
    /// Folders of runs
    #[arg(required = true)]
    pub(crate) runs: Vec<PathBuf>,
    /// Where the page goes; by default report.html in the first run
    #[arg(long, conflicts_with = "check")]
    pub(crate) out: Option<PathBuf>,
    /// Write no page; end with exit code 5 where the telemetry says that a run went wrong
    #[arg(long)]
    pub(crate) check: bool,
}

#[derive(Debug, Args)]
pub(crate) struct InitArgs {
    /// Where the recipe goes
    #[arg(default_value = "recipe.toml")]
    pub(crate) file: PathBuf,
    /// Which shipped recipe it begins from; `list` names them
    #[arg(long)]
    pub(crate) from: Option<String>,
    /// A config of `trl grpo` that it begins from
    #[arg(long, value_name = "YAML", conflicts_with = "from")]
    pub(crate) config: Option<PathBuf>,
}
