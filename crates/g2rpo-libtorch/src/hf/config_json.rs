//! `config.json`, written.

use serde_json::{Value, json};

use crate::model::config::{
    Activation, Architecture, DecoderConfig, LayerRope, RopeConfig, RopeScaling,
};

impl DecoderConfig {
    /// The configuration as transformers 5 writes it.
    pub fn to_json(&self) -> Value {
        let rope = self.rope.to_json();
        let mut config = json!({
            "architectures": [self.architecture.class()],
            "model_type": self.architecture.model_type(),
            "vocab_size": self.vocab_size,
            "hidden_size": self.hidden_size,
            "intermediate_size": self.intermediate_size,
            "num_hidden_layers": self.num_hidden_layers,
            "num_attention_heads": self.num_attention_heads,
            "num_key_value_heads": self.num_key_value_heads,
            "head_dim": self.head_dim,
            "rms_norm_eps": self.rms_norm_eps,
            "rope_parameters": rope,
            // transformers 4 reads this one.
            "rope_theta": self.rope.theta,
            "tie_word_embeddings": self.tie_word_embeddings,
            "max_position_embeddings": self.max_position_embeddings,
            "initializer_range": self.initializer_range,
            "attention_dropout": 0.0,
            "use_cache": true,
        });
        if self.rope.scaling != RopeScaling::None {
            config["rope_scaling"] = rope.clone();
        }
        let windows = self.layers.iter().find_map(|layer| layer.window);
        let types: Vec<&str> = (0..self.num_hidden_layers)
            .map(|i| match self.layer(i) {
                layer if layer.delta_net => "linear_attention",
                layer if layer.window.is_some() => "sliding_attention",
                _ => "full_attention",
            })
            .collect();
        let mut set = |field: &str, value: Value| config[field] = value;
        let (field, activation) = self.architecture.block().activation.setting();
        set(field, json!(activation));
        if !matches!(
            self.architecture,
            Architecture::Qwen2
                | Architecture::Phi3
                | Architecture::Ministral3
                | Architecture::Mistral
        ) {
            set("attention_bias", json!(self.qkv_bias));
        }
        match self.architecture {
            Architecture::Llama => set("mlp_bias", json!(self.mlp_bias)),
            Architecture::Qwen2 | Architecture::Qwen3 => set("use_sliding_window", json!(false)),
            Architecture::SmolLm3 => {
                set("mlp_bias", json!(self.mlp_bias));
                let rotated = |i| u8::from(self.layer(i).rope != LayerRope::None);
                let rotated: Vec<u8> = (0..self.num_hidden_layers).map(rotated).collect();
                set("no_rope_layers", json!(rotated));
                set("use_sliding_window", json!(windows.is_some()));
                set("sliding_window", json!(windows));
                set("layer_types", json!(types));
            }
            Architecture::Granite | Architecture::GraniteMoeHybrid => {
                if self.architecture == Architecture::Granite {
                    set("mlp_bias", json!(self.mlp_bias));
                } else {
                    let rope = (self.layer(0).rope == LayerRope::Main).then_some("rope");
                    set("position_embedding_type", json!(rope));
                    set("shared_intermediate_size", json!(self.intermediate_size));
                    set("num_local_experts", json!(0));
                    set("layer_types", json!(types));
                    // Of layers that there are none of; its default need not divide the width.
                    set("mamba_n_heads", json!(1));
                }
                set("embedding_multiplier", json!(self.embedding_multiplier));
                set("attention_multiplier", json!(self.attention_multiplier));
                set("residual_multiplier", json!(self.residual_multiplier));
                set("logits_scaling", json!(self.logits_scaling));
            }
            Architecture::Qwen35 => {
                set("layer_types", json!(types));
                // 1 is not what it is when it is left out.
                let factor = self.rope.partial_rotary_factor;
                set("partial_rotary_factor", json!(factor));
                if let Some(net) = &self.delta_net {
                    set("linear_num_key_heads", json!(net.key_heads));
                    set("linear_num_value_heads", json!(net.value_heads));
                    set("linear_key_head_dim", json!(net.key_width));
                    set("linear_value_head_dim", json!(net.value_width));
                    set("linear_conv_kernel_dim", json!(net.conv_kernel));
                }
            }
            Architecture::Qwen3Moe => {
                set("use_sliding_window", json!(false));
                let plain = (0..self.num_hidden_layers).filter(|&i| !self.layer(i).experts);
                set("mlp_only_layers", json!(plain.collect::<Vec<_>>()));
                set("decoder_sparse_step", json!(1));
                if let Some(experts) = &self.experts {
                    for field in ["num_experts", "num_local_experts"] {
                        set(field, json!(experts.num_experts));
                    }
                    set("num_experts_per_tok", json!(experts.num_experts_per_tok));
                    set("moe_intermediate_size", json!(experts.intermediate_size));
                    set("norm_topk_prob", json!(experts.norm_topk_prob));
                }
            }
            Architecture::Phi3 | Architecture::Ministral3 | Architecture::Mistral => {
                set("sliding_window", json!(windows));
                let some_slide = windows.is_some() && types.contains(&"full_attention");
                if self.architecture == Architecture::Mistral && some_slide {
                    set("layer_types", json!(types));
                }
                if let RopeScaling::LongRope {
                    original_max_position_embeddings: original,
                    ..
                } = self.rope.scaling
                {
                    set("original_max_position_embeddings", json!(original as u64));
                }
            }
            Architecture::Gemma3 => {
                // transformers asks for a width even where no layer has a window.
                set("sliding_window", json!(windows.unwrap_or(4096)));
                set("layer_types", json!(types));
                let scalar = self.attention_multiplier.map(|m| (1.0 / (m * m)).round());
                set("query_pre_attn_scalar", json!(scalar.map(|s| s as u64)));
                let local = self.local_rope.as_ref().unwrap_or(&self.rope);
                let ropes = json!({ "full_attention": rope, "sliding_attention": local.to_json() });
                set("rope_parameters", ropes);
                set("rope_local_base_freq", json!(local.theta));
            }
        }
        if let Some(dtype) = self.dtype {
            config["dtype"] = json!(dtype.name());
            config["torch_dtype"] = json!(dtype.name());
        }
        config["bos_token_id"] = json!(self.bos_token_id);
        config["pad_token_id"] = json!(self.pad_token_id);
        config["eos_token_id"] = match self.eos_token_id[..] {
            [] => Value::Null,
            [id] => json!(id),
            _ => json!(self.eos_token_id),
        };
        config
    }
}

impl Activation {
    /// The field in config.json that says it, and how.
    pub(super) fn setting(self) -> (&'static str, &'static str) {
        match self {
            Self::Silu => ("hidden_act", "silu"),
            Self::GeluTanh => ("hidden_activation", "gelu_pytorch_tanh"),
        }
    }
}

impl RopeConfig {
    /// An entry of `rope_parameters`.
    fn to_json(&self) -> Value {
        let mut rope = json!(self.scaling);
        rope["rope_theta"] = json!(self.theta);
        if self.partial_rotary_factor != 1.0 {
            rope["partial_rotary_factor"] = json!(self.partial_rotary_factor);
        }
        if let Some(growth) = &self.query_growth {
            rope["llama_4_scaling_beta"] = json!(growth.beta);
            rope["original_max_position_embeddings"] = json!(growth.original as u64);
        }
        rope
    }
}
