//! Writes a small checkpoint with a tokenizer of its own for `testdata/libtorch/check_saved.py`,
//! which opens it with transformers and compares:
//!
//!     save_tiny FOLDER [CHECKPOINTS]
//!
//! One sub-folder per family and number format, each with `expected.json`: a text, its ids, and
//! the logits of its last position. With a folder of checkpoints (`testdata/libtorch/models`) also each of
//! these, read and written again, without a text, and with an adapter beside every linear layer.

use std::path::Path;

use g2rpo_libtorch::{
    Adapter, Architecture, DType, Decoder, DecoderConfig, HfTokenizer, LearnerConfig, LoraConfig,
    RopeScaling, TokenizerConfig, TorchLearner, init_parameters, load_checkpoint, save_checkpoint,
};
use tch::{Device, Kind, Tensor};

const TEXT: &str = "Tim has 48/2 = <<48/2=24>>24 clips.\n#### 24 — naïve";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = std::env::args()
        .nth(1)
        .ok_or("usage: save_tiny FOLDER [CHECKPOINTS]")?;
    let tokenizer = HfTokenizer::train([TEXT, "Tim has clips."], &TokenizerConfig::default())?;
    let base = DecoderConfig {
        initializer_range: 0.2,
        eos_token_id: tokenizer.eos_token_id().into_iter().collect(),
        pad_token_id: tokenizer.pad_token_id(),
        ..DecoderConfig::tiny_qwen3(tokenizer.vocab_size(), 64, 2, 4, 2)
    };
    let mut llama = DecoderConfig {
        architecture: Architecture::Llama,
        tie_word_embeddings: false,
        ..base.clone()
    };
    llama.rope.scaling = RopeScaling::Llama3 {
        factor: 8.0,
        low_freq_factor: 1.0,
        high_freq_factor: 4.0,
        original_max_position_embeddings: 16.0,
    };
    let qwen2 = DecoderConfig {
        architecture: Architecture::Qwen2,
        qkv_bias: true,
        ..base.clone()
    };
    for (name, config, dtype) in [
        ("qwen3", &base, DType::F32),
        ("qwen3_bf16", &base, DType::Bf16),
        ("qwen3_f16", &base, DType::F16),
        ("qwen2", &qwen2, DType::F32),
        ("llama3", &llama, DType::F32),
    ] {
        let dir = Path::new(&folder).join(name);
        let parameters = init_parameters(config, 7, Kind::Float, Device::Cpu)?;
        save_checkpoint(&dir, config, &parameters, dtype, Some(&tokenizer))?;
        let ids = tokenizer.encode(TEXT)?;
        let mut expected = serde_json::json!({ "text": TEXT, "ids": ids });
        expected["logits"] = logits(&dir, &ids)?.into();
        std::fs::write(dir.join("expected.json"), expected.to_string())?;
    }
    let Some(checkpoints) = std::env::args().nth(2) else {
        return Ok(());
    };
    for entry in std::fs::read_dir(checkpoints)? {
        let entry = entry?;
        let dir = Path::new(&folder).join(entry.file_name());
        let read = load_checkpoint(entry.path(), None, Device::Cpu)?;
        save_checkpoint(&dir, &read.config, &read.parameters, DType::F32, None)?;
        let ids: Vec<u32> = (0..40).map(|i| (i * i + 7 * i + 3) % 32).collect();
        let expected = serde_json::json!({
            "ids": ids,
            "logits": logits(&dir, &ids)?,
            "adapted": save_adapter(&dir, &ids)?,
        });
        std::fs::write(dir.join("expected.json"), expected.to_string())?;
    }
    Ok(())
}

/// Saves an adapter of random numbers for the stored checkpoint; the logits with it.
fn save_adapter(dir: &Path, ids: &[u32]) -> Result<Vec<f32>, Box<dyn std::error::Error>> {
    let stored = load_checkpoint(dir, Some(Kind::Float), Device::Cpu)?;
    let settings = LoraConfig {
        r: 3,
        lora_alpha: 5.0,
        target_modules: vec!["all-linear".into()],
        ..LoraConfig::default()
    };
    let adapter = Adapter::new(&stored.config, &settings, Kind::Float, Device::Cpu)?;
    tch::no_grad(|| {
        for b in adapter.parameters().tensors().iter().skip(1).step_by(2) {
            let _ = b.shallow_clone().normal_(0.0, 0.2);
        }
    });
    adapter.save(dir.join("adapter"), None)?;
    let config = LearnerConfig::default();
    let learner =
        TorchLearner::with_adapter(&stored.config, stored.parameters, Some(adapter), config)?;
    last_logits(learner.policy(), ids)
}

/// Of the last of some ids, from what is stored, computed in f32.
fn logits(dir: &Path, ids: &[u32]) -> Result<Vec<f32>, Box<dyn std::error::Error>> {
    let stored = load_checkpoint(dir, Some(Kind::Float), Device::Cpu)?;
    last_logits(&Decoder::new(&stored.config, &stored.parameters)?, ids)
}

fn last_logits(decoder: &Decoder, ids: &[u32]) -> Result<Vec<f32>, Box<dyn std::error::Error>> {
    let ids: Vec<i64> = ids.iter().map(|&id| i64::from(id)).collect();
    let logits_btv = tch::no_grad(|| decoder.logits_btv(&Tensor::from_slice(&ids).unsqueeze(0)))?;
    Ok(Vec::try_from(logits_btv.get(0).get(-1))?)
}
