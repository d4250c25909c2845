//! The numbers of a decoder where they lie in host memory.

use std::borrow::Cow;

use tch::{Device, Kind};

use super::dots::{MAX_ROWS, multiply_few};
use super::gemm::{Rows, multiply};
use super::threads::Threads;
use crate::error::Result;
use crate::generate::forward::Runner;
use crate::generate::slice::f32_slice;
use crate::model::config::{Activation, DeltaNetConfig, LayerSpec};
use crate::model::decoder::{FeedForward, Mixer};
use crate::model::linear::Linear;
use crate::model::norm::RmsNorm;
use crate::model::{Attention, Mlp};

/// The numbers of a decoder where they lie.
#[derive(Debug)]
pub(super) struct Weights<'a> {
    /// `[vocab, hidden]`.
    pub(super) embedding: &'a [f32],
    pub(super) layers: Vec<LayerWeights<'a>>,
    pub(super) norm: NormWeights<'a>,
    pub(super) hidden: usize,
    pub(super) heads: usize,
    pub(super) kv_heads: usize,
    pub(super) head_dim: usize,
    pub(super) activation: Activation,
    /// Queries are multiplied by it.
    pub(super) query_factor: f32,
    pub(super) embedding_multiplier: f32,
    pub(super) residual_multiplier: f32,
    /// Hidden states behind the final norm are multiplied by it.
    pub(super) output_factor: f32,
}

#[derive(Debug)]
pub(super) struct LayerWeights<'a> {
    pub(super) input_norm: NormWeights<'a>,
    pub(super) mixer: MixerWeights<'a>,
    /// The last matrix of what mixes positions.
    pub(super) output: Projection<'a>,
    pub(super) attention_output_norm: Option<NormWeights<'a>>,
    pub(super) mlp_norm: NormWeights<'a>,
    pub(super) mlp: MlpWeights<'a>,
    pub(super) mlp_output_norm: Option<NormWeights<'a>>,
}

/// What mixes positions.
#[derive(Debug)]
pub(super) enum MixerWeights<'a> {
    Attention(AttentionWeights<'a>),
    DeltaNet(DeltaWeights<'a>),
}

#[derive(Debug)]
pub(super) struct AttentionWeights<'a> {
    pub(super) spec: LayerSpec,
    pub(super) qkv: Projection<'a>,
    pub(super) qk_norm: Option<(NormWeights<'a>, NormWeights<'a>)>,
    /// Behind each head's query stands a gate of its output.
    pub(super) output_gate: bool,
}

/// The numbers of a delta net; see [`DeltaNet`](crate::model::DeltaNet).
#[derive(Debug)]
pub(super) struct DeltaWeights<'a> {
    pub(super) inputs: Projection<'a>,
    /// `[channels, kernel]`.
    pub(super) convolution: &'a [f32],
    pub(super) dt_bias: &'a [f32],
    /// `-e^(A_log)`, per value head.
    pub(super) rates: Vec<f32>,
    pub(super) norm: NormWeights<'a>,
    pub(super) shape: DeltaNetConfig,
}

/// What mixes channels.
#[derive(Debug)]
pub(super) enum MlpWeights<'a> {
    One(Gated<'a>),
    Experts {
        router: Projection<'a>,
        experts: Vec<Gated<'a>>,
        per_position: usize,
        normalised: bool,
    },
}

/// A gated feed-forward layer.
#[derive(Debug)]
pub(super) struct Gated<'a> {
    pub(super) gate_up: Projection<'a>,
    pub(super) down: Projection<'a>,
}

/// A norm's weights with what is added to them.
#[derive(Debug)]
pub(super) struct NormWeights<'a> {
    pub(super) weight: Cow<'a, [f32]>,
    pub(super) eps: f64,
}

/// Linear layers that read the same input; their outputs stand one behind the other.
#[derive(Debug)]
pub(super) struct Projection<'a>(Vec<Part<'a>>);

#[derive(Debug)]
struct Part<'a> {
    /// `[n, k]`.
    weight: &'a [f32],
    n: usize,
    bias: Option<&'a [f32]>,
    /// `[rank, k]`, `[n, rank]` and the scaling of an adapter.
    lora: Option<(&'a [f32], &'a [f32], f32)>,
}

impl<'a> Weights<'a> {
    /// `None` for a decoder that is not f32 in host memory.
    pub(super) fn new(runner: &'a Runner) -> Result<Option<Self>> {
        let decoder = &runner.decoder;
        if decoder.device() != Device::Cpu || decoder.kind() != Kind::Float {
            return Ok(None);
        }
        let config = decoder.config();
        let layers = (decoder.layers().iter())
            .map(|layer| {
                let optional =
                    |norm: &'a Option<RmsNorm>| norm.as_ref().map(NormWeights::new).transpose();
                Ok(LayerWeights {
                    input_norm: NormWeights::new(&layer.input_layernorm)?,
                    mixer: match &layer.mixer {
                        Mixer::Attention(attention) => {
                            MixerWeights::Attention(AttentionWeights::new(attention)?)
                        }
                        Mixer::DeltaNet(net) => MixerWeights::DeltaNet(DeltaWeights {
                            inputs: Projection::new(net.inputs.parts.iter())?,
                            convolution: f32_slice(&net.convolution)?,
                            dt_bias: f32_slice(&net.dt_bias)?,
                            rates: f32_slice(&net.a_log)?.iter().map(|a| -a.exp()).collect(),
                            norm: NormWeights::new(&net.norm)?,
                            shape: net.shape,
                        }),
                    },
                    output: Projection::new([layer.mixer.output()])?,
                    attention_output_norm: optional(&layer.attention_output_norm)?,
                    mlp_norm: NormWeights::new(&layer.mlp_norm)?,
                    mlp: match &layer.mlp {
                        FeedForward::Mlp(mlp) => MlpWeights::One(Gated::new(mlp)?),
                        FeedForward::Experts(experts) => MlpWeights::Experts {
                            router: Projection::new([&experts.router])?,
                            experts: (experts.experts.iter())
                                .map(Gated::new)
                                .collect::<Result<_>>()?,
                            per_position: experts.per_position as usize,
                            normalised: experts.normalised,
                        },
                    },
                    mlp_output_norm: optional(&layer.mlp_output_norm)?,
                })
            })
            .collect::<Result<_>>()?;
        Ok(Some(Self {
            embedding: f32_slice(&decoder.embed_tokens)?,
            layers,
            norm: NormWeights::new(&decoder.norm)?,
            hidden: config.hidden_size,
            heads: config.num_attention_heads,
            kv_heads: config.num_key_value_heads,
            head_dim: config.head_dim,
            activation: config.architecture.block().activation,
            query_factor: match config.attention_multiplier {
                Some(multiplier) => multiplier as f32,
                None => 1.0 / (config.head_dim as f32).sqrt(),
            },
            embedding_multiplier: decoder.embedding_multiplier as f32,
            residual_multiplier: config.residual_multiplier as f32,
            output_factor: (1.0 / config.logits_scaling) as f32,
        }))
    }
}

impl<'a> AttentionWeights<'a> {
    fn new(attention: &'a Attention) -> Result<Self> {
        Ok(Self {
            spec: attention.spec,
            qkv: Projection::new(attention.qkv.parts.iter())?,
            qk_norm: match &attention.qk_norm {
                Some((q, k)) => Some((NormWeights::new(q)?, NormWeights::new(k)?)),
                None => None,
            },
            output_gate: attention.output_gate,
        })
    }
}

impl<'a> NormWeights<'a> {
    fn new(norm: &'a RmsNorm) -> Result<Self> {
        let weight = f32_slice(&norm.weight)?;
        Ok(Self {
            weight: match norm.offset == 0.0 {
                true => Cow::Borrowed(weight),
                false => weight.iter().map(|w| w + norm.offset as f32).collect(),
            },
            eps: norm.eps,
        })
    }
}

impl<'a> Gated<'a> {
    fn new(mlp: &'a Mlp) -> Result<Self> {
        Ok(Self {
            gate_up: Projection::new(mlp.gate_up.parts.iter())?,
            down: Projection::new([&mlp.down_proj])?,
        })
    }
}

impl<'a> Projection<'a> {
    fn new(parts: impl IntoIterator<Item = &'a Linear>) -> Result<Self> {
        let part = |linear: &'a Linear| {
            Ok(Part {
                weight: f32_slice(&linear.weight)?,
                n: linear.weight.size2()?.0 as usize,
                bias: linear.bias.as_deref().map(f32_slice).transpose()?,
                lora: match &linear.lora {
                    Some(l) => Some((f32_slice(&l.a)?, f32_slice(&l.b)?, l.scaling as f32)),
                    None => None,
                },
            })
        };
        Ok(Self(parts.into_iter().map(part).collect::<Result<_>>()?))
    }

    /// Number of output features.
    pub(super) fn width(&self) -> usize {
        self.0.iter().map(|part| part.n).sum()
    }

    /// Number of input features.
    pub(super) fn input(&self) -> usize {
        let first = self.0.first();
        first.map_or(0, |part| part.weight.len() / part.n.max(1))
    }

    /// `out = W · x (+ bias)`, or `out += …`, with `x` of shape `[k, b]`, `out` `[n, b]`.
    pub(super) fn apply(
        &self,
        threads: &Threads,
        x: &[f32],
        b: usize,
        out: &mut [f32],
        accumulate: bool,
    ) {
        let by_row = (b <= MAX_ROWS).then(|| transposed(x, b));
        let mut rest = out;
        for part in &self.0 {
            let (out, behind) = rest.split_at_mut(part.n * b);
            rest = behind;
            part.apply(
                threads,
                Rows::dense(x, b),
                by_row.as_deref(),
                out,
                accumulate,
            );
        }
    }
}

impl Part<'_> {
    /// `by_row` is `x` transposed, where rows are few.
    fn apply(
        &self,
        threads: &Threads,
        x: Rows<'_>,
        by_row: Option<&[f32]>,
        out: &mut [f32],
        accumulate: bool,
    ) {
        let (b, k) = (x.width, self.weight.len() / self.n);
        if let Some(bias) = self.bias {
            for (row, &bias) in out.chunks_exact_mut(b).zip(bias) {
                match accumulate {
                    true => row.iter_mut().for_each(|v| *v += bias),
                    false => row.fill(bias),
                }
            }
        }
        let accumulate = accumulate || self.bias.is_some();
        let share = threads.share(self.n * b, b, self.n * k * b);
        let chunks = (out.chunks_mut(share)).zip(self.weight.chunks(share / b * k));
        threads.each(
            chunks.collect(),
            |_, (out, weight): (&mut [f32], &[f32])| match by_row {
                Some(x) => multiply_few(weight, x, b, out, accumulate),
                None => multiply(weight, x, out, 1.0, accumulate),
            },
        );
        if let Some((a, up, scaling)) = self.lora {
            let mut low = vec![0f32; a.len() / k * b];
            multiply(a, x, &mut low, 1.0, false);
            multiply(up, Rows::dense(&low, b), out, scaling, true);
        }
    }
}

/// `[k, b]` as `[b, k]`.
fn transposed(x: &[f32], b: usize) -> Vec<f32> {
    let mut by_row = Vec::with_capacity(x.len());
    for row in 0..b {
        by_row.extend(x[row..].iter().step_by(b));
    }
    by_row
}
