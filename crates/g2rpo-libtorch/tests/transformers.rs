//! Tiny random checkpoints of every family, computed by transformers
//! (`testdata/libtorch/make_models.py`) and by this crate.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use g2rpo_core::{Learner, Ragged, Scoring, Sequences, TokenGrads, WhichPolicy};
use g2rpo_libtorch::{
    Adapter, Checkpoint, DType, Decoder, EngineConfig, LearnerConfig, LoraConfig, TorchEngine,
    TorchLearner, load_checkpoint, save_checkpoint,
};
use g2rpo_rollout::{Completion, Request, RolloutEngine, RolloutKey, SamplingParams};
use serde_json::Value;
use tch::{Device, Kind, Tensor};

/// Two implementations of the same f32 arithmetic in different orders of summation.
const TOLERANCE: f64 = 1e-5;

/// The repository's checkpoints, and those that `make_product.py` wrote to `$G2RPO_MODELS/tiny`.
fn models() -> Vec<PathBuf> {
    // Threads that wait for one another cost more than tiny matrices gain from them.
    tch::set_num_threads(1);
    let folders = |dir: &Path| {
        let mut folders: Vec<PathBuf> = (std::fs::read_dir(dir).unwrap())
            .map(|entry| entry.unwrap().path())
            .collect();
        folders.sort();
        folders
    };
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/libtorch/models");
    let mut models = folders(&own);
    assert_eq!(models.len(), 25);
    let product = std::env::var_os("G2RPO_MODELS").map(|root| Path::new(&root).join("tiny"));
    match product.filter(|dir| dir.exists()) {
        Some(dir) => models.extend(folders(&dir)),
        None => println!(
            "skipped: G2RPO_MODELS does not name a folder with tiny/, only the repository's checkpoints are read"
        ),
    }
    models
}

/// Those whose gradients are known.
fn newer() -> Vec<PathBuf> {
    let mut models = models();
    models.retain(|path| path.join("gradient.safetensors").exists());
    assert!(models.len() >= 17);
    models
}

/// Those with an adapter.
fn adapted() -> Vec<PathBuf> {
    let mut models = models();
    models.retain(|path| path.join("adapter").exists());
    models
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap().to_string_lossy().into_owned()
}

/// Differences, none of which may reach the tolerance; says when it goes how large they were.
struct Differences {
    of: &'static str,
    tolerance: f64,
    count: usize,
    largest: f64,
    at: String,
}

impl Differences {
    fn new(of: &'static str, tolerance: f64) -> Self {
        Self {
            of,
            tolerance,
            count: 0,
            largest: 0.0,
            at: String::new(),
        }
    }

    fn add(&mut self, at: &str, got: f64, expected: f64) {
        let off = (got - expected).abs();
        assert!(off < self.tolerance, "{}, {at}: off by {off}", self.of);
        self.count += 1;
        if off > self.largest {
            (self.largest, self.at) = (off, at.to_owned());
        }
    }

    /// Element by element.
    fn add_all(&mut self, at: &str, got: &Tensor, expected: &[f64]) {
        let got = Vec::<f64>::try_from(got.to_kind(Kind::Double)).unwrap();
        assert_eq!(got.len(), expected.len(), "{at}");
        for (&got, &expected) in got.iter().zip(expected) {
            self.add(at, got, expected);
        }
    }

    /// Relative to the largest element if that is above 1.
    fn add_relative(&mut self, at: &str, got: &Tensor, expected: &Tensor) {
        let scale = f64::try_from(expected.abs().max()).unwrap().max(1.0);
        let off = f64::try_from((got - expected).abs().max()).unwrap();
        self.add(at, off / scale, 0.0);
    }
}

impl Drop for Differences {
    fn drop(&mut self) {
        let (of, count, largest, at) = (self.of, self.count, self.largest, &self.at);
        println!("{of}: {count} compared, largest difference {largest:.1e} ({at})");
    }
}

struct Expected {
    ids: Vec<Vec<i64>>,
    lengths: Vec<usize>,
    logits: Vec<Vec<f64>>,
    logps: Vec<Vec<f64>>,
    greedy: Vec<Vec<u32>>,
    loads: Vec<Vec<u64>>,
}

fn expected(model: &Path) -> Expected {
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
    }
}

/// By the tensors' names in the file that the gradient is of.
fn gradient(folder: &Path) -> BTreeMap<String, Tensor> {
    let path = folder.join("gradient.safetensors");
    (Tensor::read_safetensors(path).unwrap().into_iter())
        .map(|(name, gradient)| (name, gradient.to_kind(Kind::Double)))
        .collect()
}

#[test]
fn logits_and_log_probs_agree() {
    let mut logits_off = Differences::new("logits", TOLERANCE);
    let mut logps_off = Differences::new("log-probabilities", TOLERANCE);
    for path in models() {
        let name = name_of(&path);
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
                logits_off.add_all(&name, &logits_tv.get(n - 1), &e.logits[row]);
                let logps = logits_tv.narrow(0, 0, n - 1).log_softmax(-1, Kind::Float);
                let logps = logps.gather(1, &next.unsqueeze(1), false).squeeze_dim(1);
                logps_off.add_all(&name, &logps, &e.logps[row]);
            }
            start += n;
        }
    }
}

/// And with the same log-probabilities, whether a row stands alone or beside others, and whether an id was
/// decoded or follows a prompt that was read as a whole.
#[test]
fn greedy_tokens_agree_alone_and_together_guided_and_not() {
    let mut together_off = Differences::new("together and alone", TOLERANCE);
    let mut read_off = Differences::new("decoded and read", TOLERANCE);
    // f32 goes through the code for host memory, f64 through that for any device.
    let kinds = [Kind::Float, Kind::Double];
    for (path, kind) in (models().iter()).flat_map(|path| kinds.map(|kind| (path, kind))) {
        let name = name_of(path);
        let checkpoint = load_checkpoint(path, Some(kind), Device::Cpu).unwrap();
        let decoder = Decoder::new(&checkpoint.config, &checkpoint.parameters).unwrap();
        let greedy = |requests: &[Request], max_rows| {
            let mut engine = TorchEngine::new(&decoder).with_config(EngineConfig {
                max_rows,
                ..EngineConfig::default()
            });
            (engine.generate(requests, &SamplingParams::greedy())).unwrap()
        };
        let e = expected(path);
        let mut requests = Vec::new();
        let mut answers = Vec::new();
        for (row, &n) in e.lengths.iter().enumerate() {
            let ids: Vec<u32> = e.ids[row][..n].iter().map(|&id| id as u32).collect();
            for guided in [0, 5, 1, 20] {
                // Some rows of the product are no longer than that.
                let (prompt, guidance) = ids.split_at(n - guided.min(n - 1));
                requests.push(Request {
                    prompt: prompt.to_vec(),
                    guidance: guidance.to_vec(),
                    key: RolloutKey::default(),
                    max_new_tokens: e.greedy[row].len(),
                });
                answers.push(&e.greedy[row]);
            }
        }
        let alone: Vec<Completion> = (requests.iter())
            .flat_map(|request| greedy(std::slice::from_ref(request), 256))
            .collect();
        for (completion, answer) in alone.iter().zip(&answers) {
            assert_eq!(completion.tokens, **answer, "{name}");
        }
        // All at once, and so few that rows leave and join.
        for max_rows in [256, 3] {
            let together = greedy(&requests, max_rows);
            for (i, (together, alone)) in together.iter().zip(&alone).enumerate() {
                assert_eq!(together.tokens, alone.tokens, "{name}, request {i}");
                for (&a, &b) in together.logps.iter().zip(&alone.logps) {
                    together_off.add(&name, a.into(), b.into());
                }
            }
        }
        let (mut read, mut decoded) = (Vec::new(), Vec::new());
        for (request, completion) in requests.iter().zip(&alone) {
            for n in [1, 2, 9, completion.tokens.len() - 1] {
                read.push(Request {
                    guidance: [&request.guidance[..], &completion.tokens[..n]].concat(),
                    max_new_tokens: 1,
                    ..request.clone()
                });
                decoded.push(completion.logps[n]);
            }
        }
        for (read, decoded) in greedy(&read, 256).iter().zip(decoded) {
            read_off.add(&name, read.logps[0].into(), decoded.into());
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
