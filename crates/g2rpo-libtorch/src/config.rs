use std::path::Path;

use serde_json::{Map, Value, json};

use crate::files::read_json;
use crate::{Error, ParamSpec, Result};

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

    /// Reads `config.json`.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::File`] if it is not JSON, [`Error::Config`] with the name of a
    /// field that is missing, malformed or unsupported.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        Self::from_json(&read_json(path)?, path)
    }

    /// Reads a parsed `config.json`; `path` serves error messages only.
    ///
    /// # Errors
    /// [`Error::Config`], as [`from_file`](Self::from_file).
    pub fn from_json(value: &Value, path: &Path) -> Result<Self> {
        let f = Fields::new(value, path, "")?;
        let architecture = match f.str("model_type")? {
            Some("llama") => Architecture::Llama,
            Some("qwen2") => Architecture::Qwen2,
            Some("qwen3") => Architecture::Qwen3,
            Some(other) => {
                return Err(f.error(
                    "model_type",
                    format!(
                        "`{other}` is not supported; supported are llama, qwen2 and qwen3 (dense)"
                    ),
                ));
            }
            None => return Err(f.error("model_type", "missing")),
        };
        refuse_unsupported(&f)?;
        let (hidden_size, num_attention_heads) = (
            f.required("hidden_size")?,
            f.required("num_attention_heads")?,
        );
        let num_key_value_heads = match architecture {
            Architecture::Qwen2 | Architecture::Qwen3 => {
                f.usize("num_key_value_heads")?.unwrap_or(32)
            }
            Architecture::Llama => f
                .usize("num_key_value_heads")?
                .unwrap_or(num_attention_heads),
        };
        if num_attention_heads == 0
            || num_key_value_heads == 0
            || num_attention_heads % num_key_value_heads != 0
        {
            return Err(f.error(
                "num_key_value_heads",
                format!("{num_key_value_heads} does not divide num_attention_heads = {num_attention_heads}"),
            ));
        }
        let head_dim = match (f.usize("head_dim")?, architecture) {
            (Some(d), _) => d,
            (None, Architecture::Qwen3) => 128,
            (None, _) => hidden_size / num_attention_heads,
        };
        if head_dim == 0 || head_dim % 2 != 0 {
            return Err(f.error(
                "head_dim",
                format!("{head_dim} is not a positive even number"),
            ));
        }
        let attention_bias = f.bool("attention_bias")?.unwrap_or(false);
        let config = Self {
            architecture,
            vocab_size: f.required("vocab_size")?,
            hidden_size,
            intermediate_size: f.required("intermediate_size")?,
            num_hidden_layers: f.required("num_hidden_layers")?,
            num_attention_heads,
            num_key_value_heads,
            head_dim,
            rms_norm_eps: f.f64("rms_norm_eps")?.unwrap_or(1e-6),
            rope: RopeConfig::from_fields(&f)?,
            tie_word_embeddings: f.bool("tie_word_embeddings")?.unwrap_or(false),
            qkv_bias: attention_bias || architecture == Architecture::Qwen2,
            o_bias: attention_bias && architecture != Architecture::Qwen2,
            mlp_bias: architecture == Architecture::Llama && f.bool("mlp_bias")?.unwrap_or(false),
            max_position_embeddings: f.usize("max_position_embeddings")?.unwrap_or(2048),
            initializer_range: f.f64("initializer_range")?.unwrap_or(0.02),
            dtype: dtype(&f)?,
            bos_token_id: f.ids("bos_token_id")?.first().copied(),
            eos_token_id: f.ids("eos_token_id")?,
            pad_token_id: f.ids("pad_token_id")?.first().copied(),
        };
        for (field, value) in [
            ("vocab_size", config.vocab_size),
            ("hidden_size", config.hidden_size),
            ("intermediate_size", config.intermediate_size),
        ] {
            if value == 0 {
                return Err(f.error(field, "0 is not a size"));
            }
        }
        Ok(config)
    }

    /// Takes over what `generation_config.json` says about the ends of a text, which is more than
    /// config.json says for chat models.
    ///
    /// # Errors
    /// [`Error::Config`] for an id that is no id.
    pub fn add_generation_config(&mut self, value: &Value, path: &Path) -> Result<()> {
        let f = Fields::new(value, path, "")?;
        let eos = f.ids("eos_token_id")?;
        if !eos.is_empty() {
            self.eos_token_id = eos;
        }
        self.bos_token_id = f
            .ids("bos_token_id")?
            .first()
            .copied()
            .or(self.bos_token_id);
        self.pad_token_id = f
            .ids("pad_token_id")?
            .first()
            .copied()
            .or(self.pad_token_id);
        Ok(())
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

impl RopeConfig {
    fn from_fields(f: &Fields<'_>) -> Result<Self> {
        let default_theta = 10_000.0;
        if let Some(rope) = f.object("rope_parameters")? {
            return Ok(Self {
                theta: rope.f64("rope_theta")?.unwrap_or(default_theta),
                scaling: RopeScaling::from_fields(&rope)?,
            });
        }
        Ok(Self {
            theta: f.f64("rope_theta")?.unwrap_or(default_theta),
            scaling: match f.object("rope_scaling")? {
                Some(scaling) => RopeScaling::from_fields(&scaling)?,
                None => RopeScaling::None,
            },
        })
    }
}

impl RopeScaling {
    fn from_fields(f: &Fields<'_>) -> Result<Self> {
        if let Some(factor) = f.f64("partial_rotary_factor")?
            && factor != 1.0
        {
            return Err(f.error(
                "partial_rotary_factor",
                format!("{factor} is not supported, only 1"),
            ));
        }
        let (field, kind) = match f.str("rope_type")? {
            Some(kind) => ("rope_type", kind),
            None => ("type", f.str("type")?.unwrap_or("default")),
        };
        let needed = |name| f.f64(name)?.ok_or_else(|| f.error(name, "missing"));
        match kind {
            "default" => Ok(Self::None),
            "linear" => Ok(Self::Linear {
                factor: needed("factor")?,
            }),
            "llama3" => Ok(Self::Llama3 {
                factor: needed("factor")?,
                low_freq_factor: needed("low_freq_factor")?,
                high_freq_factor: needed("high_freq_factor")?,
                original_max_position_embeddings: needed("original_max_position_embeddings")?,
            }),
            other => Err(f.error(
                field,
                format!("`{other}` is not supported; supported are default, linear and llama3"),
            )),
        }
    }
}

fn refuse_unsupported(f: &Fields<'_>) -> Result<()> {
    if let Some(act) = f.str("hidden_act")?
        && act != "silu"
    {
        return Err(f.error("hidden_act", format!("`{act}` is not supported, only silu")));
    }
    if f.bool("use_sliding_window")? == Some(true) {
        return Err(f.error(
            "use_sliding_window",
            "sliding-window attention is not supported",
        ));
    }
    if let Some(Value::Array(types)) = f.map.get("layer_types")
        && let Some(other) = types.iter().find(|t| t.as_str() != Some("full_attention"))
    {
        return Err(f.error(
            "layer_types",
            format!("{other} is not supported, only full_attention"),
        ));
    }
    if f.object("quantization_config")?.is_some() {
        return Err(f.error(
            "quantization_config",
            "quantised checkpoints are not supported; use the bf16 or f32 one",
        ));
    }
    if let Some(p) = f.f64("attention_dropout")?
        && p != 0.0
    {
        return Err(f.error("attention_dropout", format!("{p} is not supported, only 0")));
    }
    Ok(())
}

fn dtype(f: &Fields<'_>) -> Result<Option<DType>> {
    for field in ["dtype", "torch_dtype"] {
        if let Some(name) = f.str(field)? {
            return match name.trim_start_matches("torch.") {
                "float32" => Ok(Some(DType::F32)),
                "bfloat16" => Ok(Some(DType::Bf16)),
                "float16" => Ok(Some(DType::F16)),
                _ => Err(f.error(
                    field,
                    format!(
                        "`{name}` is not supported; supported are float32, bfloat16 and float16"
                    ),
                )),
            };
        }
    }
    Ok(None)
}

/// A JSON object whose fields are asked for by type, with errors that name the field.
struct Fields<'a> {
    map: &'a Map<String, Value>,
    path: &'a Path,
    prefix: String,
}

impl<'a> Fields<'a> {
    fn new(value: &'a Value, path: &'a Path, prefix: &str) -> Result<Self> {
        match value {
            Value::Object(map) => Ok(Self {
                map,
                path,
                prefix: prefix.to_owned(),
            }),
            _ => Err(Error::Config {
                path: path.into(),
                field: prefix.trim_end_matches('.').to_owned(),
                what: "not a JSON object".into(),
            }),
        }
    }

    fn error(&self, field: &str, what: impl Into<String>) -> Error {
        Error::Config {
            path: self.path.into(),
            field: format!("{}{field}", self.prefix),
            what: what.into(),
        }
    }

    /// `None` for a field that is absent or null.
    fn get<T>(
        &self,
        field: &str,
        expected: &str,
        read: impl Fn(&'a Value) -> Option<T>,
    ) -> Result<Option<T>> {
        match self.map.get(field) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => read(value)
                .map(Some)
                .ok_or_else(|| self.error(field, format!("expected {expected}, got {value}"))),
        }
    }

    fn usize(&self, field: &str) -> Result<Option<usize>> {
        self.get(field, "a whole number", |v| v.as_u64().map(|n| n as usize))
    }

    fn required(&self, field: &str) -> Result<usize> {
        (self.usize(field)?).ok_or_else(|| self.error(field, "missing"))
    }

    fn f64(&self, field: &str) -> Result<Option<f64>> {
        self.get(field, "a number", Value::as_f64)
    }

    fn bool(&self, field: &str) -> Result<Option<bool>> {
        self.get(field, "true or false", Value::as_bool)
    }

    fn str(&self, field: &str) -> Result<Option<&'a str>> {
        self.get(field, "a string", Value::as_str)
    }

    fn object(&self, field: &str) -> Result<Option<Self>> {
        match self.map.get(field) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => {
                Self::new(value, self.path, &format!("{}{field}.", self.prefix)).map(Some)
            }
        }
    }

    fn ids(&self, field: &str) -> Result<Vec<u32>> {
        let id = |v: &Value| v.as_u64().and_then(|n| u32::try_from(n).ok());
        Ok(self
            .get(field, "an id or a list of ids", |v| match v {
                Value::Array(ids) => ids.iter().map(id).collect::<Option<Vec<_>>>(),
                _ => id(v).map(|id| vec![id]),
            })?
            .unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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

    #[test]
    fn refusals_name_the_field() {
        for (field, value, message) in [
            (
                "model_type",
                json!("qwen3_moe"),
                "config.json: field `model_type`: `qwen3_moe` is not supported; supported are llama, qwen2 and qwen3 (dense)",
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
                json!({"rope_type": "yarn"}),
                "config.json: field `rope_parameters.rope_type`: `yarn` is not supported; supported are default, linear and llama3",
            ),
            (
                "rope_parameters",
                json!({"rope_type": "llama3"}),
                "config.json: field `rope_parameters.factor`: missing",
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
    fn parameters_are_counted() {
        // 100·16 embedding, and per layer 2·16 norms, (4+2+2)·8·16 qkv, 4·8·16 o, 2·8 head
        // norms, 3·16·24 feed-forward; 16 final norm.
        let config = parse(qwen3()).unwrap();
        assert_eq!(
            config.num_parameters(),
            1600 + 2 * (32 + 1024 + 512 + 16 + 1152) + 16
        );
    }
}
