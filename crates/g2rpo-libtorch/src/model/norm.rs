//! The root-mean-square norm.

use tch::{Kind, Tensor};

use crate::error::Result;

/// Root-mean-square norm over the last dimension: `(w + offset) · x / √(mean(x²) + eps)`, computed
/// in f32.
#[derive(Debug)]
pub struct RmsNorm {
    /// Shape `[n]`.
    pub weight: Tensor,
    /// Added to the mean square.
    pub eps: f64,
    /// Added to the weight: 0, or 1 for weights that are trained around 0 (Gemma).
    pub offset: f64,
}

impl RmsNorm {
    /// `x` of shape `[.., n]` to the same shape.
    ///
    /// # Errors
    /// libtorch's.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        if self.offset == 0.0 {
            return Ok(x.f_rms_norm(self.weight.size(), Some(&self.weight), self.eps)?);
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

    /// Another handle to the same tensor.
    #[must_use]
    pub fn shallow_clone(&self) -> Self {
        Self {
            weight: self.weight.shallow_clone(),
            ..*self
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn divides_by_the_root_mean_square() {
        // mean(x²) = (9 + 16) / 2 = 12.5, so with eps 0 the root is 3.5355…
        let norm = RmsNorm {
            weight: Tensor::from_slice(&[1f32, 2.]),
            eps: 0.0,
            offset: 0.0,
        };
        let y =
            Vec::<f32>::try_from(norm.forward(&Tensor::from_slice(&[3f32, 4.])).unwrap()).unwrap();
        approx::assert_relative_eq!(y[0], 3.0 / 12.5f32.sqrt(), epsilon = 1e-6);
        approx::assert_relative_eq!(y[1], 8.0 / 12.5f32.sqrt(), epsilon = 1e-6);
    }
}
