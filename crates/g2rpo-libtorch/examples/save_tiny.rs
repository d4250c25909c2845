//! Writes a small checkpoint with a tokenizer of its own for `testdata/libtorch/check_saved.py`,
//! which opens it with transformers and compares:
//!
//!     save_tiny FOLDER
//!
//! One sub-folder per family and number format, each with `expected.json`: a text, its ids, and
//! the logits of its last position.

use std::path::Path;

use g2rpo_libtorch::{
    Architecture, DType, Decoder, DecoderConfig, HfTokenizer, RopeScaling, TokenizerConfig,
    init_parameters, load_checkpoint, save_checkpoint,
};
use tch::{Device, Kind, Tensor};

const TEXT: &str = "Tim has 48/2 = <<48/2=24>>24 clips.\n#### 24 — naïve";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = std::env::args().nth(1).ok_or("usage: save_tiny FOLDER")?;
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
        // What was stored, computed in f32.
        let stored = load_checkpoint(&dir, Some(Kind::Float), Device::Cpu)?;
        let decoder = Decoder::new(&stored.config, &stored.parameters)?;
        let ids = tokenizer.encode(TEXT)?;
        let ids_bt = Tensor::from_slice(&ids.iter().map(|&i| i64::from(i)).collect::<Vec<_>>());
        let logits = tch::no_grad(|| decoder.logits_btv(&ids_bt.unsqueeze(0)))?;
        let logits = Vec::<f32>::try_from(logits.get(0).get(-1))?;
        let expected = serde_json::json!({ "text": TEXT, "ids": ids, "logits": logits });
        std::fs::write(dir.join("expected.json"), expected.to_string())?;
    }
    Ok(())
}
