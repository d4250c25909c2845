//! What a recipe asks for, as the parts of a run.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use g2rpo::guidance::Method;
use g2rpo::libtorch::{
    ChatOptions, DType, EngineConfig, LearnerConfig, LoraConfig, Message, Model, Reference,
    TorchEngine, TorchLearner, device,
};
use g2rpo::rollout::SamplingParams;
use g2rpo::train::data::parallel::processors;
use g2rpo::train::recipe::read::{read_files, with_arguments};
use g2rpo::train::recipe::settings::{
    DataFormat, DataSettings, DtypeName, Recipe, SchedulerName, VerifierName, VerifySettings,
};
use g2rpo::train::recipe::trl::TrlConfig;
use g2rpo::train::run::folder::RunFolder;
use g2rpo::train::{Ahead, EvalConfig, LrSchedule, LrSchedulerType, TrainerConfig, UpdateConfig};
use g2rpo::verify::code::{CodeVerifier, PoolConfig, SandboxPool};
use g2rpo::verify::{
    Bounded, CosineScaled, Format, Gsm8k, MathVerifier, MultipleChoice, ReasoningSteps,
    RepetitionPenalty, SoftOverlong, TagCount, ThinkFormat, Unverifiable, Verdict, Verifier,
    WeightedReward,
};

use super::cli::RecipeArgs;
use super::console::Console;
use super::failure::{Failure, because};
use super::model_folder;

/// Reads a TRL config, recipes and settings, each over those before.
pub(crate) fn read_recipe(args: &RecipeArgs, console: &Console) -> Result<Recipe, Failure> {
    if args.recipes.is_empty() && args.config.is_none() {
        let message = "which recipe? `g2rpo init` writes one, `g2rpo train --help` shows examples";
        return Err(Failure::new(Failure::SETTINGS, message));
    }
    let mut settings = Vec::new();
    if let Some(path) = &args.config {
        let config = read_config(path)?;
        config.notes.iter().for_each(|note| console.say(note));
        settings.extend(config.settings);
    }
    let of_files = read_files(&args.recipes);
    settings.extend(of_files.map_err(|e| Failure::new(Failure::SETTINGS, e.to_string()))?);
    Ok(with_arguments(settings, &args.unsets, &args.sets)?)
}

/// Reads a config of `trl grpo`.
#[cfg(feature = "yaml")]
pub(crate) fn read_config(path: &Path) -> Result<TrlConfig, Failure> {
    g2rpo::train::recipe::yaml::read_trl(path)
        .map_err(|error| Failure::new(Failure::SETTINGS, error.to_string()))
}

/// Says what is missing to read a config of `trl grpo`.
#[cfg(not(feature = "yaml"))]
pub(crate) fn read_config(path: &Path) -> Result<TrlConfig, Failure> {
    let message = format!(
        "{}: this program was built without YAML; build it with the feature `yaml` to read configs of TRL",
        path.display()
    );
    Err(Failure::new(Failure::SETTINGS, message))
}

/// The device of this process. Of several on a machine each takes a GPU of its own, by its number there.
pub(crate) fn place(recipe: &Recipe, local_rank: Option<usize>) -> Result<tch::Device, Failure> {
    let name = recipe.model.device.as_str();
    let place = device(name)?;
    if let (Some(rank), tch::Device::Cuda(_), "auto" | "cuda") = (local_rank, place, name) {
        return Ok(device(&format!("cuda:{rank}"))?);
    }
    Ok(place)
}

/// The model, with fresh adapters if those are what is trained.
pub(crate) fn open_model(recipe: &Recipe, local_rank: Option<usize>) -> Result<Model, Failure> {
    let settings = &recipe.model;
    let place = place(recipe, local_rank)?;
    let folder = model_folder::open(&settings.model_name_or_path)?;
    let dtype = match settings.dtype {
        DtypeName::Float32 => DType::F32,
        DtypeName::Bfloat16 => DType::Bf16,
    };
    let model = Model::load(folder, place, Some(dtype))?;
    Ok(model.with_lora(lora(recipe).as_ref())?)
}

fn lora(recipe: &Recipe) -> Option<LoraConfig> {
    let settings = &recipe.model;
    settings.use_peft.then(|| LoraConfig {
        r: settings.lora_r,
        lora_alpha: settings.lora_alpha,
        use_rslora: settings.use_rslora,
        target_modules: settings.lora_target_modules.clone(),
    })
}

/// What turns a question into the text that a completion follows.
pub(crate) fn prompt(
    model: &Model,
    data: &DataSettings,
) -> Result<impl Fn(&str) -> Result<String, g2rpo::libtorch::Error> + Clone + 'static, Failure> {
    let has_template = model.tokenizer.chat_template().is_some();
    let chat = data.use_chat_template.unwrap_or(has_template);
    if chat && !has_template {
        let message = "use_chat_template = true: the model has no chat template; leave it out";
        return Err(Failure::new(Failure::SETTINGS, message));
    }
    if !chat && (data.system_prompt.is_some() || !data.chat_template_kwargs.is_empty()) {
        let message = "system_prompt and chat_template_kwargs need a chat template, and the model has none: \
                       put the text into prompt_template";
        return Err(Failure::new(Failure::SETTINGS, message));
    }
    let tokenizer = Arc::clone(&model.tokenizer);
    let template = data.prompt_template.clone();
    let opening = tokenizer.opening()?;
    let system = (data.system_prompt.clone()).map(|text| Message::new("system", text));
    let options = ChatOptions {
        add_generation_prompt: true,
        variables: data.chat_template_kwargs.clone().into_iter().collect(),
        ..ChatOptions::default()
    };
    Ok(move |question: &str| {
        let text = template.replace("{question}", question);
        match tokenizer.chat_template() {
            Some(chat_template) if chat => {
                let mut messages: Vec<Message> = system.iter().cloned().collect();
                messages.push(Message::new("user", text));
                chat_template.render(&messages, &options)
            }
            // As transformers' tokenizers have it; a template may also spell it.
            _ if text.starts_with(&opening) => Ok(text),
            _ => Ok(format!("{opening}{text}")),
        }
    })
}

/// What judges answers: where it panics or takes too long, the verdict is a fault.
pub(crate) fn verifier(
    settings: &VerifySettings,
    format: DataFormat,
) -> Result<Arc<dyn Verifier>, Failure> {
    let threads = settings.verify_threads.unwrap_or_else(processors);
    let inner: Box<dyn Verifier> = match (settings.verifier, format) {
        (VerifierName::Gsm8k, _) | (VerifierName::Auto, DataFormat::Gsm8k) => {
            Box::new(Gsm8k::default())
        }
        (VerifierName::Choice, _) => Box::new(MultipleChoice::default()),
        (VerifierName::Math, _)
        | (VerifierName::Auto, DataFormat::Math | DataFormat::Prompt | DataFormat::Auto) => {
            Box::new(MathVerifier::default())
        }
        // The other formats are of code.
        (VerifierName::Code | VerifierName::Auto, _) => {
            let config = PoolConfig {
                workers: threads,
                ..PoolConfig::default()
            };
            let pool = SandboxPool::new(&config)
                .map_err(because(Failure::OTHER, "the sandbox for code"))?;
            // It has workers of its own.
            return Ok(Arc::new(Traced(CodeVerifier::new(pool))));
        }
    };
    Ok(Arc::new(Traced(Bounded::new(inner, VERIFY_LIMIT, threads))))
}

/// A verifier that `RUST_LOG` shows at work.
struct Traced<V>(V);

impl<V: Verifier> Verifier for Traced<V> {
    fn verify(&self, response: &str, reference: &str) -> Verdict {
        self.0.verify(response, reference)
    }

    fn verify_batch(&self, pairs: &[(&str, &str)]) -> Vec<Verdict> {
        let verdicts = self.0.verify_batch(pairs);
        let correct = verdicts.iter().filter(|v| v.is_correct()).count();
        tracing::debug!(answers = pairs.len(), correct, "judged");
        verdicts
    }

    fn parallelism(&self) -> usize {
        self.0.parallelism()
    }

    fn check_reference(&self, reference: &str) -> Result<(), Unverifiable> {
        self.0.check_reference(reference)
    }
}

/// Most wall time of the verdicts of a step: many times what they take, as what has none by then is masked.
const VERIFY_LIMIT: Duration = Duration::from_secs(600);

/// The reward functions of the recipe, paid on top of the verdict.
pub(crate) fn rewards(
    recipe: &Recipe,
    method: &Method,
    verifier: &Arc<dyn Verifier>,
) -> WeightedReward {
    let max_len = method.loss.max_completion_length;
    let settings = &recipe.verify;
    let mut rewards = WeightedReward::default();
    for (i, name) in settings.reward_funcs.iter().enumerate() {
        let weight = (settings.reward_weights.as_ref()).map_or(1.0, |weights| weights[i]);
        rewards = match name.as_str() {
            "format_reward" => rewards.with(Format, weight),
            "think_format_reward" => rewards.with(ThinkFormat, weight),
            "tag_count_reward" => rewards.with(TagCount, weight),
            "reasoning_steps_reward" => rewards.with(ReasoningSteps, weight),
            "cosine_scaled_reward" => {
                let mut cosine = CosineScaled::new(Arc::clone(verifier));
                cosine.max_len = max_len;
                rewards.with(cosine, weight)
            }
            "repetition_penalty_reward" => rewards.with(RepetitionPenalty::default(), weight),
            _ => {
                let overlong = SoftOverlong {
                    max_completion_len: max_len,
                    // A fifth of the length, as in DAPO.
                    soft_punish_cache: max_len / 5,
                };
                rewards.with(overlong, weight)
            }
        };
    }
    rewards
}

/// How completions are drawn in training.
pub(crate) fn sampling(recipe: &Recipe, model: &Model) -> SamplingParams {
    let settings = &recipe.generate;
    SamplingParams {
        temperature: settings.temperature,
        top_p: settings.top_p,
        top_k: settings.top_k,
        min_p: settings.min_p.unwrap_or(0.0),
        repetition_penalty: settings.repetition_penalty,
        stop: settings.stop.clone(),
        ..model.sampling()
    }
}

/// How the policy is evaluated.
pub(crate) fn eval_config(recipe: &Recipe, model: &Model, method: &Method) -> EvalConfig {
    let settings = &recipe.evaluate;
    EvalConfig {
        sampling: SamplingParams {
            temperature: settings.eval_temperature,
            ..sampling(recipe, model)
        },
        max_completion_length: method.loss.max_completion_length,
        samples_per_task: settings.num_generations_eval as u32,
        seed: recipe.train.seed,
    }
}

/// Refuses what this program was built without.
pub(crate) fn check_features(recipe: &Recipe) -> Result<(), Failure> {
    if recipe.server.use_vllm && cfg!(not(feature = "remote")) {
        let message = "use_vllm = true: this program was built without servers; build it with the feature `remote`";
        return Err(Failure::new(Failure::SETTINGS, message));
    }
    Ok(())
}

/// Refuses numbers of a method whose products with the recipe's would leave their range.
pub(crate) fn check_sizes(method: &Method) -> Result<(), Failure> {
    let length = method.loss.max_completion_length;
    for (key, value, most) in [
        ("num_generations", method.num_generations, 100_000),
        ("max_completion_length", length, 100_000_000),
    ] {
        if value > most {
            let message = format!("{key}: is {value}, must be at most {most}");
            return Err(Failure::new(Failure::SETTINGS, message));
        }
    }
    Ok(())
}

/// Refuses a run that would write over the model or the data that it begins with.
pub(crate) fn check_kept(recipe: &Recipe, folder: &RunFolder) -> Result<(), Failure> {
    let whole = |path: &Path| path.canonicalize().ok();
    let Some(run) = whole(folder.path()) else {
        return Ok(());
    };
    let sets = recipe.data.eval_datasets.values();
    let model = Path::new(&recipe.model.model_name_or_path);
    let kept = (sets.map(|path| ("eval_datasets", whole(path)))).chain([
        ("dataset_name", whole(&recipe.data.dataset_name)),
        ("model_name_or_path", whole(model)),
    ]);
    for (key, path) in kept {
        let part = path.and_then(|path| Some(path.strip_prefix(&run).ok()?.to_owned()));
        let inside = part.as_ref().and_then(|part| part.components().next());
        let inside = inside.map(|first| first.as_os_str().to_string_lossy().into_owned());
        if let Some(first) = inside.filter(|first| folder.writes(first)) {
            let message = format!(
                "{key}: it is in {first}, which the run in {} writes: choose another output_dir",
                run.display()
            );
            return Err(Failure::new(Failure::SETTINGS, message));
        }
    }
    Ok(())
}

/// An engine on the learner's own numbers.
pub(crate) fn own_engine(recipe: &Recipe, model: &Model) -> Result<TorchEngine, Failure> {
    let config = EngineConfig {
        max_rows: recipe.generate.max_rows,
        max_cache_bytes: recipe.generate.max_cache_mib << 20,
        ..EngineConfig::default()
    };
    Ok(TorchEngine::of(model)?.with_config(config))
}

pub(crate) fn learner(
    recipe: &Recipe,
    model: &Model,
    method: &Method,
) -> Result<TorchLearner, Failure> {
    let (settings, optim) = (&recipe.model, &recipe.optim);
    let reference = match (method.loss.needs_reference(), settings.use_peft) {
        (false, _) => Reference::None,
        (true, true) => Reference::AdapterDisabled,
        (true, false) => Reference::FrozenCopy,
    };
    if optim.sync_ref_model && reference == Reference::None {
        let message =
            "sync_ref_model = true: the method has no reference; set beta above 0, or leave it out";
        return Err(Failure::new(Failure::SETTINGS, message));
    }
    let config = LearnerConfig {
        weight_decay: optim.weight_decay,
        adam_beta1: optim.adam_beta1,
        adam_beta2: optim.adam_beta2,
        adam_epsilon: optim.adam_epsilon,
        max_grad_norm: optim.max_grad_norm,
        max_tokens_per_micro_batch: settings.max_tokens_per_micro_batch,
        gradient_checkpointing: settings.gradient_checkpointing,
        max_logits_mib: settings.max_logits_mib,
        cast_lm_head_to_fp32: settings.cast_lm_head_to_fp32,
        lora: lora(recipe),
        reference,
        sync_ref_model: optim.sync_ref_model,
        ref_model_mixup_alpha: optim.ref_model_mixup_alpha,
        ref_model_sync_steps: optim.ref_model_sync_steps,
    };
    Ok(TorchLearner::of(model, config)?)
}

/// Steps of a run over that many problems.
pub(crate) fn steps(recipe: &Recipe, problems: usize) -> u64 {
    let train = &recipe.train;
    let epochs = train.num_train_epochs * problems as f64 / train.prompts_per_step as f64;
    (train.max_steps).unwrap_or_else(|| (epochs.ceil() as u64).max(1))
}

pub(crate) fn trainer_config(recipe: &Recipe, model: &Model, steps: u64) -> TrainerConfig {
    let (train, optim) = (&recipe.train, &recipe.optim);
    let updates = (train.num_iterations * train.steps_per_generation) as u64;
    let lr_scheduler_type = match optim.lr_scheduler_type {
        SchedulerName::Constant | SchedulerName::ConstantWithWarmup => LrSchedulerType::Constant,
        SchedulerName::Linear => LrSchedulerType::Linear,
        SchedulerName::Cosine => LrSchedulerType::Cosine,
        SchedulerName::CosineWithMinLr => LrSchedulerType::CosineWithMinLr {
            min_lr_rate: optim.min_lr_rate,
        },
    };
    TrainerConfig {
        seed: train.seed,
        prompts_per_step: train.prompts_per_step,
        sampling: sampling(recipe, model),
        update: UpdateConfig {
            num_iterations: train.num_iterations,
            steps_per_generation: train.steps_per_generation,
            // Servers round otherwise than the learner.
            log_mismatch: recipe.server.use_vllm,
            ..UpdateConfig::default()
        },
        schedule: LrSchedule {
            learning_rate: optim.learning_rate,
            lr_scheduler_type,
            warmup_steps: optim.warmup_steps,
            num_training_steps: steps.saturating_mul(updates),
        },
        ahead: Ahead {
            max_staleness: train.max_staleness,
            correction: train.staleness_correction,
        },
        ..TrainerConfig::default()
    }
}
