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
    /// `None` for layers without keys and values.
    pub(super) layers: Vec<Option<ContextLayer>>,
}

/// What a layer keeps of a context: all of it, or the end that a window of a later position may reach.
#[derive(Debug)]
pub(super) struct ContextLayer {
    pub(super) len: usize,
    /// `[kv_heads, head_dim, len]`.
    pub(super) keys: Vec<f32>,
    /// `[kv_heads, len, head_dim]`.
    pub(super) values: Vec<f32>,
}

/// A context and the rows that read it.
#[derive(Debug)]
pub(super) struct Readers {
    pub(super) context: Arc<Context>,
    pub(super) rows: Vec<usize>,
}

impl Context {
    /// Copies positions of freshly computed contexts, as many of the last as each layer's window reaches.
    pub(super) fn new(
        store: &Store,
        positions: std::ops::Range<usize>,
        windows: &[Option<usize>],
    ) -> Result<Self> {
        let all = positions.len();
        let layers = (store.layers.iter().zip(windows))
            .map(|(kept, window)| {
                let Some((keys, values)) = kept.keys() else {
                    return Ok(None);
                };
                // A later position sees itself and `window - 1` before it.
                let len = window.map_or(all, |window| all.min(window - 1));
                let part = |t: &Tensor| {
                    t.f_narrow(0, (positions.end - len) as i64, len as i64)
                        .and_then(|t| t.f_permute([1, 0, 2]))
                };
                let keys = part(keys)?.f_transpose(1, 2)?.f_contiguous()?;
                let values = part(values)?.f_contiguous()?;
                Ok(Some(ContextLayer {
                    len,
                    keys: f32_slice(&keys)?.to_vec(),
                    values: f32_slice(&values)?.to_vec(),
                }))
            })
            .collect::<Result<_>>()?;
        Ok(Self { len: all, layers })
    }

    /// Numbers that it takes.
    pub(super) fn size(&self) -> usize {
        let layers = self.layers.iter().flatten();
        layers.map(|l| l.keys.len() + l.values.len()).sum()
    }
}
