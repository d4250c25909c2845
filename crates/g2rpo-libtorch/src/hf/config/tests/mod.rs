//! `config.json`, read and written back.

mod refusals;

use super::*;
use crate::model::config::RopeConfig;
use crate::model::rope::Rope;
use serde_json::json;
use tch::{Device, Kind, Tensor};

fn parse(value: Value) -> Result<DecoderConfig> {
    DecoderConfig::from_json(&value, Path::new("config.json"))
}

fn qwen3() -> Value {
    json!({
        "model_type": "qwen3", "vocab_size": 100, "hidden_size": 16, "intermediate_size": 24,
        "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
        "head_dim": 8, "tie_word_embeddings": true,
        "rope_parameters": {"rope_theta": 5e5, "rope_type": "default"}, "dtype": "bfloat16",
        "eos_token_id": [3, 4],
    })
}

/// What Gemma 3 has besides [`qwen3`] and has not of it.
fn gemma3() -> Value {
    json!({"model_type": "gemma3_text", "sliding_window": 8, "rope_parameters": null})
}

/// [`qwen3`] with other fields.
fn with(fields: Value) -> Value {
    let mut config = qwen3();
    for (name, value) in fields.as_object().unwrap() {
        config[name] = value.clone();
    }
    config
}

#[test]
fn both_generations_of_the_file_agree() {
    let mut old = qwen3();
    old.as_object_mut().unwrap().remove("rope_parameters");
    old.as_object_mut().unwrap().remove("dtype");
    old["rope_theta"] = json!(5e5);
    old["rope_scaling"] = Value::Null;
    old["torch_dtype"] = json!("bfloat16");
    let new = parse(qwen3()).unwrap();
    assert_eq!(new, parse(old).unwrap());
    assert_eq!(new.rope.theta, 5e5);
    assert_eq!(new.dtype, Some(DType::Bf16));
    assert_eq!(new.eos_token_id, [3, 4]);
}

#[test]
fn what_is_written_reads_back() {
    let mut config = parse(qwen3()).unwrap();
    assert_eq!(parse(config.to_json()).unwrap(), config);
    config.rope.scaling = RopeScaling::Llama3 {
        factor: 8.0,
        low_freq_factor: 1.0,
        high_freq_factor: 4.0,
        original_max_position_embeddings: 8192.0,
    };
    config.architecture = Architecture::Llama;
    (config.qkv_bias, config.o_bias, config.mlp_bias) = (true, true, true);
    assert_eq!(parse(config.to_json()).unwrap(), config);
    config.architecture = Architecture::Qwen2;
    (config.o_bias, config.mlp_bias) = (false, false);
    assert_eq!(parse(config.to_json()).unwrap(), config);
}

/// The widths are those of the masks that transformers 5.23 makes of these files.
#[test]
fn windows_are_where_transformers_has_them() {
    let mixed = ["full_attention", "sliding_attention"];
    let full = ["full_attention", "full_attention"];
    for (fields, windows) in [
        // The masks of SmolLM3 go by the kinds, whatever the flag says.
        (
            json!({"model_type": "smollm3", "sliding_window": 8, "layer_types": mixed}),
            [None, Some(8)],
        ),
        (
            json!({"model_type": "smollm3", "sliding_window": 8, "layer_types": mixed, "use_sliding_window": false}),
            [None, Some(8)],
        ),
        (
            json!({"model_type": "smollm3", "sliding_window": 8, "layer_types": full, "use_sliding_window": true}),
            [None, None],
        ),
        // Without kinds, layers that are not rotated have the window, if there is one that is used.
        (
            json!({"model_type": "smollm3", "sliding_window": 8, "no_rope_layers": [0, 1], "use_sliding_window": true}),
            [Some(8), None],
        ),
        (
            json!({"model_type": "smollm3", "sliding_window": 8, "no_rope_layers": [0, 1]}),
            [None, None],
        ),
        (
            json!({"model_type": "smollm3", "sliding_window": null, "no_rope_layers": [0, 1], "use_sliding_window": true}),
            [None, None],
        ),
        // With kinds, Mistral is opened as the class that goes by them.
        (
            json!({"model_type": "mistral", "layer_types": full}),
            [None, None],
        ),
        (
            json!({"model_type": "mistral", "layer_types": mixed, "sliding_window": 8}),
            [None, Some(8)],
        ),
        (
            json!({"model_type": "mistral", "layer_types": null}),
            [Some(4096), Some(4096)],
        ),
        (
            json!({"model_type": "mistral", "sliding_window": null}),
            [None, None],
        ),
    ] {
        let config = parse(with(fields.clone())).unwrap();
        assert_eq!([0, 1].map(|i| config.layer(i).window), windows, "{fields}");
        assert_eq!(parse(config.to_json()).unwrap(), config, "{fields}");
    }
    // Half a file is not: its kinds are not gone by.
    let text = with(json!({"model_type": "mistral", "layer_types": full, "sliding_window": 8}));
    let half = parse(json!({"model_type": "mistral3", "text_config": text})).unwrap();
    assert_eq!([0, 1].map(|i| half.layer(i).window), [Some(8), Some(8)]);
    // A Gemma 3 without windows names a width all the same: transformers asks for one.
    let mut fields = gemma3();
    fields["layer_types"] = json!(full);
    let config = parse(with(fields)).unwrap();
    assert_eq!(config.to_json()["sliding_window"], 4096);
    assert_eq!(parse(config.to_json()).unwrap(), config);
}

/// As in transformers' `GenerationConfig.from_model_config`.
#[test]
fn of_both_halves_the_outer_one_says_what_ends_a_text() {
    let mut whole =
        json!({"model_type": "gemma3", "eos_token_id": [1, 6], "text_config": with(gemma3())});
    assert_eq!(parse(whole.clone()).unwrap().eos_token_id, [1, 6]);
    whole["eos_token_id"] = Value::Null;
    assert_eq!(parse(whole).unwrap().eos_token_id, [3, 4]);
}

#[test]
fn older_names_and_nulls_are_read_as_transformers_reads_them() {
    for family in ["smollm3", "qwen2", "qwen3", "llama"] {
        let fields = json!({"model_type": family, "num_key_value_heads": null});
        assert_eq!(parse(with(fields)).unwrap().num_key_value_heads, 4);
    }
    let granite = |field: &str| {
        let mut config = with(
            json!({"model_type": "granitemoehybrid", "shared_intermediate_size": 24,
                "num_local_experts": 0, "position_embedding_type": "rope"}),
        );
        config[field] = json!(["attention", "attention"]);
        config
    };
    let new = parse(granite("layer_types")).unwrap();
    assert_eq!(parse(granite("layers_block_type")).unwrap(), new);
    // The older name is heard last, so it counts.
    let mut both = granite("layers_block_type");
    both["layer_types"] = json!(["mamba", "attention"]);
    assert_eq!(parse(both).unwrap(), new);
}

#[test]
fn parameters_are_counted() {
    // 100·16 embedding, and per layer 2·16 norms, (4+2+2)·8·16 qkv, 4·8·16 o, 2·8 head
    // norms, 3·16·24 feed-forward; 16 final norm.
    let config = parse(qwen3()).unwrap();
    assert_eq!(
        config.num_parameters(),
        1600 + 2 * (32 + 1024 + 512 + 16 + 1152) + 16
    );
}

/// `testdata/libtorch/rope.json`, written by transformers (`make_rope.py`).
#[test]
fn rotations_are_found_where_transformers_finds_them() {
    let text = include_str!("../../../../../../testdata/libtorch/rope.json");
    let file: Value = serde_json::from_str(text).unwrap();
    for case in file["cases"].as_array().unwrap() {
        let config = parse(case["config"].clone()).unwrap();
        let expected = &case["rope_parameters"];
        let check = |rope: &RopeConfig, expected: &Value| {
            assert_eq!(Some(rope.theta), expected["rope_theta"].as_f64(), "{case}");
            let scaling = match expected["rope_type"].as_str().unwrap() {
                "yarn" | "longrope" => return,
                "default" => RopeScaling::None,
                "linear" => RopeScaling::Linear {
                    factor: expected["factor"].as_f64().unwrap(),
                },
                _ => RopeScaling::Llama3 {
                    factor: expected["factor"].as_f64().unwrap(),
                    low_freq_factor: expected["low_freq_factor"].as_f64().unwrap(),
                    high_freq_factor: expected["high_freq_factor"].as_f64().unwrap(),
                    original_max_position_embeddings: expected["original_max_position_embeddings"]
                        .as_f64()
                        .unwrap(),
                },
            };
            assert_eq!(rope.scaling, scaling, "{case}");
        };
        match &config.local_rope {
            Some(local) => {
                check(&config.rope, &expected["full_attention"]);
                check(local, &expected["sliding_attention"]);
            }
            None => check(&config.rope, expected),
        }
        if let Some(cos_sin) = case.get("cos_sin") {
            let positions: Vec<i64> = serde_json::from_value(case["positions"].clone()).unwrap();
            let rope = Rope::new(&config.rope, config.head_dim, Device::Cpu).unwrap();
            let (cos, sin) = (rope.cos_sin(&Tensor::from_slice(&positions), Kind::Float)).unwrap();
            for (ours, theirs) in [cos, sin].iter().zip(cos_sin.as_array().unwrap()) {
                let theirs: Vec<Vec<f32>> = serde_json::from_value(theirs.clone()).unwrap();
                let off = (ours - Tensor::from_slice2(&theirs)).abs().max();
                assert!(f64::try_from(off).unwrap() < 1e-6, "{case}");
            }
        }
    }
}
