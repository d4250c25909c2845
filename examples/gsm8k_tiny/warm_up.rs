use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use g2rpo::libtorch::optim::{LrSchedule, LrSchedulerType};
use g2rpo::libtorch::{
    DType, DecoderConfig, HfTokenizer, LearnerConfig, Parameters, TokenizerConfig, TorchEngine,
    TorchLearner, init_parameters, load_checkpoint, save_checkpoint,
};
use g2rpo::rollout::{SamplingParams, Task, TaskSampler, TokenId};
use g2rpo::train::{EvalSet, evaluate, prepare, supervised_step};
use indicatif::{ProgressBar, ProgressStyle};
use tch::{Device, Kind};

use crate::options::Options;
use crate::problems::{PROMPT, Problems};

/// A policy as it lies on disk, in the layout of Hugging Face.
pub struct Model {
    pub config: DecoderConfig,
    pub parameters: Parameters,
    pub tokenizer: HfTokenizer,
    /// Ends a completion.
    pub eos: TokenId,
}

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

/// Reads a checkpoint for use in f32.
pub fn load(folder: &Path) -> Result<Model> {
    let checkpoint = load_checkpoint(folder, Some(Kind::Float), Device::Cpu)?;
    let tokenizer = HfTokenizer::from_dir(folder)?;
    let eos = tokenizer
        .eos_token_id()
        .with_context(|| format!("{}: the tokenizer names no eos_token", folder.display()))?;
    Ok(Model {
        config: checkpoint.config,
        parameters: checkpoint.parameters,
        tokenizer,
        eos,
    })
}

/// Writes a checkpoint that transformers opens.
pub fn save(
    folder: &Path,
    config: &DecoderConfig,
    parameters: &Parameters,
    tokenizer: &HfTokenizer,
) -> Result<()> {
    Ok(save_checkpoint(
        folder,
        config,
        parameters,
        DType::F32,
        Some(tokenizer),
    )?)
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
    let texts = tasks
        .iter()
        .flat_map(|t| [t.question.as_str(), t.solution.as_str()]);
    let tokenizer = HfTokenizer::train(texts, &TokenizerConfig::default())?;
    let eos = tokenizer
        .eos_token_id()
        .context("the tokenizer has no end-of-text token")?;
    // 0.63 M parameters.
    let config = DecoderConfig {
        eos_token_id: vec![eos],
        pad_token_id: Some(eos),
        max_position_embeddings: 2048,
        ..DecoderConfig::tiny_qwen3(tokenizer.vocab_size(), 128, 3, 4, 2)
    };
    let model = Model {
        parameters: init_parameters(&config, 0, Kind::Float, Device::Cpu)?,
        config,
        tokenizer,
        eos,
    };
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
        tasks,
        batch: BATCH,
        seed: 0,
    };
    lesson.teach(options, problems, model, settings, &schedule, folder)
}

/// The control of the comparison: no rollouts, but supervised steps on the worked solutions of the
/// target problems, as many updates of as many problems as plain GRPO would make.
pub fn imitate(options: &Options, problems: &Problems, start: &Path) -> Result<()> {
    let schedule = LrSchedule {
        learning_rate: options.learning_rate,
        lr_scheduler_type: LrSchedulerType::Constant,
        warmup_steps: 0.0,
        num_training_steps: options.updates,
    };
    let lesson = Lesson {
        name: "imitation",
        tasks: &problems.train,
        batch: options.prompts,
        seed: options.seed,
    };
    let folder = options.out.join("checkpoint");
    let settings = learner_config();
    lesson.teach(
        options,
        problems,
        load(start)?,
        settings,
        &schedule,
        &folder,
    )
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
    tasks: &'a [Task],
    /// Problems per step.
    batch: usize,
    /// Draws the order of the problems.
    seed: u64,
}

impl Lesson<'_> {
    /// As many steps as the schedule is long, then a checkpoint, and what it solves.
    fn teach(
        &self,
        options: &Options,
        problems: &Problems,
        model: Model,
        settings: LearnerConfig,
        schedule: &LrSchedule,
        folder: &Path,
    ) -> Result<()> {
        let (tokenizer, eos) = (&model.tokenizer, model.eos);
        let mut learner = TorchLearner::new(&model.config, model.parameters, settings)?;
        let max_len = options.max_completion_length();
        let examples: Vec<(Vec<TokenId>, Vec<TokenId>)> = prepare(self.tasks, tokenizer, PROMPT)?
            .into_iter()
            .filter(|p| p.trace.len() < max_len)
            .map(|p| (p.prompt, [p.trace.tokens(), &[eos]].concat()))
            .collect();
        ensure!(
            !examples.is_empty(),
            "no solution fits into --max-completion-length {max_len}"
        );
        let sampler = TaskSampler::new(examples.len(), self.seed);
        let steps = schedule.num_training_steps;
        let bar = ProgressBar::new(steps).with_style(ProgressStyle::with_template(
            "{prefix} {wide_bar} {pos}/{len} steps, {eta} left  {msg}",
        )?);
        bar.set_prefix(self.name);
        for step in 0..steps {
            let chosen = sampler.batch(step, self.batch);
            let pairs = chosen
                .iter()
                .map(|&i| (&examples[i].0[..], &examples[i].1[..]));
            let (loss, _) = supervised_step(&mut learner, pairs, schedule.lr(step))?;
            bar.inc(1);
            bar.set_message(format!("loss {loss:.4}"));
            if step % 100 == 99 {
                bar.suspend(|| eprintln!("{} step {}: loss {loss:.4}", self.name, step + 1));
            }
        }
        bar.finish_and_clear();
        save(folder, &model.config, learner.updated(), tokenizer)?;

        let prompts: Vec<_> = prepare(&problems.held_out, tokenizer, PROMPT)?
            .into_iter()
            .map(|p| p.prompt)
            .collect();
        let set = EvalSet {
            tasks: &problems.held_out,
            prompts: &prompts,
            tokenizer,
            verifier: &problems.verifier(),
        };
        let sampling = SamplingParams {
            stop_token_ids: vec![eos],
            ..SamplingParams::default()
        };
        let greedy = SamplingParams {
            temperature: 0.0,
            ..sampling.clone()
        };
        let mut engine = TorchEngine::new(learner.policy());
        let mut accuracy = |params: &SamplingParams| {
            let found = evaluate(&mut engine, &set, params, max_len, self.seed)?;
            anyhow::Ok(found.accuracy())
        };
        eprintln!(
            "{}: {} parameters, held-out accuracy {:.3} greedy, {:.3} sampled, in {}",
            self.name,
            model.config.num_parameters(),
            accuracy(&greedy)?,
            accuracy(&sampling)?,
            folder.display()
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use g2rpo::libtorch::Decoder;
    use tch::Tensor;

    /// `testdata/gsm8k_tiny/make_expected.py` opened the shipped checkpoint in transformers.
    #[test]
    fn the_shipped_checkpoint_is_the_same_model_in_transformers() {
        tch::set_num_threads(1);
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let model = load(&root.join("gsm8k_tiny/warm_up")).unwrap();
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
