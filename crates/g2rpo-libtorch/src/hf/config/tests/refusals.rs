//! What is refused in `config.json` and `generation_config.json`, and with which words.

use super::*;

#[test]
fn refusals_name_the_field() {
    for (field, value, message) in [
        (
            "model_type",
            json!("mamba"),
            "config.json: field `model_type`: `mamba` is not supported; supported are llama, qwen2, qwen3, smollm3, granite, gemma3_text, qwen3_moe, granitemoehybrid, phi3, ministral3, qwen3_5_text, mistral",
        ),
        (
            "model_type",
            Value::Null,
            "config.json: field `model_type`: missing",
        ),
        (
            "hidden_size",
            json!("16"),
            "config.json: field `hidden_size`: expected a whole number, got \"16\"",
        ),
        (
            "hidden_size",
            Value::Null,
            "config.json: field `hidden_size`: missing",
        ),
        (
            "num_key_value_heads",
            json!(3),
            "config.json: field `num_key_value_heads`: 3 does not divide num_attention_heads = 4",
        ),
        (
            "rope_parameters",
            json!({"rope_type": "dynamic"}),
            "config.json: field `rope_parameters.rope_type`: `dynamic` is not supported; supported are default, linear, llama3, yarn and longrope",
        ),
        (
            "rope_parameters",
            json!({"rope_type": "yarn", "factor": 0.0, "original_max_position_embeddings": 64}),
            "config.json: field `rope_parameters.factor`: expected a number above 0, got 0",
        ),
        (
            "rope_scaling",
            json!({"type": "linear", "factor": -2.0}),
            "config.json: field `rope_scaling.factor`: expected a number above 0, got -2",
        ),
        (
            "rope_parameters",
            json!({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 4.0, "high_freq_factor": 4.0,
                "original_max_position_embeddings": 64}),
            "config.json: field `rope_parameters.high_freq_factor`: is low_freq_factor",
        ),
        (
            "final_logit_softcapping",
            json!(30.0),
            "config.json: field `final_logit_softcapping`: 30 is not supported, only null",
        ),
        (
            "clip_qkv",
            json!(8.0),
            "config.json: field `clip_qkv`: 8 is not supported, only null",
        ),
        (
            "rope_parameters",
            json!({"rope_type": "default", "partial_rotary_factor": 0.5}),
            "config.json: field `partial_rotary_factor`: 0.5 is not supported, only 1",
        ),
        (
            "rope_parameters",
            json!({"rope_type": "yarn"}),
            "config.json: field `rope_parameters.original_max_position_embeddings`: missing",
        ),
        (
            "output_router_logits",
            json!(true),
            "config.json: field `output_router_logits`: the routers' auxiliary loss is not supported, only false",
        ),
        (
            "rope_parameters",
            json!({"rope_type": "llama3"}),
            "config.json: field `rope_parameters.factor`: missing",
        ),
        (
            "rope_parameters",
            json!({"full_attention": {"rope_theta": 7e4}}),
            "config.json: field `rope_parameters.full_attention`: only rope_parameters of gemma3_text tells kinds of layers apart; put what stands in it one level up",
        ),
        (
            "layer_types",
            json!(["full_attention"]),
            "config.json: field `layer_types`: 1 entries, expected one for each of num_hidden_layers = 2",
        ),
        (
            "per_layer_config",
            json!({"0": {"sliding_window": 8}}),
            "config.json: field `per_layer_config`: {\"0\":{\"sliding_window\":8}} is not supported, only null",
        ),
        (
            "rope_parameters",
            json!(7),
            "config.json: field `rope_parameters`: not a JSON object",
        ),
        (
            "use_sliding_window",
            json!(true),
            "config.json: field `use_sliding_window`: sliding-window attention is not supported",
        ),
        (
            "layer_types",
            json!(["full_attention", "sliding_attention"]),
            "config.json: field `layer_types`: \"sliding_attention\" is not supported, only full_attention",
        ),
        (
            "hidden_act",
            json!("gelu"),
            "config.json: field `hidden_act`: `gelu` is not supported, only silu",
        ),
        (
            "quantization_config",
            json!({"bits": 4}),
            "config.json: field `quantization_config`: quantised checkpoints are not supported; use the bf16 or f32 one",
        ),
        (
            "dtype",
            json!("int8"),
            "config.json: field `dtype`: `int8` is not supported; supported are float32, bfloat16 and float16",
        ),
        (
            "eos_token_id",
            json!([1, -1]),
            "config.json: field `eos_token_id`: expected an id or a list of ids, got [1,-1]",
        ),
        (
            "head_dim",
            json!(7),
            "config.json: field `head_dim`: 7 is not a positive even number",
        ),
        (
            "vocab_size",
            json!(0),
            "config.json: field `vocab_size`: 0 is not a size",
        ),
    ] {
        let mut config = qwen3();
        config[field] = value;
        assert_eq!(parse(config).unwrap_err().to_string(), message);
    }
}

#[test]
fn what_a_family_cannot_have_is_refused_by_field_name() {
    let granite4 = json!({"model_type": "granitemoehybrid", "shared_intermediate_size": 24,
            "num_local_experts": 0, "layer_types": ["attention", "full_attention"]});
    let longrope = json!({"rope_type": "longrope", "short_factor": [1.0, 1.5], "long_factor": [2.0],
            "original_max_position_embeddings": 64, "factor": 2.0});
    let phi3 = json!({"model_type": "phi3", "head_dim": 4});
    let moe = json!({"model_type": "qwen3_moe", "num_local_experts": 4});
    let grows = json!({"rope_type": "default", "llama_4_scaling_beta": 0.1, "original_max_position_embeddings": 64});
    let ministral3 = json!({"model_type": "ministral3", "rope_parameters": grows});
    let qwen35 = json!({"model_type": "qwen3_5_text"});
    let slides = ["full_attention", "sliding_attention"];
    let smollm3 = json!({"model_type": "smollm3", "sliding_window": 8, "layer_types": slides});
    let mistral = json!({"model_type": "mistral", "layer_types": slides});
    let gemma3 = gemma3();
    let part = |kind: &str| json!({kind: {"rope_type": "default", "partial_rotary_factor": 0.5}});
    let three = json!(["full_attention", "full_attention", "full_attention"]);
    for (family, field, value, message) in [
        (
            &granite4,
            "layer_types",
            json!(["attention", "mamba"]),
            "`layer_types`: \"mamba\" is not",
        ),
        (
            &granite4,
            "num_local_experts",
            json!(8),
            "`num_local_experts`: 8 experts beside",
        ),
        (
            &granite4,
            "position_embedding_type",
            json!("alibi"),
            "`position_embedding_type`: `alibi`",
        ),
        (
            &phi3,
            "rope_parameters",
            longrope,
            "`long_factor`: 1 factors, expected 2",
        ),
        (
            &phi3,
            "rope_parameters",
            json!({"rope_type": "linear", "factor": 2.0}),
            "`rope_type`: phi3",
        ),
        (
            &phi3,
            "partial_rotary_factor",
            json!(1.5),
            "`partial_rotary_factor`: expected a number in",
        ),
        (
            &phi3,
            "partial_rotary_factor",
            json!(0.8),
            "`partial_rotary_factor`: 3 of 4 coordinates",
        ),
        (
            &phi3,
            "resid_pdrop",
            json!(0.1),
            "`resid_pdrop`: 0.1 is not supported",
        ),
        (
            &phi3,
            "attention_bias",
            json!(true),
            "`attention_bias`: the family has no biases",
        ),
        (
            &moe,
            "num_experts_per_tok",
            json!(5),
            "`num_experts_per_tok`: 5 of 4 experts",
        ),
        (
            &qwen35,
            "attn_output_gate",
            json!(false),
            "`attn_output_gate`: false is not",
        ),
        (
            &qwen35,
            "linear_num_key_heads",
            json!(5),
            "`linear_num_key_heads`: 5 does not divide linear_num_value_heads = 32",
        ),
        (
            &qwen35,
            "layer_types",
            json!(["full_attention", "sliding_attention"]),
            "`layer_types`: \"sliding_attention\" is not",
        ),
        (
            &ministral3,
            "rope_parameters",
            Value::Null,
            "`rope_parameters`: missing",
        ),
        (
            &ministral3,
            "rope_parameters",
            json!({"rope_type": "default"}),
            "`llama_4_scaling_beta`: missing in rope_parameters",
        ),
        (
            &moe,
            "n_shared_experts",
            json!(1),
            "`n_shared_experts`: 1 is not supported",
        ),
        (
            &smollm3,
            "sliding_window",
            Value::Null,
            "`sliding_window`: missing, and there are layers with a window",
        ),
        (
            &smollm3,
            "no_rope_layer_interval",
            json!(0),
            "`no_rope_layer_interval`: expected 1 or more",
        ),
        (
            &mistral,
            "sliding_window",
            Value::Null,
            "`sliding_window`: missing, and there are layers with a window",
        ),
        (
            &mistral,
            "layer_types",
            json!(["full_attention", "chunked_attention"]),
            "`layer_types`: \"chunked_attention\" is not",
        ),
        (
            &mistral,
            "num_key_value_heads",
            Value::Null,
            "`num_key_value_heads`: null is not supported",
        ),
        (
            &gemma3,
            "sliding_window",
            Value::Null,
            "`sliding_window`: missing, and there are layers with a window",
        ),
        (
            &gemma3,
            "rope_parameters",
            part("sliding_attention"),
            "`rope_parameters.sliding_attention.partial_rotary_factor`: 0.5 is not supported, only 1",
        ),
        (
            &gemma3,
            "rope_parameters",
            part("full_attention"),
            "`rope_parameters.full_attention.partial_rotary_factor`: 0.5 is not supported, only 1",
        ),
        (
            &gemma3,
            "rope_scaling",
            json!({"full_attention": {"rope_type": "linear", "factor": 2.0}}),
            "`rope_scaling.full_attention`: only rope_parameters of gemma3_text",
        ),
        (
            &smollm3,
            "rope_parameters",
            part("sliding_attention"),
            "`rope_parameters.sliding_attention`: only rope_parameters of gemma3_text",
        ),
        (
            &gemma3,
            "partial_rotary_factor",
            json!(0.5),
            "`partial_rotary_factor`: 0.5 is not supported, only 1",
        ),
        (
            &gemma3,
            "rope_parameters",
            json!({"rope_theta": 5e5}),
            "`rope_parameters.rope_theta`: rope_parameters of gemma3_text tells kinds of layers apart",
        ),
        (
            &granite4,
            "layers_block_type",
            json!(["mamba", "attention"]),
            "`layers_block_type`: \"mamba\" is not",
        ),
        (
            &granite4,
            "layers_block_type",
            three.clone(),
            "`layers_block_type`: 3 entries, expected one for each",
        ),
        (
            &granite4,
            "layer_types",
            three.clone(),
            "`layer_types`: 3 entries, expected one for each",
        ),
        (
            &smollm3,
            "layer_types",
            three.clone(),
            "`layer_types`: 3 entries, expected one for each",
        ),
        (
            &gemma3,
            "layer_types",
            three.clone(),
            "`layer_types`: 3 entries, expected one for each",
        ),
        (
            &qwen35,
            "layer_types",
            three.clone(),
            "`layer_types`: 3 entries, expected one for each",
        ),
        (
            &mistral,
            "layer_types",
            three.clone(),
            "`layer_types`: 3 entries, expected one for each",
        ),
        (
            &phi3,
            "layer_types",
            three,
            "`layer_types`: 3 entries, expected one for each",
        ),
    ] {
        let mut config = qwen3();
        for (name, value) in family.as_object().unwrap() {
            config[name] = value.clone();
        }
        if family["model_type"] == "qwen3_moe" {
            config["num_experts_per_tok"] = json!(2);
        }
        assert!(parse(config.clone()).is_ok(), "{config}");
        config[field] = value;
        let error = parse(config).unwrap_err().to_string();
        assert!(error.contains(message), "{error}");
    }
}

#[test]
fn generation_that_no_sampling_settings_can_say_is_refused() {
    let path = Path::new("generation_config.json");
    let read = |fields: Value| {
        let mut config = DecoderConfig::from_json(&qwen3(), Path::new("config.json")).unwrap();
        (config.add_generation_config(&fields, path)).map(|()| config.eos_token_id)
    };
    // As in files of Qwen, Gemma and Llama, and with values that change nothing.
    let usual = json!({
        "do_sample": true, "temperature": 0.6, "top_k": 20, "top_p": 0.95, "min_p": 0.0, "repetition_penalty": 1.1,
        "eos_token_id": [7, 9], "max_length": 4096, "cache_implementation": "hybrid", "transformers_version": "5.0",
        "num_beams": 1, "min_length": 0, "no_repeat_ngram_size": 0, "bad_words_ids": null, "suppress_tokens": [],
        "presence_penalty": 0.0, "typical_p": 1.0, "forced_eos_token_id": null, "token_healing": false,
        "stop_strings": null, "max_time": null, "encoder_no_repeat_ngram_size": 0, "max_new_tokens": 512,
    });
    assert_eq!(read(usual).unwrap(), [7, 9]);
    for (field, value) in [
        ("presence_penalty", json!(1.5)),
        ("no_repeat_ngram_size", json!(3)),
        ("min_new_tokens", json!(8)),
        ("num_beams", json!(4)),
        ("suppress_tokens", json!([3])),
        ("forced_eos_token_id", json!(0)),
        ("sequence_bias", json!([[[5], -1.0]])),
        ("token_healing", json!(true)),
        ("stop_strings", json!(["\n\n"])),
        ("max_time", json!(2.5)),
        ("encoder_no_repeat_ngram_size", json!(2)),
        ("assistant_ensemble_weight", json!(0.5)),
        ("cache_implementation", json!("quantized")),
        ("dola_layers", json!("low")),
    ] {
        let err = read(json!({ field: value })).unwrap_err().to_string();
        let expected = format!(
            "generation_config.json: field `{field}`: {value} is not supported; take it out of the file to sample without it"
        );
        assert_eq!(err, expected);
    }
}
