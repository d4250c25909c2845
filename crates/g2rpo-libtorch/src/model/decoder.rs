//! The decoder: embedding, layers, final norm and LM head.

use tch::{Device, Kind, Tensor};

use super::attention::Attention;
use super::context::{Context, Pattern, Rotations, window_mask};
use super::linear::Linear;
use super::mlp::Mlp;
use super::norm::RmsNorm;
use super::rope::Rope;
use crate::error::{Error, Result};
use crate::model::config::{Architecture, DecoderConfig};
use crate::model::params::Parameters;

/// A decoder-only transformer of one of the families of [`Architecture`](crate::Architecture).
///
/// It holds handles to tensors, not numbers: the tensors are those of the [`Parameters`] it was
/// built from, so an update of the parameters is an update of every decoder built from them.
///
/// The pieces are public because a learner wants to walk the layers itself (activation
/// checkpointing, the LM head by chunks): [`embed`](Self::embed), [`layer`](Self::layer) for
/// every layer, [`final_norm`](Self::final_norm), [`lm_head`](Self::lm_head).
#[derive(Debug)]
pub struct Decoder {
    config: DecoderConfig,
    embed_tokens: Tensor,
    layers: Vec<DecoderLayer>,
    norm: RmsNorm,
    lm_head: Tensor,
    rope: Rope,
    local_rope: Option<Rope>,
    embedding_multiplier: f64,
}

/// One layer: attention and feed-forward, each behind a norm, some before another, and added to the
/// residual stream.
#[derive(Debug)]
pub struct DecoderLayer {
    /// Before the attention.
    pub input_layernorm: RmsNorm,
    /// Mixes positions.
    pub self_attn: Attention,
    /// Of what the attention puts out (Gemma).
    pub attention_output_norm: Option<RmsNorm>,
    /// Before the feed-forward layer.
    pub mlp_norm: RmsNorm,
    /// Mixes channels.
    pub mlp: Mlp,
    /// Of what the feed-forward layer puts out (Gemma).
    pub mlp_output_norm: Option<RmsNorm>,
    /// What attention and feed-forward layer add is multiplied by it.
    pub residual_multiplier: f64,
}

impl Decoder {
    /// A decoder on the given parameters, which must have the names and shapes of
    /// [`DecoderConfig::param_specs`].
    ///
    /// # Errors
    /// [`Error::UnknownParameter`] for a parameter that is not there.
    pub fn new(config: &DecoderConfig, parameters: &Parameters) -> Result<Self> {
        let block = config.architecture.block();
        let get = |name: &str| parameters.get(name).map(Tensor::shallow_clone);
        let norm = |name: &str| -> Result<RmsNorm> {
            Ok(RmsNorm {
                weight: get(&format!("{name}.weight"))?,
                eps: config.rms_norm_eps,
                offset: block.norm_offset,
            })
        };
        let output_norm = |name: &str| block.output_norms.then(|| norm(name)).transpose();
        let linear = |name: &str, bias: bool| -> Result<Linear> {
            let bias = match bias {
                true => Some(get(&format!("{name}.bias"))?),
                false => None,
            };
            Ok(Linear::new(get(&format!("{name}.weight"))?, bias))
        };
        let layers = (0..config.num_hidden_layers)
            .map(|i| {
                let p = |name: &str| format!("model.layers.{i}.{name}");
                Ok(DecoderLayer {
                    input_layernorm: norm(&p("input_layernorm"))?,
                    self_attn: Attention {
                        q_proj: linear(&p("self_attn.q_proj"), config.qkv_bias)?,
                        k_proj: linear(&p("self_attn.k_proj"), config.qkv_bias)?,
                        v_proj: linear(&p("self_attn.v_proj"), config.qkv_bias)?,
                        o_proj: linear(&p("self_attn.o_proj"), config.o_bias)?,
                        qk_norm: match block.qk_norm {
                            true => {
                                Some((norm(&p("self_attn.q_norm"))?, norm(&p("self_attn.k_norm"))?))
                            }
                            false => None,
                        },
                        head_dim: config.head_dim as i64,
                        spec: config.layer(i),
                        scale: config.attention_multiplier,
                    },
                    attention_output_norm: output_norm(&p("post_attention_layernorm"))?,
                    mlp_norm: norm(&p(match block.output_norms {
                        true => "pre_feedforward_layernorm",
                        false => "post_attention_layernorm",
                    }))?,
                    mlp: Mlp {
                        gate_proj: linear(&p("mlp.gate_proj"), config.mlp_bias)?,
                        up_proj: linear(&p("mlp.up_proj"), config.mlp_bias)?,
                        down_proj: linear(&p("mlp.down_proj"), config.mlp_bias)?,
                        activation: block.activation,
                    },
                    mlp_output_norm: output_norm(&p("post_feedforward_layernorm"))?,
                    residual_multiplier: config.residual_multiplier,
                })
            })
            .collect::<Result<Vec<_>>>()?;
        let embed_tokens = get("model.embed_tokens.weight")?;
        let lm_head = match config.tie_word_embeddings {
            true => embed_tokens.shallow_clone(),
            false => get("lm_head.weight")?,
        };
        Ok(Self {
            rope: Rope::new(&config.rope, config.head_dim, embed_tokens.device())?,
            local_rope: (config.local_rope.as_ref())
                .map(|rope| Rope::new(rope, config.head_dim, embed_tokens.device()))
                .transpose()?,
            embedding_multiplier: match config.architecture {
                // Gemma's is rounded to the number format before it multiplies.
                Architecture::Gemma3 => Tensor::f_from_slice(&[config.embedding_multiplier])?
                    .f_to_kind(embed_tokens.kind())?
                    .f_double_value(&[0])?,
                _ => config.embedding_multiplier,
            },
            config: config.clone(),
            embed_tokens,
            layers,
            norm: norm("model.norm")?,
            lm_head,
        })
    }

    /// Shape and constants.
    pub fn config(&self) -> &DecoderConfig {
        &self.config
    }

    /// Where the parameters are.
    pub fn device(&self) -> Device {
        self.embed_tokens.device()
    }

    /// Number format of the parameters.
    pub fn kind(&self) -> Kind {
        self.embed_tokens.kind()
    }

    /// Number of layers.
    pub fn n_layers(&self) -> usize {
        self.layers.len()
    }

    /// The layers.
    pub fn layers(&self) -> &[DecoderLayer] {
        &self.layers
    }

    /// Cosines and sines, in the parameters' number format, for integer positions of any shape:
    /// `[.., 1, head_dim]` each.
    ///
    /// # Errors
    /// libtorch's.
    pub fn rotations(&self, positions: &Tensor) -> Result<Rotations> {
        let of = |rope: &Rope| -> Result<(Tensor, Tensor)> {
            let (cos, sin) = rope.cos_sin(positions, self.kind())?;
            Ok((cos.f_unsqueeze(-2)?, sin.f_unsqueeze(-2)?))
        };
        Ok(Rotations {
            main: of(&self.rope)?,
            local: self.local_rope.as_ref().map(of).transpose()?,
        })
    }

    /// What embeddings are multiplied by.
    pub(crate) fn embedding_multiplier(&self) -> f64 {
        self.embedding_multiplier
    }

    /// The shortest window of a layer, if there is one.
    pub(crate) fn window(&self) -> Option<usize> {
        (self.layers.iter())
            .filter_map(|layer| layer.self_attn.spec.window)
            .min()
    }

    /// Embedding matrix, `[vocab, hidden]`.
    pub(crate) fn embed_tokens(&self) -> &Tensor {
        &self.embed_tokens
    }

    /// The norm before the LM head.
    pub(crate) fn norm(&self) -> &RmsNorm {
        &self.norm
    }

    /// Every linear layer inside the blocks with its name, for example
    /// `model.layers.0.self_attn.q_proj`; the places where adapters go.
    pub fn linears_mut(&mut self) -> Vec<(String, &mut Linear)> {
        let mut all = Vec::new();
        for (i, layer) in self.layers.iter_mut().enumerate() {
            let (attn, mlp) = (&mut layer.self_attn, &mut layer.mlp);
            for (name, linear) in [
                ("self_attn.q_proj", &mut attn.q_proj),
                ("self_attn.k_proj", &mut attn.k_proj),
                ("self_attn.v_proj", &mut attn.v_proj),
                ("self_attn.o_proj", &mut attn.o_proj),
                ("mlp.gate_proj", &mut mlp.gate_proj),
                ("mlp.up_proj", &mut mlp.up_proj),
                ("mlp.down_proj", &mut mlp.down_proj),
            ] {
                all.push((format!("model.layers.{i}.{name}"), linear));
            }
        }
        all
    }

    /// Context of rows that all start at position 0 and are padded on the right to `len`.
    ///
    /// # Errors
    /// libtorch's.
    pub fn causal_context(&self, len: usize) -> Result<Context> {
        let positions = Tensor::f_arange(len as i64, (Kind::Int64, self.device()))?;
        self.context(&positions, len, Pattern::Causal)
    }

    /// Context of sequences of the given lengths, one behind the other without padding.
    ///
    /// # Errors
    /// libtorch's.
    pub fn packed_context(&self, lengths: &[usize]) -> Result<Context> {
        let positions: Vec<i64> = (lengths.iter()).flat_map(|&n| 0..n as i64).collect();
        let positions = Tensor::f_from_slice(&positions)?.f_to_device(self.device())?;
        let longest = lengths.iter().copied().max().unwrap_or(0);
        let lengths = lengths.iter().map(|&n| n as i64).collect();
        self.context(&positions, longest, Pattern::Packed(lengths))
    }

    fn context(&self, positions_t: &Tensor, longest: usize, pattern: Pattern) -> Result<Context> {
        let window = self.window().filter(|&window| window < longest);
        Ok(Context {
            rotations: self.rotations(positions_t)?,
            pattern,
            window_mask: window
                .map(|window| window_mask(longest, window, self.kind(), self.device()))
                .transpose()?,
        })
    }

    /// Ids (int64, shape `[B, T]`) to the residual stream `[B, T, hidden]`.
    ///
    /// # Errors
    /// libtorch's, for an id outside the vocabulary among others.
    pub fn embed(&self, ids_bt: &Tensor) -> Result<Tensor> {
        let x = Tensor::f_embedding(&self.embed_tokens, ids_bt, -1, false, false)?;
        scaled(x, self.embedding_multiplier)
    }

    /// Layer `i` on the residual stream `[B, T, hidden]`.
    ///
    /// # Errors
    /// [`Error::Invalid`] if there is no such layer; libtorch's.
    pub fn layer(&self, i: usize, x_bth: &Tensor, context: &Context) -> Result<Tensor> {
        let layer = self.layers.get(i).ok_or_else(|| {
            Error::invalid(
                "layer",
                format!("the model has {}, got index {i}", self.layers.len()),
            )
        })?;
        layer.forward(x_bth, context)
    }

    /// The norm before the LM head, and what logits are divided by, which is divided by here.
    ///
    /// # Errors
    /// libtorch's.
    pub fn final_norm(&self, x_bth: &Tensor) -> Result<Tensor> {
        scaled(self.norm.forward(x_bth)?, 1.0 / self.config.logits_scaling)
    }

    /// LM head, shape `[vocab, hidden]`; the embedding matrix itself when tied.
    pub fn lm_head(&self) -> &Tensor {
        &self.lm_head
    }

    /// All layers and the final norm: ids to the hidden states that the LM head reads,
    /// `[B, T, hidden]`.
    ///
    /// # Errors
    /// libtorch's.
    pub fn hidden(&self, ids_bt: &Tensor, context: &Context) -> Result<Tensor> {
        let mut x_bth = self.embed(ids_bt)?;
        for layer in &self.layers {
            x_bth = layer.forward(&x_bth, context)?;
        }
        self.final_norm(&x_bth)
    }

    /// [`hidden`](Self::hidden) of rows padded on the right, without a cache. Padding may hold any
    /// id of the vocabulary; what comes out at padded positions means nothing.
    ///
    /// # Errors
    /// libtorch's.
    pub fn hidden_bth(&self, ids_bt: &Tensor) -> Result<Tensor> {
        let (_, t) = ids_bt.size2()?;
        self.hidden(ids_bt, &self.causal_context(t as usize)?)
    }

    /// Logits of every position, `[B, T, vocab]` in the parameters' number format. For tests and
    /// small models: nothing that trains or samples should hold so large a tensor.
    ///
    /// # Errors
    /// libtorch's.
    pub fn logits_btv(&self, ids_bt: &Tensor) -> Result<Tensor> {
        Ok(self
            .hidden_bth(ids_bt)?
            .f_linear(&self.lm_head, None::<&Tensor>)?)
    }

    /// Another handle to the same tensors.
    #[must_use]
    pub fn shallow_clone(&self) -> Self {
        Self {
            config: self.config.clone(),
            embed_tokens: self.embed_tokens.shallow_clone(),
            layers: self
                .layers
                .iter()
                .map(DecoderLayer::shallow_clone)
                .collect(),
            norm: self.norm.shallow_clone(),
            lm_head: self.lm_head.shallow_clone(),
            rope: self.rope.shallow_clone(),
            local_rope: self.local_rope.as_ref().map(Rope::shallow_clone),
            embedding_multiplier: self.embedding_multiplier,
        }
    }
}

impl DecoderLayer {
    fn forward(&self, x_bth: &Tensor, context: &Context) -> Result<Tensor> {
        let attended = (self.self_attn).forward(&self.input_layernorm.forward(x_bth)?, context)?;
        let x_bth = x_bth.f_add(&self.attended(attended)?)?;
        let mixed = (self.mlp).forward(&self.mlp_norm.forward(&x_bth)?)?;
        Ok(x_bth.f_add(&self.mixed(mixed)?)?)
    }

    /// What is added to the residual stream for the attention's output.
    pub(crate) fn attended(&self, attended: Tensor) -> Result<Tensor> {
        let attended = normed(self.attention_output_norm.as_ref(), attended)?;
        scaled(attended, self.residual_multiplier)
    }

    /// What is added to the residual stream for the feed-forward layer's output.
    pub(crate) fn mixed(&self, mixed: Tensor) -> Result<Tensor> {
        let mixed = normed(self.mlp_output_norm.as_ref(), mixed)?;
        scaled(mixed, self.residual_multiplier)
    }

    fn shallow_clone(&self) -> Self {
        Self {
            input_layernorm: self.input_layernorm.shallow_clone(),
            self_attn: self.self_attn.shallow_clone(),
            attention_output_norm: (self.attention_output_norm.as_ref())
                .map(RmsNorm::shallow_clone),
            mlp_norm: self.mlp_norm.shallow_clone(),
            mlp: self.mlp.shallow_clone(),
            mlp_output_norm: self.mlp_output_norm.as_ref().map(RmsNorm::shallow_clone),
            residual_multiplier: self.residual_multiplier,
        }
    }
}

fn normed(norm: Option<&RmsNorm>, x: Tensor) -> Result<Tensor> {
    norm.map_or(Ok(x.shallow_clone()), |norm| norm.forward(&x))
}

/// `x · factor`, untouched if the factor is 1.
fn scaled(x: Tensor, factor: f64) -> Result<Tensor> {
    if factor == 1.0 {
        return Ok(x);
    }
    Ok(x.f_mul_scalar(factor)?)
}
