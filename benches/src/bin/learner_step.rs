//! Times GRPO steps of the learner and reports the peak memory of the process, for
//! `benches/learner.py`.
//!
//!     learner_step vocab=32000 hidden=512 layers=8 heads=8 kv_heads=4 rows=16 prompt=256 completion=256
//!     learner_step model=FOLDER rows=16 prompt=256 completion=256 lora=16
//!     learner_step vocab=151936 hidden=1024 ffn=3072 layers=28 heads=16 kv_heads=8 head_dim=128 bf16=1 device=cuda
//!
//! Each setting has the default that its line in `Settings` gives. One JSON object per step.

use std::time::Instant;

use g2rpo_benches::synchronize;
use g2rpo_core::{Learner, Ragged, Scoring, Sequences, TokenGrads};
use g2rpo_libtorch::{
    DecoderConfig, LearnerConfig, LoraConfig, TorchLearner, device, init_parameters,
    load_checkpoint,
};
use tch::Kind;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::collections::HashMap::new();
    for argument in std::env::args().skip(1) {
        let (key, value) = argument.split_once('=').ok_or("expected key=value")?;
        arguments.insert(key.to_owned(), value.to_owned());
    }
    let mut number = |key: &str, default: usize| -> usize {
        (arguments.remove(key)).map_or(default, |v| v.parse().expect("a whole number"))
    };
    let (vocab, hidden) = (number("vocab", 32000), number("hidden", 512));
    let (layers, heads) = (number("layers", 8), number("heads", 8));
    let kv_heads = number("kv_heads", 4);
    let (rows, prompt) = (number("rows", 16), number("prompt", 256));
    let completion = number("completion", 256);
    let ffn = number("ffn", 3 * hidden);
    let head_dim = number("head_dim", hidden / heads.max(1));
    let (steps, threads) = (number("steps", 3), number("threads", 2));
    let lora = number("lora", 0);
    let scoring = Scoring {
        entropy: number("entropy", 0) == 1,
        ..Scoring::default()
    };
    let default = LearnerConfig::default();
    let config = LearnerConfig {
        gradient_checkpointing: number("checkpointing", 1) == 1,
        max_tokens_per_micro_batch: number("tokens", default.max_tokens_per_micro_batch),
        max_logits_mib: number("logits_mib", default.max_logits_mib),
        lora: (lora > 0).then(|| LoraConfig {
            r: lora,
            target_modules: vec!["all-linear".into()],
            ..LoraConfig::default()
        }),
        ..default
    };
    let kind = match number("bf16", 0) {
        1 => Kind::BFloat16,
        _ => Kind::Float,
    };
    let device = device(&arguments.remove("device").unwrap_or("cpu".into()))?;
    let folder = arguments.remove("model");
    if let Some(key) = arguments.keys().next() {
        return Err(format!("unknown setting {key}").into());
    }
    tch::set_num_threads(threads as i32);
    // What libtorch itself takes, before there is a model.
    let held = status_mib("VmRSS:");

    let (model, parameters) = match folder {
        Some(folder) => {
            let checkpoint = load_checkpoint(folder, Some(kind), device)?;
            (checkpoint.config, checkpoint.parameters)
        }
        None => {
            let model = DecoderConfig {
                intermediate_size: ffn,
                head_dim,
                ..DecoderConfig::tiny_qwen3(vocab, hidden, layers, heads, kv_heads)
            };
            let parameters = init_parameters(&model, 1, kind, device)?;
            (model, parameters)
        }
    };
    let vocab = model.vocab_size;
    let mut learner = TorchLearner::new(&model, parameters, config)?;
    let id = |r: usize, t: usize| ((r * 7919 + t * 104_729 + t * t * 31) % vocab) as u32;
    let tokens =
        Ragged::from_rows((0..rows).map(|r| (0..prompt + completion).map(move |t| id(r, t))));
    let sequences = Sequences::new(tokens, vec![prompt; rows])?;
    let n_tokens = rows * (prompt + completion);
    for step in 0..steps {
        let (start, processor) = (Instant::now(), processor_seconds());
        // The gradient of the plain GRPO loss on policy is −A / (number of completion tokens).
        learner.accumulate(&sequences, &scoring, &mut |outputs| {
            let grads = (outputs.rows.iter().zip(outputs.logp.lengths())).map(|(&row, len)| {
                let advantage = if row % 2 == 0 { 1.0 } else { -1.0 };
                vec![-advantage / (rows * completion) as f64; len]
            });
            Ok(TokenGrads {
                logp: Ragged::from_rows(grads),
                entropy: None,
            })
        })?;
        synchronize(device);
        let gradient = start.elapsed().as_secs_f64();
        learner.apply(1e-6)?;
        synchronize(device);
        let seconds = start.elapsed().as_secs_f64();
        println!(
            "{{\"step\": {step}, \"seconds\": {seconds:.4}, \"gradient_seconds\": {gradient:.4}, \
             \"processor_seconds\": {:.2}, \"tokens_per_second\": {:.1}, \"peak_mib\": {}, \"held_mib\": {held}, \
             \"parameters\": {}}}",
            processor_seconds() - processor,
            n_tokens as f64 / seconds,
            status_mib("VmHWM:"),
            learner.base().numel(),
        );
    }
    Ok(())
}

/// What the process had of processors so far, in its own work and the kernel's.
fn processor_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // Behind the name, which may hold anything; in hundredths on every Linux.
    let fields = stat.rsplit(')').next().unwrap_or_default();
    let ticks = fields.split_whitespace().skip(11).take(2);
    ticks.filter_map(|n| n.parse::<f64>().ok()).sum::<f64>() / 100.0
}

/// A line of the process's status that is given in KiB.
fn status_mib(field: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with(field));
    line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok())
        .map_or(0, |kib| kib / 1024)
}
