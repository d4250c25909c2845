//! Limits of generation.

/// Limits of a [`TorchEngine`](crate::TorchEngine).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineConfig {
    /// Most rollouts generated side by side; the others wait and join when rows get free.
    /// Default 256.
    pub max_rows: usize,
    /// Most bytes of the KV cache: what rows generate, allocated once per call, and the contexts of
    /// the rows at work, each kept once for all rows that share it. Fewer rows run side by side
    /// where that does not suffice. Default 4 GiB.
    pub max_cache_bytes: usize,
    /// Most context tokens computed in one forward pass, unless one group alone has more.
    /// Default 8192.
    pub max_prefill_tokens: usize,
    /// On a GPU, in bf16 and f16: decode with libtorch's flash attention. Default true. Where it
    /// cannot be had [`TorchEngine::fallbacks`](crate::TorchEngine::fallbacks) says why, and plain products take its place.
    pub flash_attention: bool,
    /// With flash attention: record decoding steps as CUDA graphs. Default true.
    pub cuda_graphs: bool,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            max_rows: 256,
            max_cache_bytes: 4 << 30,
            max_prefill_tokens: 8192,
            flash_attention: true,
            cuda_graphs: true,
        }
    }
}
