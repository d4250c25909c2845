//! The root-mean-square norm.

use tch::{Kind, Tensor};

use super::handle::Handle;
use crate::error::Result;

/// Root-mean-square norm over the last dimension: `(w + offset) · x / √(mean(x²) + eps)`, computed
/// in f32.
#[derive(Debug, Clone)]
pub struct RmsNorm {
    /// Shape `[n]`.
    pub weight: Handle,
    /// Added to the mean square.
    pub eps: f64,
    /// Added to the weight: 0, or 1 for weights that are trained around 0 (Gemma).
    pub offset: f64,
}

impl RmsNorm {
    /// `x` of shape `[.., n]` to the same shape.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        if self.offset == 0.0 {
            return Ok(x.f_rms_norm(self.weight.size(), Some(&*self.weight), self.eps)?);
        }
        // In f32 throughout: in bf16, a weight plus 1 would lose most of the weight's digits.
        let wide = |t: &Tensor| match t.kind() {
            Kind::Double => Ok(t.shallow_clone()),
            _ => t.f_to_kind(Kind::Float),
        };
        let weight = wide(&self.weight)?.f_add_scalar(self.offset)?;
        let y = wide(x)?.f_rms_norm(weight.size(), Some(&weight), self.eps)?;
        Ok(y.f_to_kind(x.kind())?)
    }
}
