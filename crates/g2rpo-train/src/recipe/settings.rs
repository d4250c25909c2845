//! What a recipe can say: one struct for each section, with defaults that cite their source.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::section::section;
use super::server::ServerSettings;
use crate::ahead::StalenessCorrection;

/// All settings of a run. Keys are TRL's where TRL has the setting, and no key occurs in two sections.
///
/// [`read`](super::read::read_recipe) makes one from files, [`to_toml`](super::write::to_toml)
/// writes one out whole.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Recipe {
    /// Which model, and how it is held.
    pub model: ModelSettings,
    /// What is asked.
    pub data: DataSettings,
    /// How answers are judged.
    pub verify: VerifySettings,
    /// The algorithm.
    pub method: MethodSettings,
    /// How completions are sampled.
    pub generate: GenerateSettings,
    /// Servers that sample them.
    pub server: ServerSettings,
    /// The optimiser.
    pub optim: OptimSettings,
    /// How long, and in what portions.
    pub train: TrainSettings,
    /// When and how the policy is evaluated.
    pub evaluate: EvaluateSettings,
    /// What is kept on the disk.
    pub save: SaveSettings,
    /// What is shown.
    pub log: LogSettings,
}

section! {
    /// Section `[model]`.
    pub struct ModelSettings {
        /// Folder of a checkpoint, or its id on the Hugging Face hub.
        pub model_name_or_path: String = String::new(),
        /// Number format of the parameters in memory. Default float32, as in TRL 1.16.
        pub dtype: DtypeName = DtypeName::Float32,
        /// `auto` takes the first GPU if there is one.
        pub device: String = "auto".into(),
        /// Compute layers twice rather than keep their activations. TRL's default.
        pub gradient_checkpointing: bool = true,
        /// Project to the vocabulary in f32 when the model is in bfloat16. TRL's default is false.
        pub cast_lm_head_to_fp32: bool = false,
        /// Train low-rank adapters instead of all parameters.
        pub use_peft: bool = false,
        /// Rank of the adapters. TRL's default.
        pub lora_r: usize = 16,
        /// Adapters are scaled by `lora_alpha / lora_r`. TRL's default.
        pub lora_alpha: f64 = 32.0,
        /// Linear layers that get an adapter. Default `all-linear`.
        pub lora_target_modules: Vec<String> = vec!["all-linear".into()],
        /// Scale by `lora_alpha / √lora_r` instead.
        pub use_rslora: bool = false,
        /// Most positions, padding included, in one forward and backward pass of the learner.
        pub max_tokens_per_micro_batch: usize = 4096,
        /// Most MiB of one tensor of logits.
        pub max_logits_mib: usize = 64,
    }
}

/// Number format of parameters, as torch names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DtypeName {
    /// 32 bits.
    Float32,
    /// 16 bits with the exponent of 32; the learner keeps master weights in 32 bits beside it.
    Bfloat16,
}

section! {
    /// Section `[data]`.
    pub struct DataSettings {
        /// File with the training problems: JSONL, or Parquet where the program was built with it.
        pub dataset_name: PathBuf = PathBuf::new(),
        /// What its rows look like.
        pub dataset_format: DataFormat = DataFormat::Auto,
        /// Which column holds what, over what the format says: `question`, `reference`, `solution`,
        /// `hints`, `difficulty`, `pass_rate`, `level`.
        pub columns: BTreeMap<String, String> = BTreeMap::new(),
        /// Files for evaluation by the name they are reported under, in the same format.
        pub eval_datasets: BTreeMap<String, PathBuf> = BTreeMap::new(),
        /// Most training problems used, the first of the file.
        pub max_train_samples: Option<usize> = None,
        /// Most problems of each evaluation set used, the first of the file. Transformers' name.
        pub max_eval_samples: Option<usize> = None,
        /// System message of the chat.
        pub system_prompt: Option<String> = None,
        /// What the question is put into; holds `{question}`.
        pub prompt_template: String = "{question}".into(),
        /// Whether prompts are rendered by the model's chat template; by default if it has one.
        pub use_chat_template: Option<bool> = None,
        /// Further variables for the chat template, such as `enable_thinking`. TRL's name.
        pub chat_template_kwargs: Map<String, Value> = Map::new(),
        /// Open `<think>` in worked solutions.
        pub think: bool = false,
        /// What happens to a row that cannot be used.
        pub broken_rows: BrokenRows = BrokenRows::Fail,
        /// Problems whose prompt has more tokens are left out, and counted.
        pub max_prompt_length: Option<usize> = None,
    }
}

/// The shape of a data set's rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DataFormat {
    /// Found out from the first row.
    Auto,
    /// `question`, and `answer` that ends in `#### number`.
    Gsm8k,
    /// `problem`, `solution`, `answer`, and `level`, as MATH and MATH-500 are published.
    Math,
    /// `prompt`, `canonical_solution`, `test`, `entry_point`.
    Humaneval,
    /// `text` or `prompt`, `code`, `test_list`.
    Mbpp,
    /// `question`, `input_output`, `solutions`, `difficulty`.
    Apps,
    /// `question_content`, `public_test_cases`, `difficulty`.
    Livecodebench,
    /// `prompt`, `answer`, and `solution` where there is one.
    Prompt,
}

/// What happens to a row that cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BrokenRows {
    /// The run does not start.
    Fail,
    /// It is left out, counted and reported.
    Skip,
}

section! {
    /// Section `[verify]`.
    pub struct VerifySettings {
        /// Who judges answers.
        pub verifier: VerifierName = VerifierName::Auto,
        /// Reward functions paid on top of the verdict.
        pub reward_funcs: Vec<String> = Vec::new(),
        /// Weights of `reward_funcs`, 1 each by default. The verdict itself pays 1.
        pub reward_weights: Option<Vec<f64>> = None,
        /// Threads that verify; by default as many as processors.
        pub verify_threads: Option<usize> = None,
    }
}

/// Who judges answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VerifierName {
    /// The one that fits the format of the data.
    #[default]
    Auto,
    /// `#### 42`, or the last number.
    Gsm8k,
    /// Mathematical answers in LaTeX and plain text.
    Math,
    /// The letter of an option.
    Choice,
    /// Python code by its tests, in the sandbox.
    Code,
}

/// Section `[method]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct MethodSettings {
    /// Name of a preset.
    pub method: String,
    /// Settings of the preset that are changed, by their keys.
    #[serde(flatten)]
    pub overrides: Map<String, Value>,
}

impl Default for MethodSettings {
    fn default() -> Self {
        Self {
            method: "g2rpo-a".into(),
            overrides: Map::new(),
        }
    }
}

section! {
    /// Section `[generate]`.
    pub struct GenerateSettings {
        /// Divides the logits. TRL's default.
        pub temperature: f64 = 1.0,
        /// Keep the most probable tokens of this mass. TRL's default.
        pub top_p: f64 = 1.0,
        /// Keep that many tokens; 0 keeps all. TRL's default.
        pub top_k: usize = 0,
        /// Keep tokens at least this share as probable as the best. TRL's default is none.
        pub min_p: Option<f64> = None,
        /// Above 1 makes tokens that occurred less probable. TRL's default.
        pub repetition_penalty: f64 = 1.0,
        /// Texts that end a completion.
        pub stop: Vec<String> = Vec::new(),
        /// Most completions generated side by side.
        pub max_rows: usize = 256,
        /// Most MiB of keys and values kept while generating.
        pub max_cache_mib: usize = 4096,
    }
}

section! {
    /// Section `[optim]`.
    pub struct OptimSettings {
        /// The highest learning rate. TRL's default for GRPO.
        pub learning_rate: f64 = 1e-6,
        /// How it falls. Transformers' default.
        pub lr_scheduler_type: SchedulerName = SchedulerName::Linear,
        /// Share of the highest rate at which `cosine_with_min_lr` ends.
        pub min_lr_rate: f64 = 0.0,
        /// Optimiser steps over which the rate rises; below 1 a share of all steps.
        pub warmup_steps: f64 = 0.0,
        /// By how much of itself, times the rate, a weight shrinks. Transformers' default.
        pub weight_decay: f64 = 0.0,
        /// Decay of AdamW's mean of gradients.
        pub adam_beta1: f64 = 0.9,
        /// Decay of AdamW's mean of squared gradients.
        pub adam_beta2: f64 = 0.999,
        /// Added to the root of that mean.
        pub adam_epsilon: f64 = 1e-8,
        /// Longer gradients are scaled down to this norm; 0 switches it off. Transformers' default.
        pub max_grad_norm: f64 = 1.0,
        /// Whether the reference of the KL term follows the policy.
        pub sync_ref_model: bool = false,
        /// Share of the policy in the reference after a sync. TRL's default.
        pub ref_model_mixup_alpha: f64 = 0.6,
        /// Optimiser steps between syncs. TRL's default.
        pub ref_model_sync_steps: u64 = 512,
    }
}

/// How the learning rate falls, by transformers' names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SchedulerName {
    /// Not at all.
    Constant,
    /// Not at all, after the warm-up.
    ConstantWithWarmup,
    /// Along a line to 0.
    Linear,
    /// Along half a cosine to 0.
    Cosine,
    /// Along half a cosine to `min_lr_rate` of the highest.
    CosineWithMinLr,
}

section! {
    /// Section `[train]`.
    pub struct TrainSettings {
        /// Steps, each one batch of rollouts and the updates from it. By default as many as
        /// `num_train_epochs` takes.
        pub max_steps: Option<u64> = None,
        /// Passes over the training problems, where `max_steps` is not given. TRL's default.
        pub num_train_epochs: f64 = 3.0,
        /// Problems of a step; each is answered `num_generations` times.
        pub prompts_per_step: usize = 8,
        /// Passes over the same rollouts (μ). TRL's default.
        pub num_iterations: usize = 1,
        /// Optimiser steps of a pass. 1 is strictly on-policy.
        pub steps_per_generation: usize = 1,
        /// Of everything that is drawn. TRL's default.
        pub seed: u64 = 42,
        /// Evaluations without a better result after which the run ends. Transformers' name.
        pub early_stopping_patience: Option<u64> = None,
        /// Steps that rollouts may be ahead of the learner: 1 samples the next step while this one is learned from; 0 does one
        /// after the other. TRL's name.
        pub max_staleness: u64 = 0,
        /// How the loss accounts for it: `ratio`, `tis`, `dppo` or `decoupled`.
        pub staleness_correction: StalenessCorrection = StalenessCorrection::Ratio,
        /// What sums the gradients of processes that train together: `nccl` on their GPUs, `gloo` in host memory; by default
        /// what suits the device. Transformers' name.
        pub ddp_backend: Option<DdpBackend> = None,
        /// Seconds that a process waits for the others before it calls them lost. Transformers' default.
        pub ddp_timeout: u64 = 1800,
        /// Updates between comparisons of the processes' parameters; 0 compares them at the start alone.
        pub compare_ranks_steps: u64 = 10,
    }
}

/// What sums the gradients of processes that train together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DdpBackend {
    /// Host memory and sockets.
    Gloo,
    /// NVIDIA's, between GPUs.
    Nccl,
}

section! {
    /// Section `[evaluate]`.
    pub struct EvaluateSettings {
        /// Steps between evaluations; none by default. The end of a run is evaluated in any case.
        pub eval_steps: Option<u64> = None,
        /// Whether the policy is evaluated before the first step.
        pub eval_on_start: bool = false,
        /// Completions of each evaluation problem. Default 1; TRL follows `num_generations`.
        pub num_generations_eval: usize = 1,
        /// Temperature of evaluation; 0 is greedy.
        pub eval_temperature: f64 = 0.0,
        /// Which evaluation set names the best checkpoint; by default the first by name.
        pub metric_for_best_model: Option<String> = None,
        /// Whether the model that is left at the end is the best checkpoint's.
        pub load_best_model_at_end: bool = false,
    }
}

section! {
    /// Section `[save]`.
    pub struct SaveSettings {
        /// Folder of the run.
        pub output_dir: PathBuf = PathBuf::new(),
        /// Steps between checkpoints. Transformers' default is 500; a step here is many of its.
        pub save_steps: u64 = 50,
        /// Most checkpoints kept beside the best; all by default.
        pub save_total_limit: Option<usize> = None,
    }
}

section! {
    /// Section `[log]`.
    pub struct LogSettings {
        /// Name of the run in reports; by default that of its folder.
        pub run_name: Option<String> = None,
        /// Steps between lines on the console. Every step is in metrics.jsonl.
        pub logging_steps: u64 = 1,
        /// Steps between samples on the console and in samples.jsonl; 0 for none.
        pub log_completions_steps: u64 = 10,
        /// Completions in a sample. TRL's name.
        pub num_completions_to_print: usize = 4,
        /// Where metrics go besides metrics.jsonl.
        pub report_to: ReportTo = ReportTo::None,
    }
}

/// Where metrics go besides metrics.jsonl.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReportTo {
    /// Nowhere.
    None,
    /// Into TensorBoard event files.
    Tensorboard,
}
