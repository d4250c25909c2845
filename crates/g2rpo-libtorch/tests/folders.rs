//! Folders whose files disagree or say more than they should are read as transformers reads them:
//! `testdata/libtorch/folders.json`, written by `make_folders.py`.

use g2rpo_libtorch::{
    ChatOptions, ChatTemplate, DType, Decoder, DecoderConfig, HfTokenizer, LearnerConfig, Message,
    Model, TorchLearner, init_parameters, load_checkpoint, save_checkpoint, save_safetensors,
};
use serde_json::{Value, json};
use tch::{Device, Tensor};

fn table(name: &str) -> Value {
    let text = include_str!("../../../testdata/libtorch/folders.json");
    serde_json::from_str::<Value>(text).unwrap()[name].take()
}

fn list<T: serde::de::DeserializeOwned>(value: &Value) -> T {
    serde_json::from_value(value.clone()).unwrap()
}

#[test]
fn stored_truncation_and_padding_are_not_applied() {
    let table = table("tokenizers");
    let dir = tempfile::tempdir().unwrap();
    for case in table["cases"].as_array().unwrap() {
        let mut file = table["tokenizer"].clone();
        (file["truncation"], file["padding"]) =
            (case["truncation"].clone(), case["padding"].clone());
        std::fs::write(dir.path().join("tokenizer.json"), file.to_string()).unwrap();
        let tokenizer = HfTokenizer::from_dir(dir.path()).unwrap();
        let ids = tokenizer.encode(table["text"].as_str().unwrap()).unwrap();
        assert_eq!(ids, list::<Vec<u32>>(&case["ids"]), "{case}");
    }
}

/// As in `make_folders.py`.
fn values(name: &str, shape: &[i64], shift: usize) -> Tensor {
    let start = name.bytes().map(usize::from).sum::<usize>() + shift;
    let n = shape.iter().product::<i64>() as usize;
    let number = |i| ((i * 7919 + start * 104_729) % 1009) as f64 / 1009.0 - 0.5;
    let numbers: Vec<f32> = (0..n).map(|i| number(i) as f32).collect();
    Tensor::from_slice(&numbers).view(shape)
}

#[test]
fn heads_are_those_that_the_file_holds() {
    let table = table("heads");
    let ids: Vec<i64> = list(&table["ids"]);
    for case in table["cases"].as_array().unwrap() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.json");
        std::fs::write(&path, case["config"].to_string()).unwrap();
        let config = DecoderConfig::from_file(&path).unwrap();
        let embedding = "model.embed_tokens.weight";
        let mut tensors: Vec<(String, Tensor)> = (config.param_specs().into_iter())
            .filter(|spec| spec.name != "lm_head.weight")
            .map(|spec| (values(&spec.name, &spec.shape, 0), spec.name))
            .map(|(tensor, name)| (name, tensor))
            .collect();
        let head = |shift| values(embedding, &[11, 8], shift);
        match case["head"].as_str().unwrap() {
            "other" => tensors.push(("lm_head.weight".into(), head(7))),
            "same" => tensors.push(("lm_head.weight".into(), head(0))),
            _ => {}
        }
        let tensors: Vec<(&str, &Tensor)> = tensors.iter().map(|(n, t)| (&n[..], t)).collect();
        save_safetensors(&dir.path().join("model.safetensors"), &tensors, DType::F32).unwrap();
        let checkpoint = load_checkpoint(dir.path(), None, Device::Cpu).unwrap();
        let decoder = Decoder::new(&checkpoint.config, &checkpoint.parameters).unwrap();
        let logits = decoder
            .logits_btv(&Tensor::from_slice(&ids).view([1, -1]))
            .unwrap();
        let logits = Vec::<f32>::try_from(logits.get(0).get(ids.len() as i64 - 1)).unwrap();
        let expected: Vec<f32> = list(&case["logits"]);
        for (got, expected) in logits.iter().zip(expected) {
            approx::assert_abs_diff_eq!(*got, expected, epsilon = 1e-5);
        }
    }
}

#[test]
fn one_template_is_found_or_refused() {
    for case in table("templates").as_array().unwrap() {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in case["files"].as_object().unwrap() {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text.as_str().unwrap()).unwrap();
        }
        let template =
            ChatTemplate::from_dir(dir.path(), &json!({"chat_template": case["config"]}));
        match (case["error"].as_str(), template) {
            (None, Ok(Some(template))) => {
                let messages = [Message::new("user", "1+1?")];
                let text = template.render(&messages, &ChatOptions::default()).unwrap();
                assert_eq!(Some(&text[..]), case["text"].as_str(), "{case}");
            }
            (Some("none"), Ok(None)) => {}
            (Some("ambiguous"), Err(error)) => {
                assert!(error.to_string().contains("none named default"), "{error}");
            }
            (_, got) => panic!("{case} gave {got:?}"),
        }
    }
}

/// As `_keys_to_ignore_on_load_unexpected` of transformers' class says.
#[test]
fn what_a_model_of_text_has_no_use_for_is_left_out() {
    let models = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../testdata/libtorch/models"
    );
    let eye = Tensor::zeros([2, 2], (tch::Kind::Float, Device::Cpu));
    for (name, extra, fits) in [
        ("qwen3_5_tied", "mtp.layers.0.mlp.up_proj.weight", true),
        ("qwen3_5_tied", "model.visual.norm.weight", true),
        ("qwen3_tied", "mtp.layers.0.mlp.up_proj.weight", false),
    ] {
        let folder = std::path::Path::new(models).join(name);
        let plain = load_checkpoint(&folder, None, Device::Cpu).unwrap();
        let dir = tempfile::tempdir().unwrap();
        std::fs::copy(folder.join("config.json"), dir.path().join("config.json")).unwrap();
        let specs = plain.parameters.specs();
        let mut tensors: Vec<(&str, &Tensor)> = (specs.iter().map(|spec| spec.name.as_str()))
            .zip(plain.parameters.tensors())
            .collect();
        tensors.push((extra, &eye));
        save_safetensors(&dir.path().join("model.safetensors"), &tensors, DType::F32).unwrap();
        match load_checkpoint(dir.path(), None, Device::Cpu) {
            Ok(read) => assert!(fits && read.parameters.flat() == plain.parameters.flat()),
            Err(error) => assert!(!fits && error.to_string().contains(extra), "{error}"),
        }
    }
}

#[test]
fn a_saved_model_keeps_its_settings_of_generation() {
    let (dir, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let path = dir.path().join("config.json");
    let mut config = table("heads")["cases"][0]["config"].take();
    config["eos_token_id"] = json!(2);
    let config = DecoderConfig::from_json(&config, &path).unwrap();
    let parameters = init_parameters(&config, 1, tch::Kind::Float, Device::Cpu).unwrap();
    save_checkpoint(dir.path(), &config, &parameters, DType::F32, None).unwrap();
    let tokenizer = table("tokenizers")["tokenizer"].take();
    std::fs::write(dir.path().join("tokenizer.json"), tokenizer.to_string()).unwrap();
    let settings = json!({
        "do_sample": true, "temperature": 0.6, "top_k": 20, "top_p": 0.95, "repetition_penalty": 1.05,
        "eos_token_id": [2, 3], "pad_token_id": 0, "transformers_version": "4.51.0",
    });
    let file = "generation_config.json";
    std::fs::write(dir.path().join(file), settings.to_string()).unwrap();
    let model = Model::load(dir.path(), Device::Cpu, None).unwrap();
    let model = model.twin().unwrap();
    let learner = TorchLearner::of(&model, LearnerConfig::default()).unwrap();
    model.save(out.path(), &learner).unwrap();
    let saved = std::fs::read_to_string(out.path().join(file)).unwrap();
    assert_eq!(serde_json::from_str::<Value>(&saved).unwrap(), settings);
}

/// Names and nesting of models that also see images, as transformers 5 (the first) and 4 write them.
#[test]
fn of_a_model_that_sees_images_the_text_half_is_read() {
    let models = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../testdata/libtorch/models"
    );
    for (name, model_type, prefix) in [
        ("qwen3_5_tied", "qwen3_5", "model.language_model."),
        ("gemma3_tied", "gemma3", "language_model.model."),
    ] {
        let folder = std::path::Path::new(models).join(name);
        let plain = load_checkpoint(&folder, None, Device::Cpu).unwrap();
        let text = std::fs::read_to_string(folder.join("config.json")).unwrap();
        let mut text: Value = serde_json::from_str(&text).unwrap();
        // As the classes' own files have it: what holds for both stands beside the halves.
        text["tie_word_embeddings"] = json!(false);
        let dtype = text["dtype"].take();
        let whole = json!({ "model_type": model_type, "tie_word_embeddings": true, "dtype": dtype,
            "text_config": text, "vision_config": { "depth": 1 } });
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("config.json"), whole.to_string()).unwrap();
        let names: Vec<String> = (plain.parameters.specs().iter())
            .map(|spec| format!("{prefix}{}", spec.name.strip_prefix("model.").unwrap()))
            .collect();
        let eye = Tensor::zeros([2, 2], (tch::Kind::Float, Device::Cpu));
        let mut tensors: Vec<(&str, &Tensor)> = (names.iter().map(String::as_str))
            .zip(plain.parameters.tensors())
            .collect();
        tensors.extend([("model.visual.norm.weight", &eye), ("mtp.fc.weight", &eye)]);
        save_safetensors(&dir.path().join("model.safetensors"), &tensors, DType::F32).unwrap();
        let half = load_checkpoint(dir.path(), None, Device::Cpu).unwrap();
        assert_eq!(half.config, plain.config, "{name}");
        assert_eq!(half.parameters.flat(), plain.parameters.flat(), "{name}");
        let mut broken = whole;
        broken["text_config"]["hidden_size"] = json!(0);
        let error = DecoderConfig::from_json(&broken, dir.path()).unwrap_err();
        assert!(
            error.to_string().contains("`text_config.hidden_size`"),
            "{error}"
        );
    }
}
