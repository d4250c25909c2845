//! Every kind of mistake in a recipe, with its message.

use g2rpo_train::Error;

use crate::{GOOD, read};

/// One mistake in a recipe that is right otherwise, and what is said about it.
#[test]
fn every_kind_of_mistake_is_told_with_its_place() {
    for (wrong, message) in [
        (
            "seed = ",
            "1.toml, line 1: string values must be quoted, expected literal string",
        ),
        (
            "[optim]\nlearing_rate = 1.0",
            "1.toml, line 2: unknown key learing_rate: did you mean learning_rate?",
        ),
        (
            "epsilon = \"wide\"",
            "1.toml, line 1: epsilon = \"wide\": expected a number",
        ),
        (
            "loss_type = \"dr-grpo\"",
            "`dr-grpo` is none of grpo, bnpo, dr_grpo",
        ),
        (
            "num_generations = 0",
            "group size 0: a group needs at least 2 members",
        ),
        (
            "[method]\nmethod = \"ghpo\"\nguidance_token_loss = \"same_advantage\"",
            "1.toml, line 3: guidance_token_loss = \"same_advantage\": placement = prompt_hint does not go with loss.guidance_token_loss = same_advantage",
        ),
        (
            "[server]\nuse_vllm = true\nvllm_server_base_url = \"a:8000\"",
            "1.toml, line 3: vllm_server_base_url = \"a:8000\": a:8000 is no address such as http://localhost:8000",
        ),
        (
            "use_vllm = true\nweight_sync = \"adapter\"",
            "there is no adapter to send without use_peft = true",
        ),
        (
            "canary_tolerance = 0.1",
            "canary_tolerance = 0.1: has no effect without use_vllm = true",
        ),
        (
            "use_vllm = true\nmax_rows = 3",
            "max_rows = 3: has no effect without use_vllm = false",
        ),
        (
            "staleness_correction = \"tis\"",
            "staleness_correction = \"tis\": has no effect without max_staleness above 0",
        ),
        (
            "max_staleness = 1\nstaleness_correction = \"areal\"",
            "expected one of ratio, tis, dppo, decoupled",
        ),
        (
            "device = \"cpu\"\nddp_backend = \"nccl\"",
            "1.toml, line 2: ddp_backend = \"nccl\": NCCL sums on GPUs, and device is \"cpu\"",
        ),
        (
            "[optimizer]\nseed = 1",
            "1.toml, line 2: [optimizer] is no section: did you mean optim?",
        ),
        (
            "[model]\nseed = 1",
            "1.toml, line 2: seed belongs to [train], not to [model]",
        ),
        (
            "seed = 1.5",
            "1.toml, line 1: seed = 1.5: expected a whole number, 0 or more",
        ),
        (
            "max_steps = -1",
            "1.toml, line 1: max_steps = -1: expected a whole number, 0 or more",
        ),
        (
            "max_steps = 0",
            "1.toml, line 1: max_steps = 0: must be at least 1",
        ),
        (
            "learning_rate = \"fast\"",
            "1.toml, line 1: learning_rate = \"fast\": expected a number",
        ),
        (
            "learning_rate = inf",
            "1.toml, line 1: learning_rate: inf is not a finite number",
        ),
        (
            "learning_rate = -1e-6",
            "1.toml, line 1: learning_rate = -1e-6: must be 0 or more",
        ),
        (
            "use_peft = \"yes\"",
            "1.toml, line 1: use_peft = \"yes\": expected true or false",
        ),
        (
            "lr_scheduler_type = \"cosin\"",
            "lr_scheduler_type = \"cosin\": expected one of constant, constant_with_warmup, linear, cosine, cosine_with_min_lr; did you mean cosine?",
        ),
        (
            "dataset_format = \"gsm\"",
            "dataset_format = \"gsm\": expected one of auto, gsm8k, math, humaneval, mbpp, apps, livecodebench, prompt; did you mean gsm8k?",
        ),
        (
            "columns = { anser = \"x\" }",
            "anser is none of question, reference, solution, hints, difficulty, pass_rate, level",
        ),
        (
            "columns = 3",
            "columns = 3: expected a table such as { question = \"problem\" }",
        ),
        ("stop = \"x\"", "stop = \"x\": expected a list in brackets"),
        (
            "temperature = 0",
            "temperature = 0: must be above 0: greedy completions of a problem are all the same",
        ),
        (
            "temperature = 1e-9",
            "1.toml, line 1: temperature = 1e-9: must be at least 0.001: logits are divided by it",
        ),
        (
            "eval_temperature = 1e-9",
            "eval_temperature = 1e-9: must be 0, which is greedy, or at least 0.001",
        ),
        (
            "learning_rate = 1e30",
            "1.toml, line 1: learning_rate = 1e+30: must be at most 1: AdamW moves each weight",
        ),
        (
            "max_completion_length = 99999999999999999999",
            "1.toml, line 1: max_completion_length: 99999999999999999999 is too large: a whole number is at most 9223372036854775807",
        ),
        (
            "[log]\nnokey = 1",
            "1.toml, line 2: unknown key nokey: [log] has ",
        ),
        ("top_p = 1.5", "top_p = 1.5: must be in (0, 1]"),
        (
            "seed = 1979-05-27",
            "1.toml, line 1: seed: 1979-05-27: no setting is a date",
        ),
        (
            "per_device_train_batch_size = 4",
            "per_device_train_batch_size is a key of TRL that recipes do not have: batches are counted in problems: prompts_per_step",
        ),
        (
            "deepspeed = \"zero3.json\"",
            "deepspeed is a key of TRL that recipes do not have: every process holds a whole model; several that torchrun",
        ),
        (
            "lora_r = 8",
            "lora_r = 8: has no effect without use_peft = true",
        ),
        (
            "min_lr_rate = 0.1",
            "min_lr_rate = 0.1: has no effect without lr_scheduler_type = \"cosine_with_min_lr\"",
        ),
        (
            "sync_ref_model = true\nuse_peft = true",
            "sync_ref_model = true: the reference of low-rank adapters is the model without them",
        ),
        (
            "num_generations_eval = 4",
            "num_generations_eval = 4: greedy completions of a problem are all the same: set eval_temperature above 0",
        ),
        (
            "metric_for_best_model = \"dev\"",
            "metric_for_best_model = \"dev\": must name one of eval_datasets: test",
        ),
        (
            "early_stopping_patience = 2",
            "early_stopping_patience = 2: counts evaluations, and there are none during the run: set eval_steps",
        ),
        (
            "prompt_template = \"Q:\"",
            "prompt_template = \"Q:\": must contain {question}",
        ),
        (
            "device = \"gpu\"",
            "device = \"gpu\": expected auto, cpu, cuda, or a GPU such as cuda:1",
        ),
        (
            "reward_funcs = [\"format\"]",
            "format is none of format_reward, think_format_reward",
        ),
        (
            "reward_weights = [1.0]",
            "reward_weights = [1.0]: 1 weights for 0 reward_funcs",
        ),
        (
            "steps_per_generation = 9",
            "is more than prompts_per_step = 8: a group is never split over optimiser steps",
        ),
        ("method = \"grpa\"", "method = \"grpa\": did you mean grpo?"),
        (
            "use_chat_template = false\nsystem_prompt = \"x\"",
            "1.toml, line 2: system_prompt = \"x\": has no effect without use_chat_template = true",
        ),
    ] {
        let told = read(&[GOOD, wrong], &[]).unwrap_err().to_string();
        assert!(told.contains(message), "{wrong}\n{told}");
        assert!(
            matches!(read(&[GOOD, wrong], &[]), Err(Error::Recipe(p)) if p.len() == 1),
            "{told}"
        );
    }
}
