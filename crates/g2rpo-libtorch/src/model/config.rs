//! What a model is: shape and constants of a decoder.

use serde::{Serialize, Serializer};

use crate::model::dtype::DType;
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
    /// That of the layers which say `LayerRope::Local` (Gemma 3's layers with a window).
    pub local_rope: Option<RopeConfig>,
    /// What is special about each layer; layers behind the list's end are plain.
    pub layers: Vec<LayerSpec>,
    /// The experts of layers that have them.
    pub experts: Option<ExpertsConfig>,
    /// The delta nets of layers that have them.
    pub delta_net: Option<DeltaNetConfig>,
    /// Embeddings are multiplied by it.
    pub embedding_multiplier: f64,
    /// Scores of the attention are multiplied by it; 1 / √head_dim if `None`.
    pub attention_multiplier: Option<f64>,
    /// What a block adds to the residual stream is multiplied by it.
    pub residual_multiplier: f64,
    /// Logits are divided by it.
    pub logits_scaling: f64,
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
    /// `SmolLM3`: some layers without rotations.
    SmolLm3,
    /// Granite 3, dense: multipliers of embeddings, scores, residual branches and logits.
    Granite,
    /// Gemma 3, text: windows, two rotations, norms around every part, scaled embeddings.
    Gemma3,
    /// Qwen3-MoE: experts behind a router.
    Qwen3Moe,
    /// Granite 4, dense: Granite's multipliers, gate and up in one matrix.
    GraniteMoeHybrid,
    /// Phi-3 and Phi-4-mini: q, k and v in one matrix, gate and up in another, partial rotations.
    Phi3,
    /// Ministral 3, text: queries that grow with the position.
    Ministral3,
    /// Qwen3.5, dense, text: gated delta nets, gated attention, partial rotations.
    Qwen35,
    /// Mistral 7B and its kin: Llama with one window for all layers.
    Mistral,
}

/// What may differ from layer to layer. The default is a plain layer: rotations, no window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LayerSpec {
    /// How positions are told apart.
    pub rope: LayerRope,
    /// A position sees itself and this many minus one before it; all before it if `None`.
    pub window: Option<usize>,
    /// The feed-forward layer is [`DecoderConfig::experts`].
    pub experts: bool,
    /// What mixes positions is [`DecoderConfig::delta_net`] in place of attention.
    pub delta_net: bool,
}

/// Numbers and widths of a gated delta net's heads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeltaNetConfig {
    /// Heads of queries and keys; divides the number of value heads.
    pub key_heads: usize,
    /// Heads of values, each with a memory of its own.
    pub value_heads: usize,
    /// Width of a query or key.
    pub key_width: usize,
    /// Width of a value.
    pub value_width: usize,
    /// Positions that the convolution before it sees, the present one included.
    pub conv_kernel: usize,
}

impl DeltaNetConfig {
    /// Heads of keys and values and their widths, as libtorch counts.
    pub(crate) fn sizes(&self) -> [i64; 4] {
        let heads = [self.key_heads, self.value_heads];
        let [keys, values] = heads.map(|n| n as i64);
        [keys, values, self.key_width as i64, self.value_width as i64]
    }

    /// Channels of the convolution: queries, keys and values.
    pub(crate) fn channels(&self) -> usize {
        2 * self.key_heads * self.key_width + self.value_heads * self.value_width
    }
}

/// Feed-forward layers of many experts, of which every position reads a few.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExpertsConfig {
    /// Number of experts.
    pub num_experts: usize,
    /// How many a position reads.
    pub num_experts_per_tok: usize,
    /// Width of one expert.
    pub intermediate_size: usize,
    /// The weights of those that are read are divided by their sum.
    pub norm_topk_prob: bool,
}

/// Which rotary embedding a layer has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LayerRope {
    /// [`DecoderConfig::rope`].
    #[default]
    Main,
    /// [`DecoderConfig::local_rope`].
    Local,
    /// None: the layer tells positions apart by what it may see alone.
    None,
}

/// What the layers of a family have in common.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BlockSpec {
    /// The heads of q and k are normalised.
    pub qk_norm: bool,
    /// Norms multiply by their weight plus this.
    pub norm_offset: f64,
    /// What attention and feed-forward layer put out is normalised before it is added.
    pub output_norms: bool,
    /// The gate's function.
    pub activation: Activation,
    /// Names of the matrices for queries, keys and values, which may be one.
    pub qkv: &'static [&'static str],
    /// Names of the feed-forward layer's matrices for gate and up, which may be one.
    pub gate_up: &'static [&'static str],
    /// Name of its third matrix.
    pub down: &'static str,
    /// What attention puts out is multiplied by the sigmoid of a gate, which stands behind each head's query.
    pub output_gate: bool,
}

/// Function of the feed-forward layer's gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Activation {
    /// `x / (1 + e⁻ˣ)`.
    Silu,
    /// `x · (1 + tanh(√(2/π) · (x + 0.044715·x³))) / 2`, `gelu_pytorch_tanh` in transformers.
    GeluTanh,
}

/// Rotary position embedding.
#[derive(Debug, Clone, PartialEq)]
pub struct RopeConfig {
    /// Base of the geometric series of wavelengths.
    pub theta: f64,
    /// How wavelengths are stretched.
    pub scaling: RopeScaling,
    /// The part of every head that is turned, its first coordinates; in (0, 1].
    pub partial_rotary_factor: f64,
    /// Queries grow with the position.
    pub query_growth: Option<QueryGrowth>,
}

/// Queries at position p are multiplied by `1 + beta · ln(1 + ⌊p / original⌋)` (Llama 4, Ministral 3).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct QueryGrowth {
    /// `llama_4_scaling_beta`.
    pub beta: f64,
    /// `original_max_position_embeddings`.
    pub original: f64,
}

impl RopeConfig {
    /// Plain rotations of whole heads.
    pub fn new(theta: f64) -> Self {
        Self {
            theta,
            scaling: RopeScaling::None,
            partial_rotary_factor: 1.0,
            query_growth: None,
        }
    }

    /// How many coordinates of a head are turned.
    pub fn rotated(&self, head_dim: usize) -> usize {
        (head_dim as f64 * self.partial_rotary_factor) as usize
    }
}

/// A length, of which transformers expects that it is written as a whole number.
fn whole<S: Serializer>(length: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(*length as u64)
}

/// How rotary wavelengths are stretched for contexts longer than those first trained on, as an entry of
/// `rope_parameters` in config.json says it.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "rope_type", rename_all = "lowercase")]
pub enum RopeScaling {
    /// Not at all (`rope_type` "default").
    #[serde(rename = "default")]
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
        #[serde(serialize_with = "whole")]
        original_max_position_embeddings: f64,
    },
    /// Long ones by a factor, short ones not, with a ramp over the coordinates between (`rope_type`
    /// "yarn", Peng et al., arXiv 2309.00071).
    Yarn {
        /// The factor of the longest wavelengths.
        factor: f64,
        /// Wavelengths that turn more often than this in the original context are left alone.
        beta_fast: f64,
        /// Wavelengths that turn less often than this are stretched in full.
        beta_slow: f64,
        /// Context length before stretching.
        #[serde(serialize_with = "whole")]
        original_max_position_embeddings: f64,
        /// Cosines and sines are multiplied by it.
        attention_factor: f64,
        /// The ramp begins and ends at whole coordinates.
        truncate: bool,
    },
    /// Each by a factor of its own (`rope_type` "longrope", Ding et al., arXiv 2402.13753). Only the
    /// factors for short contexts are used; longer ones are refused, because tokens there would change
    /// the probabilities of those before them.
    LongRope {
        /// Of contexts up to the original length.
        short_factor: Vec<f64>,
        /// Of longer ones.
        long_factor: Vec<f64>,
        /// Longest context for the short factors.
        #[serde(serialize_with = "whole")]
        original_max_position_embeddings: f64,
        /// Cosines and sines are multiplied by it.
        attention_factor: f64,
    },
}

impl Architecture {
    /// Every family: `model_type` in config.json, the class that transformers looks for, and what
    /// its layers have in common.
    const TABLE: [(Self, &'static str, &'static str, BlockSpec); 12] = {
        const PLAIN: BlockSpec = BlockSpec {
            qk_norm: false,
            norm_offset: 0.0,
            output_norms: false,
            activation: Activation::Silu,
            qkv: &["q_proj", "k_proj", "v_proj"],
            gate_up: &["mlp.gate_proj", "mlp.up_proj"],
            down: "mlp.down_proj",
            output_gate: false,
        };
        const QK_NORM: BlockSpec = BlockSpec {
            qk_norm: true,
            ..PLAIN
        };
        const GEMMA3: BlockSpec = BlockSpec {
            qk_norm: true,
            norm_offset: 1.0,
            output_norms: true,
            activation: Activation::GeluTanh,
            ..PLAIN
        };
        const QWEN35: BlockSpec = BlockSpec {
            qk_norm: true,
            norm_offset: 1.0,
            output_gate: true,
            ..PLAIN
        };
        const GRANITE4: BlockSpec = BlockSpec {
            gate_up: &["shared_mlp.input_linear"],
            down: "shared_mlp.output_linear",
            ..PLAIN
        };
        const PHI3: BlockSpec = BlockSpec {
            qkv: &["qkv_proj"],
            gate_up: &["mlp.gate_up_proj"],
            ..PLAIN
        };
        [
            (Self::Llama, "llama", "LlamaForCausalLM", PLAIN),
            (Self::Qwen2, "qwen2", "Qwen2ForCausalLM", PLAIN),
            (Self::Qwen3, "qwen3", "Qwen3ForCausalLM", QK_NORM),
            (Self::SmolLm3, "smollm3", "SmolLM3ForCausalLM", PLAIN),
            (Self::Granite, "granite", "GraniteForCausalLM", PLAIN),
            (Self::Gemma3, "gemma3_text", "Gemma3ForCausalLM", GEMMA3),
            (Self::Qwen3Moe, "qwen3_moe", "Qwen3MoeForCausalLM", QK_NORM),
            (
                Self::GraniteMoeHybrid,
                "granitemoehybrid",
                "GraniteMoeHybridForCausalLM",
                GRANITE4,
            ),
            (Self::Phi3, "phi3", "Phi3ForCausalLM", PHI3),
            (
                Self::Ministral3,
                "ministral3",
                "Ministral3ForCausalLM",
                PLAIN,
            ),
            (Self::Qwen35, "qwen3_5_text", "Qwen3_5ForCausalLM", QWEN35),
            (Self::Mistral, "mistral", "MistralForCausalLM", PLAIN),
        ]
    };

    /// The family of a `model_type`, if it is supported.
    pub(crate) fn of_model_type(name: &str) -> Option<Self> {
        (Self::TABLE.iter().find(|row| row.1 == name)).map(|row| row.0)
    }

    /// Every `model_type` that is supported.
    pub(crate) fn model_types() -> [&'static str; 12] {
        Self::TABLE.map(|row| row.1)
    }

    fn row(self) -> &'static (Self, &'static str, &'static str, BlockSpec) {
        // The table has a row for every family, in their order.
        &Self::TABLE[self as usize]
    }

    /// `model_type` in config.json.
    pub(crate) fn model_type(self) -> &'static str {
        self.row().1
    }

    /// The class name that transformers looks for.
    pub(crate) fn class(self) -> &'static str {
        self.row().2
    }

    /// What the family's layers have in common.
    pub fn block(self) -> BlockSpec {
        self.row().3
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
            rope: RopeConfig::new(1e6),
            local_rope: None,
            layers: Vec::new(),
            experts: None,
            delta_net: None,
            embedding_multiplier: 1.0,
            attention_multiplier: None,
            residual_multiplier: 1.0,
            logits_scaling: 1.0,
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

    /// What is special about layer `i`.
    pub fn layer(&self, i: usize) -> LayerSpec {
        self.layers.get(i).copied().unwrap_or_default()
    }

    /// What a query is multiplied by so that scores divided by √head_dim are those of
    /// [`attention_multiplier`](Self::attention_multiplier); `None` for 1.
    pub(crate) fn query_factor(&self) -> Option<f64> {
        self.attention_multiplier
            .map(|multiplier| multiplier * (self.head_dim as f64).sqrt())
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
        let block = self.architecture.block();
        let q_gate = if block.output_gate { 2 * q } else { q };
        let mut specs = Vec::new();
        let mut add = |name: String, shape: &[i64]| specs.push(ParamSpec::new(name, shape));
        add("model.embed_tokens.weight".into(), &[v, h]);
        for i in 0..self.num_hidden_layers {
            let p = |name: &str| format!("model.layers.{i}.{name}");
            add(p("input_layernorm.weight"), &[h]);
            if let (true, Some(net)) = (self.layer(i).delta_net, &self.delta_net) {
                let [_, heads, _, width] = net.sizes();
                let channels = net.channels() as i64;
                let p = |name: &str| p(&format!("linear_attn.{name}"));
                add(p("in_proj_qkv.weight"), &[channels, h]);
                add(p("in_proj_z.weight"), &[heads * width, h]);
                add(p("in_proj_b.weight"), &[heads, h]);
                add(p("in_proj_a.weight"), &[heads, h]);
                add(p("conv1d.weight"), &[channels, 1, net.conv_kernel as i64]);
                add(p("dt_bias"), &[heads]);
                add(p("A_log"), &[heads]);
                add(p("norm.weight"), &[width]);
                add(p("out_proj.weight"), &[h, heads * width]);
            } else {
                let attn = |part: &str| p(&format!("self_attn.{part}"));
                for (name, width) in side_by_side(block.qkv, &[q_gate, kv, kv]) {
                    add(attn(&format!("{name}.weight")), &[width, h]);
                }
                if self.qkv_bias {
                    for (name, width) in side_by_side(block.qkv, &[q_gate, kv, kv]) {
                        add(attn(&format!("{name}.bias")), &[width]);
                    }
                }
                if block.qk_norm {
                    add(p("self_attn.q_norm.weight"), &[d]);
                    add(p("self_attn.k_norm.weight"), &[d]);
                }
                add(p("self_attn.o_proj.weight"), &[h, q]);
                if self.o_bias {
                    add(p("self_attn.o_proj.bias"), &[h]);
                }
            }
            add(p("post_attention_layernorm.weight"), &[h]);
            if block.output_norms {
                add(p("pre_feedforward_layernorm.weight"), &[h]);
                add(p("post_feedforward_layernorm.weight"), &[h]);
            }
            if let (true, Some(experts)) = (self.layer(i).experts, &self.experts) {
                add(p("mlp.gate.weight"), &[experts.num_experts as i64, h]);
                let ffn = experts.intermediate_size as i64;
                for j in 0..experts.num_experts {
                    let p = |name: &str| p(&format!("mlp.experts.{j}.{name}.weight"));
                    add(p("gate_proj"), &[ffn, h]);
                    add(p("up_proj"), &[ffn, h]);
                    add(p("down_proj"), &[h, ffn]);
                }
                continue;
            }
            for (name, width) in side_by_side(block.gate_up, &[ffn, ffn]) {
                add(p(&format!("{name}.weight")), &[width, h]);
            }
            if self.mlp_bias {
                for (name, width) in side_by_side(block.gate_up, &[ffn, ffn]) {
                    add(p(&format!("{name}.bias")), &[width]);
                }
            }
            add(p(&format!("{}.weight", block.down)), &[h, ffn]);
            if self.mlp_bias {
                add(p(&format!("{}.bias", block.down)), &[h]);
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

/// The width of each matrix, of which there may be one for all widths.
fn side_by_side<'a>(names: &'a [&'a str], widths: &[i64]) -> Vec<(&'a str, i64)> {
    match names {
        [one] => vec![(one, widths.iter().sum())],
        _ => names.iter().copied().zip(widths.iter().copied()).collect(),
    }
}
