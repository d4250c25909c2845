//! Whether the settings of a recipe make sense, each by itself and together.

use super::keys::key;
use super::server::{ServerSettings, VllmMode, WeightSyncName};
use super::settings::{DdpBackend, Recipe, SchedulerName};

/// Reward functions that a recipe can name, beside the verdict.
pub const REWARD_FUNCS: [&str; 7] = [
    "format_reward",
    "think_format_reward",
    "tag_count_reward",
    "reasoning_steps_reward",
    "cosine_scaled_reward",
    "repetition_penalty_reward",
    "soft_overlong_punishment_reward",
];

/// What a column of a data set can be mapped to.
pub const COLUMNS: [&str; 7] = [
    "question",
    "reference",
    "solution",
    "hints",
    "difficulty",
    "pass_rate",
    "level",
];

/// Keys and what is wrong with them; `given` says which keys somebody wrote.
pub fn check(recipe: &Recipe, given: &dyn Fn(&str) -> bool) -> Vec<(String, String)> {
    let mut problems = Problems(Vec::new());
    needed(recipe, &mut problems);
    numbers(recipe, &mut problems);
    evaluation(recipe, &mut problems);
    texts(recipe, &mut problems);
    servers(recipe, &mut problems);
    without_effect(recipe, given, &mut problems);
    problems.0
}

struct Problems(Vec<(String, String)>);

impl Problems {
    fn add(&mut self, key: &str, problem: impl Into<String>) {
        self.0.push((key.to_owned(), problem.into()));
    }

    fn unless(&mut self, fine: bool, key: &str, problem: impl Into<String>) {
        if !fine {
            self.add(key, problem);
        }
    }
}

fn needed(recipe: &Recipe, problems: &mut Problems) {
    for (key, empty, what) in [
        (
            "model_name_or_path",
            recipe.model.model_name_or_path.is_empty(),
            "the folder of a checkpoint, or its id on the Hugging Face hub",
        ),
        (
            "dataset_name",
            recipe.data.dataset_name.as_os_str().is_empty(),
            "the file with the training problems",
        ),
        (
            "output_dir",
            recipe.save.output_dir.as_os_str().is_empty(),
            "the folder that the run is written to",
        ),
    ] {
        problems.unless(!empty, key, format!("is missing: {what}"));
    }
}

fn numbers(recipe: &Recipe, problems: &mut Problems) {
    let (generate, optim, train) = (&recipe.generate, &recipe.optim, &recipe.train);
    let (drawn, evaluated) = (generate.temperature, recipe.evaluate.eval_temperature);
    for (key, value, domain) in [
        (
            "temperature",
            drawn,
            "above 0: greedy completions of a problem are all the same",
        ),
        (
            "temperature",
            drawn,
            "at least 0.001: logits are divided by it, and below that completions of a problem are all the same",
        ),
        ("top_p", generate.top_p, "in (0, 1]"),
        ("min_p", generate.min_p.unwrap_or(0.0), "in [0, 1]"),
        ("repetition_penalty", generate.repetition_penalty, "above 0"),
        ("learning_rate", optim.learning_rate, "0 or more"),
        (
            "learning_rate",
            optim.learning_rate,
            "at most 1: AdamW moves each weight by about that much in a step, and a larger move ruins the model at once",
        ),
        ("min_lr_rate", optim.min_lr_rate, "in [0, 1]"),
        ("warmup_steps", optim.warmup_steps, "0 or more"),
        ("weight_decay", optim.weight_decay, "0 or more"),
        ("adam_beta1", optim.adam_beta1, "in [0, 1)"),
        ("adam_beta2", optim.adam_beta2, "in [0, 1)"),
        ("adam_epsilon", optim.adam_epsilon, "above 0"),
        ("max_grad_norm", optim.max_grad_norm, "0 or more"),
        (
            "ref_model_mixup_alpha",
            optim.ref_model_mixup_alpha,
            "in [0, 1]",
        ),
        ("lora_alpha", recipe.model.lora_alpha, "above 0"),
        ("num_train_epochs", train.num_train_epochs, "above 0"),
        ("eval_temperature", evaluated, "0 or more"),
        (
            "eval_temperature",
            evaluated,
            "0, which is greedy, or at least 0.001, as logits are divided by it",
        ),
    ] {
        problems.unless(is_in(domain, value), key, format!("must be {domain}"));
    }
    let settings = serde_json::to_value(recipe).unwrap_or_default();
    for name in [
        "lora_r",
        "max_tokens_per_micro_batch",
        "max_logits_mib",
        "max_rows",
        "max_cache_mib",
        "prompts_per_step",
        "num_iterations",
        "steps_per_generation",
        "num_generations_eval",
        "ref_model_sync_steps",
        "ddp_timeout",
        "save_steps",
        "logging_steps",
        "max_steps",
        "eval_steps",
        "early_stopping_patience",
        "save_total_limit",
        "verify_threads",
        "max_train_samples",
        "max_eval_samples",
        "max_prompt_length",
    ] {
        let value = key(name).and_then(|key| settings[key.section][name].as_u64());
        // Products of several of them must stay numbers.
        let most = match name {
            "prompts_per_step" | "num_iterations" => 1_000_000,
            _ => 1_000_000_000,
        };
        problems.unless(value != Some(0), name, "must be at least 1");
        let bound = format!("must be at most {most}");
        problems.unless(value.is_none_or(|value| value <= most), name, bound);
    }
    problems.unless(
        recipe.model.device != "cpu" || train.ddp_backend != Some(DdpBackend::Nccl),
        "ddp_backend",
        "NCCL sums on GPUs, and device is \"cpu\": leave it out, or set gloo",
    );
    problems.unless(
        train.steps_per_generation <= train.prompts_per_step,
        "steps_per_generation",
        format!(
            "is more than prompts_per_step = {}: a group is never split over optimiser steps",
            train.prompts_per_step
        ),
    );
}

/// Whether a number is in the domain of these words.
fn is_in(domain: &str, x: f64) -> bool {
    match domain.split(':').next().unwrap_or_default() {
        "above 0" => x > 0.0 && x.is_finite(),
        "0 or more" => x >= 0.0 && x.is_finite(),
        "in (0, 1]" => x > 0.0 && x <= 1.0,
        "in [0, 1)" => (0.0..1.0).contains(&x),
        "in [0, 1]" => (0.0..=1.0).contains(&x),
        "at most 1" => x <= 1.0,
        // Logits divided by less leave the range in which log-probabilities are exact.
        words => words.contains("at least 0.001") && (x <= 0.0 || x >= 1e-3),
    }
}

fn evaluation(recipe: &Recipe, problems: &mut Problems) {
    let (sets, evaluate) = (&recipe.data.eval_datasets, &recipe.evaluate);
    let asked = [
        ("eval_steps", evaluate.eval_steps.is_some()),
        ("eval_on_start", evaluate.eval_on_start),
        ("load_best_model_at_end", evaluate.load_best_model_at_end),
    ];
    for name in sets.keys() {
        let plain = |c: char| c.is_alphanumeric() || "-_. ".contains(c);
        problems.unless(
            name.chars().all(plain) && name.chars().any(char::is_alphanumeric),
            "eval_datasets",
            format!(
                "the name {name:?} becomes that of a file: it may have letters, digits, `-`, `_`, `.` and spaces"
            ),
        );
    }
    for (key, _) in asked.iter().filter(|(_, asked)| *asked && sets.is_empty()) {
        problems.add(key, "there is nothing to evaluate on: give eval_datasets");
    }
    if let Some(metric) = &evaluate.metric_for_best_model
        && !sets.contains_key(metric)
    {
        let names: Vec<&str> = sets.keys().map(String::as_str).collect();
        let problem = format!("must name one of eval_datasets: {}", names.join(", "));
        problems.add("metric_for_best_model", problem);
    }
    problems.unless(
        evaluate.num_generations_eval <= 1 || evaluate.eval_temperature > 0.0,
        "num_generations_eval",
        "greedy completions of a problem are all the same: set eval_temperature above 0",
    );
    problems.unless(
        recipe.train.early_stopping_patience.is_none() || evaluate.eval_steps.is_some(),
        "early_stopping_patience",
        "counts evaluations, and there are none during the run: set eval_steps",
    );
}

fn texts(recipe: &Recipe, problems: &mut Problems) {
    let data = &recipe.data;
    problems.unless(
        data.prompt_template.contains("{question}"),
        "prompt_template",
        "must contain {question}",
    );
    for column in data.columns.keys() {
        problems.unless(
            COLUMNS.contains(&column.as_str()),
            "columns",
            format!("{column} is none of {}", COLUMNS.join(", ")),
        );
    }
    problems.unless(
        !recipe.generate.stop.iter().any(String::is_empty),
        "stop",
        "an empty text would end everything",
    );
    let device = recipe.model.device.as_str();
    let gpu = device.strip_prefix("cuda:").map(str::parse::<u32>);
    problems.unless(
        matches!(device, "auto" | "cpu" | "cuda") || matches!(gpu, Some(Ok(_))),
        "device",
        "expected auto, cpu, cuda, or a GPU such as cuda:1",
    );
    let rewards = &recipe.verify.reward_funcs;
    let known = |name: &&String| REWARD_FUNCS.contains(&name.as_str());
    for name in rewards.iter().filter(|name| !known(name)) {
        let problem = format!("{name} is none of {}", REWARD_FUNCS.join(", "));
        problems.add("reward_funcs", problem);
    }
    if let Some(weights) = &recipe.verify.reward_weights {
        problems.unless(
            weights.len() == rewards.len(),
            "reward_weights",
            format!(
                "{} weights for {} reward_funcs",
                weights.len(),
                rewards.len()
            ),
        );
    }
}

/// What holds with servers alone.
fn servers(recipe: &Recipe, problems: &mut Problems) {
    let server = &recipe.server;
    if !server.use_vllm {
        return;
    }
    problems.unless(
        server.vllm_mode == VllmMode::Server,
        "vllm_mode",
        "this process cannot hold a vLLM, which is Python: start `vllm serve` and set vllm_mode = \"server\"",
    );
    let urls = server.urls();
    for (i, url) in urls.iter().enumerate() {
        let host = (url.strip_prefix("http://")).or_else(|| url.strip_prefix("https://"));
        problems.unless(
            host.is_some_and(|host| !host.trim_matches('/').is_empty()),
            "vllm_server_base_url",
            format!("{url} is no address such as http://localhost:8000"),
        );
        problems.unless(
            !urls[..i].contains(url),
            "vllm_server_base_url",
            format!("{url} is there twice"),
        );
    }
    problems.unless(
        server.weight_sync != Some(WeightSyncName::Adapter) || recipe.model.use_peft,
        "weight_sync",
        "there is no adapter to send without use_peft = true; send a folder",
    );
    for (key, value) in [
        ("vllm_server_timeout", server.vllm_server_timeout),
        ("request_timeout", server.request_timeout),
        ("weight_sync_timeout", server.weight_sync_timeout),
        ("canary_tolerance", server.canary_tolerance),
    ] {
        // The upper bound is a year, far inside what a Duration holds.
        problems.unless(value > 0.0 && value < 3.2e7, key, "must be above 0");
    }
    let tokens = server.max_prompt_tokens_in_flight;
    problems.unless(
        server.max_in_flight >= 1,
        "max_in_flight",
        "must be at least 1",
    );
    problems.unless(
        tokens != Some(0),
        "max_prompt_tokens_in_flight",
        "must be at least 1",
    );
}

/// Keys that nothing reads as the other settings are, and what they need to have an effect.
pub(crate) fn idle_keys(recipe: &Recipe) -> Vec<(&'static str, &'static str)> {
    let (model, optim, data) = (&recipe.model, &recipe.optim, &recipe.data);
    let scheduler = optim.lr_scheduler_type;
    let servers = ServerSettings::KEYS.iter().map(|(key, _)| *key);
    let servers: Vec<&str> = servers.filter(|key| *key != "use_vllm").collect();
    [
        (
            &["lora_r", "lora_alpha", "lora_target_modules", "use_rslora"][..],
            model.use_peft,
            "use_peft = true",
        ),
        (
            &["min_lr_rate"],
            scheduler == SchedulerName::CosineWithMinLr,
            "lr_scheduler_type = \"cosine_with_min_lr\"",
        ),
        (
            &["warmup_steps"],
            scheduler != SchedulerName::Constant,
            "lr_scheduler_type = \"constant_with_warmup\"",
        ),
        (
            &["ref_model_mixup_alpha", "ref_model_sync_steps"],
            optim.sync_ref_model,
            "sync_ref_model = true",
        ),
        (
            &["system_prompt", "chat_template_kwargs"],
            data.use_chat_template != Some(false),
            "use_chat_template = true",
        ),
        (
            &["num_completions_to_print"],
            recipe.log.log_completions_steps > 0,
            "log_completions_steps above 0",
        ),
        (
            &[
                "num_generations_eval",
                "eval_temperature",
                "max_eval_samples",
            ],
            !data.eval_datasets.is_empty(),
            "eval_datasets",
        ),
        (&servers, recipe.server.use_vllm, "use_vllm = true"),
        (
            &["vllm_server_host", "vllm_server_port"],
            recipe.server.vllm_server_base_url.is_empty() || !recipe.server.use_vllm,
            "vllm_server_base_url left out, which decides alone",
        ),
        (
            &["staleness_correction"],
            recipe.train.max_staleness > 0,
            "max_staleness above 0",
        ),
        (
            &["max_rows", "max_cache_mib"],
            !recipe.server.use_vllm,
            "use_vllm = false, as servers have limits of their own",
        ),
        (
            &["num_train_epochs"],
            recipe.train.max_steps.is_none(),
            "max_steps left out, which decides alone",
        ),
    ]
    .into_iter()
    .filter(|(_, has_effect, _)| !has_effect)
    .flat_map(|(keys, _, needs)| keys.iter().map(move |&key| (key, needs)))
    .collect()
}

/// Settings that somebody wrote and nothing would read, and pairs that exclude each other.
fn without_effect(recipe: &Recipe, given: &dyn Fn(&str) -> bool, problems: &mut Problems) {
    for (key, needs) in idle_keys(recipe) {
        problems.unless(!given(key), key, format!("has no effect without {needs}"));
    }
    problems.unless(
        !(recipe.optim.sync_ref_model && recipe.model.use_peft),
        "sync_ref_model",
        "the reference of low-rank adapters is the model without them, which does not move: \
         set use_peft = false, or leave it out",
    );
}
