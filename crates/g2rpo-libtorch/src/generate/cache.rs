use tch::{Device, Kind, Tensor};

use crate::error::Doing;
use crate::{DecoderConfig, Result};

/// Keys and values of the rows being generated, allocated once.
///
/// Rows are aligned on the right: all of them write the next position into the same column, and a
/// row that started later or had a shorter prompt begins at a later column. What lies before a
/// row's start is masked. So a step writes one column for all rows with one copy, whatever their
/// lengths.
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

/// Keys and values of freshly computed contexts, from which rows of the cache are filled.
#[derive(Debug)]
pub(super) struct Store {
    /// Per layer keys and values, `[positions, kv_heads, head_dim]`.
    pub(super) layers: Vec<(Tensor, Tensor)>,
}

/// Bytes that one position of one row takes in all layers.
pub(super) fn bytes_per_position(config: &DecoderConfig, kind: Kind) -> usize {
    2 * config.num_hidden_layers
        * config.num_key_value_heads
        * config.head_dim
        * kind.elt_size_in_bytes()
}

impl KvCache {
    /// Room for `rows` rows of at most `capacity` positions; the first position that all rows
    /// write together is `first_column`, so no context may be longer than that.
    pub(super) fn new(
        config: &DecoderConfig,
        rows: usize,
        capacity: usize,
        first_column: usize,
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
            mask: Tensor::f_zeros([rows as i64, 1, 1, capacity as i64], (kind, device))?,
            starts: Vec::with_capacity(rows),
            column: first_column as i64,
            capacity: capacity as i64,
        })
    }

    /// Number of rows in use.
    pub(super) fn n_rows(&self) -> usize {
        self.starts.len()
    }

    /// Whether every column is taken; [`shift`](Self::shift) then makes room.
    pub(super) fn is_full(&self) -> bool {
        self.column >= self.capacity
    }

    /// Most positions that a row holds.
    fn longest(&self) -> i64 {
        self.column - self.starts.iter().min().copied().unwrap_or(self.column)
    }

    /// Adds rows whose keys and values are positions of the store: one list of positions per row.
    pub(super) fn add_rows(&mut self, store: &Store, rows: &[Vec<i64>]) -> Result<()> {
        let (first, n) = (self.starts.len() as i64, rows.len() as i64);
        let span = rows.iter().map(Vec::len).max().unwrap_or(0) as i64;
        let mut index = Vec::with_capacity((n * span) as usize);
        for row in rows {
            // Columns before a row's start are masked, so any position may stand there.
            index.resize(index.len() + span as usize - row.len(), 0);
            index.extend_from_slice(row);
            self.starts.push(self.column - row.len() as i64);
        }
        let index = Tensor::f_from_slice(&index)?.f_to_device(self.mask.device())?;
        for ((k, v), (k_store, v_store)) in self.layers.iter().zip(&store.layers) {
            for (cache, store) in [(k, k_store), (v, v_store)] {
                let (_, heads, d) = store.size3()?;
                let new = store
                    .f_index_select(0, &index)?
                    .f_view([n, span, heads, d])?
                    .f_transpose(1, 2)?;
                cache
                    .f_narrow(0, first, n)?
                    .f_narrow(2, self.column - span, span)?
                    .f_copy_(&new)?;
            }
        }
        self.write_mask(first)
    }

    /// Drops rows, given in ascending order. The last rows take the places of those dropped;
    /// returns the pairs `(from, to)` of these moves.
    pub(super) fn remove_rows(&mut self, gone: &[usize]) -> Result<Vec<(usize, usize)>> {
        let left = self.starts.len() - gone.len();
        let holes = gone.iter().copied().filter(|&row| row < left);
        let movers = (left..self.starts.len()).filter(|row| gone.binary_search(row).is_err());
        let moves: Vec<(usize, usize)> = movers.zip(holes).collect();
        if !moves.is_empty() {
            let ids = |pick: fn(&(usize, usize)) -> usize| -> Result<Tensor> {
                let ids: Vec<i64> = moves.iter().map(|m| pick(m) as i64).collect();
                Ok(Tensor::f_from_slice(&ids)?.f_to_device(self.mask.device())?)
            };
            let (from, to) = (ids(|m| m.0)?, ids(|m| m.1)?);
            for &(from, to) in &moves {
                self.starts[to] = self.starts[from];
            }
            let first = moves.iter().map(|m| self.starts[m.1]).min().unwrap_or(0);
            let columns = self.column - first;
            for cache in self.layers.iter().flat_map(|(k, v)| [k, v]) {
                let mut used = cache.f_narrow(2, first, columns)?;
                let moved = used.f_index_select(0, &from)?;
                let _ = used.f_index_copy_(0, &to, &moved)?;
            }
            let moved = self.mask.f_index_select(0, &from)?;
            let _ = self.mask.f_index_copy_(0, &to, &moved)?;
        }
        self.starts.truncate(left);
        Ok(moves)
    }

    /// Moves all rows to the left as far as they go, but keeps `reserve` columns before the next
    /// free one, for a context of that length that is still to come.
    pub(super) fn shift(&mut self, reserve: usize) -> Result<()> {
        let span = self.longest();
        let column = span.max(reserve as i64);
        let by = self.column - column;
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
            used.f_narrow(2, column - span, span)?.f_copy_(&copy)?;
        }
        for start in &mut self.starts {
            *start -= by;
        }
        self.column = column;
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

    /// A cache of one layer with one head of width 2 whose position p of row r holds 10r + p.
    fn cache(rows: &[usize], capacity: usize, column: usize) -> KvCache {
        let mut config = DecoderConfig::tiny_qwen3(4, 2, 1, 1, 1);
        config.head_dim = 2;
        let mut cache =
            KvCache::new(&config, 4, capacity, column, Kind::Float, Device::Cpu).unwrap();
        let values = Tensor::arange(100, (Kind::Float, Device::Cpu));
        let values = values.view([100, 1, 1]).repeat([1, 1, 2]);
        let store = Store {
            layers: vec![(values.shallow_clone(), values)],
        };
        let rows: Vec<Vec<i64>> = (rows.iter().enumerate())
            .map(|(r, &n)| (0..n as i64).map(|p| 10 * r as i64 + p).collect())
            .collect();
        cache.add_rows(&store, &rows).unwrap();
        cache
    }

    /// What every row sees after one more position, which holds 90 + row.
    fn seen(cache: &mut KvCache) -> Vec<Vec<f32>> {
        let n = cache.n_rows() as i64;
        let new = (Tensor::arange(n, (Kind::Float, Device::Cpu)) + 90.0).view([n, 1, 1]);
        let step = cache.step().unwrap();
        let new = new.repeat([1, 1, 2]);
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
    fn rows_of_unequal_length_see_their_own_positions() {
        let mut cache = cache(&[1, 3, 2], 8, 3);
        let expected = [vec![0., 90.], vec![10., 11., 12., 91.], vec![20., 21., 92.]];
        assert_eq!(seen(&mut cache), expected);
    }

    #[test]
    fn the_last_rows_take_the_places_of_those_gone() {
        let mut cache = cache(&[1, 3, 2, 1], 8, 3);
        assert_eq!(cache.remove_rows(&[0, 2]).unwrap(), [(3, 0)]);
        assert_eq!(seen(&mut cache), [vec![30., 90.], vec![10., 11., 12., 91.]]);
        assert_eq!(cache.remove_rows(&[1]).unwrap(), []);
        assert_eq!(seen(&mut cache), [vec![30., 90., 90.]]);
    }

    #[test]
    fn shifting_makes_room_and_changes_nothing_else() {
        let mut cache = cache(&[1, 2], 4, 3);
        seen(&mut cache);
        assert!(cache.is_full());
        cache.shift(1).unwrap();
        assert!(!cache.is_full());
        assert_eq!(
            seen(&mut cache),
            [vec![0., 90., 90.], vec![10., 11., 91., 91.]]
        );
    }

    #[test]
    fn a_cache_that_does_not_fit_says_its_size() {
        let config = DecoderConfig::tiny_qwen3(4, 64, 2, 2, 2);
        let err = KvCache::new(&config, 1 << 30, 1 << 20, 0, Kind::Float, Device::Cpu)
            .unwrap_err()
            .to_string();
        assert!(
            err.starts_with("out of memory while allocating a KV cache of "),
            "{err}"
        );
    }
}
