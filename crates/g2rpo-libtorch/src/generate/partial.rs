//! Attention to a part of what rows read, and how parts are joined.

use tch::Tensor;

use crate::error::Result;
use crate::model::params::float_kind;

/// Attention output over a part of what rows attend to, and the logarithm of the sum of the exponents of its scores:
/// alike in shape but for the last dimension, which is `head_dim` and 1.
#[derive(Debug)]
pub(super) struct Partial {
    pub(super) out: Tensor,
    pub(super) log_sum: Tensor,
}

impl Partial {
    /// Queries `[b, kv_heads, queries, head_dim]` over keys and values
    /// `[b, kv_heads, len, head_dim]`; the mask is added to the scores.
    ///
    /// Written out, because libtorch's fused kernels for the GPU give the logarithm of the sum
    /// only through internal functions; scores of one position per row are few.
    pub(super) fn new(q: &Tensor, k: &Tensor, v: &Tensor, mask: Option<&Tensor>) -> Result<Self> {
        let kind = float_kind(q.kind());
        let d = *q.size().last().unwrap_or(&1) as f64;
        let mut scores =
            (q.f_matmul(&k.f_transpose(2, 3)?)?.f_to_kind(kind)?).f_mul_scalar(1.0 / d.sqrt())?;
        if let Some(mask) = mask {
            scores = scores.f_add(mask)?;
        }
        let log_sum = scores.f_logsumexp(&[-1i64][..], true)?;
        let weights = scores.f_sub(&log_sum)?.f_exp()?.f_to_kind(q.kind())?;
        Ok(Self {
            out: weights.f_matmul(v)?.f_to_kind(kind)?,
            log_sum,
        })
    }

    /// Attention over both parts together. The outputs of both must be finite, also where a part
    /// counts for nothing.
    pub(super) fn merge(&self, other: &Self) -> Result<Self> {
        // eᵇ / (eᵃ + eᵇ) is the sigmoid of b - a.
        let share = other.log_sum.f_sub(&self.log_sum)?.f_sigmoid()?;
        Ok(Self {
            out: self.out.f_lerp_tensor(&other.out, &share)?,
            log_sum: self.log_sum.f_logaddexp(&other.log_sum)?,
        })
    }
}
