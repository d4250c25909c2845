//! Causal self-attention.

use tch::Tensor;

use super::context::{Context, Pattern, Rotations};
use super::linear::{Linear, Parallel};
use super::norm::RmsNorm;
use super::rope::rotate;
use crate::error::Result;
use crate::model::config::LayerSpec;

/// Causal self-attention with grouped key and value heads.
#[derive(Debug, Clone)]
pub struct Attention {
    /// Queries, keys and values: `[heads · head_dim, hidden]`, and twice `[kv_heads · head_dim, hidden]`. With
    /// a gate, twice as many rows for queries: each head's query, then its gate.
    pub qkv: Parallel,
    /// `[hidden, heads · head_dim]`.
    pub o_proj: Linear,
    /// Norms of the heads of q and k (Qwen3), each of shape `[head_dim]`.
    pub qk_norm: Option<(RmsNorm, RmsNorm)>,
    /// What is put out is multiplied by the sigmoid of a gate (Qwen3.5).
    pub output_gate: bool,
    /// Number of query heads.
    pub heads: i64,
    /// Number of key and value heads.
    pub kv_heads: i64,
    /// Width of one head.
    pub head_dim: i64,
    /// Rotations and window.
    pub spec: LayerSpec,
    /// Scores are multiplied by it; 1 / √head_dim if `None`.
    pub scale: Option<f64>,
}

/// What attention works on, `[.., heads, head_dim]` each.
#[derive(Debug)]
pub struct Heads {
    /// Queries, normed and turned.
    pub q: Tensor,
    /// Keys, normed and turned.
    pub k: Tensor,
    /// Values.
    pub v: Tensor,
    /// What the output is multiplied by, `[.., heads · head_dim]`, if the family has it.
    pub gate: Option<Tensor>,
}

impl Attention {
    /// `x` of shape `[B, T, hidden]` to the same shape, every position seeing those that
    /// `context` allows.
    pub fn forward(&self, x: &Tensor, context: &Context) -> Result<Tensor> {
        let (b, t, _) = x.size3()?;
        let Heads { q, k, v, gate } = self.heads(x, &context.rotations)?;
        let [q, k, v] = [
            q.f_transpose(1, 2)?,
            k.f_transpose(1, 2)?,
            v.f_transpose(1, 2)?,
        ];
        let y = match &context.pattern {
            Pattern::Causal => self.attend(&q, &k, &v, context)?,
            Pattern::Packed(lengths) => {
                let mut start = 0;
                let mut rows = Vec::with_capacity(lengths.len());
                for &length in lengths {
                    let part = |x: &Tensor| x.f_narrow(2, start, length);
                    rows.push(self.attend(&part(&q)?, &part(&k)?, &part(&v)?, context)?);
                    start += length;
                }
                Tensor::f_cat(&rows, 2)?
            }
        };
        let y = y.f_transpose(1, 2)?.f_reshape([b, t, -1])?;
        match gate {
            Some(gate) => self.o_proj.forward(&y.f_mul(&gate)?),
            None => self.o_proj.forward(&y),
        }
    }

    /// Queries, keys and values of `x` of shape `[.., hidden]`.
    pub fn heads(&self, x: &Tensor, rotations: &Rotations) -> Result<Heads> {
        let d = self.head_dim;
        let q_width = if self.output_gate { 2 * d } else { d };
        let widths = [self.heads * q_width, self.kv_heads * d, self.kv_heads * d];
        let mut shape = x.size();
        shape.pop();
        shape.extend([-1, self.head_dim]);
        let parts = self.qkv.forward(x, &widths)?;
        let heads = |y: &Tensor| y.f_reshape(&shape[..]);
        let (mut q, mut k, v) = (heads(&parts[0])?, heads(&parts[1])?, heads(&parts[2])?);
        let mut gate = None;
        if self.output_gate {
            let both = q.f_unflatten(-2, [self.heads, 2])?;
            gate = Some(both.f_select(-2, 1)?.f_flatten(-2, -1)?.f_sigmoid()?);
            q = both.f_select(-2, 0)?;
        }
        if let Some((q_norm, k_norm)) = &self.qk_norm {
            q = q_norm.forward(&q)?;
            k = k_norm.forward(&k)?;
        }
        if let Some((cos, sin)) = rotations.of(self.spec.rope) {
            (q, k) = (rotate(&q, cos, sin)?, rotate(&k, cos, sin)?);
        }
        if let Some(factor) = &rotations.query_factor {
            q = q.f_mul(factor)?;
        }
        Ok(Heads { q, k, v, gate })
    }

    /// q `[B, heads, T, head_dim]`, k and v `[B, kv_heads, T, head_dim]`.
    fn attend(&self, q: &Tensor, k: &Tensor, v: &Tensor, context: &Context) -> Result<Tensor> {
        let t = q.size()[2];
        let mask = match (self.spec.window, &context.window_mask) {
            (Some(window), Some(mask)) if window < t as usize => {
                Some(mask.f_narrow(0, 0, t)?.f_narrow(1, 0, t)?)
            }
            _ => None,
        };
        let gqa = q.size()[1] != k.size()[1];
        let causal = mask.is_none();
        Ok(Tensor::f_scaled_dot_product_attention(
            q, k, v, mask, 0.0, causal, self.scale, gqa,
        )?)
    }
}
