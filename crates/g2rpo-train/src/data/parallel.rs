//! Work on many items by as many threads as there are processors.

use std::panic::resume_unwind;
use std::thread;

/// Processors of this machine that the program may use, at least 1.
pub fn processors() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

/// What `work` makes of each item, in their order. A thread takes at least `least` items.
///
/// # Errors
/// The first that `work` returns, in the order of the items.
pub fn on_threads<T: Sync, R: Send, E: Send>(
    items: &[T],
    least: usize,
    work: impl Fn(&T) -> Result<R, E> + Sync,
) -> Result<Vec<R>, E> {
    let part = items.len().div_ceil(processors()).max(least).max(1);
    let of_part = |part: &[T]| part.iter().map(&work).collect::<Result<Vec<R>, E>>();
    thread::scope(|scope| {
        let started: Vec<_> = (items.chunks(part))
            .map(|part| scope.spawn(|| of_part(part)))
            .collect();
        let mut all = Vec::with_capacity(items.len());
        for thread in started {
            all.extend(thread.join().unwrap_or_else(|panic| resume_unwind(panic))?);
        }
        Ok(all)
    })
}
