//! A real model, SmolLM2-135M-Instruct: greedy answers to GSM8K's questions are those of transformers
//! (`testdata/libtorch/make_smollm2.py`). `G2RPO_MODELS` names the folder that holds `smollm2-135m`, and
//! `G2RPO_DATA` the one that holds `gsm8k/test.jsonl`.

use std::path::PathBuf;

use g2rpo_libtorch::{ChatOptions, Decoder, HfTokenizer, Message, TorchEngine, load_checkpoint};
use g2rpo_rollout::{Request, RolloutEngine, RolloutKey, SamplingParams};
use serde::Deserialize;
use serde_json::Value;
use tch::{Device, Kind};

#[derive(Deserialize)]
struct Case {
    prompt: [u64; 2],
    greedy: Vec<u32>,
    margin: f64,
}

#[test]
fn greedy_answers_are_those_of_transformers() {
    let path = |variable: &str, rest: &str| {
        let path = std::env::var_os(variable).map(|root| PathBuf::from(root).join(rest));
        path.filter(|path| path.exists())
    };
    let (Some(folder), Some(data)) = (
        path("G2RPO_MODELS", "smollm2-135m"),
        path("G2RPO_DATA", "gsm8k/test.jsonl"),
    ) else {
        println!(
            "skipped: G2RPO_MODELS and G2RPO_DATA do not name folders with smollm2-135m and gsm8k"
        );
        return;
    };
    let text = include_str!("../../../testdata/libtorch/smollm2_greedy.json");
    let cases: Vec<Case> = serde_json::from_str(text).unwrap();
    assert_eq!(cases.len(), 64);
    let tokenizer = HfTokenizer::from_dir(&folder).unwrap();
    let options = ChatOptions {
        add_generation_prompt: true,
        ..ChatOptions::default()
    };
    let mut requests = Vec::new();
    for (line, case) in std::fs::read_to_string(data).unwrap().lines().zip(&cases) {
        let task: Value = serde_json::from_str(line).unwrap();
        let message = Message::new("user", task["question"].as_str().unwrap());
        let template = tokenizer.chat_template().unwrap();
        let prompt = (tokenizer.encode(&template.render(&[message], &options).unwrap())).unwrap();
        let sum = (1..)
            .zip(&prompt)
            .map(|(i, &id)| i * u64::from(id))
            .sum::<u64>();
        assert_eq!([prompt.len() as u64, sum % (2_147_483_647)], case.prompt);
        requests.push(Request {
            prompt,
            guidance: Vec::new(),
            key: RolloutKey::default(),
            max_new_tokens: 48,
        });
    }
    let checkpoint = load_checkpoint(&folder, Some(Kind::Float), Device::Cpu).unwrap();
    let decoder = Decoder::new(&checkpoint.config, &checkpoint.parameters).unwrap();
    let params = SamplingParams {
        stop_token_ids: checkpoint.config.eos_token_id.clone(),
        ..SamplingParams::greedy()
    };
    let completions = TorchEngine::new(&decoder)
        .generate(&requests, &params)
        .unwrap();
    let differing: Vec<String> = (cases.iter().zip(&completions).enumerate())
        .filter(|(_, (case, completion))| case.greedy != completion.tokens)
        .map(|(i, (case, completion))| {
            let same = (case.greedy.iter().zip(&completion.tokens)).take_while(|(a, b)| a == b);
            format!(
                "{i} from position {} on (smallest margin {})",
                same.count(),
                case.margin
            )
        })
        .collect();
    assert_eq!(differing, [""; 0], "questions whose answers differ");
}
