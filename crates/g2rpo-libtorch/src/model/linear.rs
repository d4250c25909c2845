//! Linear layers, with or without an adapter, alone and side by side.

use tch::Tensor;

use crate::error::Result;

/// `x · Wᵀ + b`, with an optional low-rank adapter beside it.
#[derive(Debug)]
pub struct Linear {
    /// The weight's name in a checkpoint without `.weight`, such as `model.layers.0.mlp.up_proj`.
    pub name: String,
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
    pub fn new(name: impl Into<String>, weight: Tensor, bias: Option<Tensor>) -> Self {
        Self {
            name: name.into(),
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
        let linear = |x: &Tensor| x.f_linear(&self.weight, self.bias.as_ref());
        match &self.lora {
            Some(lora) if lora.enabled => {
                // As rows of one matrix, so that the adapter can be added in place.
                let mut size = x.size();
                let width = size.pop().unwrap_or(0);
                let x = x.f_reshape([-1, width])?;
                let y = lora.add_to(linear(&x)?, &x)?;
                size.push(y.size2()?.1);
                Ok(y.f_view(&size[..])?)
            }
            _ => Ok(linear(x)?),
        }
    }

    /// Another handle to the same tensors.
    #[must_use]
    pub fn shallow_clone(&self) -> Self {
        Self {
            name: self.name.clone(),
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

/// Linear layers that read the same input. Families differ in which of them are one matrix in a
/// checkpoint.
#[derive(Debug)]
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

    /// Another handle to the same tensors.
    #[must_use]
    pub fn shallow_clone(&self) -> Self {
        Self {
            parts: self.parts.iter().map(Linear::shallow_clone).collect(),
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adapter_adds_its_product_when_enabled() {
        // W = [1 2], x = [3 4] → 11; A = [1 0], B = [5], scaling 2 → + 2·5·3 = 30; bias 0.5.
        let t = |v: &[f32], shape: &[i64]| Tensor::from_slice(v).view(shape);
        let mut linear = Linear::new("up", t(&[1., 2.], &[1, 2]), Some(t(&[0.5], &[1])));
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

    #[test]
    fn outputs_do_not_depend_on_which_layers_are_one() {
        let weight = Tensor::arange(10, (tch::Kind::Float, tch::Device::Cpu)).view([5, 2]);
        let x = Tensor::from_slice(&[1f32, -2.]).view([1, 2]);
        let of = |cuts: &[i64]| Parallel {
            parts: (weight.split_with_sizes(cuts, 0).into_iter())
                .map(|part| Linear::new("", part, None))
                .collect(),
        };
        for cuts in [&[5i64][..], &[2, 3], &[1, 1, 3]] {
            let outputs = of(cuts).forward(&x, &[2, 3]).unwrap();
            // Row i of the weight is [2i, 2i + 1]: 2i − 2·(2i + 1).
            assert_eq!(outputs[0], Tensor::from_slice(&[-2f32, -4.]).view([1, 2]));
            assert_eq!(outputs[1].size(), [1, 3]);
        }
    }
}
