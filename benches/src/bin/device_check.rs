//! Whether a device computes what the CPU does in f32, before anything on it is timed.
//!
//!     device_check cuda
//!     device_check cpu
//!
//! Small random models of a few shapes. One line per comparison; the exit status is 1 if one failed.
//! On the CPU the comparisons with f32 are trivial, and those with bf16 are real.

use std::error::Error;

use g2rpo_core::{Learner, Ragged, Scoring, Sequences, TokenGrads, WhichPolicy};
use g2rpo_libtorch::{
    Decoder, DecoderConfig, EngineConfig, Error as TorchError, LearnerConfig, LoraConfig,
    Parameters, TorchEngine, TorchLearner, device, init_parameters,
};
use g2rpo_rollout::{Completion, Request, RolloutEngine, RolloutKey, SamplingParams};
use tch::{Device, Kind, Tensor};

fn main() -> Result<(), Box<dyn Error>> {
    let name = std::env::args().nth(1).unwrap_or("auto".into());
    let device = device(&name)?;
    println!("device {device:?}, {} threads", tch::get_num_threads());
    let mut report = Report::default();
    for (name, config) in shapes() {
        println!("{name}");
        logits(&mut report, &config, device)?;
        generation(&mut report, &config, device)?;
        learning(&mut report, &config, device)?;
    }
    out_of_memory(&mut report, device)?;
    if report.failed > 0 {
        let all = report.failed + report.held;
        return Err(format!("{} of {all} comparisons failed", report.failed).into());
    }
    println!("all {} comparisons hold", report.held);
    Ok(())
}

#[derive(Default)]
struct Report {
    held: usize,
    failed: usize,
}

impl Report {
    /// A number that must be at most `limit`; NaN is not.
    fn at_most(&mut self, what: &str, got: f64, limit: f64) {
        let (word, count) = if got <= limit {
            ("ok  ", &mut self.held)
        } else {
            ("FAIL", &mut self.failed)
        };
        *count += 1;
        println!("  {word} {what}: {got:.3e}, at most {limit:.0e}");
    }
}

fn shapes() -> Vec<(&'static str, DecoderConfig)> {
    // Far from uniform, so that greedy choices are not left to rounding.
    let far = |initializer_range, config| DecoderConfig {
        initializer_range,
        ..config
    };
    let wide = DecoderConfig {
        head_dim: 128,
        ..DecoderConfig::tiny_qwen3(2000, 256, 2, 4, 2)
    };
    let biased = DecoderConfig {
        qkv_bias: true,
        ..DecoderConfig::tiny_qwen3(300, 96, 2, 6, 6)
    };
    let grouped = DecoderConfig::tiny_qwen3(500, 64, 3, 8, 2);
    vec![
        ("grouped heads", far(0.2, grouped)),
        ("heads as wide as those of Qwen3", far(0.1, wide)),
        ("biases, no grouped heads", far(0.2, biased)),
    ]
}

/// Random parameters on a device; the numbers are those of the CPU's in f32.
fn parameters(
    config: &DecoderConfig,
    kind: Kind,
    device: Device,
) -> Result<Parameters, TorchError> {
    init_parameters(config, 3, Kind::Float, Device::Cpu)?.to(kind, device)
}

fn largest(a: &Tensor, b: &Tensor) -> f64 {
    let host = |t: &Tensor| t.to_device(Device::Cpu).to_kind(Kind::Double);
    f64::try_from((host(a) - host(b)).abs().max()).unwrap_or(f64::NAN)
}

/// Whether the comparisons could be made.
type Outcome = Result<(), TorchError>;

fn logits(report: &mut Report, config: &DecoderConfig, device: Device) -> Outcome {
    let vocab = config.vocab_size as i64;
    let ids = (Tensor::arange(3 * 40, (Kind::Int64, Device::Cpu)) * 7919 + 13).remainder(vocab);
    let ids = ids.view([3, 40]);
    let _no_grad = tch::no_grad_guard();
    let of = |kind, device| -> Result<Tensor, TorchError> {
        let parameters = parameters(config, kind, device)?;
        let logits = Decoder::new(config, &parameters)?.logits_btv(&ids.to_device(device))?;
        Ok(logits.to_kind(Kind::Float).log_softmax(-1, Kind::Float))
    };
    let expected = of(Kind::Float, Device::Cpu)?;
    for (kind, what, limit) in [
        (Kind::Float, "f32, against the CPU's", 1e-4),
        (Kind::BFloat16, "bf16, against f32 on the CPU", 0.5),
    ] {
        let what = format!("log-probabilities in {what}");
        report.at_most(&what, largest(&of(kind, device)?, &expected), limit);
    }
    Ok(())
}

/// Groups of eight and single ones, some members guided, some alike; limits differ.
fn requests(vocab: u32) -> Vec<Request> {
    (0..44u32)
        .map(|i| {
            let (group, member) = if i < 40 { (i / 8, i % 8) } else { (i, 0) };
            let guidance = match member {
                0 | 1 => 3,
                2 => 140,
                _ => 0,
            };
            Request {
                prompt: (0..[4, 30, 11, 150, 260, 77][group.min(5) as usize])
                    .map(|t| (t * 5 + group * 31) % vocab)
                    .collect(),
                guidance: (0..guidance * u32::from(group != 1))
                    .map(|t| (t * t + 7 * group + 3 * member.min(2) * t + 1) % vocab)
                    .collect(),
                key: RolloutKey {
                    group,
                    member,
                    ..RolloutKey::default()
                },
                max_new_tokens: 20 + (i as usize * 5) % 37,
            }
        })
        .collect()
}

/// How far log-probabilities of the same ids are apart (largest, mean), and the share of requests whose
/// ids part somewhere.
fn apart(a: &[Completion], b: &[Completion]) -> (f64, f64, f64) {
    let (mut distances, mut parted) = (Vec::new(), 0.0);
    for (a, b) in a.iter().zip(b) {
        let same = a.tokens.iter().zip(&b.tokens).take_while(|(a, b)| a == b);
        let same = same.count();
        parted += f64::from(u8::from(same < a.tokens.len().max(b.tokens.len())));
        let logps = a.logps.iter().zip(&b.logps).take(same);
        distances.extend(logps.map(|(a, b)| f64::from((a - b).abs())));
    }
    let (most, mean) = most_and_mean(&distances);
    (most, mean, parted / a.len() as f64)
}

fn most_and_mean(distances: &[f64]) -> (f64, f64) {
    // `max` would lose NaN.
    let larger = |a: f64, b: &f64| if b.is_nan() || *b > a { *b } else { a };
    let mean = distances.iter().sum::<f64>() / distances.len() as f64;
    (distances.iter().fold(0.0, larger), mean)
}

fn generation(report: &mut Report, config: &DecoderConfig, device: Device) -> Outcome {
    let requests = requests(config.vocab_size as u32);
    let all = EngineConfig::default();
    let few = EngineConfig {
        max_rows: 11,
        ..all.clone()
    };
    let on = |parameters: &Parameters| Decoder::new(config, parameters);
    let reference = on(&parameters(config, Kind::Float, Device::Cpu)?)?;
    let f32 = on(&parameters(config, Kind::Float, device)?)?;
    let bf16 = on(&parameters(config, Kind::BFloat16, device)?)?;
    let sampled = SamplingParams::default();
    let generate = |decoder: &Decoder, limits: &EngineConfig, params: &SamplingParams| {
        let mut engine = TorchEngine::new(decoder).with_config(limits.clone());
        let completions = engine.generate(&requests, params)?;
        Ok::<_, TorchError>((completions, engine.fallbacks().to_vec()))
    };

    let greedy = SamplingParams::greedy();
    let (expected, _) = generate(&reference, &all, &greedy)?;
    for (name, limits) in [("all rows", &all), ("11 rows", &few)] {
        let (most, _, parted) = apart(&generate(&f32, limits, &greedy)?.0, &expected);
        let what = format!("{name}: greedy rollouts in f32 that differ from the CPU's");
        report.at_most(&what, parted, 0.0);
        report.at_most("their log-probabilities", most, 1e-3);
    }

    let without_graphs = EngineConfig {
        cuda_graphs: false,
        ..all.clone()
    };
    let plain = EngineConfig {
        flash_attention: false,
        ..all.clone()
    };
    let (graphs, fallbacks) = generate(&bf16, &all, &sampled)?;
    for fallback in &fallbacks {
        println!("       {fallback}");
    }
    let unused = "what could not be used of the GPU";
    report.at_most(unused, fallbacks.len() as f64, 0.0);
    let (few, fallbacks) = generate(&bf16, &few, &sampled)?;
    report.at_most("the same with 11 rows", fallbacks.len() as f64, 0.0);
    let (steps, _) = generate(&bf16, &without_graphs, &sampled)?;
    let (plain, _) = generate(&bf16, &plain, &sampled)?;
    // Where sums are taken in another order, bf16 rounds otherwise, and most rollouts part sooner or
    // later; until then they must agree. A record repeats the same sums.
    for (what, other, most_allowed, mean_allowed, parted_allowed) in [
        ("CUDA graphs on and off, bf16", &steps, 1e-2, 1e-3, 0.05),
        ("flash attention on and off, bf16", &plain, 0.5, 0.02, 1.0),
        ("44 rows and 11, bf16", &few, 0.5, 0.02, 1.0),
    ] {
        let (most, mean, parted) = apart(&graphs, other);
        for (which, got, limit) in [
            ("largest difference", most, most_allowed),
            ("mean difference", mean, mean_allowed),
            ("rollouts that part", parted, parted_allowed),
        ] {
            report.at_most(&format!("{what}: {which}"), got, limit);
        }
    }

    // What was sampled, seen by a model that computes whole sequences.
    let (most, mean) = against_learner(config, device, &requests, &graphs)?;
    report.at_most("sampling against the learner, bf16: largest", most, 1.0);
    report.at_most("sampling against the learner, bf16: mean", mean, 0.05);
    Ok(())
}

fn against_learner(
    config: &DecoderConfig,
    device: Device,
    requests: &[Request],
    completions: &[Completion],
) -> Result<(f64, f64), TorchError> {
    let parameters = parameters(config, Kind::BFloat16, device)?;
    let mut learner = TorchLearner::new(config, parameters, LearnerConfig::default())?;
    let rows = (requests.iter().zip(completions))
        .map(|(r, made)| [&r.prompt[..], &r.guidance, &made.tokens].concat());
    let prompts = requests.iter().map(|r| r.prompt.len()).collect();
    let sequences = Sequences::new(Ragged::from_rows(rows), prompts)?;
    let scoring = SamplingParams::default().scoring(false);
    let all = (learner.token_logps(&sequences, WhichPolicy::Current, &scoring))?.logp;
    let mut distances = Vec::new();
    for ((request, completion), row) in requests.iter().zip(completions).zip(all.rows()) {
        let logps = completion.logps.iter().zip(&row[request.guidance.len()..]);
        distances.extend(logps.map(|(a, b)| (f64::from(*a) - b).abs()));
    }
    Ok(most_and_mean(&distances))
}

/// Log-probabilities, entropies, gradient and an update, all parameters and an adapter.
fn learning(report: &mut Report, config: &DecoderConfig, device: Device) -> Outcome {
    let vocab = config.vocab_size as u32;
    let rows = (0..6u32).map(|r| (0..30 + 9 * r).map(move |t| (t * t * 3 + r * 17 + t) % vocab));
    let tokens = Ragged::from_rows(rows.map(|row| row.collect::<Vec<_>>()));
    let sequences = Sequences::new(tokens, (0..6).map(|r| 5 + r).collect())?;
    let with_entropy = Scoring {
        entropy: true,
        ..Scoring::default()
    };
    for lora in [false, true] {
        let what = if lora { "adapter" } else { "all parameters" };
        let step = |kind, device| -> Result<_, TorchError> {
            let settings = LearnerConfig {
                max_tokens_per_micro_batch: 200,
                lora: lora.then(|| LoraConfig {
                    r: 4,
                    target_modules: vec!["all-linear".into()],
                    ..LoraConfig::default()
                }),
                ..LearnerConfig::default()
            };
            let mut learner =
                TorchLearner::new(config, parameters(config, kind, device)?, settings)?;
            let mut seen = Vec::new();
            learner.accumulate(&sequences, &with_entropy, &mut |outputs| {
                let entropy = outputs.entropy.as_ref();
                seen.extend(outputs.logp.rows().flatten().copied());
                seen.extend(entropy.iter().flat_map(|e| e.rows().flatten().copied()));
                Ok(TokenGrads {
                    logp: outputs.logp.map(|logp| -1e-2 * (1.0 + 0.1 * logp)),
                    entropy: entropy.map(|e| e.map(|_| -1e-4)),
                })
            })?;
            let norm = learner.apply(1e-3)?.grad_norm;
            let scoring = Scoring::default();
            let after = (learner.token_logps(&sequences, WhichPolicy::Current, &scoring))?.logp;
            let after = after.rows().flatten().copied().collect::<Vec<f64>>();
            Ok((Tensor::from_slice(&seen), norm, Tensor::from_slice(&after)))
        };
        let (expected, norm, after) = step(Kind::Float, Device::Cpu)?;
        for (kind, outputs, norms, afters) in [
            (Kind::Float, 1e-3, 1e-4, 1e-2),
            (Kind::BFloat16, 0.5, 0.1, 1.0),
        ] {
            let (ours, our_norm, our_after) = step(kind, device)?;
            let (off, norm_off) = (largest(&ours, &expected), (our_norm / norm - 1.0).abs());
            let after_off = largest(&our_after, &after);
            for (which, got, limit) in [
                ("log-probabilities and entropies", off, outputs),
                ("norm of the gradient, relative", norm_off, norms),
                ("log-probabilities after an update", after_off, afters),
            ] {
                let what = format!("learner, {what}, {kind:?}, against f32 on the CPU: {which}");
                report.at_most(&what, got, limit);
            }
        }
    }
    Ok(())
}

/// Whether memory that does not suffice is an error that says what for.
fn out_of_memory(report: &mut Report, device: Device) -> Outcome {
    let config = DecoderConfig {
        head_dim: 1024,
        ..DecoderConfig::tiny_qwen3(100, 64, 2, 16, 16)
    };
    let parameters = parameters(&config, Kind::BFloat16, device)?;
    let decoder = Decoder::new(&config, &parameters)?;
    // 128 KiB a position, 4 TiB in all.
    let requests: Vec<Request> = (0..4096)
        .map(|member| Request {
            prompt: vec![1],
            guidance: Vec::new(),
            key: RolloutKey {
                member,
                ..RolloutKey::default()
            },
            max_new_tokens: 8193,
        })
        .collect();
    let mut engine = TorchEngine::new(&decoder).with_config(EngineConfig {
        max_rows: 4096,
        max_cache_bytes: usize::MAX,
        ..EngineConfig::default()
    });
    let said = match engine.generate(&requests, &SamplingParams::default()) {
        Err(TorchError::OutOfMemory { doing, .. }) => doing.starts_with("allocating a KV cache of"),
        Err(other) => {
            println!("       {other}");
            false
        }
        Ok(_) => false,
    };
    let unsaid = f64::from(u8::from(!said));
    report.at_most("a KV cache too large is named as such", unsaid, 0.0);
    // The device is still usable.
    let sum = f64::try_from(Tensor::ones([8], (Kind::Float, device)).sum(Kind::Float));
    let off = (sum.unwrap_or(f64::NAN) - 8.0).abs();
    report.at_most("and the device goes on", off, 0.0);
    Ok(())
}
