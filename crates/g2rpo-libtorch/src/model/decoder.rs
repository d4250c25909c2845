//! The decoder: embedding, layers, final norm and LM head.

use std::cell::RefCell;

use tch::{Device, Kind, Tensor};

use super::attention::Attention;
use super::context::{Context, Pattern, Rotations, window_mask};
use super::delta_net::DeltaNet;
use super::experts::Experts;
use super::handle::Handle;
use super::linear::{Linear, Parallel};
use super::mlp::Mlp;
use super::norm::RmsNorm;
use super::rope::Rope;
use crate::error::{Error, Result};
use crate::model::config::{Architecture, DecoderConfig, DeltaNetConfig, RopeConfig, RopeScaling};
use crate::model::params::Parameters;

/// A decoder-only transformer of one of the families of [`Architecture`](crate::Architecture).
///
/// It holds handles to tensors, not numbers: the tensors are those of the [`Parameters`] it was
/// built from, so an update of the parameters is an update of every decoder built from them, and of
/// its clones.
///
/// The pieces are public because a learner wants to walk the layers itself (activation
/// checkpointing, the LM head by chunks): [`embed`](Self::embed), [`layer`](Self::layer) for
/// every layer, [`final_norm`](Self::final_norm), [`lm_head`](Self::lm_head).
#[derive(Debug, Clone)]
pub struct Decoder {
    config: DecoderConfig,
    /// `[vocab, hidden]`.
    pub(crate) embed_tokens: Handle,
    layers: Vec<DecoderLayer>,
    /// Before the LM head.
    pub(crate) norm: RmsNorm,
    lm_head: Handle,
    rope: Rope,
    local_rope: Option<Rope>,
    /// Embeddings are multiplied by it.
    pub(crate) embedding_multiplier: f64,
}

/// One layer: attention and feed-forward, each behind a norm, some before another, and added to the
/// residual stream.
#[derive(Debug, Clone)]
pub struct DecoderLayer {
    /// Before what mixes positions.
    pub input_layernorm: RmsNorm,
    /// Mixes positions.
    pub mixer: Mixer,
    /// Of what the attention puts out (Gemma).
    pub attention_output_norm: Option<RmsNorm>,
    /// Before the feed-forward layer.
    pub mlp_norm: RmsNorm,
    /// Mixes channels.
    pub mlp: FeedForward,
    /// Of what the feed-forward layer puts out (Gemma).
    pub mlp_output_norm: Option<RmsNorm>,
    /// What attention and feed-forward layer add is multiplied by it.
    pub residual_multiplier: f64,
}

/// What mixes positions.
#[derive(Debug, Clone)]
pub enum Mixer {
    /// Every position looks at those before it.
    Attention(Attention),
    /// Every position reads and writes a memory of fixed size.
    DeltaNet(DeltaNet),
}

impl Mixer {
    /// `x` of shape `[B, T, hidden]` to the same shape.
    pub fn forward(&self, x: &Tensor, context: &Context) -> Result<Tensor> {
        match self {
            Self::Attention(attention) => attention.forward(x, context),
            Self::DeltaNet(net) => net.forward(x, context),
        }
    }

    /// The last matrix.
    pub(crate) fn output(&self) -> &Linear {
        match self {
            Self::Attention(attention) => &attention.o_proj,
            Self::DeltaNet(net) => &net.out_proj,
        }
    }

    /// The matrices that read the input, and the last one.
    fn linears_mut(&mut self) -> (&mut Parallel, &mut Linear) {
        match self {
            Self::Attention(attention) => (&mut attention.qkv, &mut attention.o_proj),
            Self::DeltaNet(net) => (&mut net.inputs, &mut net.out_proj),
        }
    }

    /// The window, of attention that has one.
    pub(crate) fn window(&self) -> Option<usize> {
        match self {
            Self::Attention(attention) => attention.spec.window,
            Self::DeltaNet(_) => None,
        }
    }
}

/// What mixes channels.
#[derive(Debug, Clone)]
pub enum FeedForward {
    /// One gated layer.
    Mlp(Mlp),
    /// Many, of which every position reads a few.
    Experts(Experts),
}

impl FeedForward {
    /// `x` of shape `[.., hidden]` to the same shape; where there are experts, who was read is appended to
    /// `routes`.
    pub fn forward(&self, x: &Tensor, routes: Option<&RefCell<Vec<Tensor>>>) -> Result<Tensor> {
        match self {
            Self::Mlp(mlp) => mlp.forward(x),
            Self::Experts(experts) => experts.forward(x, routes),
        }
    }
}

impl Decoder {
    /// A decoder on the given parameters, which must have the names and shapes of
    /// [`DecoderConfig::param_specs`].
    ///
    /// # Errors
    /// [`Error::UnknownParameter`] for a parameter that is not there.
    pub fn new(config: &DecoderConfig, parameters: &Parameters) -> Result<Self> {
        let block = config.architecture.block();
        let get = |name: &str| parameters.handle(name);
        let norm = |name: &str| -> Result<RmsNorm> {
            Ok(RmsNorm {
                weight: get(&format!("{name}.weight"))?,
                eps: config.rms_norm_eps,
                offset: block.norm_offset,
            })
        };
        let output_norm = |name: &str| block.output_norms.then(|| norm(name)).transpose();
        let linear = |name: &str, bias: bool| -> Result<Linear> {
            let bias = bias.then(|| get(&format!("{name}.bias")));
            Ok(Linear {
                name: name.to_owned(),
                weight: get(&format!("{name}.weight"))?,
                bias: bias.transpose()?,
                lora: None,
            })
        };
        let parallel = |prefix: &str, names: &[&str], bias: bool| -> Result<Parallel> {
            let parts = names
                .iter()
                .map(|name| linear(&format!("{prefix}{name}"), bias));
            Ok(Parallel {
                parts: parts.collect::<Result<_>>()?,
            })
        };
        let mlp = |prefix: &str, gate_up: &[&str], down: &str, bias: bool| -> Result<Mlp> {
            Ok(Mlp {
                gate_up: parallel(prefix, gate_up, bias)?,
                down_proj: linear(&format!("{prefix}{down}"), bias)?,
                activation: block.activation,
            })
        };
        let dense = |prefix: &str| mlp(prefix, block.gate_up, block.down, config.mlp_bias);
        let expert = |prefix: &str| mlp(prefix, &["gate_proj", "up_proj"], "down_proj", false);
        let attention = |i: usize| -> Result<Attention> {
            let p = |name: &str| format!("model.layers.{i}.{name}");
            Ok(Attention {
                qkv: parallel(&p("self_attn."), block.qkv, config.qkv_bias)?,
                o_proj: linear(&p("self_attn.o_proj"), config.o_bias)?,
                qk_norm: match block.qk_norm {
                    true => Some((norm(&p("self_attn.q_norm"))?, norm(&p("self_attn.k_norm"))?)),
                    false => None,
                },
                output_gate: block.output_gate,
                heads: config.num_attention_heads as i64,
                kv_heads: config.num_key_value_heads as i64,
                head_dim: config.head_dim as i64,
                spec: config.layer(i),
                scale: config.attention_multiplier,
            })
        };
        let delta_net = |i: usize, shape: DeltaNetConfig| -> Result<DeltaNet> {
            let p = |name: &str| format!("model.layers.{i}.linear_attn.{name}");
            let inputs = ["in_proj_qkv", "in_proj_z", "in_proj_b", "in_proj_a"];
            Ok(DeltaNet {
                inputs: parallel(&p(""), &inputs, false)?,
                convolution: get(&p("conv1d.weight"))?,
                dt_bias: get(&p("dt_bias"))?,
                a_log: get(&p("A_log"))?,
                norm: RmsNorm {
                    offset: 0.0,
                    ..norm(&p("norm"))?
                },
                out_proj: linear(&p("out_proj"), false)?,
                shape,
            })
        };
        let layers = (0..config.num_hidden_layers)
            .map(|i| {
                let p = |name: &str| format!("model.layers.{i}.{name}");
                Ok(DecoderLayer {
                    input_layernorm: norm(&p("input_layernorm"))?,
                    mixer: match config.delta_net.filter(|_| config.layer(i).delta_net) {
                        None => Mixer::Attention(attention(i)?),
                        Some(shape) => Mixer::DeltaNet(delta_net(i, shape)?),
                    },
                    attention_output_norm: output_norm(&p("post_attention_layernorm"))?,
                    mlp_norm: norm(&p(match block.output_norms {
                        true => "pre_feedforward_layernorm",
                        false => "post_attention_layernorm",
                    }))?,
                    mlp: match config.experts.filter(|_| config.layer(i).experts) {
                        None => FeedForward::Mlp(dense(&p(""))?),
                        Some(experts) => FeedForward::Experts(Experts {
                            router: linear(&p("mlp.gate"), false)?,
                            experts: (0..experts.num_experts)
                                .map(|j| expert(&p(&format!("mlp.experts.{j}."))))
                                .collect::<Result<_>>()?,
                            per_position: experts.num_experts_per_tok as i64,
                            normalised: experts.norm_topk_prob,
                        }),
                    },
                    mlp_output_norm: output_norm(&p("post_feedforward_layernorm"))?,
                    residual_multiplier: config.residual_multiplier,
                })
            })
            .collect::<Result<Vec<_>>>()?;
        let embed_tokens = get("model.embed_tokens.weight")?;
        let lm_head = match config.tie_word_embeddings {
            true => embed_tokens.clone(),
            false => get("lm_head.weight")?,
        };
        let device = embed_tokens.device();
        let rope = |rope: &RopeConfig| Rope::new(rope, config.head_dim, device);
        Ok(Self {
            rope: rope(&config.rope)?,
            local_rope: config.local_rope.as_ref().map(rope).transpose()?,
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

    /// What positions do to queries and keys, in the parameters' number format, for integer positions
    /// of any shape: `[.., 1, rotated]` each.
    pub fn rotations(&self, positions: &Tensor) -> Result<Rotations> {
        let of = |rope: &Rope| -> Result<(Tensor, Tensor)> {
            let (cos, sin) = rope.cos_sin(positions, self.kind())?;
            Ok((cos.f_unsqueeze(-2)?, sin.f_unsqueeze(-2)?))
        };
        Ok(Rotations {
            main: of(&self.rope)?,
            local: self.local_rope.as_ref().map(of).transpose()?,
            query_factor: (self.config.rope.query_growth)
                .map(|growth| growth.factors(positions, self.kind()))
                .transpose()?,
        })
    }

    /// The shortest window of a layer, if there is one.
    pub(crate) fn window(&self) -> Option<usize> {
        (self.layers.iter())
            .filter_map(|layer| layer.mixer.window())
            .min()
    }

    /// Every matrix inside the blocks that may have an adapter: all but experts and their routers.
    pub fn linears_mut(&mut self) -> Vec<&mut Linear> {
        let mut all = Vec::new();
        for layer in &mut self.layers {
            let (inputs, output) = layer.mixer.linears_mut();
            all.extend(inputs.parts.iter_mut());
            all.push(output);
            if let FeedForward::Mlp(mlp) = &mut layer.mlp {
                all.extend(mlp.gate_up.parts.iter_mut());
                all.push(&mut mlp.down_proj);
            }
        }
        all
    }

    /// Every set of matrices that read the same input.
    pub(crate) fn parallels_mut(&mut self) -> Vec<&mut Parallel> {
        let mut all = Vec::new();
        for layer in &mut self.layers {
            all.push(layer.mixer.linears_mut().0);
            match &mut layer.mlp {
                FeedForward::Mlp(mlp) => all.push(&mut mlp.gate_up),
                FeedForward::Experts(experts) => {
                    all.extend(experts.experts.iter_mut().map(|expert| &mut expert.gate_up));
                }
            }
        }
        all
    }

    /// Refuses sequences that the model's rotations are not made for.
    pub(crate) fn check_length(&self, positions: usize) -> Result<()> {
        match self.config.rope.scaling {
            RopeScaling::LongRope {
                original_max_position_embeddings: most,
                ..
            } if positions as f64 > most => Err(Error::invalid(
                "original_max_position_embeddings",
                format!(
                    "{positions} positions are more than {most}, above which the model's rotations \
                     (longrope) are others for the whole sequence; shorten prompts or completions"
                ),
            )),
            _ => Ok(()),
        }
    }

    /// Context of rows that all start at position 0 and are padded on the right to `len`.
    pub fn causal_context(&self, len: usize) -> Result<Context> {
        let positions = Tensor::f_arange(len as i64, (Kind::Int64, self.device()))?;
        self.context(&positions, len, Pattern::Causal)
    }

    /// Context of sequences of the given lengths, one behind the other without padding.
    pub fn packed_context(&self, lengths: &[usize]) -> Result<Context> {
        let positions: Vec<i64> = (lengths.iter()).flat_map(|&n| 0..n as i64).collect();
        let positions = Tensor::f_from_slice(&positions)?.f_to_device(self.device())?;
        let longest = lengths.iter().copied().max().unwrap_or(0);
        let lengths = lengths.iter().map(|&n| n as i64).collect();
        self.context(&positions, longest, Pattern::Packed(lengths))
    }

    fn context(&self, positions_t: &Tensor, longest: usize, pattern: Pattern) -> Result<Context> {
        self.check_length(longest)?;
        let window = self.window().filter(|&window| window < longest);
        Ok(Context {
            rotations: self.rotations(positions_t)?,
            pattern,
            window_mask: window
                .map(|window| window_mask(longest, window, self.kind(), self.device()))
                .transpose()?,
            routes: None,
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
    pub fn final_norm(&self, x_bth: &Tensor) -> Result<Tensor> {
        scaled(self.norm.forward(x_bth)?, 1.0 / self.config.logits_scaling)
    }

    /// LM head, shape `[vocab, hidden]`; the embedding matrix itself when tied.
    pub fn lm_head(&self) -> &Tensor {
        &self.lm_head
    }

    /// All layers and the final norm: ids to the hidden states that the LM head reads,
    /// `[B, T, hidden]`.
    pub fn hidden(&self, ids_bt: &Tensor, context: &Context) -> Result<Tensor> {
        let mut x_bth = self.embed(ids_bt)?;
        for layer in &self.layers {
            x_bth = layer.forward(&x_bth, context)?;
        }
        self.final_norm(&x_bth)
    }

    /// Logits of every position of rows padded on the right, `[B, T, vocab]` in the parameters' number format. Padding
    /// may hold any id of the vocabulary; what comes out there means nothing. For tests and small models: nothing that
    /// trains or samples should hold so large a tensor.
    pub fn logits_btv(&self, ids_bt: &Tensor) -> Result<Tensor> {
        let context = self.causal_context(ids_bt.size2()?.1 as usize)?;
        let hidden_bth = self.hidden(ids_bt, &context)?;
        Ok(hidden_bth.f_linear(&self.lm_head, None::<&Tensor>)?)
    }
}

impl DecoderLayer {
    fn forward(&self, x_bth: &Tensor, context: &Context) -> Result<Tensor> {
        let attended = (self.mixer).forward(&self.input_layernorm.forward(x_bth)?, context)?;
        let x_bth = x_bth.f_add(&self.attended(attended)?)?;
        let normed = self.mlp_norm.forward(&x_bth)?;
        let mixed = (self.mlp).forward(&normed, context.routes.as_ref())?;
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
