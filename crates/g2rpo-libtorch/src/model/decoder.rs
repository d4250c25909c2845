//! The decoder: embedding, layers, final norm and LM head.

use tch::{Device, Kind, Tensor};

use super::attention::Attention;
use super::context::{Context, Pattern};
use super::linear::Linear;
use super::mlp::Mlp;
use super::norm::RmsNorm;
use super::rope::Rope;
use crate::error::{Error, Result};
use crate::model::config::DecoderConfig;
use crate::model::params::Parameters;

/// A decoder-only transformer of the Llama, Qwen2 or Qwen3 family.
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
}

/// One layer: attention and feed-forward, each behind a norm and added to the residual stream.
#[derive(Debug)]
pub struct DecoderLayer {
    /// Before the attention.
    pub input_layernorm: RmsNorm,
    /// Mixes positions.
    pub self_attn: Attention,
    /// Before the feed-forward layer.
    pub post_attention_layernorm: RmsNorm,
    /// Mixes channels.
    pub mlp: Mlp,
}

impl Decoder {
    /// A decoder on the given parameters, which must have the names and shapes of
    /// [`DecoderConfig::param_specs`].
    ///
    /// # Errors
    /// [`Error::UnknownParameter`] for a parameter that is not there.
    pub fn new(config: &DecoderConfig, parameters: &Parameters) -> Result<Self> {
        let get = |name: &str| parameters.get(name).map(Tensor::shallow_clone);
        let norm = |name: &str| -> Result<RmsNorm> {
            Ok(RmsNorm {
                weight: get(&format!("{name}.weight"))?,
                eps: config.rms_norm_eps,
            })
        };
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
                        qk_norm: match config.qk_norm() {
                            true => {
                                Some((norm(&p("self_attn.q_norm"))?, norm(&p("self_attn.k_norm"))?))
                            }
                            false => None,
                        },
                        head_dim: config.head_dim as i64,
                    },
                    post_attention_layernorm: norm(&p("post_attention_layernorm"))?,
                    mlp: Mlp {
                        gate_proj: linear(&p("mlp.gate_proj"), config.mlp_bias)?,
                        up_proj: linear(&p("mlp.up_proj"), config.mlp_bias)?,
                        down_proj: linear(&p("mlp.down_proj"), config.mlp_bias)?,
                    },
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

    /// Rotary embedding.
    pub fn rope(&self) -> &Rope {
        &self.rope
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
        self.context(&positions, Pattern::Causal)
    }

    /// Context of sequences of the given lengths, one behind the other without padding.
    ///
    /// # Errors
    /// libtorch's.
    pub fn packed_context(&self, lengths: &[usize]) -> Result<Context> {
        let positions: Vec<i64> = (lengths.iter()).flat_map(|&n| 0..n as i64).collect();
        let positions = Tensor::f_from_slice(&positions)?.f_to_device(self.device())?;
        let lengths = lengths.iter().map(|&n| n as i64).collect();
        self.context(&positions, Pattern::Packed(lengths))
    }

    fn context(&self, positions_t: &Tensor, pattern: Pattern) -> Result<Context> {
        let (cos, sin) = self.rope.cos_sin(positions_t, self.kind())?;
        Ok(Context {
            cos: cos.f_unsqueeze(1)?,
            sin: sin.f_unsqueeze(1)?,
            pattern,
        })
    }

    /// Ids (int64, shape `[B, T]`) to the residual stream `[B, T, hidden]`.
    ///
    /// # Errors
    /// libtorch's, for an id outside the vocabulary among others.
    pub fn embed(&self, ids_bt: &Tensor) -> Result<Tensor> {
        Ok(Tensor::f_embedding(
            &self.embed_tokens,
            ids_bt,
            -1,
            false,
            false,
        )?)
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

    /// The norm before the LM head.
    ///
    /// # Errors
    /// libtorch's.
    pub fn final_norm(&self, x_bth: &Tensor) -> Result<Tensor> {
        self.norm.forward(x_bth)
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
        }
    }
}

impl DecoderLayer {
    fn forward(&self, x_bth: &Tensor, context: &Context) -> Result<Tensor> {
        let attended = (self.self_attn).forward(&self.input_layernorm.forward(x_bth)?, context)?;
        let x_bth = x_bth.f_add(&attended)?;
        let mixed = (self.mlp).forward(&self.post_attention_layernorm.forward(&x_bth)?)?;
        Ok(x_bth.f_add(&mixed)?)
    }

    fn shallow_clone(&self) -> Self {
        Self {
            input_layernorm: self.input_layernorm.shallow_clone(),
            self_attn: self.self_attn.shallow_clone(),
            post_attention_layernorm: self.post_attention_layernorm.shallow_clone(),
            mlp: self.mlp.shallow_clone(),
        }
    }
}
