//! The code for GPUs, run on the CPU with libtorch's flash attention for the CPU, against the code for
//! host memory: the same rollouts.

use g2rpo_rollout::{Completion, Request, RolloutEngine, RolloutKey, SamplingParams};
use tch::{Device, Kind};

use crate::generate::config::EngineConfig;
use crate::generate::cuda::flash::on_the_cpu;
use crate::generate::engine::TorchEngine;
use crate::model::config::{DecoderConfig, LayerRope, LayerSpec};
use crate::model::decoder::Decoder;
use crate::model::init::init_parameters;

/// Flash attention sums in another order.
const TOLERANCE: f32 = 1e-5;

fn decoder(config: DecoderConfig, kind: Kind) -> Decoder {
    tch::set_num_threads(1);
    let config = DecoderConfig {
        // Far from uniform.
        initializer_range: 0.2,
        ..config
    };
    let parameters = init_parameters(&config, 7, kind, Device::Cpu).unwrap();
    Decoder::new(&config, &parameters).unwrap()
}

/// Six groups, of eight and of one; some members guided, some alike; limits differ.
fn requests() -> Vec<Request> {
    (0..27u32)
        .map(|i| {
            let (group, member) = if i < 24 { (i / 8, i % 8) } else { (i, 0) };
            let guidance = match member {
                0 | 1 => 3,
                2 => 140,
                _ => 0,
            };
            let id = |t: u32| (t * t + 7 * group + 3 * member.min(2) * t + 1) % 90;
            Request {
                prompt: (0..[4, 30, 11, 150][group.min(3) as usize])
                    .map(|t| (t * 5 + group) % 90)
                    .collect(),
                guidance: (0..guidance * u32::from(group != 1)).map(id).collect(),
                key: RolloutKey {
                    group,
                    member,
                    ..RolloutKey::default()
                },
                max_new_tokens: 2 + (i as usize * 5) % 17,
            }
        })
        .collect()
}

fn compare(ours: &[Completion], theirs: &[Completion], tolerance: f32) {
    assert_eq!(ours.len(), theirs.len());
    for (i, (ours, theirs)) in ours.iter().zip(theirs).enumerate() {
        assert_eq!(ours.tokens, theirs.tokens, "request {i}");
        assert_eq!(ours.stop, theirs.stop, "request {i}");
        for (a, b) in ours.logps.iter().zip(&theirs.logps) {
            assert!((a - b).abs() < tolerance, "request {i}: {a} {b}");
        }
    }
}

fn limits() -> [EngineConfig; 4] {
    let base = EngineConfig::default();
    let (tokens, bytes) = (base.max_prefill_tokens, base.max_cache_bytes);
    // Fewer rows than a group, groups that wait for one another, and a cache for few.
    [
        (base.max_rows, tokens, bytes),
        (5, tokens, bytes),
        (11, 40, bytes),
        (base.max_rows, tokens, 150_000),
    ]
    .map(
        |(max_rows, max_prefill_tokens, max_cache_bytes)| EngineConfig {
            max_rows,
            max_prefill_tokens,
            max_cache_bytes,
            ..EngineConfig::default()
        },
    )
}

fn same_rollouts(config: DecoderConfig) {
    let decoder = decoder(config, Kind::Float);
    let requests = requests();
    for params in [
        SamplingParams::greedy(),
        SamplingParams {
            stop_token_ids: vec![7, 8, 9],
            ..SamplingParams::default()
        },
    ] {
        let expected = TorchEngine::new(&decoder)
            .generate(&requests, &params)
            .unwrap();
        for config in limits() {
            let mut engine = TorchEngine::new(&decoder)
                .with_config(config)
                .with_kernel(on_the_cpu);
            // Twice, as an engine is used.
            for _ in 0..2 {
                compare(
                    &engine.generate(&requests, &params).unwrap(),
                    &expected,
                    TOLERANCE,
                );
            }
            assert!(engine.fallbacks().is_empty());
        }
    }
}

#[test]
fn rollouts_are_those_of_the_code_for_host_memory() {
    same_rollouts(DecoderConfig::tiny_qwen3(90, 32, 2, 4, 2));
}

#[test]
fn so_they_are_without_grouped_heads_and_with_biases() {
    same_rollouts(DecoderConfig {
        qkv_bias: true,
        ..DecoderConfig::tiny_qwen3(90, 24, 3, 3, 3)
    });
}

#[test]
fn so_they_are_with_multipliers_and_layers_without_rotations() {
    same_rollouts(DecoderConfig {
        embedding_multiplier: 2.5,
        attention_multiplier: Some(0.2),
        residual_multiplier: 0.6,
        logits_scaling: 1.4,
        layers: vec![LayerSpec {
            rope: LayerRope::None,
            ..LayerSpec::default()
        }],
        ..DecoderConfig::tiny_qwen3(90, 32, 2, 4, 2)
    });
}

/// In the format for which it is made rounding decides between the code for any device and this one, so only
/// the log-probabilities of what both sampled are compared.
#[test]
fn in_bf16_log_probs_are_close_to_those_of_plain_products() {
    let decoder = decoder(DecoderConfig::tiny_qwen3(90, 32, 2, 4, 2), Kind::BFloat16);
    let requests = requests();
    let params = SamplingParams::default();
    let plain = TorchEngine::new(&decoder)
        .generate(&requests, &params)
        .unwrap();
    let flash = TorchEngine::new(&decoder)
        .with_kernel(on_the_cpu)
        .generate(&requests, &params)
        .unwrap();
    let (mut n, mut sum) = (0, 0.0);
    for (a, b) in flash.iter().zip(&plain) {
        let same = a.tokens.iter().zip(&b.tokens).take_while(|(a, b)| a == b);
        let same = same.count();
        for (a, b) in a.logps.iter().zip(&b.logps).take(same) {
            assert!((a - b).abs() < 0.3, "{a} {b}");
            sum += (a - b).abs();
            n += 1;
        }
    }
    assert!(n > 100, "{n} tokens say little");
    assert!(sum / (n as f32) < 0.03, "{sum} over {n}");
}
