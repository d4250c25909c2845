//! Keys and values of contexts in memory that stays where it is.

use std::cell::Cell;
use std::ops::Range;
use std::rc::Rc;

use tch::{Device, Kind, Tensor};

use crate::error::Doing;
use crate::error::Result;
use crate::generate::cache::bytes_of;
use crate::generate::prefill::{Kept, Store};
use crate::model::config::DecoderConfig;

/// Keys and values of the contexts of the rows at work, each once for all rows that read it, one
/// behind the other in memory that stays where it is until they need more.
#[derive(Debug)]
pub(super) struct ContextPool {
    /// Per layer keys and values, `[capacity, kv_heads, head_dim]`.
    pub(super) layers: Vec<(Tensor, Tensor)>,
    contexts: Vec<Rc<Context>>,
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

/// A context in the pool, for as long as anyone else holds it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Context {
    start: Cell<usize>,
    len: usize,
}

impl Context {
    /// Its first position; compaction moves it.
    pub(super) fn start(&self) -> usize {
        self.start.get()
    }

    /// Number of positions.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    #[cfg(test)]
    pub(super) fn new(start: usize, len: usize) -> Rc<Self> {
        Rc::new(Self {
            start: Cell::new(start),
            len,
        })
    }
}

impl ContextPool {
    /// An empty pool, which takes a reserve when it grows but not above `most` positions.
    pub(super) fn new(config: &DecoderConfig, most: usize, on: (Kind, Device)) -> Self {
        Self {
            layers: Vec::new(),
            contexts: Vec::new(),
            end: 0,
            capacity: 0,
            most,
            shape: [0, config.num_key_value_heads as i64, config.head_dim as i64],
            on,
            bytes_per_position: bytes_of(config, on.0, 1),
        }
    }

    /// Bytes of the contexts that someone holds.
    pub(super) fn bytes(&self) -> usize {
        let held = self.contexts.iter().filter(|c| Rc::strong_count(c) > 1);
        held.map(|c| c.len).sum::<usize>() * self.bytes_per_position
    }

    /// Copies contexts, given as positions of the store. Contexts that nobody holds any more may be
    /// overwritten, and the others moved. `give_up` is called before memory is.
    pub(super) fn add(
        &mut self,
        store: &Store,
        contexts: &[Range<usize>],
        give_up: &mut dyn FnMut(),
    ) -> Result<Vec<Rc<Context>>> {
        let need: usize = contexts.iter().map(Range::len).sum();
        if need == 0 {
            return Ok(Vec::new());
        }
        if self.end + need > self.capacity {
            self.make_room(store.layers.len(), need, give_up)?;
        }
        let positions: Vec<i64> = (contexts.iter().cloned().flatten())
            .map(|position| position as i64)
            .collect();
        let positions = Tensor::f_from_slice(&positions)?.f_to_device(self.on.1)?;
        let (start, n) = (self.end as i64, need as i64);
        let stores = store.layers.iter().filter_map(Kept::keys);
        for ((k, v), (k_store, v_store)) in self.layers.iter().zip(stores) {
            for (to, from) in [(k, k_store), (v, v_store)] {
                (to.f_narrow(0, start, n)?).f_copy_(&from.f_index_select(0, &positions)?)?;
            }
        }
        let mut added = Vec::with_capacity(contexts.len());
        for context in contexts {
            added.push(Rc::new(Context {
                start: Cell::new(self.end),
                len: context.len(),
            }));
            self.end += context.len();
        }
        self.contexts.extend(added.iter().cloned());
        Ok(added)
    }

    /// Moves what is held to the front, into more memory if the present one does not suffice.
    fn make_room(&mut self, layers: usize, need: usize, give_up: &mut dyn FnMut()) -> Result<()> {
        self.contexts
            .retain(|context| Rc::strong_count(context) > 1);
        let held: Vec<i64> = (self.contexts.iter())
            .flat_map(|c| c.start()..c.start() + c.len)
            .map(|position| position as i64)
            .collect();
        let n = held.len();
        let held = Tensor::f_from_slice(&held)?.f_to_device(self.on.1)?;
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
        for context in &self.contexts {
            context.start.set(self.end);
            self.end += context.len;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(most: usize) -> ContextPool {
        let mut config = DecoderConfig::tiny_qwen3(4, 2, 2, 1, 1);
        config.head_dim = 2;
        ContextPool::new(&config, most, (Kind::Float, Device::Cpu))
    }

    /// Two layers of positions that hold their number, plus 0.5 for values and 1000 for the second
    /// layer.
    fn store(positions: i64) -> Store {
        let numbers = |offset: f64| {
            let t = Tensor::arange(positions, (Kind::Float, Device::Cpu)) + offset;
            t.view([-1, 1, 1]).repeat([1, 1, 2])
        };
        Store {
            layers: vec![
                Kept::Keys(numbers(0.0), numbers(0.5)),
                Kept::Keys(numbers(1000.0), numbers(1000.5)),
            ],
        }
    }

    fn held(pool: &ContextPool, context: &Context) -> Vec<f32> {
        let part = |t: &Tensor| {
            let part = t.narrow(0, context.start() as i64, context.len() as i64);
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
        let mut add = |pool: &mut ContextPool, ranges: &[Range<usize>]| {
            pool.add(&store, ranges, &mut || given_up += 1).unwrap()
        };
        let mut both = add(&mut pool, &[0..30, 50..60]);
        let (b, a) = (both.remove(1), both.remove(0));
        // 40 positions, rounded up to 64, and a quarter more.
        assert_eq!(pool.capacity, 80);
        assert_eq!(pool.bytes(), 40 * 2 * 2 * 2 * 4);
        drop(a);
        assert_eq!(pool.bytes(), 10 * 2 * 2 * 2 * 4);
        // Behind the two are 40 free, so the second moves to the front.
        let c = add(&mut pool, std::slice::from_ref(&(100..160))).remove(0);
        assert_eq!((b.start(), c.start(), pool.capacity), (0, 10, 80));
        // And now more memory is needed.
        let d = add(&mut pool, std::slice::from_ref(&(200..290))).remove(0);
        assert_eq!(pool.capacity, 240);
        let expected = |range: Range<u16>| range.map(f32::from).collect::<Vec<_>>();
        assert_eq!(held(&pool, &b), expected(50..60));
        assert_eq!(held(&pool, &c), expected(100..160));
        assert_eq!(held(&pool, &d), expected(200..290));
        assert!(add(&mut pool, &[]).is_empty());
        assert_eq!(given_up, 2);
    }

    #[test]
    fn the_reserve_stays_within_the_limit() {
        let mut pool = pool(70);
        let store = store(300);
        let a = pool
            .add(&store, std::slice::from_ref(&(0..60)), &mut || ())
            .unwrap();
        assert_eq!(pool.capacity, 70);
        // What must be there is there, limit or not.
        let b = pool
            .add(&store, std::slice::from_ref(&(0..60)), &mut || ())
            .unwrap();
        assert_eq!(pool.capacity, 120);
        assert_eq!((a[0].start(), b[0].start()), (0, 60));
    }

    #[test]
    fn contexts_that_do_not_fit_say_their_size() {
        let mut pool = pool(usize::MAX);
        pool.shape = [0, 1 << 20, 1 << 30];
        let err = pool
            .add(&store(3), std::slice::from_ref(&(0..3)), &mut || ())
            .unwrap_err()
            .to_string();
        assert!(
            err.starts_with(
                "out of memory while allocating 2560 bytes for the keys and values of 80 positions"
            ),
            "{err}"
        );
    }
}
