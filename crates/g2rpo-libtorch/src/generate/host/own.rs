//! What rows keep of their own, in host memory.

use super::weights::MixerWeights;
use crate::error::{Error, Result};
use crate::generate::readers::own_reach;

/// What rows keep of their own in a layer: keys `[rows, kv_heads, head_dim, columns]` and values
/// `[rows, kv_heads, columns, head_dim]`, where position i is in column i modulo their number; or a delta net's
/// recent inputs and memory.
#[derive(Debug)]
pub(super) struct Own {
    pub(super) first: Vec<f32>,
    pub(super) second: Vec<f32>,
    /// Numbers of one row in each.
    pub(super) sizes: (usize, usize),
    /// Positions that a row keeps at most: no more than a window reaches.
    pub(super) columns: usize,
}

impl Own {
    /// Room for `rows` rows of `capacity` positions, whose keys have `width` numbers in all heads.
    pub(super) fn new(
        mixer: &MixerWeights<'_>,
        width: usize,
        rows: usize,
        capacity: usize,
    ) -> Result<Self> {
        let (sizes, columns) = match mixer {
            MixerWeights::DeltaNet(net) => (Some(net.sizes()), 0),
            MixerWeights::Attention(attention) => {
                let columns = own_reach(capacity, attention.spec.window);
                let size = width.checked_mul(columns);
                (size.map(|size| (size, size)), columns)
            }
        };
        let sizes = sizes.filter(|s| rows.checked_mul(s.0.max(s.1)).is_some());
        let sizes =
            sizes.ok_or_else(|| Error::invalid("requests", "too many positions to count"))?;
        Ok(Self {
            first: zeros(rows * sizes.0)?,
            second: zeros(rows * sizes.1)?,
            sizes,
            columns,
        })
    }

    /// What row `from` has becomes row `to`'s.
    pub(super) fn copy(&mut self, from: usize, to: usize) {
        for (numbers, n) in [
            (&mut self.first, self.sizes.0),
            (&mut self.second, self.sizes.1),
        ] {
            numbers.copy_within(from * n..(from + 1) * n, to * n);
        }
    }
}

/// Memory for so many numbers, or an error where an ordinary vector would abort the program.
pub(in crate::generate) fn reserve(n: usize, doing: impl FnOnce() -> String) -> Result<Vec<f32>> {
    let mut numbers = Vec::new();
    let reserved = numbers.try_reserve_exact(n);
    reserved.map_err(|error| Error::OutOfMemory {
        doing: doing(),
        message: error.to_string(),
    })?;
    Ok(numbers)
}

/// Zeros.
fn zeros(n: usize) -> Result<Vec<f32>> {
    let bytes = n * size_of::<f32>();
    let mut numbers = reserve(n, || {
        format!("allocating {bytes} bytes of a KV cache on the CPU")
    })?;
    numbers.resize(n, 0.0);
    Ok(numbers)
}
