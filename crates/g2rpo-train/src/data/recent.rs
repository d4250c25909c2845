//! The tasks that were drawn last, as they were encoded.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Keeps what was made last for a place, up to a number of places.
///
/// A step asks for a task several times, and a small data set comes round again; a large one must not fill memory.
#[derive(Debug)]
pub(crate) struct Recent<T> {
    most: usize,
    kept: Mutex<Kept<T>>,
}

#[derive(Debug)]
struct Kept<T> {
    by_place: HashMap<usize, T>,
    oldest_first: VecDeque<usize>,
}

impl<T: Clone> Recent<T> {
    /// Of at most this many places.
    pub(crate) fn new(most: usize) -> Self {
        let kept = Mutex::new(Kept {
            by_place: HashMap::new(),
            oldest_first: VecDeque::new(),
        });
        Self { most, kept }
    }

    fn kept(&self) -> MutexGuard<'_, Kept<T>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is kept for a place, or what `make` makes, which is kept unless it fails.
    pub(crate) fn get<E>(&self, place: usize, make: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
        if let Some(known) = self.kept().by_place.get(&place) {
            return Ok(known.clone());
        }
        // Others may go on meanwhile; what two make for one place is the same.
        let made = make()?;
        let mut kept = self.kept();
        if kept.by_place.insert(place, made.clone()).is_none() {
            kept.oldest_first.push_back(place);
        }
        if kept.oldest_first.len() > self.most
            && let Some(oldest) = kept.oldest_first.pop_front()
        {
            kept.by_place.remove(&oldest);
        }
        Ok(made)
    }

    /// Forgets all.
    pub(crate) fn clear(&self) {
        let mut kept = self.kept();
        kept.by_place.clear();
        kept.oldest_first.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_goes_and_a_failure_is_not_kept() {
        let recent = Recent::new(2);
        let made = |place: usize, value: Result<i32, ()>| recent.get(place, || value);
        assert_eq!(made(5, Err(())), Err(()));
        assert_eq!([made(5, Ok(1)), made(6, Ok(2))], [Ok(1), Ok(2)]);
        assert_eq!([made(5, Ok(9)), made(7, Ok(3))], [Ok(1), Ok(3)]);
        // Place 5 went for place 7.
        assert_eq!([made(6, Ok(9)), made(5, Ok(4))], [Ok(2), Ok(4)]);
        recent.clear();
        assert_eq!(made(5, Ok(8)), Ok(8));
    }
}
