//! Threads that share a step's work.

use rayon::prelude::*;

use crate::error::{Error, Result};

/// Threads that share loops, as many as libtorch was told to use.
///
/// With one thread everything runs where it is called, so that a run is repeatable to the bit and
/// no other thread is woken.
#[derive(Debug)]
pub(crate) struct Threads(Option<rayon::ThreadPool>);

impl Threads {
    pub(crate) fn new(n: usize) -> Result<Self> {
        if n <= 1 {
            return Ok(Self(None));
        }
        let pool = rayon::ThreadPoolBuilder::new().num_threads(n).build();
        let pool = pool.map_err(|error| {
            Error::invalid("threads", format!("{n} could not be started: {error}"))
        })?;
        Ok(Self(Some(pool)))
    }

    pub(crate) fn count(&self) -> usize {
        self.0
            .as_ref()
            .map_or(1, rayon::ThreadPool::current_num_threads)
    }

    /// Runs `f`; what it hands to the other methods needs no waking then.
    pub(crate) fn run<R: Send>(&self, f: impl FnOnce() -> R + Send) -> R {
        match &self.0 {
            Some(pool) => pool.install(f),
            None => f(),
        }
    }

    /// Calls `f` with every item and its place.
    pub(crate) fn each<I: Send>(&self, items: Vec<I>, f: impl Fn(usize, I) + Sync + Send) {
        match &self.0 {
            Some(pool) if items.len() > 1 => pool.install(|| {
                let items = items.into_par_iter().enumerate();
                items.for_each(|(i, item)| f(i, item));
            }),
            _ => (items.into_iter().enumerate()).for_each(|(i, item)| f(i, item)),
        }
    }

    /// Length of chunks, multiples of `unit`, that give every thread one of `n` numbers' worth;
    /// everything in one if `work` (multiplications or the like) is too little to share.
    pub(crate) fn share(&self, n: usize, unit: usize, work: usize) -> usize {
        let units = n / unit.max(1);
        match work < MIN_WORK {
            true => n.max(1),
            false => (units.div_ceil(self.count()) * unit).max(1),
        }
    }
}

/// Work below this takes less time than handing it to another thread, a few microseconds.
const MIN_WORK: usize = 1 << 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_item_is_done_once_whatever_the_threads() {
        for n in [1, 2, 3] {
            let threads = Threads::new(n).unwrap();
            assert_eq!(threads.count(), n);
            let mut data = vec![0usize; 100];
            let chunk = threads.share(100, 10, usize::MAX);
            assert_eq!(chunk, [100, 50, 40][n - 1]);
            let chunks = data.chunks_mut(chunk).collect();
            threads.run(|| {
                threads.each(chunks, |i, part: &mut [usize]| {
                    part.iter_mut().for_each(|x| *x += i + 1);
                });
            });
            for (i, x) in data.iter().enumerate() {
                assert_eq!(*x, i / chunk + 1);
            }
        }
        assert_eq!(Threads::new(4).unwrap().share(100, 10, 5), 100);
    }
}
