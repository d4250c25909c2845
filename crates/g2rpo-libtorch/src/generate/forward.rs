//! A decoder prepared for generation.

use tch::Tensor;

use crate::error::Result;
use crate::model::context::Rotations;
use crate::model::decoder::{Decoder, Mixer};
use crate::model::linear::Linear;
use crate::model::{Attention, Heads};

/// A decoder prepared for generation.
///
/// Matrices that read the same input are used as one where they are neighbours in memory, which
/// they are in [`Parameters`](crate::Parameters) laid out by
/// [`DecoderConfig::param_specs`](crate::DecoderConfig::param_specs), unless they carry an adapter. They are
/// views, never copies: an update of the parameters needs no word to the engine.
#[derive(Debug)]
pub(super) struct Runner {
    pub(super) decoder: Decoder,
}

impl Runner {
    pub(super) fn new(decoder: &Decoder) -> Self {
        let mut decoder = decoder.clone();
        for parallel in decoder.parallels_mut() {
            if let Some(joined) = fuse(&parallel.parts) {
                parallel.parts = vec![joined];
            }
        }
        Self { decoder }
    }

    /// What mixes positions in layer `i`, and its input for the residual stream `[.., hidden]`.
    pub(super) fn mixer(&self, i: usize, x: &Tensor) -> Result<(&Mixer, Tensor)> {
        let layer = &self.decoder.layers()[i];
        Ok((&layer.mixer, layer.input_layernorm.forward(x)?))
    }

    /// Queries, keys and values for the input `[.., hidden]` of attention: normed, turned and, where scores
    /// are not divided by √head_dim, multiplied so that they may be. Cosines and sines are `[.., 1, rotated]`.
    pub(super) fn heads(
        &self,
        attention: &Attention,
        input: &Tensor,
        rotations: &Rotations,
    ) -> Result<Heads> {
        let mut heads = attention.heads(input, rotations)?;
        if let Some(factor) = self.decoder.config().query_factor() {
            heads.q = heads.q.f_mul_scalar(factor)?;
        }
        Ok(heads)
    }

    /// Multiplies what was mixed, `[.., width]`, by the layer's last matrix, behind the gate if there is one,
    /// adds it to the residual stream and then the feed-forward layer, in place.
    pub(super) fn finish(
        &self,
        i: usize,
        x: &mut Tensor,
        mixed: &Tensor,
        gate: Option<&Tensor>,
    ) -> Result<()> {
        let layer = &self.decoder.layers()[i];
        let mixed = match gate {
            Some(gate) => mixed.f_mul(gate)?,
            None => mixed.shallow_clone(),
        };
        let _ = x.f_add_(&layer.attended(layer.mixer.output().forward(&mixed)?)?)?;
        let mixed = (layer.mlp).forward(&layer.mlp_norm.forward(x)?, None)?;
        let _ = x.f_add_(&layer.mixed(mixed)?)?;
        Ok(())
    }
}

/// q `[B, heads, T, head_dim]`, k and v `[B, kv_heads, S, head_dim]`.
pub(super) fn attend(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    mask: Option<&Tensor>,
    causal: bool,
) -> Result<Tensor> {
    let gqa = q.size()[1] != k.size()[1];
    Ok(Tensor::f_scaled_dot_product_attention(
        q, k, v, mask, 0.0, causal, None, gqa,
    )?)
}

/// One linear layer over the weights of several, if these lie one behind the other in one storage.
fn fuse(parts: &[Linear]) -> Option<Linear> {
    if parts.len() < 2 || parts.iter().any(|p| p.lora.is_some()) {
        return None;
    }
    let weights: Vec<&Tensor> = parts.iter().map(|p| &*p.weight).collect();
    let biases: Vec<&Tensor> = parts.iter().filter_map(|p| p.bias.as_deref()).collect();
    let weight = join(&weights)?;
    let bias = match biases.len() {
        0 => None,
        n if n == parts.len() => Some(join(&biases)?),
        _ => return None,
    };
    let names: Vec<&str> = parts.iter().map(|p| p.name.as_str()).collect();
    Some(Linear::new(names.join(" "), weight, bias))
}

/// A view over contiguous tensors that lie one behind the other, joined along their first
/// dimension.
fn join(parts: &[&Tensor]) -> Option<Tensor> {
    let first = parts.first()?;
    let width = first.kind().elt_size_in_bytes();
    let mut end = first.data_ptr() as usize;
    for part in parts {
        if part.data_ptr() as usize != end
            || !part.is_contiguous()
            || part.kind() != first.kind()
            || part.size()[1..] != first.size()[1..]
        {
            return None;
        }
        end += part.numel() * width;
    }
    let mut shape = first.size();
    shape[0] = parts.iter().map(|p| p.size()[0]).sum();
    // Fails, as it should, when the neighbours belong to different storages.
    (first.f_detach().ok()?)
        .f_as_strided(&shape[..], first.stride(), None)
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::config::DecoderConfig;
    use crate::model::init::init_parameters;
    use tch::{Device, Kind};

    #[test]
    fn neighbours_are_joined_without_a_copy() {
        let flat = Tensor::arange(12, (Kind::Float, Device::Cpu));
        let a = flat.narrow(0, 0, 4).view([2, 2]);
        let b = flat.narrow(0, 4, 6).view([3, 2]);
        let joined = join(&[&a, &b]).unwrap();
        assert_eq!(joined, flat.narrow(0, 0, 10).view([5, 2]));
        assert_eq!(joined.data_ptr(), a.data_ptr());
    }

    #[test]
    fn gaps_other_storages_and_other_widths_are_not_joined() {
        let flat = Tensor::arange(12, (Kind::Float, Device::Cpu));
        let part = |at, n, w| flat.narrow(0, at, n).view([-1, w]);
        assert!(join(&[&part(0, 4, 2), &part(6, 4, 2)]).is_none());
        assert!(join(&[&part(0, 4, 2), &part(4, 6, 3)]).is_none());
        assert!(join(&[&part(0, 4, 2), &part(4, 4, 2).copy()]).is_none());
    }

    #[test]
    fn matrices_of_a_model_are_neighbours() {
        let config = DecoderConfig::tiny_qwen3(64, 32, 2, 4, 2);
        let parameters = init_parameters(&config, 1, Kind::Float, Device::Cpu).unwrap();
        let mut runner = Runner::new(&Decoder::new(&config, &parameters).unwrap());
        let parallels = runner.decoder.parallels_mut();
        assert_eq!(parallels.len(), 4);
        assert!(parallels.iter().all(|parallel| parallel.parts.len() == 1));
    }
}
