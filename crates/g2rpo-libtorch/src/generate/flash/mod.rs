//! Decoding on a GPU: flash attention over what each row has, and steps of fixed shapes, recorded as
//! CUDA graphs.
//!
//! A step depends on a few sizes (`shape.rs`) and on tensors that stay where they are. So it can be
//! recorded once per combination of sizes and repeated, and it runs unrecorded just the same: the
//! tests do that on the CPU, with libtorch's flash attention for the CPU in place of the GPU's.

mod graphs;
mod part;
mod pool;
mod rows;
mod shape;
#[cfg(test)]
mod tests;

pub(super) use rows::FlashRows;

use tch::{Device, Kind};

use super::engine::EngineConfig;
use crate::Decoder;
use crate::cuda::{self, VarlenKernel};

/// What of a GPU is used for decoding, found out at the first call of `generate`.
#[derive(Debug, Default)]
pub(super) struct Gpu {
    /// Flash attention; `None` where it cannot be had.
    pub(super) kernel: Option<VarlenKernel>,
    /// Whether steps are recorded.
    pub(super) graphs: bool,
    /// What cannot be used, and why.
    pub(super) fallbacks: Vec<String>,
    known: bool,
}

impl Gpu {
    /// Looks at the machine, once.
    pub(super) fn find_out(&mut self, decoder: &Decoder, config: &EngineConfig) {
        if std::mem::replace(&mut self.known, true) {
            return;
        }
        let (kind, device) = (decoder.kind(), decoder.device());
        if !matches!(device, Device::Cuda(_))
            || !matches!(kind, Kind::BFloat16 | Kind::Half)
            || !config.flash_attention
        {
            return;
        }
        let model = decoder.config();
        let heads = (
            model.num_attention_heads as i64,
            model.num_key_value_heads as i64,
            model.head_dim as i64,
        );
        match cuda::check(cuda::on_cuda, (kind, device), heads) {
            Ok(()) => {
                self.kernel = Some(cuda::on_cuda);
                self.graphs = config.cuda_graphs;
            }
            Err(why) => self.fallbacks.push(format!(
                "decoding steps go without flash attention and CUDA graphs: {why}"
            )),
        }
    }

    /// Decodes with this kernel, on any device, without graphs.
    #[cfg(test)]
    pub(super) fn with_kernel(kernel: VarlenKernel) -> Self {
        Self {
            kernel: Some(kernel),
            known: true,
            ..Self::default()
        }
    }
}
