//! Keys and values of generated positions, by libtorch's operations.

use tch::{Device, Kind, Tensor};

use crate::error::Doing;
use crate::error::Result;
use crate::model::config::DecoderConfig;

/// Keys and values of the positions that rows have generated, allocated once.
///
/// All rows write the next position into the same column, and a row that joined later begins at a
/// later column; what lies before its start is masked. So a step writes one column for all rows
/// with one copy, whatever their lengths.
#[derive(Debug)]
pub(super) struct KvCache {
    /// Per layer keys and values, `[rows, kv_heads, capacity, head_dim]`.
    layers: Vec<(Tensor, Tensor)>,
    /// 0 where a row may look, -inf before its start; `[rows, 1, 1, capacity]`.
    mask: Tensor,
    /// First column of every row in use.
    starts: Vec<i64>,
    /// Next free column.
    column: i64,
    capacity: i64,
}

/// Bytes that one position of one row takes in all layers.
pub(super) fn bytes_per_position(config: &DecoderConfig, kind: Kind) -> usize {
    2 * config.num_hidden_layers
        * config.num_key_value_heads
        * config.head_dim
        * kind.elt_size_in_bytes()
}

impl KvCache {
    /// Room for `rows` rows of at most `capacity` positions.
    pub(super) fn new(
        config: &DecoderConfig,
        rows: usize,
        capacity: usize,
        kind: Kind,
        device: Device,
    ) -> Result<Self> {
        let shape = [
            rows as i64,
            config.num_key_value_heads as i64,
            capacity as i64,
            config.head_dim as i64,
        ];
        // Zeros, not whatever the memory holds: a masked position has weight 0, and 0 · NaN is NaN.
        let zeros = || Tensor::f_zeros(shape, (kind, device));
        let layers = (0..config.num_hidden_layers)
            .map(|_| Ok((zeros()?, zeros()?)))
            .collect::<Result<_>>()
            .doing(|| {
                let bytes = rows as u128 * capacity as u128 * bytes_per_position(config, kind) as u128;
                format!("allocating a KV cache of {bytes} bytes for {rows} rows of {capacity} positions on {device:?}")
            })?;
        Ok(Self {
            layers,
            mask: Tensor::f_zeros([rows as i64, 1, 1, capacity as i64], (Kind::Float, device))?,
            starts: Vec::with_capacity(rows),
            column: 0,
            capacity: capacity as i64,
        })
    }

    /// Whether every column is taken; [`shift`](Self::shift) then makes room.
    pub(super) fn is_full(&self) -> bool {
        self.column >= self.capacity
    }

    /// Most positions that a row holds.
    fn longest(&self) -> i64 {
        self.column - self.starts.iter().min().copied().unwrap_or(self.column)
    }

    /// Adds rows that have no position yet.
    pub(super) fn add_rows(&mut self, n: usize) -> Result<()> {
        let first = self.starts.len();
        self.starts.resize(first + n, self.column);
        self.write_mask(first as i64)
    }

    /// Leaves the rows that `order` names, in its order: row `i` is then what row `order[i]` was.
    /// No row may move to a place that a row which is kept had before.
    pub(super) fn keep_rows(&mut self, order: &[usize]) -> Result<()> {
        let moves: Vec<(usize, usize)> = (order.iter().copied().enumerate())
            .filter(|(to, from)| to != from)
            .collect();
        if !moves.is_empty() {
            let ids = |pick: fn(&(usize, usize)) -> usize| -> Result<Tensor> {
                let ids: Vec<i64> = moves.iter().map(|m| pick(m) as i64).collect();
                Ok(Tensor::f_from_slice(&ids)?.f_to_device(self.mask.device())?)
            };
            let (to, from) = (ids(|m| m.0)?, ids(|m| m.1)?);
            for &(to, from) in &moves {
                self.starts[to] = self.starts[from];
            }
            let first = moves.iter().map(|m| self.starts[m.0]).min().unwrap_or(0);
            let columns = self.column - first;
            for cache in self.layers.iter().flat_map(|(k, v)| [k, v]) {
                let mut used = cache.f_narrow(2, first, columns)?;
                let moved = used.f_index_select(0, &from)?;
                let _ = used.f_index_copy_(0, &to, &moved)?;
            }
            let moved = self.mask.f_index_select(0, &from)?;
            let _ = self.mask.f_index_copy_(0, &to, &moved)?;
        }
        self.starts.truncate(order.len());
        Ok(())
    }

    /// Moves all rows to the left as far as they go.
    pub(super) fn shift(&mut self) -> Result<()> {
        let span = self.longest();
        let by = self.column - span;
        if by <= 0 {
            return Ok(());
        }
        let rows = self.starts.len() as i64;
        for cache in self.layers.iter().flat_map(|(k, v)| [k, v]) {
            let used = cache.f_narrow(0, 0, rows)?;
            // The ranges may overlap.
            let source = used.f_narrow(2, self.column - span, span)?;
            let mut copy = source.f_empty_like()?;
            copy.f_copy_(&source)?;
            used.f_narrow(2, 0, span)?.f_copy_(&copy)?;
        }
        for start in &mut self.starts {
            *start -= by;
        }
        self.column = span;
        self.write_mask(0)
    }

    /// Opens the next column and says where to write and what may be read.
    pub(super) fn step(&mut self) -> Result<Step> {
        let rows = self.starts.len() as i64;
        let (at, first) = (self.column, self.column - self.longest());
        self.column += 1;
        let len = self.column - first;
        let ragged = self.starts.iter().any(|&start| start != first);
        let mask = match ragged {
            true => Some(self.mask.f_narrow(0, 0, rows)?.f_narrow(3, first, len)?),
            false => None,
        };
        Ok(Step {
            rows,
            at,
            first,
            len,
            mask,
        })
    }

    /// Writes keys and values `[rows, kv_heads, head_dim]` of layer `i` into the step's column and
    /// returns all that the rows may look at, `[rows, kv_heads, len, head_dim]` each.
    pub(super) fn append(
        &self,
        i: usize,
        step: &Step,
        k: &Tensor,
        v: &Tensor,
    ) -> Result<(Tensor, Tensor)> {
        let (k_cache, v_cache) = &self.layers[i];
        let write = |cache: &Tensor, new: &Tensor| -> Result<Tensor> {
            let rows = cache.f_narrow(0, 0, step.rows)?;
            rows.f_select(2, step.at)?.f_copy_(new)?;
            Ok(rows.f_narrow(2, step.first, step.len)?)
        };
        Ok((write(k_cache, k)?, write(v_cache, v)?))
    }

    fn write_mask(&mut self, first_row: i64) -> Result<()> {
        let starts = &self.starts[first_row as usize..];
        let capacity = self.capacity as usize;
        let mut values = vec![0f32; starts.len() * capacity];
        for (row, &start) in values.chunks_exact_mut(capacity.max(1)).zip(starts) {
            row[..start as usize].fill(f32::NEG_INFINITY);
        }
        let values =
            Tensor::f_from_slice(&values)?.f_view([starts.len() as i64, 1, 1, self.capacity])?;
        (self.mask.f_narrow(0, first_row, starts.len() as i64)?).f_copy_(&values)?;
        Ok(())
    }
}

/// One column of all rows, being filled.
#[derive(Debug)]
pub(super) struct Step {
    rows: i64,
    at: i64,
    first: i64,
    len: i64,
    /// `[rows, 1, 1, len]`, absent when all rows start at the same column.
    pub(super) mask: Option<Tensor>,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A cache of one layer with one head of width 2, without rows.
    fn cache(capacity: usize) -> KvCache {
        let mut config = DecoderConfig::tiny_qwen3(4, 2, 1, 1, 1);
        config.head_dim = 2;
        KvCache::new(&config, 4, capacity, Kind::Float, Device::Cpu).unwrap()
    }

    /// One more position, which holds 10 · step + row; what every row sees then.
    fn step(cache: &mut KvCache, number: f64) -> Vec<Vec<f32>> {
        let n = cache.starts.len() as i64;
        let new = Tensor::arange(n, (Kind::Float, Device::Cpu)) + 10.0 * number;
        let new = new.view([n, 1, 1]).repeat([1, 1, 2]);
        let step = cache.step().unwrap();
        let (k, _) = cache.append(0, &step, &new, &new).unwrap();
        (0..n)
            .map(|r| {
                let row = Vec::<f32>::try_from(k.get(r).select(2, 0).reshape(-1)).unwrap();
                let mask = match &step.mask {
                    Some(mask) => Vec::<f32>::try_from(mask.get(r).reshape(-1)).unwrap(),
                    None => vec![0.0; row.len()],
                };
                (row.into_iter().zip(mask))
                    .filter(|(_, m)| *m == 0.0)
                    .map(|(x, _)| x)
                    .collect()
            })
            .collect()
    }

    #[test]
    fn rows_see_what_they_wrote_since_they_joined() {
        let mut cache = cache(8);
        cache.add_rows(2).unwrap();
        assert_eq!(step(&mut cache, 1.0), [[10.], [11.]]);
        cache.add_rows(1).unwrap();
        assert_eq!(
            step(&mut cache, 2.0),
            [vec![10., 20.], vec![11., 21.], vec![22.]]
        );
    }

    #[test]
    fn rows_that_are_kept_take_their_new_places() {
        let mut cache = cache(8);
        cache.add_rows(1).unwrap();
        step(&mut cache, 1.0);
        cache.add_rows(3).unwrap();
        step(&mut cache, 2.0);
        cache.keep_rows(&[3, 1]).unwrap();
        assert_eq!(step(&mut cache, 3.0), [[23., 30.], [21., 31.]]);
        cache.keep_rows(&[0]).unwrap();
        assert_eq!(step(&mut cache, 4.0), [[23., 30., 40.]]);
    }

    #[test]
    fn shifting_makes_room_and_changes_nothing_else() {
        let mut cache = cache(3);
        cache.add_rows(1).unwrap();
        step(&mut cache, 1.0);
        cache.add_rows(2).unwrap();
        step(&mut cache, 2.0);
        cache.keep_rows(&[2, 1]).unwrap();
        step(&mut cache, 3.0);
        assert!(cache.is_full());
        cache.shift().unwrap();
        assert!(!cache.is_full());
        assert_eq!(step(&mut cache, 4.0), [[22., 30., 40.], [21., 31., 41.]]);
    }

    #[test]
    fn a_cache_that_does_not_fit_says_its_size() {
        let config = DecoderConfig::tiny_qwen3(4, 64, 2, 2, 2);
        let err = KvCache::new(&config, 1 << 30, 1 << 20, Kind::Float, Device::Cpu)
            .unwrap_err()
            .to_string();
        assert!(
            err.starts_with("out of memory while allocating a KV cache of "),
            "{err}"
        );
    }
}
