//! Causal self-attention.

use tch::Tensor;

use super::context::{Context, Pattern, Rotations};
use super::linear::{Linear, Parallel};
use super::norm::RmsNorm;
use super::rope::rotate;
use crate::error::Result;
use crate::model::config::LayerSpec;

/// Causal self-attention with grouped key and value heads.
#[derive(Debug)]
pub struct Attention {
    /// Queries, keys and values: `[heads · head_dim, hidden]`, and twice `[kv_heads · head_dim, hidden]`.
    pub qkv: Parallel,
    /// `[hidden, heads · head_dim]`.
    pub o_proj: Linear,
    /// Norms of the heads of q and k (Qwen3), each of shape `[head_dim]`.
    pub qk_norm: Option<(RmsNorm, RmsNorm)>,
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

impl Attention {
    /// `x` of shape `[B, T, hidden]` to the same shape, every position seeing those that
    /// `context` allows.
    ///
    /// # Errors
    /// libtorch's.
    pub fn forward(&self, x: &Tensor, context: &Context) -> Result<Tensor> {
        let (b, t, _) = x.size3()?;
        let (q, k, v) = self.qkv(x, &context.rotations)?;
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
        self.o_proj
            .forward(&y.f_transpose(1, 2)?.f_reshape([b, t, -1])?)
    }

    /// Queries, keys and values of `x` of shape `[.., hidden]`, normed and turned,
    /// `[.., heads, head_dim]`.
    ///
    /// # Errors
    /// libtorch's.
    pub fn qkv(&self, x: &Tensor, rotations: &Rotations) -> Result<(Tensor, Tensor, Tensor)> {
        let widths = [self.heads, self.kv_heads, self.kv_heads].map(|n| n * self.head_dim);
        let mut shape = x.size();
        shape.pop();
        shape.extend([-1, self.head_dim]);
        let parts = self.qkv.forward(x, &widths)?;
        let heads = |y: &Tensor| y.f_reshape(&shape[..]);
        let (mut q, mut k, v) = (heads(&parts[0])?, heads(&parts[1])?, heads(&parts[2])?);
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
        Ok((q, k, v))
    }

    /// Another handle to the same tensors.
    #[must_use]
    pub fn shallow_clone(&self) -> Self {
        Self {
            qkv: self.qkv.shallow_clone(),
            o_proj: self.o_proj.shallow_clone(),
            qk_norm: (self.qk_norm.as_ref()).map(|(q, k)| (q.shallow_clone(), k.shallow_clone())),
            ..*self
        }
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
