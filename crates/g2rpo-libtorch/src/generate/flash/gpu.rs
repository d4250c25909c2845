//! What of a GPU decoding can use.

use tch::{Device, Kind};

use crate::generate::config::EngineConfig;
use crate::generate::cuda::flash::{VarlenKernel, check, on_cuda};
use crate::model::decoder::Decoder;

/// What of a GPU is used for decoding, found out at the first call of `generate`.
#[derive(Debug, Default)]
pub(in crate::generate) struct Gpu {
    /// Flash attention; `None` where it cannot be had.
    pub(in crate::generate) kernel: Option<VarlenKernel>,
    /// Whether steps are recorded.
    pub(in crate::generate) graphs: bool,
    /// What cannot be used, and why.
    pub(in crate::generate) fallbacks: Vec<String>,
    known: bool,
}

impl Gpu {
    /// Looks at the machine, once.
    pub(in crate::generate) fn find_out(&mut self, decoder: &Decoder, config: &EngineConfig) {
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
        let unlike = match decoder.window() {
            Some(_) => Some("layers with a window"),
            None => (decoder.config().delta_net).map(|_| "gated delta nets"),
        };
        if let Some(unlike) = unlike {
            self.fallbacks.push(format!(
                "decoding steps go without flash attention and CUDA graphs: the model has {unlike}"
            ));
            return;
        }
        let has_experts = decoder.config().experts.is_some();
        let model = decoder.config();
        let heads = (
            model.num_attention_heads as i64,
            model.num_key_value_heads as i64,
            model.head_dim as i64,
        );
        match check(on_cuda, (kind, device), heads) {
            Ok(()) => {
                self.kernel = Some(on_cuda);
                self.graphs = config.cuda_graphs && !has_experts;
                if config.cuda_graphs && has_experts {
                    self.fallbacks.push(
                        "decoding steps are not recorded as CUDA graphs: which experts are read is \
                         known on the host only"
                            .into(),
                    );
                }
            }
            Err(why) => self.fallbacks.push(format!(
                "decoding steps go without flash attention and CUDA graphs: {why}"
            )),
        }
    }

    /// Decodes with this kernel, on any device, without graphs.
    #[cfg(test)]
    pub(in crate::generate) fn with_kernel(kernel: VarlenKernel) -> Self {
        Self {
            kernel: Some(kernel),
            known: true,
            ..Self::default()
        }
    }
}
