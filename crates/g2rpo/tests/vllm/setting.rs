//! What the tests share: the model on our side, and requests for it.

use std::path::{Path, PathBuf};

use g2rpo::core::{
    Learner, Ragged, Scoring, Sequences, TokenGrads, TokenId, TokenOutputs, WhichPolicy,
};
use g2rpo::libtorch::{
    Checkpoint, DType, Decoder, HfTokenizer, LearnerConfig, LoraConfig, TorchEngine, TorchLearner,
    load_checkpoint, save_checkpoint,
};
use g2rpo::rollout::{ChainProblems, Completion, Request, RolloutKey, SamplingParams, Split, Task};
use g2rpo_remote::{RemoteConfig, RemoteEngine, WeightSync, write_untied};
use tch::{Device, Kind};

pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;

pub(crate) struct Setting {
    pub(crate) url: String,
    pub(crate) checkpoint: Checkpoint,
    pub(crate) tokenizer: std::sync::Arc<HfTokenizer>,
    pub(crate) tasks: Vec<Task>,
    pub(crate) prompts: Vec<Vec<TokenId>>,
    pub(crate) folders: tempfile::TempDir,
}

pub(crate) fn model() -> PathBuf {
    match std::env::var_os("G2RPO_VLLM_MODEL") {
        Some(folder) => folder.into(),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/gsm8k_tiny/warm_up"),
    }
}

pub(crate) fn setting(url: String) -> Setting {
    let folder = model();
    let tokenizer = HfTokenizer::from_dir(&folder).unwrap();
    let tasks = ChainProblems::default()
        .generate(2, 64, Split::HeldOut, 0)
        .unwrap();
    let prompt = |question: &str| {
        let text = format!("Question: {question}\nAnswer:");
        tokenizer.encode(&text).unwrap()
    };
    Setting {
        url,
        checkpoint: load_checkpoint(&folder, Some(Kind::Float), Device::Cpu).unwrap(),
        prompts: tasks.iter().map(|task| prompt(&task.question)).collect(),
        tokenizer: tokenizer.into(),
        tasks,
        folders: tempfile::tempdir().unwrap(),
    }
}

impl Setting {
    pub(crate) fn config(&self, weight_sync: WeightSync) -> RemoteConfig {
        RemoteConfig {
            vllm_server_base_url: vec![self.url.clone()],
            vocab_size: Some(self.checkpoint.config.vocab_size),
            weight_sync,
            canary_tolerance: 1e-3,
            ..RemoteConfig::default()
        }
    }

    pub(crate) fn connect(&self, weight_sync: WeightSync) -> RemoteEngine {
        let canary = self.prompts[..4].to_vec();
        RemoteEngine::connect(self.config(weight_sync), canary).unwrap()
    }

    pub(crate) fn engine(&self) -> TorchEngine {
        TorchEngine::new(
            &Decoder::new(&self.checkpoint.config, &self.checkpoint.parameters).unwrap(),
        )
    }

    pub(crate) fn learner(&self, lora: Option<LoraConfig>) -> TorchLearner {
        let parameters = self
            .checkpoint
            .parameters
            .to(Kind::Float, Device::Cpu)
            .unwrap();
        let config = LearnerConfig {
            lora,
            ..LearnerConfig::default()
        };
        TorchLearner::new(&self.checkpoint.config, parameters, config).unwrap()
    }

    /// A folder with all weights of the learner, as servers want it.
    pub(crate) fn folder(&self, name: &str, learner: &TorchLearner) -> PathBuf {
        let tied = self.folders.path().join(format!("{name}-tied"));
        let (config, base) = (&self.checkpoint.config, learner.base());
        save_checkpoint(&tied, config, base, DType::F32, Some(&self.tokenizer)).unwrap();
        let folder = self.folders.path().join(name);
        write_untied(&tied, &folder).unwrap();
        folder
    }

    pub(crate) fn requests(&self, step: u64, n: usize, max_new_tokens: usize) -> Vec<Request> {
        (0..n)
            .map(|i| Request {
                prompt: self.prompts[i % self.prompts.len()].clone(),
                guidance: vec![],
                key: RolloutKey {
                    run: 17,
                    step,
                    group: (i % self.prompts.len()) as u32,
                    member: (i / self.prompts.len()) as u32,
                },
                max_new_tokens,
            })
            .collect()
    }

    pub(crate) fn params(&self, temperature: f64) -> SamplingParams {
        SamplingParams {
            temperature,
            stop_token_ids: self.checkpoint.config.eos_token_id.clone(),
            ..SamplingParams::default()
        }
    }
}

/// The learner's log-probabilities of `ids` from the second on.
pub(crate) fn scores(learner: &mut TorchLearner, ids: &[TokenId]) -> Result<Vec<f32>, Failure> {
    let sequences = Sequences::new(Ragged::from_rows([ids.to_vec()]), vec![1])?;
    let out = learner.token_logps(&sequences, WhichPolicy::Current, &Scoring::default())?;
    Ok(out.logp.row(0).iter().map(|logp| *logp as f32).collect())
}

/// One step on some sequences, large enough to be seen in log-probabilities.
pub(crate) fn step(learner: &mut TorchLearner, prompts: &[Vec<TokenId>], lr: f64) {
    let sequences = Sequences::new(Ragged::from_rows(prompts[..8].to_vec()), vec![1; 8]).unwrap();
    let mut loss = |out: &TokenOutputs| {
        Ok(TokenGrads {
            logp: out.logp.map(|_| -0.01),
            entropy: None,
        })
    };
    (learner.accumulate(&sequences, &Scoring::default(), &mut loss)).unwrap();
    learner.apply(lr).unwrap();
}

/// Largest distance of the log-probabilities of completions from those of the learner.
pub(crate) fn largest_distance(
    learner: &mut TorchLearner,
    requests: &[Request],
    completions: &[Completion],
    temperature: f64,
) -> f64 {
    let mut largest = 0.0_f64;
    for (request, completion) in requests.iter().zip(completions) {
        let context = [&request.prompt[..], &request.guidance].concat();
        let row = [&context[..], &completion.tokens].concat();
        let sequences = Sequences::new(Ragged::from_rows([row]), vec![context.len()]).unwrap();
        let scoring = Scoring {
            temperature,
            entropy: false,
        };
        let out = learner
            .token_logps(&sequences, WhichPolicy::Current, &scoring)
            .unwrap();
        for (ours, theirs) in out.logp.row(0).iter().zip(&completion.logps) {
            largest = largest.max((ours - f64::from(*theirs)).abs());
        }
    }
    largest
}
