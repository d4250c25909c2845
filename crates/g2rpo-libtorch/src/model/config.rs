//! What a model is: shape and constants of a decoder.

use serde_json::{Value, json};

use crate::error::{Error, Result};
use crate::model::params::ParamSpec;

/// Shape and constants of a decoder, as `config.json` of transformers describes it.
///
/// Both generations of the file are read: transformers 4 (`rope_theta`, `rope_scaling`,
/// `torch_dtype`) and 5 (`rope_parameters`, `dtype`). What a field means and its default when the
/// file leaves it out are those of transformers' configuration class of the architecture.
#[derive(Debug, Clone, PartialEq)]
pub struct DecoderConfig {
    /// Which family's parameter layout.
    pub architecture: Architecture,
    /// Rows of the embedding; may exceed the tokenizer's vocabulary.
    pub vocab_size: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width of the feed-forward layer.
    pub intermediate_size: usize,
    /// Number of layers.
    pub num_hidden_layers: usize,
    /// Number of query heads.
    pub num_attention_heads: usize,
    /// Number of key and value heads; divides the number of query heads.
    pub num_key_value_heads: usize,
    /// Width of one head, even.
    pub head_dim: usize,
    /// Added to the mean square in every norm.
    pub rms_norm_eps: f64,
    /// Rotary position embedding.
    pub rope: RopeConfig,
    /// The LM head is the embedding matrix.
    pub tie_word_embeddings: bool,
    /// q, k and v projections carry a bias. Always true for Qwen2.
    pub qkv_bias: bool,
    /// The attention's output projection carries a bias.
    pub o_bias: bool,
    /// The feed-forward projections carry biases.
    pub mlp_bias: bool,
    /// Longest context that the model was made for. Longer ones are computed all the same.
    pub max_position_embeddings: usize,
    /// Standard deviation of freshly initialised matrices.
    pub initializer_range: f64,
    /// Number format of the checkpoint, if the file names one.
    pub dtype: Option<DType>,
    /// Id placed before a text, if any.
    pub bos_token_id: Option<u32>,
    /// Ids that end a text.
    pub eos_token_id: Vec<u32>,
    /// Id used for padding, if any. Nothing in this crate derives a mask from it.
    pub pad_token_id: Option<u32>,
}

/// Parameter layout of a model family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Architecture {
    /// Llama 2, 3, 3.x, SmolLM2 and their kin.
    Llama,
    /// Qwen2 and Qwen2.5: biases on q, k and v.
    Qwen2,
    /// Qwen3 dense: RMS norms on the heads of q and k.
    Qwen3,
}

/// Rotary position embedding.
#[derive(Debug, Clone, PartialEq)]
pub struct RopeConfig {
    /// Base of the geometric series of wavelengths.
    pub theta: f64,
    /// How wavelengths are stretched.
    pub scaling: RopeScaling,
}

/// How rotary wavelengths are stretched for contexts longer than those first trained on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum RopeScaling {
    /// Not at all (`rope_type` "default").
    None,
    /// All by one factor (`rope_type` "linear").
    Linear {
        /// The factor, at least 1.
        factor: f64,
    },
    /// Long ones by a factor, short ones not, with a ramp between (`rope_type` "llama3").
    Llama3 {
        /// The factor of the longest wavelengths.
        factor: f64,
        /// Wavelengths above `original / low_freq_factor` are stretched in full.
        low_freq_factor: f64,
        /// Wavelengths below `original / high_freq_factor` are left alone.
        high_freq_factor: f64,
        /// Context length before stretching.
        original_max_position_embeddings: f64,
    },
}

/// Number format of a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DType {
    /// 32-bit float.
    F32,
    /// bfloat16.
    Bf16,
    /// 16-bit IEEE float.
    F16,
}

impl DType {
    /// libtorch's name.
    pub fn kind(self) -> tch::Kind {
        match self {
            Self::F32 => tch::Kind::Float,
            Self::Bf16 => tch::Kind::BFloat16,
            Self::F16 => tch::Kind::Half,
        }
    }

    /// The name in config.json.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "float32",
            Self::Bf16 => "bfloat16",
            Self::F16 => "float16",
        }
    }

    /// From libtorch's name.
    ///
    /// # Errors
    /// [`Error::Invalid`] for any kind that is not a 16- or 32-bit float.
    pub fn from_kind(kind: tch::Kind) -> Result<Self> {
        match kind {
            tch::Kind::Float => Ok(Self::F32),
            tch::Kind::BFloat16 => Ok(Self::Bf16),
            tch::Kind::Half => Ok(Self::F16),
            other => Err(Error::invalid(
                "dtype",
                format!("expected a 16- or 32-bit float, got {other:?}"),
            )),
        }
    }
}

impl std::str::FromStr for DType {
    type Err = Error;

    /// `f32`, `bf16` or `f16`, or a name of config.json.
    fn from_str(name: &str) -> Result<Self> {
        match name {
            "f32" | "float32" => Ok(Self::F32),
            "bf16" | "bfloat16" => Ok(Self::Bf16),
            "f16" | "float16" => Ok(Self::F16),
            _ => Err(Error::invalid(
                "dtype",
                format!("expected f32, bf16 or f16, got `{name}`"),
            )),
        }
    }
}

impl Architecture {
    /// The class name that transformers looks for.
    fn class(self) -> &'static str {
        match self {
            Self::Llama => "LlamaForCausalLM",
            Self::Qwen2 => "Qwen2ForCausalLM",
            Self::Qwen3 => "Qwen3ForCausalLM",
        }
    }

    /// `model_type` in config.json.
    fn model_type(self) -> &'static str {
        match self {
            Self::Llama => "llama",
            Self::Qwen2 => "qwen2",
            Self::Qwen3 => "qwen3",
        }
    }
}

impl DecoderConfig {
    /// A small model with tied embeddings and the constants of Qwen3-0.6B (theta 1e6, eps 1e-6,
    /// initialiser 0.02), for training from scratch. `intermediate_size` is 3 × `hidden_size` as
    /// in Qwen3-0.6B; `head_dim` is `hidden_size / num_attention_heads`.
    pub fn tiny_qwen3(
        vocab_size: usize,
        hidden_size: usize,
        num_hidden_layers: usize,
        num_attention_heads: usize,
        num_key_value_heads: usize,
    ) -> Self {
        Self {
            architecture: Architecture::Qwen3,
            vocab_size,
            hidden_size,
            intermediate_size: 3 * hidden_size,
            num_hidden_layers,
            num_attention_heads,
            num_key_value_heads,
            head_dim: hidden_size / num_attention_heads.max(1),
            rms_norm_eps: 1e-6,
            rope: RopeConfig {
                theta: 1e6,
                scaling: RopeScaling::None,
            },
            tie_word_embeddings: true,
            qkv_bias: false,
            o_bias: false,
            mlp_bias: false,
            max_position_embeddings: 40960,
            initializer_range: 0.02,
            dtype: Some(DType::F32),
            bos_token_id: None,
            eos_token_id: Vec::new(),
            pad_token_id: None,
        }
    }

    /// Whether the heads of q and k are normalised.
    pub fn qk_norm(&self) -> bool {
        self.architecture == Architecture::Qwen3
    }

    /// The configuration as transformers 5 writes it.
    pub fn to_json(&self) -> Value {
        let mut rope = json!({ "rope_theta": self.rope.theta, "rope_type": "default" });
        match self.rope.scaling {
            RopeScaling::None => {}
            RopeScaling::Linear { factor } => {
                rope["rope_type"] = json!("linear");
                rope["factor"] = json!(factor);
            }
            RopeScaling::Llama3 {
                factor,
                low_freq_factor,
                high_freq_factor,
                original_max_position_embeddings,
            } => {
                rope["rope_type"] = json!("llama3");
                rope["factor"] = json!(factor);
                rope["low_freq_factor"] = json!(low_freq_factor);
                rope["high_freq_factor"] = json!(high_freq_factor);
                rope["original_max_position_embeddings"] =
                    json!(original_max_position_embeddings as u64);
            }
        }
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
            "hidden_act": "silu",
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
            config["rope_scaling"] = config["rope_parameters"].clone();
        }
        match self.architecture {
            Architecture::Llama => {
                config["attention_bias"] = json!(self.qkv_bias);
                config["mlp_bias"] = json!(self.mlp_bias);
            }
            Architecture::Qwen2 => config["use_sliding_window"] = json!(false),
            Architecture::Qwen3 => {
                config["attention_bias"] = json!(self.qkv_bias);
                config["use_sliding_window"] = json!(false);
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

    /// Names and shapes of all parameters, in the order that suits generation: the matrices that
    /// read the same input (q, k, v; gate, up) are neighbours.
    pub fn param_specs(&self) -> Vec<ParamSpec> {
        let [h, ffn, v, d] = [
            self.hidden_size,
            self.intermediate_size,
            self.vocab_size,
            self.head_dim,
        ]
        .map(|n| n as i64);
        let q = self.num_attention_heads as i64 * d;
        let kv = self.num_key_value_heads as i64 * d;
        let mut specs = Vec::new();
        let mut add = |name: String, shape: &[i64]| {
            specs.push(ParamSpec {
                name,
                shape: shape.to_vec(),
            });
        };
        add("model.embed_tokens.weight".into(), &[v, h]);
        for i in 0..self.num_hidden_layers {
            let p = |name: &str| format!("model.layers.{i}.{name}");
            add(p("input_layernorm.weight"), &[h]);
            add(p("self_attn.q_proj.weight"), &[q, h]);
            add(p("self_attn.k_proj.weight"), &[kv, h]);
            add(p("self_attn.v_proj.weight"), &[kv, h]);
            if self.qkv_bias {
                add(p("self_attn.q_proj.bias"), &[q]);
                add(p("self_attn.k_proj.bias"), &[kv]);
                add(p("self_attn.v_proj.bias"), &[kv]);
            }
            if self.qk_norm() {
                add(p("self_attn.q_norm.weight"), &[d]);
                add(p("self_attn.k_norm.weight"), &[d]);
            }
            add(p("self_attn.o_proj.weight"), &[h, q]);
            if self.o_bias {
                add(p("self_attn.o_proj.bias"), &[h]);
            }
            add(p("post_attention_layernorm.weight"), &[h]);
            add(p("mlp.gate_proj.weight"), &[ffn, h]);
            add(p("mlp.up_proj.weight"), &[ffn, h]);
            if self.mlp_bias {
                add(p("mlp.gate_proj.bias"), &[ffn]);
                add(p("mlp.up_proj.bias"), &[ffn]);
            }
            add(p("mlp.down_proj.weight"), &[h, ffn]);
            if self.mlp_bias {
                add(p("mlp.down_proj.bias"), &[h]);
            }
        }
        add("model.norm.weight".into(), &[h]);
        if !self.tie_word_embeddings {
            add("lm_head.weight".into(), &[v, h]);
        }
        specs
    }

    /// Number of parameters.
    pub fn num_parameters(&self) -> i64 {
        (self.param_specs().iter())
            .map(|s| s.shape.iter().product::<i64>())
            .sum()
    }
}
