//! Linear layers, with or without an adapter.

use tch::Tensor;

use crate::error::Result;

/// `x · Wᵀ + b`, with an optional low-rank adapter beside it.
#[derive(Debug)]
pub struct Linear {
    /// Shape `[out, in]`.
    pub weight: Tensor,
    /// Shape `[out]`.
    pub bias: Option<Tensor>,
    /// Added to the output when present and enabled.
    pub lora: Option<Lora>,
}

/// A low-rank adapter: `scaling · (x · Aᵀ) · Bᵀ`.
#[derive(Debug)]
pub struct Lora {
    /// Shape `[rank, in]`.
    pub a: Tensor,
    /// Shape `[out, rank]`.
    pub b: Tensor,
    /// `alpha / rank`.
    pub scaling: f64,
    /// An adapter that is not enabled adds nothing, which turns a policy into its reference.
    pub enabled: bool,
}

impl Linear {
    /// Without adapter.
    pub fn new(weight: Tensor, bias: Option<Tensor>) -> Self {
        Self {
            weight,
            bias,
            lora: None,
        }
    }

    /// `x` of shape `[.., in]` to `[.., out]`.
    ///
    /// # Errors
    /// libtorch's.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let y = x.f_linear(&self.weight, self.bias.as_ref())?;
        match &self.lora {
            Some(lora) if lora.enabled => Ok(y.f_add(&lora.forward(x)?)?),
            _ => Ok(y),
        }
    }

    /// Another handle to the same tensors.
    #[must_use]
    pub fn shallow_clone(&self) -> Self {
        Self {
            weight: self.weight.shallow_clone(),
            bias: self.bias.as_ref().map(Tensor::shallow_clone),
            lora: self.lora.as_ref().map(|lora| Lora {
                a: lora.a.shallow_clone(),
                b: lora.b.shallow_clone(),
                ..*lora
            }),
        }
    }
}

impl Lora {
    /// What the adapter adds for `x` of shape `[.., in]`.
    ///
    /// # Errors
    /// libtorch's.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let low = x.f_linear(&self.a, None::<&Tensor>)?;
        let up = low.f_linear(&self.b, None::<&Tensor>)?;
        Ok(up.f_mul_scalar(self.scaling)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adapter_adds_its_product_when_enabled() {
        // W = [1 2], x = [3 4] → 11; A = [1 0], B = [5], scaling 2 → + 2·5·3 = 30; bias 0.5.
        let t = |v: &[f32], shape: &[i64]| Tensor::from_slice(v).view(shape);
        let mut linear = Linear::new(t(&[1., 2.], &[1, 2]), Some(t(&[0.5], &[1])));
        let x = t(&[3., 4.], &[1, 2]);
        assert_eq!(f64::try_from(linear.forward(&x).unwrap()).unwrap(), 11.5);
        linear.lora = Some(Lora {
            a: t(&[1., 0.], &[1, 2]),
            b: t(&[5.], &[1, 1]),
            scaling: 2.0,
            enabled: true,
        });
        assert_eq!(f64::try_from(linear.forward(&x).unwrap()).unwrap(), 41.5);
        linear.lora.as_mut().unwrap().enabled = false;
        assert_eq!(f64::try_from(linear.forward(&x).unwrap()).unwrap(), 11.5);
    }
}
