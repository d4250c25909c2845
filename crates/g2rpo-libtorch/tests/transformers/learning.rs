//! Log-probabilities and gradients of the learner, with adapters and without.

use std::path::Path;

use g2rpo_core::{Learner, Ragged, Scoring, Sequences, TokenGrads, WhichPolicy};
use g2rpo_libtorch::{
    Adapter, Checkpoint, LearnerConfig, LoraConfig, TorchEngine, TorchLearner, load_checkpoint,
};
use g2rpo_rollout::{Request, RolloutEngine, RolloutKey, SamplingParams};
use serde_json::Value;
use tch::{Device, Kind, Tensor};

use crate::labelled::{
    Differences, Expected, TOLERANCE, adapted, expected, gradient, name_of, newer,
};

/// Every id but the first of every row is one of the completion.
fn sequences(e: &Expected) -> Sequences {
    let rows = (e.ids.iter().zip(&e.lengths))
        .map(|(row, &n)| row[..n].iter().map(|&id| id as u32).collect::<Vec<_>>());
    Sequences::new(Ragged::from_rows(rows), vec![1; e.ids.len()]).unwrap()
}

/// The gradient of the sum of all log-probabilities.
fn accumulate(learner: &mut TorchLearner, sequences: &Sequences) {
    (learner.accumulate(sequences, &Scoring::default(), &mut |outputs| {
        Ok(TokenGrads {
            logp: outputs.logp.map(|_| 1.0),
            entropy: None,
        })
    }))
    .unwrap();
}

fn token_logps(learner: &mut TorchLearner, sequences: &Sequences) -> Ragged<f64> {
    (learner.token_logps(sequences, WhichPolicy::Current, &Scoring::default()))
        .unwrap()
        .logp
}

/// The accumulated gradient by the parameters' names.
fn gradients(learner: &TorchLearner) -> Vec<(String, Tensor)> {
    let mut start = 0;
    (learner.updated().specs().iter())
        .map(|spec| {
            let part = learner.gradient().narrow(0, start, spec.numel());
            // Tensors start at multiples of 64 elements.
            start += (spec.numel() + 63) / 64 * 64;
            (spec.name.clone(), part.view(&spec.shape[..]))
        })
        .collect()
}

/// In f64, where nothing is lost to rounding; with and without activation checkpointing, both rows in
/// one micro-batch and each alone.
#[test]
fn gradients_are_those_of_autograd() {
    let mut logps_off = Differences::new("log-probabilities of the learner", TOLERANCE);
    let mut gradients_off = Differences::new("gradients", TOLERANCE);
    for path in newer() {
        let name = name_of(&path);
        let e = expected(&path);
        let truth = gradient(&path);
        let sequences = sequences(&e);
        for (gradient_checkpointing, max_tokens_per_micro_batch) in [(true, 1), (false, 4096)] {
            let checkpoint = load_checkpoint(&path, Some(Kind::Double), Device::Cpu).unwrap();
            let config = LearnerConfig {
                gradient_checkpointing,
                max_tokens_per_micro_batch,
                ..LearnerConfig::default()
            };
            let mut learner =
                TorchLearner::new(&checkpoint.config, checkpoint.parameters, config).unwrap();
            let logps = token_logps(&mut learner, &sequences);
            for (row, expected) in e.logps.iter().enumerate() {
                logps_off.add_all(&name, &Tensor::from_slice(logps.row(row)), expected);
            }
            accumulate(&mut learner, &sequences);
            assert_eq!(learner.expert_loads(), e.loads, "{name}");
            let gradients = gradients(&learner);
            assert_eq!(truth.len(), gradients.len(), "{name}");
            for (parameter, got) in gradients {
                gradients_off.add_relative(
                    &format!("{name}, {parameter}"),
                    &got,
                    &truth[&parameter],
                );
            }
        }
    }
}

/// With PEFT's adapter beside every linear layer, log-probabilities, also when it is merged, and gradients.
#[test]
fn adapters_and_their_gradients_are_those_of_peft() {
    let mut logps_off = Differences::new("log-probabilities with adapters", TOLERANCE);
    let mut gradients_off = Differences::new("gradients of adapters", TOLERANCE);
    for path in adapted() {
        let name = name_of(&path);
        let folder = path.join("adapter");
        let sequences = sequences(&expected(&path));
        let truth = gradient(&folder);
        let text = std::fs::read_to_string(folder.join("expected.json")).unwrap();
        let value: Value = serde_json::from_str(&text).unwrap();
        let expected: Vec<Vec<f64>> = serde_json::from_value(value["logps"].clone()).unwrap();
        for gradient_checkpointing in [true, false] {
            let config = LearnerConfig {
                gradient_checkpointing,
                ..LearnerConfig::default()
            };
            let mut learner = with_adapter(&path, Kind::Double, config.clone());
            let checkpoint = load_checkpoint(&path, Some(Kind::Double), Device::Cpu).unwrap();
            let merged = learner.merged().unwrap();
            let mut merged = TorchLearner::new(&checkpoint.config, merged, config).unwrap();
            for learner in [&mut learner, &mut merged] {
                let logps = token_logps(learner, &sequences);
                for (row, expected) in expected.iter().enumerate() {
                    logps_off.add_all(&name, &Tensor::from_slice(logps.row(row)), expected);
                }
            }
            accumulate(&mut learner, &sequences);
            let gradients = gradients(&learner);
            assert_eq!(truth.len(), gradients.len(), "{name}");
            for (parameter, got) in gradients {
                let expected = &truth[&format!("base_model.model.{parameter}")];
                gradients_off.add_relative(&format!("{name}, {parameter}"), &got, expected);
            }
        }
    }
}

/// A learner of the adapter that lies in the checkpoint's folder.
fn with_adapter(path: &Path, kind: Kind, config: LearnerConfig) -> TorchLearner {
    let Checkpoint {
        config: model,
        parameters,
    } = load_checkpoint(path, Some(kind), Device::Cpu).unwrap();
    let adapter = Adapter::load(path.join("adapter"), &model, kind, Device::Cpu).unwrap();
    TorchLearner::with_adapter(&model, parameters, Some(adapter), config).unwrap()
}

/// An adapter's gradient follows from that of the weight that it stands beside: with B = 0, the
/// gradient of A is zero and that of B is `scaling · G · Aᵀ`.
#[test]
fn adapters_gradients_follow_from_those_of_their_weights() {
    let mut off = Differences::new("gradients of fresh adapters", TOLERANCE);
    for path in newer() {
        let name = name_of(&path);
        let sequences = sequences(&expected(&path));
        let truth = gradient(&path);
        for gradient_checkpointing in [true, false] {
            let checkpoint = load_checkpoint(&path, Some(Kind::Double), Device::Cpu).unwrap();
            let has_experts = checkpoint.config.experts.is_some();
            let config = LearnerConfig {
                gradient_checkpointing,
                lora: Some(LoraConfig {
                    r: 3,
                    lora_alpha: 6.0,
                    target_modules: vec!["all-linear".into()],
                    ..LoraConfig::default()
                }),
                ..LearnerConfig::default()
            };
            let mut learner =
                TorchLearner::new(&checkpoint.config, checkpoint.parameters, config).unwrap();
            accumulate(&mut learner, &sequences);
            let adapter = learner.adapter().unwrap();
            // Every matrix of the blocks; beside experts only those of attention.
            let matrices = truth.iter().filter(|(name, gradient)| {
                let apart = has_experts && name.contains(".mlp.");
                gradient.dim() == 2 && name.contains(".layers.") && !apart
            });
            assert_eq!(adapter.modules().len(), matrices.count(), "{name}");
            for (parameter, got) in gradients(&learner) {
                let Some(module) = parameter.strip_suffix(".lora_B.weight") else {
                    assert_eq!(f64::try_from(got.abs().max()).unwrap(), 0.0, "{name}");
                    continue;
                };
                let a = adapter.parameters().get(&format!("{module}.lora_A.weight"));
                let a = a.unwrap().detach();
                let full = truth[&format!("{module}.weight")].view([got.size()[0], -1]);
                let expected = full.matmul(&a.transpose(0, 1)) * 2.0;
                off.add_relative(&format!("{name}, {module}"), &got, &expected);
            }
        }
    }
}

/// What was sampled, alone and beside others, guided and not, with an adapter where there is one, is scored by
/// the learner with the log-probabilities that it was sampled with.
#[test]
fn sampling_and_scoring_agree() {
    let mut off = Differences::new("sampled and scored", 1e-4);
    let plain = newer().into_iter().map(|path| (path, false));
    let adapted = adapted().into_iter().map(|path| (path, true));
    for (path, has_adapter) in plain.chain(adapted) {
        let name = name_of(&path);
        let config = LearnerConfig::default();
        let mut learner = if has_adapter {
            with_adapter(&path, Kind::Float, config)
        } else {
            let checkpoint = load_checkpoint(&path, None, Device::Cpu).unwrap();
            TorchLearner::new(&checkpoint.config, checkpoint.parameters, config).unwrap()
        };
        let mut engine = TorchEngine::new(learner.policy());
        let e = expected(&path);
        let requests: Vec<Request> = (0..12)
            .map(|i: u32| {
                let ids: Vec<u32> = e.ids[i as usize % 2].iter().map(|&id| id as u32).collect();
                let guided = [0, 3, 11][i as usize % 3];
                let context = 6 + 5 * (i as usize / 4);
                Request {
                    prompt: ids[..context].to_vec(),
                    guidance: ids[context..context + guided].to_vec(),
                    key: RolloutKey {
                        member: i,
                        ..RolloutKey::default()
                    },
                    max_new_tokens: 9 + 3 * (i as usize % 4),
                }
            })
            .collect();
        let together = (engine.generate(&requests, &SamplingParams::default())).unwrap();
        let rows = (requests.iter().zip(&together))
            .map(|(r, c)| [&r.prompt[..], &r.guidance[..], &c.tokens[..]].concat());
        let starts = requests.iter().map(|r| r.prompt.len() + r.guidance.len());
        let sequences = Sequences::new(Ragged::from_rows(rows), starts.collect()).unwrap();
        let scored = token_logps(&mut learner, &sequences);
        for (i, (request, completion)) in requests.iter().zip(&together).enumerate() {
            for (&sampled, &scored) in completion.logps.iter().zip(scored.row(i)) {
                off.add(&name, sampled.into(), scored);
            }
            let alone = (engine
                .generate(std::slice::from_ref(request), &SamplingParams::default()))
            .unwrap();
            assert_eq!(alone[0].tokens, completion.tokens, "{name}, request {i}");
        }
    }
}
