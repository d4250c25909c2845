//! Supervised learning: the checkpoint that RL starts from, and imitation as a control.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use g2rpo::guidance::{Curriculum, TaskFacts};
use g2rpo::libtorch::{
    DType, DecoderConfig, HfTokenizer, LearnerConfig, Model, TokenizerConfig, TorchEngine,
    TorchLearner, device,
};
use g2rpo::rollout::{Task, TokenId};
use g2rpo::train::{Dataset, LrSchedule, LrSchedulerType, TaskOrder, evaluate, supervised_step};
use indicatif::{ProgressBar, ProgressStyle};

use crate::options::{Arm, Options};
use crate::problems::{PROMPT, Problems};
use crate::report::{self, Outcome};

/// The folder to start RL from: the one asked for, the one shipped with the example, or a new one.
pub fn checkpoint(options: &Options, problems: &Problems) -> Result<PathBuf> {
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("gsm8k_tiny/warm_up");
    match (&options.from, options.warm_up, &options.train) {
        (Some(folder), _, _) => Ok(folder.clone()),
        (None, None, None) => Ok(shipped),
        (None, steps, _) => {
            let folder = options.out.join("warm_up");
            make(options, problems, steps.unwrap_or(STEPS_ON_FILES), &folder)?;
            Ok(folder)
        }
    }
}

/// Reads a checkpoint onto the device and in the number format asked for.
pub fn load(folder: &Path, options: &Options) -> Result<Model> {
    let device = device(&options.device)?;
    Ok(Model::load(folder, device, Some(options.dtype))?)
}

/// Steps of a warm-up on problems from files, if no number is asked for: enough to write solutions
/// that look like solutions, which is all that a model of this size learns from real problems.
const STEPS_ON_FILES: u64 = 200;
/// Problems per supervised step.
const BATCH: usize = 64;
/// Peak learning rate of the supervised steps: high, since the weights start from noise.
const LEARNING_RATE: f64 = 2e-3;

/// Supervised learning from scratch, mostly on short problems, until the long target problems are
/// solved rarely but not never.
fn make(options: &Options, problems: &Problems, steps: u64, folder: &Path) -> Result<()> {
    ensure!(steps > 0, "--warm-up must be at least 1 step");
    let tasks = &problems.warm_up;
    let texts = (tasks.iter()).flat_map(|t| [Some(t.question.as_str()), t.solution.as_deref()]);
    let texts = texts.flatten();
    let tokenizer = HfTokenizer::train(texts, &TokenizerConfig::default())?;
    let eos = tokenizer
        .eos_token_id()
        .context("the tokenizer has no end-of-text token")?;
    let config = DecoderConfig {
        eos_token_id: vec![eos],
        pad_token_id: Some(eos),
        max_position_embeddings: 2048,
        ..DecoderConfig::tiny_qwen3(tokenizer.vocab_size(), 128, 3, 4, 2)
    };
    let model = Model::init(config, tokenizer, 0, device(&options.device)?, DType::F32)?;
    let settings = LearnerConfig {
        adam_beta2: 0.99,
        ..learner_config()
    };
    let schedule = LrSchedule {
        learning_rate: LEARNING_RATE,
        lr_scheduler_type: LrSchedulerType::Cosine,
        warmup_steps: 30.0,
        num_training_steps: steps,
    };
    let lesson = Lesson {
        name: "warm-up",
        options,
        problems,
        tasks,
        batch: BATCH,
        settings,
        schedule,
    };
    lesson.teach(model, folder, Outcome::new(Arm::Imitate, 0, f64::NAN))?;
    Ok(())
}

/// The control of the comparison: no rollouts, but supervised steps on the worked solutions of the
/// target problems, as many updates of as many problems as plain GRPO would make.
pub fn imitate(
    options: &Options,
    problems: &Problems,
    start: &Path,
    seed: u64,
    folder: &Path,
) -> Result<Outcome> {
    let schedule = LrSchedule {
        num_training_steps: options.updates,
        ..LrSchedule::constant(options.learning_rate)
    };
    let lesson = Lesson {
        name: "imitation",
        options,
        problems,
        tasks: &problems.train,
        batch: options.prompts,
        settings: learner_config(),
        schedule,
    };
    let model = load(start, options)?;
    let (greedy, sampled) = accuracy(options, problems, &model, seed)?;
    let mut outcome = Outcome::new(Arm::Imitate, seed, greedy);
    outcome.sampled_accuracy.0 = sampled;
    let outcome = lesson.teach(model, &folder.join("checkpoint"), outcome)?;
    report::write_outcome(folder, &outcome)?;
    Ok(outcome)
}

/// Held-out accuracy, greedy and sampled.
fn accuracy(
    options: &Options,
    problems: &Problems,
    model: &Model,
    seed: u64,
) -> Result<(f64, f64)> {
    let held_out = Dataset::with_template(problems.held_out.clone(), &*model.tokenizer, PROMPT)?;
    let mut engine = TorchEngine::of(model)?;
    let (greedy, sampled) = options.exams(model.sampling(), seed);
    let verifier = problems.verifier();
    let mut measure = |config| {
        let found = evaluate(&mut engine, &held_out, &verifier, config)?;
        anyhow::Ok(found.accuracy())
    };
    Ok((measure(&greedy)?, measure(&sampled)?))
}

/// What every learner of this example has in common.
pub fn learner_config() -> LearnerConfig {
    LearnerConfig {
        gradient_checkpointing: false,
        max_tokens_per_micro_batch: 16_384,
        ..LearnerConfig::default()
    }
}

/// Supervised learning of worked solutions.
struct Lesson<'a> {
    name: &'static str,
    options: &'a Options,
    problems: &'a Problems,
    tasks: &'a [Task],
    /// Problems per step.
    batch: usize,
    settings: LearnerConfig,
    schedule: LrSchedule,
}

impl Lesson<'_> {
    /// As many steps as the schedule is long, then a checkpoint, and what it solves. The outcome's seed draws the
    /// order of the problems.
    fn teach(self, model: Model, folder: &Path, mut outcome: Outcome) -> Result<Outcome> {
        let clock = Instant::now();
        let eos = model.eos()?;
        let mut learner = TorchLearner::of(&model, self.settings)?;
        let max_len = self.options.max_completion_length();
        let data = Dataset::with_template(self.tasks.to_vec(), &*model.tokenizer, PROMPT)?;
        let mut examples: Vec<(Vec<TokenId>, Vec<TokenId>)> = Vec::new();
        for task in 0..data.len() {
            let item = data.item(task)?;
            if let Some(trace) = item.trace.as_ref().filter(|t| t.len() < max_len) {
                let solution = [trace.tokens(), &[eos]].concat();
                examples.push((item.prompt.clone(), solution));
            }
        }
        ensure!(
            !examples.is_empty(),
            "no solution fits into --max-completion-length {max_len}"
        );
        let facts = vec![TaskFacts::default(); examples.len()];
        let mut order = TaskOrder::new(facts, Curriculum::Shuffled, None, outcome.seed)?;
        let steps = self.schedule.num_training_steps;
        let bar = ProgressBar::new(steps).with_style(ProgressStyle::with_template(
            "{prefix} {wide_bar} {pos}/{len} steps, {eta} left  {msg}",
        )?);
        bar.set_prefix(self.name);
        for step in 0..steps {
            let chosen = order.take(self.batch, &[])?;
            let pairs = chosen
                .iter()
                .map(|&i| (&examples[i].0[..], &examples[i].1[..]));
            let (loss, _) = supervised_step(&mut learner, pairs, self.schedule.lr(step))?;
            bar.inc(1);
            bar.set_message(format!("loss {loss:.4}"));
            if step % 100 == 99 {
                bar.suspend(|| eprintln!("{} step {}: loss {loss:.4}", self.name, step + 1));
            }
        }
        bar.finish_and_clear();
        model.save(folder, &learner)?;

        let (greedy, sampled) = accuracy(self.options, self.problems, &model, outcome.seed)?;
        outcome.updates = steps;
        outcome.seconds = clock.elapsed().as_secs_f64();
        outcome.measured(greedy);
        outcome.sampled_accuracy.1 = sampled;
        eprintln!(
            "{}: {} parameters, held-out accuracy {greedy:.3} greedy, {sampled:.3} sampled, in {}",
            self.name,
            model.config.num_parameters(),
            folder.display()
        );
        Ok(outcome)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use g2rpo::libtorch::Decoder;
    use tch::{Device, Kind, Tensor};

    /// `testdata/gsm8k_tiny/make_expected.py` opened the shipped checkpoint in transformers.
    #[test]
    fn the_shipped_checkpoint_is_the_same_model_in_transformers() {
        tch::set_num_threads(1);
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let folder = root.join("gsm8k_tiny/warm_up");
        let model = Model::load(folder, Device::Cpu, Some(DType::F32)).unwrap();
        let text = read(&root.join("../testdata/gsm8k_tiny/expected.json"));
        let expected: serde_json::Value = serde_json::from_str(&text).unwrap();
        let ids: Vec<i64> = serde_json::from_value(expected["ids"].clone()).unwrap();
        let encoded = model.tokenizer.encode(expected["text"].as_str().unwrap());
        let encoded: Vec<i64> = encoded.unwrap().into_iter().map(i64::from).collect();
        assert_eq!(encoded, ids);

        let decoder = Decoder::new(&model.config, &model.parameters).unwrap();
        let logits_tv = (decoder
            .logits_btv(&Tensor::from_slice(&ids).unsqueeze(0))
            .unwrap())
        .get(0);
        let next = Tensor::from_slice(&ids[1..]).unsqueeze(1);
        let n = next.size()[0];
        let logps_tv = logits_tv.narrow(0, 0, n).log_softmax(-1, Kind::Float);
        let logps = logps_tv.gather(1, &next, false).squeeze_dim(1);
        for (name, got) in [("logits", logits_tv.get(n)), ("logps", logps)] {
            let wanted: Vec<f64> = serde_json::from_value(expected[name].clone()).unwrap();
            let off = (got.to_kind(Kind::Double) - Tensor::from_slice(&wanted))
                .abs()
                .max();
            let off = f64::try_from(off).unwrap();
            assert!(off < 1e-4, "{name}: off by {off}");
        }
    }

    fn read(path: &Path) -> String {
        std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
    }
}
