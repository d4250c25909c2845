//! Tiny random checkpoints of every family, computed by transformers
//! (`testdata/libtorch/make_models.py`) and by this crate.

use std::path::PathBuf;

use g2rpo_libtorch::{DType, Decoder, TorchEngine, load_checkpoint, save_checkpoint};
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
    assert_eq!(models.len(), 8);
    models
}

struct Expected {
    ids: Vec<Vec<i64>>,
    lengths: Vec<usize>,
    logits: Vec<Vec<f64>>,
    logps: Vec<Vec<f64>>,
    greedy: Vec<Vec<u32>>,
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
    for path in models() {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let checkpoint = load_checkpoint(&path, None, Device::Cpu).unwrap();
        let decoder = Decoder::new(&checkpoint.config, &checkpoint.parameters).unwrap();
        let mut engine = TorchEngine::new(&decoder);
        let e = expected(&path);
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
                    max_new_tokens: 16,
                });
                answers.push(&e.greedy[row]);
            }
        }
        let together = engine
            .generate(&requests, &SamplingParams::greedy())
            .unwrap();
        for (i, (completion, answer)) in together.iter().zip(&answers).enumerate() {
            assert_eq!(completion.tokens, **answer, "{name}, request {i}");
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
