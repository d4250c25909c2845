//! Linear layers, with or without an adapter, alone and side by side.

use tch::Tensor;

use super::handle::Handle;
use crate::error::Result;

/// `x · Wᵀ + b`, with an optional low-rank adapter beside it.
#[derive(Debug, Clone)]
pub struct Linear {
    /// The weight's name in a checkpoint without `.weight`, such as `model.layers.0.mlp.up_proj`.
    pub name: String,
    /// Shape `[out, in]`.
    pub weight: Handle,
    /// Shape `[out]`.
    pub bias: Option<Handle>,
    /// Added to the output when present.
    pub lora: Option<Lora>,
}

/// A low-rank adapter: `scaling · (x · Aᵀ) · Bᵀ`.
#[derive(Debug, Clone)]
pub struct Lora {
    /// Shape `[rank, in]`.
    pub a: Handle,
    /// Shape `[out, rank]`.
    pub b: Handle,
    /// `alpha / rank`.
    pub scaling: f64,
}

impl Linear {
    /// Without adapter.
    pub fn new(name: impl Into<String>, weight: Tensor, bias: Option<Tensor>) -> Self {
        Self {
            name: name.into(),
            weight: weight.into(),
            bias: bias.map(Handle::from),
            lora: None,
        }
    }

    /// `x` of shape `[.., in]` to `[.., out]`.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let linear = |x: &Tensor| x.f_linear(&self.weight, self.bias.as_deref());
        match &self.lora {
            Some(lora) => {
                // As rows of one matrix, so that the adapter can be added in place.
                let mut size = x.size();
                let width = size.pop().unwrap_or(0);
                let x = x.f_reshape([-1, width])?;
                let y = lora.add_to(linear(&x)?, &x)?;
                size.push(y.size2()?.1);
                Ok(y.f_view(&size[..])?)
            }
            None => Ok(linear(x)?),
        }
    }
}

/// Linear layers that read the same input. Families differ in which of them are one matrix in a
/// checkpoint.
#[derive(Debug, Clone)]
pub struct Parallel {
    /// The layers, in the order of their outputs.
    pub parts: Vec<Linear>,
}

impl Parallel {
    /// Outputs of the given widths, whose sum is that of all layers, for `x` of shape `[.., in]`.
    ///
    /// # Errors
    /// libtorch's, for widths that do not fit among others.
    pub fn forward(&self, x: &Tensor, widths: &[i64]) -> Result<Vec<Tensor>> {
        let outputs = (self.parts.iter())
            .map(|part| part.forward(x))
            .collect::<Result<Vec<_>>>()?;
        if outputs
            .iter()
            .map(Self::width_of)
            .eq(widths.iter().copied())
        {
            return Ok(outputs);
        }
        let all = match &outputs[..] {
            [one] => one.shallow_clone(),
            several => Tensor::f_cat(several, -1)?,
        };
        Ok(all.f_split_with_sizes(widths, -1)?)
    }

    fn width_of(output: &Tensor) -> i64 {
        output.size().last().copied().unwrap_or(0)
    }
}

impl Lora {
    /// Adds what the adapter makes of `x`, `[n, in]`, to `y`, `[n, out]`. The scaling goes to the narrow product, and
    /// the wide one is added where `y` lies: a pass over a layer's output in memory costs as much as the adapter.
    fn add_to(&self, mut y: Tensor, x: &Tensor) -> Result<Tensor> {
        let low = x.f_linear(&self.a, None::<&Tensor>)?;
        let low = low.f_mul_scalar(self.scaling)?;
        // With a copy of `Bᵀ`, autograd multiplies `lowᵀ` by the gradient for its own. With a view it would multiply the
        // transposed gradient by `low`, which takes MKL six times as long.
        Ok(y.f_addmm_(&low, &self.b.f_tr()?.f_contiguous()?)?)
    }
}
