//! Adapters made by PEFT give PEFT's log-probabilities, and are written back as PEFT wrote them.
//! The other direction, PEFT opening what we wrote, is `testdata/learner/check_peft.py`.

use std::path::{Path, PathBuf};

use g2rpo_core::{Learner, Ragged, Scoring, Sequences, WhichPolicy};
use g2rpo_libtorch::{
    Adapter, Checkpoint, LearnerConfig, Reference, TorchLearner, load_checkpoint,
};
use serde_json::Value;
use tch::{Device, Kind};

/// f32 arithmetic in another order.
const TOLERANCE: f64 = 1e-5;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/learner/peft")
}

fn numbers(value: &Value) -> Vec<Vec<f64>> {
    serde_json::from_value(value.clone()).unwrap()
}

fn assert_close(got: &Ragged<f64>, expected: &Value, what: &str) {
    let expected = Ragged::from_rows(numbers(expected));
    got.check_shape("log-probabilities", &expected).unwrap();
    for (got, expected) in got.values().iter().zip(expected.values()) {
        assert!(
            (got - expected).abs() < TOLERANCE,
            "{what}: {got}, PEFT has {expected}"
        );
    }
}

#[test]
fn adapters_of_peft_give_its_log_probabilities() {
    let text = std::fs::read_to_string(folder().join("expected.json")).unwrap();
    let expected: Value = serde_json::from_str(&text).unwrap();
    let rows: Vec<Vec<u32>> = serde_json::from_value(expected["rows"].clone()).unwrap();
    let prompt_lens = serde_json::from_value(expected["prompt_lens"].clone()).unwrap();
    let sequences = Sequences::new(Ragged::from_rows(rows), prompt_lens).unwrap();
    let scoring = Scoring {
        temperature: expected["temperature"].as_f64().unwrap(),
        entropy: false,
    };
    let logps = |learner: &mut TorchLearner, policy| {
        (learner.token_logps(&sequences, policy, &scoring))
            .unwrap()
            .logp
    };
    let config = LearnerConfig {
        reference: Reference::AdapterDisabled,
        ..LearnerConfig::default()
    };
    let base = || load_checkpoint(folder().join("base"), None, Device::Cpu).unwrap();
    for name in ["lora", "rslora"] {
        let Checkpoint {
            config: model,
            parameters,
        } = base();
        let adapter = Adapter::load(folder().join(name), &model, Kind::Float, Device::Cpu).unwrap();
        let mut learner =
            TorchLearner::with_adapter(&model, parameters, Some(adapter), config.clone()).unwrap();
        let with = logps(&mut learner, WhichPolicy::Current);
        assert_close(&with, &expected[name], name);
        let without = logps(&mut learner, WhichPolicy::Reference);
        assert_close(&without, &expected["base"], "base");
        let plain = LearnerConfig {
            reference: Reference::None,
            ..config.clone()
        };
        let mut merged = TorchLearner::new(&model, learner.merged().unwrap(), plain).unwrap();
        let merged = logps(&mut merged, WhichPolicy::Current);
        assert_close(&merged, &expected[name], "merged");
    }
}

#[test]
fn adapters_are_written_back_as_peft_wrote_them() {
    let model = load_checkpoint(folder().join("base"), None, Device::Cpu)
        .unwrap()
        .config;
    for name in ["lora", "rslora"] {
        let theirs = folder().join(name);
        let adapter = Adapter::load(&theirs, &model, Kind::Float, Device::Cpu).unwrap();
        let ours = tempfile::tempdir().unwrap();
        adapter.save(ours.path(), Some("base")).unwrap();
        let tensors = |dir: &Path| {
            let bytes = std::fs::read(dir.join("adapter_model.safetensors")).unwrap();
            let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
            let mut tensors: Vec<_> = (file.iter())
                .map(|(name, t)| {
                    (
                        name.to_owned(),
                        t.dtype(),
                        t.shape().to_vec(),
                        t.data().to_vec(),
                    )
                })
                .collect();
            tensors.sort_by(|a, b| a.0.cmp(&b.0));
            tensors
        };
        assert_eq!(tensors(ours.path()), tensors(&theirs));
        let config = |dir: &Path| -> Value {
            let text = std::fs::read_to_string(dir.join("adapter_config.json")).unwrap();
            serde_json::from_str(&text).unwrap()
        };
        let (written, expected) = (config(ours.path()), config(&theirs));
        for (field, value) in written.as_object().unwrap() {
            match field.as_str() {
                // The dropout of the training is not applied, and so not claimed.
                "lora_dropout" => assert_eq!(value.as_f64(), Some(0.0)),
                // PEFT writes a whole number as such.
                "lora_alpha" => assert_eq!(value.as_f64(), expected[field].as_f64()),
                _ => assert_eq!(value, &expected[field], "{field}"),
            }
        }
    }
}
