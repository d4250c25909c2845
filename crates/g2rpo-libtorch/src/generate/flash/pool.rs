//! Keys and values of contexts in memory that stays where it is.

use std::ops::Range;

use tch::{Device, Kind, Tensor};

use crate::error::{Doing, Result};
use crate::generate::cache::bytes_of;
use crate::generate::prefill::{Kept, Store};
use crate::generate::readers::upload;
use crate::model::config::DecoderConfig;

/// Keys and values of the contexts of the rows at work, each once for all rows that read it, one
/// behind the other in memory that stays where it is until they need more.
#[derive(Debug)]
pub(super) struct ContextPool {
    /// Per layer keys and values, `[capacity, kv_heads, head_dim]`.
    pub(super) layers: Vec<(Tensor, Tensor)>,
    /// What lies behind is free.
    end: usize,
    capacity: usize,
    /// Positions that it should not exceed.
    most: usize,
    /// `[0, kv_heads, head_dim]`
    shape: [i64; 3],
    on: (Kind, Device),
    bytes_per_position: usize,
}

impl ContextPool {
    /// An empty pool, which takes a reserve when it grows but not above `most` positions.
    pub(super) fn new(config: &DecoderConfig, most: usize, on: (Kind, Device)) -> Self {
        Self {
            layers: Vec::new(),
            end: 0,
            capacity: 0,
            most,
            shape: [0, config.num_key_value_heads as i64, config.head_dim as i64],
            on,
            bytes_per_position: bytes_of(config, on.0, 1),
        }
    }

    /// Bytes that so many positions take.
    pub(super) fn bytes_of(&self, positions: usize) -> usize {
        positions * self.bytes_per_position
    }

    /// Copies contexts, given as positions of the store; where they are then. Those that are still read, in the
    /// order in which they came, may be moved, and all others overwritten. `give_up` is called before memory is.
    pub(super) fn add<'a>(
        &mut self,
        store: &Store,
        contexts: impl Iterator<Item = Range<usize>>,
        read: impl Iterator<Item = &'a mut Range<usize>>,
        give_up: &mut dyn FnMut(),
    ) -> Result<Vec<Range<usize>>> {
        let contexts: Vec<Range<usize>> = contexts.collect();
        let positions: Vec<usize> = contexts.iter().cloned().flatten().collect();
        let need = positions.len();
        if need == 0 {
            return Ok(Vec::new());
        }
        if self.end + need > self.capacity {
            self.make_room(store.layers.len(), need, read.collect(), give_up)?;
        }
        let positions = upload(&positions, self.on.1)?;
        let (start, n) = (self.end as i64, need as i64);
        let stores = store.layers.iter().filter_map(Kept::keys);
        for ((k, v), from) in self.layers.iter().zip(stores) {
            for (to, from) in [(k, &from.k), (v, &from.v)] {
                (to.f_narrow(0, start, n)?).f_copy_(&from.f_index_select(0, &positions)?)?;
            }
        }
        Ok(contexts.into_iter().map(|c| self.next(c.len())).collect())
    }

    /// The next positions that are free, which they are no more.
    fn next(&mut self, len: usize) -> Range<usize> {
        let start = self.end;
        self.end += len;
        start..self.end
    }

    /// Moves what is read to the front, into more memory if the present one does not suffice.
    fn make_room(
        &mut self,
        layers: usize,
        need: usize,
        read: Vec<&mut Range<usize>>,
        give_up: &mut dyn FnMut(),
    ) -> Result<()> {
        let held: Vec<usize> = read.iter().flat_map(|context| (*context).clone()).collect();
        let n = held.len();
        let held = upload(&held, self.on.1)?;
        if n + need > self.capacity {
            give_up();
            // A quarter in reserve, so that one that grows bit by bit is not copied every time.
            let wish = (n + need).next_multiple_of(64);
            let capacity = (wish + wish / 4).min(self.most).max(n + need);
            let [_, kv_heads, d] = self.shape;
            let zeros = || Tensor::f_zeros([capacity as i64, kv_heads, d], self.on);
            let doing = || {
                let bytes = capacity as u128 * self.bytes_per_position as u128;
                format!(
                    "allocating {bytes} bytes for the keys and values of {capacity} positions of contexts on {:?}",
                    self.on.1
                )
            };
            self.layers
                .resize_with(layers, || (Tensor::new(), Tensor::new()));
            for (k, v) in &mut self.layers {
                for old in [k, v] {
                    let new = zeros().doing(doing)?;
                    if n > 0 {
                        (new.f_narrow(0, 0, n as i64)?).f_copy_(&old.f_index_select(0, &held)?)?;
                    }
                    *old = new;
                }
            }
            self.capacity = capacity;
        } else if n > 0 {
            for layer in self.layers.iter().flat_map(|(k, v)| [k, v]) {
                let kept = layer.f_index_select(0, &held)?;
                (layer.f_narrow(0, 0, n as i64)?).f_copy_(&kept)?;
            }
        }
        self.end = 0;
        for context in read {
            *context = self.next(context.len());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::says;
    use crate::generate::prefill::Keys;

    fn pool(most: usize) -> ContextPool {
        let mut config = DecoderConfig::tiny_qwen3(4, 2, 2, 1, 1);
        config.head_dim = 2;
        ContextPool::new(&config, most, (Kind::Float, Device::Cpu))
    }

    /// Two layers of positions that hold their number, plus 0.5 for values and 1000 for the second
    /// layer.
    fn store(positions: i64) -> Store {
        let keys = |k, v| {
            let window = None;
            Kept::Keys(Keys { k, v, window })
        };
        let numbers = |offset: f64| {
            let t = Tensor::arange(positions, (Kind::Float, Device::Cpu)) + offset;
            t.view([-1, 1, 1]).repeat([1, 1, 2])
        };
        Store {
            layers: vec![
                keys(numbers(0.0), numbers(0.5)),
                keys(numbers(1000.0), numbers(1000.5)),
            ],
        }
    }

    fn held(pool: &ContextPool, context: &Range<usize>) -> Vec<f32> {
        let part = |t: &Tensor| {
            let part = t.narrow(0, context.start as i64, context.len() as i64);
            part.select(2, 0).reshape(-1)
        };
        let (k, v) = &pool.layers[0];
        let (k2, v2) = &pool.layers[1];
        let keys = part(k);
        assert_eq!(&keys + 0.5, part(v));
        assert_eq!(&keys + 1000.0, part(k2));
        assert_eq!(&keys + 1000.5, part(v2));
        Vec::<f32>::try_from(keys).unwrap()
    }

    #[test]
    fn contexts_stay_what_they_are_when_others_come_and_go() {
        let mut pool = pool(1000);
        let store = store(300);
        let mut given_up = 0;
        // What is read is the list's; what comes is put behind it.
        let mut add = |pool: &mut ContextPool,
                       read: &mut Vec<Range<usize>>,
                       new: &[Range<usize>]| {
            let new = new.iter().cloned();
            let added = (pool.add(&store, new, read.iter_mut(), &mut || given_up += 1)).unwrap();
            read.extend(added);
        };
        let mut read = Vec::new();
        add(&mut pool, &mut read, &[0..30, 50..60]);
        assert_eq!(read, [0..30, 30..40]);
        // 40 positions, rounded up to 64, and a quarter more.
        assert_eq!(pool.capacity, 80);
        read.remove(0);
        // Behind the two are 40 free, so the second moves to the front.
        add(&mut pool, &mut read, std::slice::from_ref(&(100..160)));
        assert_eq!((&read[..], pool.capacity), (&[0..10, 10..70][..], 80));
        // And now more memory is needed.
        add(&mut pool, &mut read, std::slice::from_ref(&(200..290)));
        assert_eq!(pool.capacity, 240);
        let expected = |range: Range<u16>| range.map(f32::from).collect::<Vec<_>>();
        assert_eq!(held(&pool, &read[0]), expected(50..60));
        assert_eq!(held(&pool, &read[1]), expected(100..160));
        assert_eq!(held(&pool, &read[2]), expected(200..290));
        add(&mut pool, &mut read, &[]);
        assert_eq!((read.len(), given_up), (3, 2));
    }

    #[test]
    fn the_reserve_stays_within_the_limit() {
        let mut pool = pool(70);
        let store = store(300);
        let add = |pool: &mut ContextPool, read: &mut [Range<usize>]| {
            let new = std::iter::once(0..60);
            pool.add(&store, new, read.iter_mut(), &mut || ()).unwrap()
        };
        let mut a = add(&mut pool, &mut []);
        assert_eq!(pool.capacity, 70);
        // What must be there is there, limit or not.
        let b = add(&mut pool, &mut a);
        assert_eq!(pool.capacity, 120);
        assert_eq!((&a[0], &b[0]), (&(0..60), &(60..120)));
    }

    #[test]
    fn contexts_that_do_not_fit_say_their_size() {
        let mut pool = pool(usize::MAX);
        pool.shape = [0, 1 << 20, 1 << 30];
        let new = std::iter::once(0..3);
        let added = pool.add(&store(3), new, [].into_iter(), &mut || ());
        let expected =
            "out of memory while allocating 2560 bytes for the keys and values of 80 positions…";
        says(added, expected);
    }
}
