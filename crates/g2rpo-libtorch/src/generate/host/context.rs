//! Keys and values in host memory that several rows read.

use std::sync::Arc;

use tch::Tensor;

use crate::error::Result;
use crate::generate::prefill::Store;
use crate::generate::slice::f32_slice;

/// Keys and values of positions that rows share.
#[derive(Debug)]
pub(super) struct Context {
    pub(super) len: usize,
    /// Per layer `[kv_heads, head_dim, len]` and `[kv_heads, len, head_dim]`.
    pub(super) layers: Vec<(Vec<f32>, Vec<f32>)>,
}

/// A context and the rows that read it.
#[derive(Debug)]
pub(super) struct Readers {
    pub(super) context: Arc<Context>,
    pub(super) rows: Vec<usize>,
}

impl Context {
    /// Copies positions of freshly computed contexts.
    pub(super) fn new(store: &Store, positions: std::ops::Range<usize>) -> Result<Self> {
        let len = positions.len();
        let layers = (store.layers.iter())
            .map(|(keys, values)| {
                let part = |t: &Tensor| {
                    t.f_narrow(0, positions.start as i64, len as i64)
                        .and_then(|t| t.f_permute([1, 0, 2]))
                };
                let keys = part(keys)?.f_transpose(1, 2)?.f_contiguous()?;
                let values = part(values)?.f_contiguous()?;
                Ok((f32_slice(&keys)?.to_vec(), f32_slice(&values)?.to_vec()))
            })
            .collect::<Result<_>>()?;
        Ok(Self { len, layers })
    }
}
