//! The log-probabilities that the engine reports while it samples are those that the learner
//! computes for the same tokens: on both the code for host memory and the one for any device.

use g2rpo_core::{Learner, Ragged, Sequences, WhichPolicy};
use g2rpo_libtorch::{
    Architecture, DecoderConfig, DeltaNetConfig, ExpertsConfig, LayerSpec, LearnerConfig,
    LoraConfig, TorchEngine, TorchLearner, init_parameters,
};
use g2rpo_rollout::{Completion, Request, RolloutEngine, RolloutKey, SamplingParams};
use tch::{Device, Kind, Tensor};

/// f32 through caches, packed products and other orders of sums.
const TOLERANCE_F32: f64 = 1e-4;
const TOLERANCE_F64: f64 = 1e-6;
/// Hidden states are rounded to 8 bits on different ways.
const TOLERANCE_BF16: f64 = 0.2;

/// Three groups of four with prompts of 2, 9 and 30 ids. Members 0 and 1 share guidance, member 2
/// has its own, member 3 none; limits differ.
fn requests(vocab: u32) -> Vec<Request> {
    (0..12u32)
        .map(|i| {
            let (group, member) = (i / 4, i % 4);
            let id = |t: u32| (t * t * 7 + 13 * group + t) % vocab;
            let guidance = match member {
                0 | 1 => 5,
                2 => 11,
                _ => 0,
            };
            Request {
                prompt: (0..[2, 9, 30][group as usize]).map(id).collect(),
                guidance: (0..guidance).map(|t| id(t + 3 * member.max(1))).collect(),
                key: RolloutKey {
                    run: 1,
                    step: 2,
                    group,
                    member,
                },
                max_new_tokens: 1 + (i as usize * 7) % 24,
            }
        })
        .collect()
}

/// The learner's log-probabilities of what was sampled, guidance being part of the completion.
fn recomputed(
    learner: &mut TorchLearner,
    requests: &[Request],
    params: &SamplingParams,
    completions: &[Completion],
) -> Ragged<f64> {
    let rows = (requests.iter().zip(completions)).map(|(request, completion)| {
        let context = request.prompt.iter().chain(&request.guidance);
        context
            .chain(&completion.tokens)
            .copied()
            .collect::<Vec<_>>()
    });
    let tokens = Ragged::from_rows(rows);
    let prompts = requests.iter().map(|request| request.prompt.len());
    let sequences = Sequences::new(tokens, prompts.collect()).unwrap();
    let scoring = params.scoring(false);
    let all = (learner.token_logps(&sequences, WhichPolicy::Current, &scoring))
        .unwrap()
        .logp;
    let own = requests.iter().zip(all.rows());
    Ragged::from_rows(own.map(|(request, logps)| logps[request.guidance.len()..].to_vec()))
}

fn qwen3() -> DecoderConfig {
    DecoderConfig {
        // Far from uniform, with biases where the family has them.
        initializer_range: 0.15,
        qkv_bias: true,
        ..DecoderConfig::tiny_qwen3(211, 48, 3, 6, 2)
    }
}

/// A delta net, attention behind a gate, and another delta net.
fn qwen3_5() -> DecoderConfig {
    let delta_net = |delta_net| LayerSpec {
        delta_net,
        ..LayerSpec::default()
    };
    DecoderConfig {
        architecture: Architecture::Qwen35,
        delta_net: Some(DeltaNetConfig {
            key_heads: 2,
            value_heads: 4,
            key_width: 10,
            value_width: 12,
            conv_kernel: 4,
        }),
        layers: [true, false, true].map(delta_net).to_vec(),
        qkv_bias: false,
        ..qwen3()
    }
}

/// Experts in the second of three layers.
fn qwen3_moe() -> DecoderConfig {
    let experts = |experts| LayerSpec {
        experts,
        ..LayerSpec::default()
    };
    DecoderConfig {
        architecture: Architecture::Qwen3Moe,
        experts: Some(ExpertsConfig {
            num_experts: 5,
            num_experts_per_tok: 2,
            intermediate_size: 40,
            norm_topk_prob: true,
        }),
        layers: [false, true, false].map(experts).to_vec(),
        ..qwen3()
    }
}

fn check(model: &DecoderConfig, kind: Kind, temperature: f64, lora: bool, threads: i32) {
    tch::set_num_threads(threads);
    let parameters = init_parameters(model, 9, kind, Device::Cpu).unwrap();
    // In a model with experts adapters stand beside attention alone.
    let targets: &[&str] = match model.experts {
        None => &["q_proj", "down_proj", "up_proj"],
        Some(_) => &["q_proj", "o_proj"],
    };
    let config = LearnerConfig {
        lora: lora.then(|| LoraConfig {
            r: 3,
            target_modules: targets.iter().map(|&name| name.to_owned()).collect(),
            ..LoraConfig::default()
        }),
        ..LearnerConfig::default()
    };
    let mut learner = TorchLearner::new(model, parameters, config).unwrap();
    // Biases and fresh adapters are zero, which would hide a mistake with them.
    tch::manual_seed(4);
    let noise = |flat: &Tensor| {
        let noise = flat.randn_like() * 0.05;
        let _ = tch::no_grad(|| flat.shallow_clone().g_add_(&noise));
    };
    noise(learner.base().flat());
    if let Some(adapter) = learner.adapter() {
        noise(adapter.parameters().flat());
    }
    let requests = requests(211);
    let params = SamplingParams {
        temperature,
        ..SamplingParams::default()
    };
    let mut engine = TorchEngine::new(learner.policy());
    let completions = engine.generate(&requests, &params).unwrap();
    let again = recomputed(&mut learner, &requests, &params, &completions);
    let tolerance = match kind {
        Kind::Double => TOLERANCE_F64,
        Kind::BFloat16 => TOLERANCE_BF16,
        _ => TOLERANCE_F32,
    };
    let mut n = 0;
    for (i, (completion, again)) in completions.iter().zip(again.rows()).enumerate() {
        assert_eq!(completion.logps.len(), again.len());
        for (t, (&sampled, again)) in completion.logps.iter().zip(again).enumerate() {
            let difference = (f64::from(sampled) - again).abs();
            assert!(
                difference < tolerance,
                "{kind:?}, temperature {temperature}, lora {lora}: request {i}, token {t}: \
                 {sampled} sampled, {again} recomputed"
            );
            n += 1;
        }
    }
    assert!(n > 100, "{n} tokens say little");
}

#[test]
fn sampling_log_probs_are_the_learners() {
    let model = qwen3();
    for temperature in [1.0, 0.6, 1.7] {
        check(&model, Kind::Float, temperature, false, 1);
        check(&model, Kind::Double, temperature, false, 1);
    }
    check(&model, Kind::Float, 0.8, true, 1);
    check(&model, Kind::Double, 0.8, true, 1);
    check(&model, Kind::Float, 1.0, false, 2);
    check(&model, Kind::BFloat16, 1.0, false, 1);
}

#[test]
fn so_they_are_with_states_and_with_experts() {
    for model in [qwen3_5(), qwen3_moe()] {
        for (kind, lora, threads) in [
            (Kind::Float, true, 1),
            (Kind::Float, false, 2),
            (Kind::Double, true, 1),
        ] {
            check(&model, kind, 1.0, lora, threads);
        }
    }
    // Rounding to 8 bits sends a position to other experts, so only states are compared.
    check(&qwen3_5(), Kind::BFloat16, 1.0, false, 1);
}
