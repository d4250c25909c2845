//! Keys and values of a context in host memory.

use std::ops::Range;

use tch::Tensor;

use crate::error::Result;
use crate::generate::prefill::Store;
use crate::generate::slice::f32_slice;

/// Keys and values of the positions of a context, by layer; `None` for layers without.
#[derive(Debug)]
pub(super) struct Context(pub(super) Vec<Option<ContextLayer>>);

/// What a layer keeps of a context: all of it, or the end that a window of a later position may reach.
#[derive(Debug)]
pub(super) struct ContextLayer {
    pub(super) len: usize,
    /// `[kv_heads, head_dim, len]`.
    pub(super) keys: Vec<f32>,
    /// `[kv_heads, len, head_dim]`.
    pub(super) values: Vec<f32>,
}

impl Context {
    /// Copies freshly computed positions.
    pub(super) fn new(store: &Store, positions: &Range<usize>) -> Result<Self> {
        let layers = (store.layers.iter())
            .map(|kept| {
                let Some(fresh) = kept.keys() else {
                    return Ok(None);
                };
                let needed = fresh.needed(positions);
                let len = needed.len();
                let part = |t: &Tensor| {
                    t.f_narrow(0, needed.start as i64, len as i64)
                        .and_then(|t| t.f_permute([1, 0, 2]))
                };
                let keys = part(&fresh.k)?.f_transpose(1, 2)?.f_contiguous()?;
                let values = part(&fresh.v)?.f_contiguous()?;
                Ok(Some(ContextLayer {
                    len,
                    keys: f32_slice(&keys)?.to_vec(),
                    values: f32_slice(&values)?.to_vec(),
                }))
            })
            .collect::<Result<_>>()?;
        Ok(Self(layers))
    }

    /// Numbers that it takes.
    pub(super) fn size(&self) -> usize {
        let layers = self.0.iter().flatten();
        layers.map(|l| l.keys.len() + l.values.len()).sum()
    }
}
