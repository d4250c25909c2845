//! Answers a question with a model of the Hugging Face hub or of a folder.
//!
//!     cargo run --release -p g2rpo-libtorch --features hf-hub --example generate -- Qwen/Qwen3-0.6B "What is 17 · 3?"
//!     cargo run --release -p g2rpo-libtorch --example generate -- FOLDER "What is 17 · 3?" 4
//!
//! The last argument is the number of answers, 1 if it is left out. Without the feature `hf-hub`, or
//! without a network and with nothing in the cache, an id of the hub is refused with what to do.

use std::io::Write;
use std::time::Instant;

use g2rpo_libtorch::{DType, Model, TorchEngine, device, model_folder};
use g2rpo_rollout::{Request, RolloutEngine, RolloutKey, SamplingParams};
use tch::Device;

fn main() {
    let stdout = &mut std::io::stdout();
    if let Err(error) = run(std::env::args().skip(1).collect(), stdout) {
        eprintln!("generate: {error}");
        std::process::exit(1);
    }
}

fn run(arguments: Vec<String>, out: &mut impl Write) -> Result<(), Box<dyn std::error::Error>> {
    let (name, question, answers) = match &arguments[..] {
        [name, question] => (name, question, 1),
        [name, question, answers] => (name, question, answers.parse()?),
        _ => return Err("expected FOLDER_OR_HUB_ID QUESTION [ANSWERS]".into()),
    };
    let folder = model_folder(name)?;
    let device = device("auto")?;
    // On a CPU f32 is the fast format; on a GPU it is the checkpoint's, mostly bf16.
    let dtype = (device == Device::Cpu).then_some(DType::F32);
    let model = Model::load(&folder, device, dtype)?;
    let text = match model.tokenizer.chat_template() {
        Some(_) => model.chat(None)?(question)?,
        None => question.clone(),
    };
    let prompt = model.tokenizer.encode(&text)?;
    let requests: Vec<Request> = (0..answers)
        .map(|member| Request {
            prompt: prompt.clone(),
            guidance: Vec::new(),
            key: RolloutKey {
                member,
                ..RolloutKey::default()
            },
            max_new_tokens: 256,
        })
        .collect();
    let params = SamplingParams {
        // What Qwen3's model cards recommend for thinking.
        temperature: 0.6,
        top_k: 20,
        top_p: 0.95,
        ..model.sampling()
    };
    let mut engine = TorchEngine::of(&model)?;
    let start = Instant::now();
    let completions = engine.generate(&requests, &params)?;
    let seconds = start.elapsed().as_secs_f64();
    for completion in &completions {
        let answer = (model.tokenizer).decode_without_special(&completion.tokens)?;
        writeln!(out, "{answer}\n---")?;
    }
    let tokens: usize = completions.iter().map(|c| c.tokens.len()).sum();
    writeln!(
        out,
        "{tokens} tokens in {seconds:.2} s on {device:?}, {:?}",
        model.parameters.kind()
    )?;
    for fallback in engine.fallbacks() {
        writeln!(out, "{fallback}")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use g2rpo_libtorch::{
        DecoderConfig, HfTokenizer, TokenizerConfig, init_parameters, save_checkpoint,
    };
    use tch::Kind;

    fn words(arguments: &[&str]) -> Vec<String> {
        arguments.iter().map(|&a| a.to_owned()).collect()
    }

    #[test]
    fn a_folder_answers() {
        let folder = std::env::temp_dir().join(format!("g2rpo-generate-{}", std::process::id()));
        let tokenizer = HfTokenizer::train(["one two three"], &TokenizerConfig::default()).unwrap();
        let config = DecoderConfig::tiny_qwen3(tokenizer.vocab_size(), 16, 1, 2, 1);
        let parameters = init_parameters(&config, 1, Kind::Float, Device::Cpu).unwrap();
        save_checkpoint(&folder, &config, &parameters, DType::F32, Some(&tokenizer)).unwrap();
        let mut out = Vec::new();
        let name = folder.to_str().unwrap();
        let answered = run(words(&[name, "one two", "3"]), &mut out);
        std::fs::remove_dir_all(&folder).unwrap();
        answered.unwrap();
        let text = String::from_utf8_lossy(&out);
        assert_eq!(text.matches("---").count(), 3, "{text}");
        assert!(text.contains(" tokens in "), "{text}");
    }

    #[test]
    fn what_is_neither_folder_nor_id_is_refused() {
        let refused = |arguments: &[&str]| {
            let error = run(words(arguments), &mut Vec::new()).unwrap_err();
            error.to_string()
        };
        assert!(refused(&["no folder", "x"]).contains("there is no such folder"));
        assert!(refused(&["one"]).starts_with("expected FOLDER_OR_HUB_ID"));
    }
}
