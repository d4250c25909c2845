//! The smallest complete training: a Hugging Face folder, a file of problems, G²RPO-A, metrics and
//! a checkpoint that transformers opens.
//!
//! ```text
//! cargo run --release --example finetune -- --model FOLDER --data gsm8k/train.jsonl
//! ```

use std::path::PathBuf;

use anyhow::Result;
use clap::Parser;
use g2rpo::guidance::Method;
use g2rpo::libtorch::{DType, LearnerConfig, Model, TorchEngine, TorchLearner, device};
use g2rpo::train::{Dataset, LrSchedule, StepLog, Trainer, TrainerConfig};
use g2rpo::verify::{Gsm8k, Gsm8kExtraction};

/// Trains a model on word problems by G²RPO-A.
#[derive(Parser)]
struct Options {
    /// Folder of a model, as transformers saves it.
    #[arg(long)]
    model: PathBuf,
    /// Problems in GSM8K's JSONL format.
    #[arg(long)]
    data: PathBuf,
    /// A method by name; `grpo` is the baseline.
    #[arg(long, default_value = "g2rpo-a")]
    method: String,
    /// Training steps.
    #[arg(long, default_value_t = 3)]
    steps: u64,
    /// auto, cpu, cuda or cuda:N.
    #[arg(long, default_value = "auto")]
    device: String,
    /// Number format of the weights: f32, bf16 or f16.
    #[arg(long, default_value = "f32")]
    dtype: DType,
    /// Where metrics and the checkpoint go.
    #[arg(long, default_value = "runs/finetune")]
    out: PathBuf,
}

const SYSTEM: &str = "Solve the problem step by step. End with a line `#### number`.";

fn main() -> Result<()> {
    let options = Options::parse();
    let device = device(&options.device)?;
    let model = Model::load(&options.model, device, Some(options.dtype))?;
    let chat = model.chat(Some(SYSTEM))?;
    let data = Dataset::gsm8k(&options.data, &*model.tokenizer, chat)?;
    let method = Method::preset(&options.method, options.steps)?
        .set("num_generations", 8)?
        .set("max_completion_length", 128)?
        .set("beta", 0.0)?;
    let config = TrainerConfig {
        prompts_per_step: 2,
        sampling: model.sampling(),
        schedule: LrSchedule::constant(1e-6),
        ..TrainerConfig::default()
    };
    let learner = TorchLearner::of(&model, LearnerConfig::default())?;
    let engine = TorchEngine::of(&model)?;
    // A model that was not taught the format would be paid for nothing at all otherwise.
    let verifier = Gsm8k {
        extraction: Gsm8kExtraction::Flexible,
        ..Gsm8k::default()
    };
    let mut trainer = Trainer::new(method, &data, engine, learner, verifier, config)?;

    std::fs::create_dir_all(&options.out)?;
    let mut metrics = StepLog::create(options.out.join("metrics.jsonl"))?;
    for report in trainer.steps(options.steps) {
        let report = report?;
        println!("{}", report.line());
        metrics.write(&report.row())?;
    }
    Ok(model.save(options.out.join("checkpoint"), trainer.learner())?)
}
