//! TRL's config files as recipes.
#![cfg(feature = "yaml")]

use g2rpo_train::recipe::read::merge;
use g2rpo_train::recipe::settings::{DtypeName, Recipe, ReportTo};
use g2rpo_train::recipe::yaml::parse_trl;

fn recipe(text: &str) -> (Recipe, Vec<String>) {
    let config = parse_trl(text, "x.yaml").unwrap_or_else(|e| panic!("{e:#?}"));
    let recipe = merge(config.settings, Vec::new()).unwrap_or_else(|e| panic!("{e}"));
    (recipe, config.notes)
}

fn problems(text: &str) -> Vec<String> {
    parse_trl(text, "x.yaml").unwrap_err()
}

#[test]
fn the_example_on_mathematics_is_read() {
    let (recipe, notes) = recipe(include_str!("../../../testdata/train/trl_math.yaml"));
    assert_eq!(recipe.model.dtype, DtypeName::Bfloat16);
    assert!(recipe.model.use_peft && recipe.model.gradient_checkpointing);
    assert_eq!(recipe.model.lora_target_modules, ["q_proj", "v_proj"]);
    assert_eq!(recipe.optim.learning_rate, 1e-5);
    assert_eq!(recipe.optim.warmup_steps, 0.1);
    // 8 micro-batches of 8 completions are 4 groups of 16 and one optimiser step.
    assert_eq!(recipe.train.prompts_per_step, 4);
    assert_eq!(
        (recipe.train.steps_per_generation, recipe.train.max_steps),
        (1, Some(100))
    );
    assert_eq!(recipe.verify.reward_funcs, ["think_format_reward"]);
    assert_eq!(recipe.method.method, "grpo");
    let method = &recipe.method.overrides;
    assert_eq!(method["num_generations"], 16);
    assert_eq!(method["epsilon_high"], 0.28);
    assert_eq!(method["scale"], "none");
    assert_eq!(method["loss_type"], "dr_grpo");
    assert_eq!(
        (recipe.log.logging_steps, recipe.log.log_completions_steps),
        (5, 5)
    );
    assert_eq!(recipe.log.report_to, ReportTo::Tensorboard);
    let attention = "x.yaml, line 5: attn_implementation: ";
    assert!(notes.iter().any(|n| n.starts_with(attention)), "{notes:#?}");
}

#[test]
fn several_updates_on_a_batch_are_counted_as_steps_of_rollouts() {
    let (recipe, _) = recipe(include_str!("../../../testdata/train/trl_code.yaml"));
    // 32 completions are 8 micro-batches of 4, 4 optimiser steps of 2, done twice.
    assert_eq!(recipe.train.prompts_per_step, 4);
    assert_eq!(
        (
            recipe.train.steps_per_generation,
            recipe.train.num_iterations
        ),
        (4, 2)
    );
    assert_eq!(recipe.train.max_steps, Some(2));
    assert_eq!(recipe.save.save_steps, 1);
    assert_eq!(recipe.method.overrides["curriculum"], "given");
    assert_eq!(recipe.method.overrides["num_generations"], 8);
    assert!(recipe.verify.reward_funcs.is_empty());
}

#[test]
fn what_is_not_done_is_refused_by_name() {
    for (text, message) in [
        (
            "use_vllm: true\nvllm_mode: server\nvllm_importance_sampling_mode: token",
            "x.yaml, line 3: vllm_importance_sampling_mode = \"token\": importance_sampling_correction",
        ),
        (
            "seed: 1\nfp16: true",
            "x.yaml, line 2: fp16 = true: cannot be done: float16",
        ),
        (
            "deepspeed: zero3.json",
            "deepspeed = \"zero3.json\": cannot be done",
        ),
        (
            "lerning_rate: 1e-6",
            "is no key of TRL 1.16; did you mean learning_rate?",
        ),
        ("optim: lion_32bit", "optim = \"lion_32bit\": AdamW it is"),
        (
            "report_to: wandb",
            "report_to = \"wandb\": none or tensorboard",
        ),
        (
            "model_revision: v2",
            "model_revision = \"v2\": main is the only one",
        ),
        (
            "reward_funcs: [mine.reward]",
            "reward_funcs = [\"mine.reward\"]: accuracy_reward is the verdict",
        ),
        (
            "num_generations: 7",
            "num_generations = 7: 8 completions are no whole number of groups of it",
        ),
        (
            "generation_batch_size: 12",
            "is no multiple of per_device_train_batch_size = 8",
        ),
        ("seed: [", "x.yaml: "),
        (
            "seed: 1\nbeta: 0\nseed : 2",
            "x.yaml, line 3: seed: line 1 gives it as well, and nothing says which counts: keep one of the two",
        ),
    ] {
        let told = problems(text);
        assert!(
            told.len() == 1 && told[0].contains(message),
            "{text}: {told:#?}"
        );
    }
    // What does not ask for anything is no mistake.
    parse_trl(
        "use_vllm: false\nfp16: no\ndeepspeed: null\nlabel_smoothing_factor: 0.0",
        "x",
    )
    .unwrap();
}

#[test]
fn weights_are_those_of_the_functions_beside_the_verdict() {
    let base = "model_name_or_path: m\ndataset_name: d\noutput_dir: o\n";
    // In either order of the keys, and with numbers that YAML takes for texts.
    let funcs = "reward_funcs: [accuracy_reward, think_format_reward]\n";
    for (text, kept) in [
        (
            format!("{base}{funcs}reward_weights: [1.0, 0.5]\n"),
            Some(vec![0.5]),
        ),
        (
            format!("{base}reward_weights: [1, 5e-1]\n{funcs}"),
            Some(vec![0.5]),
        ),
        (
            format!("{base}reward_weights: 1.0\nreward_funcs: accuracy_reward\n"),
            None,
        ),
        (
            format!("{base}reward_weights: [2.0]\nreward_funcs: [think_format_reward]\n"),
            Some(vec![2.0]),
        ),
        (format!("{base}reward_weights: null\n{funcs}"), None),
    ] {
        assert_eq!(recipe(&text).0.verify.reward_weights, kept, "{text}");
    }
    for (weights, message) in [
        (
            "[2.0, 1.0]",
            "the weight of accuracy_reward is that of the verdict, which is 1 and not 2: divide all weights by it",
        ),
        ("[1.0]", "1 weights for 2 reward_funcs"),
        ("[1.0, high]", "expected a list of numbers"),
    ] {
        let told = problems(&format!("{funcs}reward_weights: {weights}\n"));
        assert!(
            told.len() == 1
                && told[0].starts_with("x.yaml, line 2: reward_weights = ")
                && told[0].contains(message),
            "{told:#?}"
        );
    }
}

#[test]
fn wrong_values_are_told_with_what_is_refused() {
    let text = "fp16: true\nloss_type: [grpo]\ntop_p: 7\nmax_completion_length: 99999999999999999999\nmax_steps: 4\n";
    let told = problems(text);
    let begins = [
        "x.yaml, line 1: fp16 = true: cannot be done",
        "x.yaml, line 2: loss_type = [\"grpo\"]: ",
        "x.yaml, line 3: top_p = 7: must be in (0, 1]",
        "x.yaml, line 4: max_completion_length = 1",
    ];
    for begin in begins {
        assert!(
            told.iter().any(|p| p.starts_with(begin)),
            "{begin}\n{told:#?}"
        );
    }
    assert_eq!(told.len(), begins.len(), "{told:#?}");
}

#[test]
fn servers_are_taken_and_vllm_inside_is_refused() {
    let base = "model_name_or_path: m\ndataset_name: d\noutput_dir: o\nuse_vllm: true\n";
    let config = parse_trl(base, "x.yaml").unwrap();
    let told = merge(config.settings, Vec::new()).unwrap_err().to_string();
    assert_eq!(
        told,
        "default of TRL: vllm_mode = \"colocate\": this process cannot hold a vLLM, which is Python: \
         start `vllm serve` and set vllm_mode = \"server\""
    );
    let served =
        "vllm_mode: server\nvllm_server_base_url: http://a:1, http://b:2\nvllm_server_timeout: 9\n";
    let (taken, _) = recipe(&format!("{base}{served}"));
    assert_eq!(taken.server.urls(), ["http://a:1", "http://b:2"]);
    assert_eq!(taken.server.vllm_server_timeout, 9.0);
    let loss = taken.method.build(1).unwrap().loss;
    let trl = g2rpo_core::MismatchCorrection::default();
    assert_eq!(loss.importance_sampling_correction, Some(trl));
    let token = "vllm_importance_sampling_mode: token_truncate\nvllm_importance_sampling_cap: 2\n";
    let (taken, _) = recipe(&format!("{base}vllm_mode: server\n{token}"));
    let loss = taken.method.build(1).unwrap().loss;
    let correction = g2rpo_core::MismatchCorrection {
        level: g2rpo_core::MismatchLevel::Token,
        out_of_range: g2rpo_core::OutOfRange::Truncate,
        clip_min: None,
        clip_max: Some(2.0),
    };
    assert_eq!(loss.importance_sampling_correction, Some(correction));
    let off = "vllm_mode: server\nvllm_importance_sampling_correction: false\n";
    let (taken, _) = recipe(&format!("{base}{off}"));
    assert_eq!(
        taken
            .method
            .build(1)
            .unwrap()
            .loss
            .importance_sampling_correction,
        None
    );
    // Without servers their options say nothing.
    let alone = base.replace("use_vllm: true", "vllm_mode: colocate\nvllm_server_port: 1");
    let (taken, notes) = recipe(&alone);
    assert!(!taken.server.use_vllm && notes.len() == 2, "{notes:#?}");
}

#[test]
fn a_config_that_says_nothing_is_what_trl_does() {
    let nothing = "model_name_or_path: m\ndataset_name: d\noutput_dir: o\n";
    let (recipe, notes) = recipe(nothing);
    let method = recipe.method.build(100).unwrap();
    let trl = g2rpo_core::LossConfig {
        use_bias_correction_kl: Some(true),
        ..g2rpo_core::LossConfig::default()
    };
    assert_eq!(method.loss, trl);
    assert_eq!(method.advantages, g2rpo_core::AdvantageEstimator::default());
    assert_eq!(
        (method.num_generations, recipe.train.prompts_per_step),
        (8, 1)
    );
    assert_eq!(recipe.optim.learning_rate, 1e-6);
    assert!(notes.is_empty(), "{notes:#?}");
}

#[test]
fn mixtures_variables_and_launchers_are_known_by_name() {
    let base = "model_name_or_path: m\noutput_dir: o\n";
    let one = "dataset_name: d\ndatasets:\n  - path: json\n    data_files: train.jsonl\n    split: train\n    fraction: 0.5\nstreaming: true\n";
    let (taken, notes) = recipe(&format!("{base}{one}"));
    assert_eq!(taken.data.dataset_name.to_str(), Some("train.jsonl"));
    assert!(
        notes
            .iter()
            .any(|n| n == "x.yaml, line 3: dataset_name: is passed over, as datasets is given"),
        "{notes:#?}"
    );
    assert_eq!(notes.len(), 2, "{notes:#?}");
    let (taken, _) = recipe(&format!(
        "{base}datasets: [{{path: train.jsonl}}]\nenv: {{}}\n"
    ));
    assert_eq!(taken.data.dataset_name.to_str(), Some("train.jsonl"));
    for (text, message) in [
        (
            "datasets: [{path: a}, {path: b}]",
            "one data set that is one file",
        ),
        (
            "datasets: [{path: a, name: main}]",
            "one data set that is one file",
        ),
        (
            "datasets: [{path: a, split: test}]",
            "one data set that is one file",
        ),
        (
            "datasets: [{path: csv, data_files: a.csv}]",
            "one data set that is one file",
        ),
        (
            "test_split_size: 0.1",
            "cannot be done: problems for evaluation are files",
        ),
        (
            "env:\n  CUDA_VISIBLE_DEVICES: 0",
            "x.yaml, line 1: env = {\"CUDA_VISIBLE_DEVICES\":0}: cannot be done: variables are set where the command is started",
        ),
        (
            "accelerate_config: zero2",
            "cannot be done: several processes are started by torchrun",
        ),
    ] {
        let told = problems(text);
        assert!(
            told.len() == 1 && told[0].contains(message),
            "{text}: {told:#?}"
        );
    }
}

#[test]
fn a_number_that_is_none_hides_no_other_mistake() {
    let base = "model_name_or_path: m\ndataset_name: d\noutput_dir: o\n";
    let text =
        format!("{base}learning_rate: .nan\ntop_p: -.inf\nsave_total_limit: 0\nbeta: .inf\n");
    let config = parse_trl(&text, "x.yaml").unwrap();
    let told = merge(config.settings, Vec::new()).unwrap_err().to_string();
    let lines: Vec<&str> = told.lines().collect();
    assert_eq!(
        lines,
        [
            "x.yaml, line 4: learning_rate = \".nan\": expected a number",
            "x.yaml, line 5: top_p = \"-.inf\": expected a number",
            "x.yaml, line 6: save_total_limit = 0: must be at least 1",
            "x.yaml, line 7: beta = \".inf\": expected a number",
        ]
    );
}
