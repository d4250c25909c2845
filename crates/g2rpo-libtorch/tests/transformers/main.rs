//! Tiny random checkpoints of every family, computed by transformers
//! (`testdata/libtorch/make_models.py`) and by this crate.

mod labelled;
mod learning;

use g2rpo_libtorch::{DType, Decoder, EngineConfig, TorchEngine, load_checkpoint, save_checkpoint};
use g2rpo_rollout::{Completion, Request, RolloutEngine, RolloutKey, SamplingParams};
use tch::{Device, Kind, Tensor};

use crate::labelled::{Differences, TOLERANCE, expected, models, name_of};

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
