//! Tiny random checkpoints of every family, computed by transformers
//! (`testdata/libtorch/make_models.py`) and by this crate.

use std::collections::BTreeMap;
use std::path::PathBuf;

use g2rpo_core::{Learner, Ragged, Scoring, Sequences, TokenGrads, WhichPolicy};
use g2rpo_libtorch::{
    DType, Decoder, EngineConfig, LearnerConfig, LoraConfig, TorchEngine, TorchLearner,
    load_checkpoint, save_checkpoint,
};
use g2rpo_rollout::{Request, RolloutEngine, RolloutKey, SamplingParams};
use serde_json::Value;
use tch::{Device, Kind, Tensor};

/// Two implementations of the same f32 arithmetic in different orders of summation.
const TOLERANCE: f64 = 1e-5;

fn models() -> Vec<PathBuf> {
    // Threads that wait for one another cost more than tiny matrices gain from them.
    tch::set_num_threads(1);
    let dir = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../testdata/libtorch/models"
    );
    let mut models: Vec<PathBuf> = (std::fs::read_dir(dir).unwrap())
        .map(|entry| entry.unwrap().path())
        .collect();
    models.sort();
    assert_eq!(models.len(), 25);
    models
}

/// Those whose gradients are known.
fn newer() -> Vec<PathBuf> {
    let mut models = models();
    models.retain(|path| !expected(path).gradient.is_empty());
    assert_eq!(models.len(), 17);
    models
}

struct Expected {
    ids: Vec<Vec<i64>>,
    lengths: Vec<usize>,
    logits: Vec<Vec<f64>>,
    logps: Vec<Vec<f64>>,
    greedy: Vec<Vec<u32>>,
    gradient: BTreeMap<String, Tensor>,
    loads: Vec<Vec<u64>>,
}

fn expected(model: &std::path::Path) -> Expected {
    let text = std::fs::read_to_string(model.join("expected.json")).unwrap();
    let value: Value = serde_json::from_str(&text).unwrap();
    fn field<T: serde::de::DeserializeOwned>(value: &Value, name: &str) -> T {
        serde_json::from_value(value[name].clone()).unwrap()
    }
    Expected {
        ids: field(&value, "ids"),
        lengths: field(&value, "lengths"),
        logits: field(&value, "logits"),
        logps: field(&value, "logps"),
        greedy: field(&value, "greedy"),
        loads: match value.get("loads") {
            Some(_) => field(&value, "loads"),
            None => Vec::new(),
        },
        gradient: match model.join("gradient.safetensors") {
            path if path.exists() => (Tensor::read_safetensors(path).unwrap().into_iter())
                .map(|(name, gradient)| (name, gradient.to_kind(Kind::Double)))
                .collect(),
            _ => BTreeMap::new(),
        },
    }
}

fn assert_close(name: &str, got: &Tensor, expected: &[f64]) {
    let expected = Tensor::from_slice(expected);
    let difference = (got.to_kind(Kind::Double) - expected).abs().max();
    let difference = f64::try_from(difference).unwrap();
    assert!(difference < TOLERANCE, "{name}: off by {difference}");
}

#[test]
fn logits_and_log_probs_agree() {
    for path in models() {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let checkpoint = load_checkpoint(&path, None, Device::Cpu).unwrap();
        let decoder = Decoder::new(&checkpoint.config, &checkpoint.parameters).unwrap();
        let e = expected(&path);
        let flat: Vec<i64> = e.ids.concat();
        let ids_bt = Tensor::from_slice(&flat).view([2, -1]);
        // Padded on the right in one batch, and packed without padding.
        let logits_btv = decoder.logits_btv(&ids_bt).unwrap();
        let packed: Vec<i64> = (e.ids.iter().zip(&e.lengths))
            .flat_map(|(row, &n)| row[..n].to_vec())
            .collect();
        let context = decoder.packed_context(&e.lengths).unwrap();
        let packed = Tensor::from_slice(&packed).view([1, -1]);
        let hidden = decoder.hidden(&packed, &context).unwrap();
        let packed_tv = hidden.linear(decoder.lm_head(), None::<&Tensor>).get(0);
        let mut start = 0;
        for (row, &n) in e.lengths.iter().enumerate() {
            let n = n as i64;
            let next = Tensor::from_slice(&e.ids[row]).narrow(0, 1, n - 1);
            for logits_tv in [
                logits_btv.get(row as i64).narrow(0, 0, n),
                packed_tv.narrow(0, start, n),
            ] {
                assert_close(&name, &logits_tv.get(n - 1), &e.logits[row]);
                let logps = logits_tv.narrow(0, 0, n - 1).log_softmax(-1, Kind::Float);
                let logps = logps.gather(1, &next.unsqueeze(1), false).squeeze_dim(1);
                assert_close(&name, &logps, &e.logps[row]);
            }
            start += n;
        }
    }
}

#[test]
fn greedy_tokens_agree_alone_and_together_guided_and_not() {
    // f32 goes through the code for host memory, f64 through that for any device.
    let kinds = [Kind::Float, Kind::Double];
    for (path, kind) in (models().iter()).flat_map(|path| kinds.map(|kind| (path, kind))) {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let checkpoint = load_checkpoint(path, Some(kind), Device::Cpu).unwrap();
        let decoder = Decoder::new(&checkpoint.config, &checkpoint.parameters).unwrap();
        let mut engine = TorchEngine::new(&decoder);
        let e = expected(path);
        let mut requests = Vec::new();
        let mut answers = Vec::new();
        for (row, &n) in e.lengths.iter().enumerate() {
            let ids: Vec<u32> = e.ids[row][..n].iter().map(|&id| id as u32).collect();
            for guided in [0, 5, 1, 20] {
                let (prompt, guidance) = ids.split_at(n - guided);
                requests.push(Request {
                    prompt: prompt.to_vec(),
                    guidance: guidance.to_vec(),
                    key: RolloutKey::default(),
                    max_new_tokens: e.greedy[row].len(),
                });
                answers.push(&e.greedy[row]);
            }
        }
        // All at once, and so few that rows leave and join.
        for max_rows in [256, 3] {
            let mut engine = TorchEngine::new(&decoder).with_config(EngineConfig {
                max_rows,
                ..EngineConfig::default()
            });
            let together = engine
                .generate(&requests, &SamplingParams::greedy())
                .unwrap();
            for (i, (completion, answer)) in together.iter().zip(&answers).enumerate() {
                assert_eq!(completion.tokens, **answer, "{name}, request {i}");
            }
        }
        for (request, answer) in requests.iter().zip(&answers) {
            let alone = (engine.generate(std::slice::from_ref(request), &SamplingParams::greedy()))
                .unwrap();
            assert_eq!(alone[0].tokens, **answer, "{name}");
        }
    }
}

#[test]
fn a_checkpoint_survives_being_written_by_us() {
    for path in models() {
        let checkpoint = load_checkpoint(&path, None, Device::Cpu).unwrap();
        let dir = tempfile::tempdir().unwrap();
        save_checkpoint(
            dir.path(),
            &checkpoint.config,
            &checkpoint.parameters,
            DType::F32,
            None,
        )
        .unwrap();
        let back = load_checkpoint(dir.path(), None, Device::Cpu).unwrap();
        assert_eq!(back.config, checkpoint.config);
        assert_eq!(back.parameters.flat(), checkpoint.parameters.flat());
    }
}

/// Every id but the first of every row is one of the completion.
fn sequences(e: &Expected) -> Sequences {
    let rows = (e.ids.iter().zip(&e.lengths))
        .map(|(row, &n)| row[..n].iter().map(|&id| id as u32).collect::<Vec<_>>());
    Sequences::new(Ragged::from_rows(rows), vec![1; e.ids.len()]).unwrap()
}

/// The gradient of the sum of all log-probabilities.
fn accumulate(learner: &mut TorchLearner, sequences: &Sequences) -> Vec<f64> {
    (learner.accumulate(sequences, &Scoring::default(), &mut |outputs| {
        Ok(TokenGrads {
            logp: outputs.logp.map(|_| 1.0),
            entropy: None,
        })
    }))
    .unwrap();
    Vec::try_from(learner.gradient().to_kind(Kind::Double)).unwrap()
}

/// In f64, where nothing is lost to rounding; with and without activation checkpointing, both rows in
/// one micro-batch and each alone.
#[test]
fn gradients_are_those_of_autograd() {
    for path in newer() {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let e = expected(&path);
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
            let logps =
                (learner.token_logps(&sequences, WhichPolicy::Current, &Scoring::default()))
                    .unwrap();
            for (row, expected) in e.logps.iter().enumerate() {
                assert_close(&name, &Tensor::from_slice(logps.logp.row(row)), expected);
            }
            accumulate(&mut learner, &sequences);
            assert_eq!(learner.expert_loads(), e.loads, "{name}");
            let flat = learner.gradient();
            let mut start = 0;
            for spec in learner.updated().specs() {
                let got = flat.narrow(0, start, spec.numel());
                // Tensors start at multiples of 64 elements.
                start += (spec.numel() + 63) / 64 * 64;
                let expected = e.gradient[&spec.name].view(-1);
                let scale = f64::try_from(expected.abs().max()).unwrap().max(1.0);
                let off = f64::try_from((got - expected).abs().max()).unwrap() / scale;
                assert!(off < TOLERANCE, "{name}, {}: off by {off}", spec.name);
            }
            assert_eq!(e.gradient.len(), learner.updated().specs().len(), "{name}");
        }
    }
}

/// An adapter's gradient follows from that of the weight that it stands beside: with B = 0, the
/// gradient of A is zero and that of B is `scaling · G · Aᵀ`.
#[test]
fn adapters_gradients_follow_from_those_of_their_weights() {
    for path in newer() {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let e = expected(&path);
        let sequences = sequences(&e);
        for gradient_checkpointing in [true, false] {
            let checkpoint = load_checkpoint(&path, Some(Kind::Double), Device::Cpu).unwrap();
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
            let flat = learner.gradient();
            let adapter = learner.adapter().unwrap();
            // Every matrix of the blocks but experts and their routers.
            let matrices = e.gradient.iter().filter(|(name, gradient)| {
                let apart = name.contains(".experts.") || name.ends_with("mlp.gate.weight");
                gradient.dim() == 2 && name.contains(".layers.") && !apart
            });
            assert_eq!(adapter.modules().len(), matrices.count(), "{name}");
            let mut start = 0;
            for spec in learner.updated().specs() {
                let got = flat.narrow(0, start, spec.numel()).view(&spec.shape[..]);
                start += (spec.numel() + 63) / 64 * 64;
                let Some(module) = spec.name.strip_suffix(".lora_B.weight") else {
                    assert_eq!(f64::try_from(got.abs().max()).unwrap(), 0.0, "{name}");
                    continue;
                };
                let a = adapter.parameters().get(&format!("{module}.lora_A.weight"));
                let a = a.unwrap().detach();
                let full = &e.gradient[&format!("{module}.weight")];
                let expected = full.view([spec.shape[0], -1]).matmul(&a.transpose(0, 1)) * 2.0;
                let scale = f64::try_from(expected.abs().max()).unwrap().max(1.0);
                let off = f64::try_from((got - expected).abs().max()).unwrap();
                assert!(off < TOLERANCE * scale, "{name}, {module}: off by {off}");
            }
        }
    }
}

/// What was sampled, alone and beside others, guided and not, is scored by the learner with the
/// log-probabilities that it was sampled with.
#[test]
fn sampling_and_scoring_agree() {
    for path in newer() {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let checkpoint = load_checkpoint(&path, None, Device::Cpu).unwrap();
        let decoder = Decoder::new(&checkpoint.config, &checkpoint.parameters).unwrap();
        let mut engine = TorchEngine::new(&decoder);
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
        let mut learner = TorchLearner::new(
            &checkpoint.config,
            checkpoint.parameters,
            LearnerConfig::default(),
        )
        .unwrap();
        let scored =
            (learner.token_logps(&sequences, WhichPolicy::Current, &Scoring::default())).unwrap();
        for (i, (request, completion)) in requests.iter().zip(&together).enumerate() {
            let sampled: Vec<f64> = completion.logps.iter().map(|&x| f64::from(x)).collect();
            for (a, b) in sampled.iter().zip(scored.logp.row(i)) {
                assert!((a - b).abs() < 1e-4, "{name}, request {i}: {a} and {b}");
            }
            let alone = (engine
                .generate(std::slice::from_ref(request), &SamplingParams::default()))
            .unwrap();
            assert_eq!(alone[0].tokens, completion.tokens, "{name}, request {i}");
        }
    }
}
