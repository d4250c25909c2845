//! Keys and values of generated positions, by libtorch's operations.

use tch::{Device, Kind, Tensor};

use super::readers::{Left, own_reach};
use crate::error::{Doing, Error, Result};
use crate::model::config::DecoderConfig;
use crate::model::params::float_kind;

/// Keys and values of the positions that rows have generated, allocated once.
///
/// All rows write a step's position into the same column, so a step is one copy, whatever their lengths.
/// Columns form a ring: a row's positions are those of as many last steps as it has positions, and a layer has as
/// many columns as a row may have positions, or as its window reaches back.
#[derive(Debug)]
pub(super) struct KvCache {
    /// Per layer keys and values, `[rows, kv_heads, columns, head_dim]`; `None` for layers without.
    layers: Vec<Option<(Tensor, Tensor)>>,
    /// Positions of every row with the one of the last step.
    lens: Vec<i64>,
    /// Steps since no row had a position.
    steps: i64,
}

/// Bytes that `positions` positions of one row take in all layers, of which those with a window keep no more than
/// it reaches.
pub(super) fn bytes_of(config: &DecoderConfig, kind: Kind, positions: usize) -> usize {
    let kept = (windows(config).into_iter().flatten()).map(|w| own_reach(positions, w));
    let width = 2 * config.num_key_value_heads * config.head_dim;
    kept.sum::<usize>() * width * kind.elt_size_in_bytes()
}

/// Bytes of the states of one row, which do not depend on its length.
pub(super) fn state_bytes(config: &DecoderConfig, kind: Kind) -> usize {
    let Some(net) = &config.delta_net else {
        return 0;
    };
    let layers = (0..config.num_hidden_layers).filter(|&i| config.layer(i).delta_net);
    let recent = net.channels() * (net.conv_kernel - 1);
    let memory = net.value_heads * net.key_width * net.value_width;
    let wide = float_kind(kind).elt_size_in_bytes();
    layers.count() * (recent * kind.elt_size_in_bytes() + memory * wide)
}

/// The windows of all layers; `None` for those without keys and values.
fn windows(config: &DecoderConfig) -> Vec<Option<Option<usize>>> {
    (0..config.num_hidden_layers)
        .map(|i| config.layer(i))
        .map(|layer| (!layer.delta_net).then_some(layer.window))
        .collect()
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
        // Zeros, not whatever the memory holds: a masked position has weight 0, and 0 · NaN is NaN.
        let zeros = |window: Option<usize>| {
            let columns = own_reach(capacity, window) as i64;
            let (heads, d) = (config.num_key_value_heads as i64, config.head_dim as i64);
            Tensor::f_zeros([rows as i64, heads, columns, d], (kind, device))
        };
        let layers = (windows(config).into_iter())
            .map(|window| match window {
                Some(window) => Ok(Some((zeros(window)?, zeros(window)?))),
                None => Ok(None),
            })
            .collect::<Result<_>>()
            .doing(|| {
                let bytes = rows as u128 * bytes_of(config, kind, capacity) as u128;
                format!("allocating a KV cache of {bytes} bytes for {rows} rows of {capacity} positions on {device:?}")
            })?;
        Ok(Self {
            layers,
            lens: Vec::new(),
            steps: 0,
        })
    }

    /// Leaves the rows that are left.
    pub(super) fn keep_rows(&self, left: &Left) -> Result<()> {
        let tensors = self.layers.iter().flatten().flat_map(|(k, v)| [k, v]);
        let Some(device) = tensors.clone().next().map(Tensor::device) else {
            return Ok(());
        };
        let used = tensors.map(|t| Ok(t.f_narrow(2, 0, self.steps.min(t.size()[2]))?));
        left.apply(device, used)
    }

    /// Opens the next column, for rows that have so many own positions.
    pub(super) fn step(&mut self, own: impl Iterator<Item = usize>) {
        self.lens = own.map(|own| own as i64 + 1).collect();
        if self.lens.iter().all(|&len| len == 1) {
            self.steps = 0;
        }
        self.steps += 1;
    }

    /// Writes keys and values `[rows, kv_heads, head_dim]` of layer `i` into the column that was opened last and
    /// returns what the rows may look at, `[rows, kv_heads, columns, head_dim]` each, and a mask for it
    /// unless every row sees it all: 0 where a row may look, -inf elsewhere, `[rows, 1, 1, columns]`. The
    /// columns are in no order.
    pub(super) fn append(
        &self,
        i: usize,
        k: &Tensor,
        v: &Tensor,
    ) -> Result<(Tensor, Tensor, Option<Tensor>)> {
        let Some((k_cache, v_cache)) = &self.layers[i] else {
            return Err(Error::invalid(
                "layer",
                format!("{i} has no keys and values"),
            ));
        };
        let columns = k_cache.size()[2];
        let (at, used) = ((self.steps - 1) % columns, self.steps.min(columns));
        let rows = self.lens.len() as i64;
        let write = |cache: &Tensor, new: &Tensor| -> Result<Tensor> {
            let rows = cache.f_narrow(0, 0, rows)?;
            rows.f_select(2, at)?.f_copy_(new)?;
            Ok(rows.f_narrow(2, 0, used)?)
        };
        let mask = match self.lens.iter().all(|&len| len >= used) {
            true => None,
            false => {
                let device = k.device();
                let ages: Vec<i64> = (0..used).map(|c| (at - c).rem_euclid(columns)).collect();
                let ages = Tensor::f_from_slice(&ages)?.f_to_device(device)?;
                let lens = Tensor::f_from_slice(&self.lens)?.f_to_device(device)?;
                let unseen = ages.f_ge_tensor(&lens.f_unsqueeze(1)?)?;
                let mask = Tensor::f_zeros([rows, used], (Kind::Float, device))?;
                let mask = mask.f_masked_fill(&unseen, f64::NEG_INFINITY)?;
                Some(mask.f_view([rows, 1, 1, used])?)
            }
        };
        Ok((write(k_cache, k)?, write(v_cache, v)?, mask))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::says;
    use crate::model::config::LayerSpec;

    /// A cache of one layer with one head of width 2, and the own positions of its rows.
    struct Rows {
        cache: KvCache,
        own: Vec<usize>,
    }

    impl Rows {
        fn new(capacity: usize, window: Option<usize>) -> Self {
            let mut config = DecoderConfig::tiny_qwen3(4, 2, 1, 1, 1);
            config.head_dim = 2;
            config.layers = vec![LayerSpec {
                window,
                ..LayerSpec::default()
            }];
            let cache = KvCache::new(&config, 4, capacity, Kind::Float, Device::Cpu).unwrap();
            let own = Vec::new();
            Self { cache, own }
        }

        fn add(&mut self, n: usize) {
            self.own.resize(self.own.len() + n, 0);
        }

        fn keep(&mut self, order: &[usize]) {
            self.own = order.iter().map(|&row| self.own[row]).collect();
            let order = order.to_vec();
            self.cache.keep_rows(&Left { order }).unwrap();
        }

        /// One more position, which holds 10 · step + row; what every row sees then, in ascending order.
        fn step(&mut self, number: f64) -> Vec<Vec<f32>> {
            let n = self.own.len() as i64;
            let new = Tensor::arange(n, (Kind::Float, Device::Cpu)) + 10.0 * number;
            let new = new.view([n, 1, 1]).repeat([1, 1, 2]);
            self.cache.step(self.own.iter().copied());
            self.own.iter_mut().for_each(|own| *own += 1);
            let (k, _, mask) = self.cache.append(0, &new, &new).unwrap();
            (0..n)
                .map(|r| {
                    let row = Vec::<f32>::try_from(k.get(r).select(2, 0).reshape(-1)).unwrap();
                    let mask = match &mask {
                        Some(mask) => Vec::<f32>::try_from(mask.get(r).reshape(-1)).unwrap(),
                        None => vec![0.0; row.len()],
                    };
                    let seen = row.into_iter().zip(mask).filter(|(_, m)| *m == 0.0);
                    let mut seen: Vec<f32> = seen.map(|(x, _)| x).collect();
                    seen.sort_by(f32::total_cmp);
                    seen
                })
                .collect()
        }
    }

    #[test]
    fn rows_see_what_they_wrote_since_they_joined() {
        let mut rows = Rows::new(8, None);
        rows.add(2);
        assert_eq!(rows.step(1.0), [[10.], [11.]]);
        rows.add(1);
        assert_eq!(rows.step(2.0), [vec![10., 20.], vec![11., 21.], vec![22.]]);
    }

    #[test]
    fn rows_that_are_kept_take_their_new_places() {
        let mut rows = Rows::new(8, None);
        rows.add(1);
        rows.step(1.0);
        rows.add(3);
        rows.step(2.0);
        rows.keep(&[3, 1]);
        assert_eq!(rows.step(3.0), [[23., 30.], [21., 31.]]);
        rows.keep(&[0]);
        assert_eq!(rows.step(4.0), [[23., 30., 40.]]);
    }

    /// Three columns, for rows that have at most three positions, whenever they join.
    #[test]
    fn columns_are_used_again() {
        let mut rows = Rows::new(3, None);
        rows.add(1);
        rows.step(1.0);
        rows.add(2);
        rows.step(2.0);
        rows.keep(&[2, 1]);
        rows.step(3.0);
        rows.add(1);
        assert_eq!(
            rows.step(4.0),
            [vec![22., 30., 40.], vec![21., 31., 41.], vec![42.]]
        );
        rows.keep(&[2]);
        assert_eq!(rows.step(5.0), [[42., 50.]]);
    }

    #[test]
    fn a_window_has_no_more_columns_than_it_reaches() {
        let mut rows = Rows::new(8, Some(2));
        rows.add(1);
        rows.step(1.0);
        rows.add(1);
        assert_eq!(rows.step(2.0), [vec![10., 20.], vec![21.]]);
        assert_eq!(rows.step(3.0), [[20., 30.], [21., 31.]]);
        let (k, _) = rows.cache.layers[0].as_ref().unwrap();
        assert_eq!(k.size(), [4, 1, 2, 2]);
    }

    #[test]
    fn a_cache_that_does_not_fit_says_its_size() {
        let config = DecoderConfig::tiny_qwen3(4, 64, 2, 2, 2);
        let cache = KvCache::new(&config, 1 << 30, 1 << 20, Kind::Float, Device::Cpu);
        says(cache, "out of memory while allocating a KV cache of …");
    }
}
