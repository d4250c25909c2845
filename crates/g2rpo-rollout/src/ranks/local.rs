//! Ranks that are threads of one process: the test double of a group of processes.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::collective::{Collective, RankError, Values};

/// One rank of a group of threads. Sums are taken in f64 in the order of ranks.
///
/// ```
/// use g2rpo_rollout::ranks::{Collective, Local, Values};
/// use std::time::Duration;
/// let ranks = Local::group(2, Duration::from_secs(5));
/// std::thread::scope(|scope| {
///     for rank in ranks {
///         scope.spawn(move || {
///             let mut values = [1.0, rank.rank() as f64];
///             rank.sum("an example", Values::F64(&mut values)).unwrap();
///             assert_eq!(values, [2.0, 1.0]);
///         });
///     }
/// });
/// ```
#[derive(Debug)]
pub struct Local {
    rank: usize,
    limit: Duration,
    room: Arc<Room>,
}

#[derive(Debug)]
struct Room {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    /// Number of the sum that ranks are coming together for.
    round: u64,
    /// What each rank brought to it.
    brought: Vec<Option<Vec<f64>>>,
    /// The last sum. The next is not complete before every rank has read it and come back.
    sum: Arc<Vec<f64>>,
    /// Ranks that ended.
    gone: Vec<bool>,
    /// What ended the group.
    lost: Option<RankError>,
}

impl Local {
    /// As many ranks as asked for, for as many threads. A rank waits for the others for at most `limit`.
    pub fn group(size: usize, limit: Duration) -> Vec<Self> {
        let room = Arc::new(Room {
            state: Mutex::new(State {
                round: 0,
                brought: vec![None; size],
                sum: Arc::default(),
                gone: vec![false; size],
                lost: None,
            }),
            changed: Condvar::new(),
        });
        let one = |rank| Self {
            rank,
            limit,
            room: Arc::clone(&room),
        };
        (0..size).map(one).collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        (self.room.state.lock()).unwrap_or_else(PoisonError::into_inner)
    }

    /// Brings values to a sum and waits for it.
    fn meet(&self, what: &str, mine: Vec<f64>) -> Result<Arc<Vec<f64>>, RankError> {
        let until = Instant::now() + self.limit;
        let mut state = self.state();
        if let Some(lost) = &state.lost {
            return Err(lost.clone());
        }
        let round = state.round;
        state.brought[self.rank] = Some(mine);
        if state.brought.iter().all(Option::is_some) {
            state.add_up();
            self.room.changed.notify_all();
        }
        while state.round == round {
            if let Some(lost) = &state.lost {
                return Err(lost.clone());
            }
            let missing = |s: &State, rank: &usize| s.brought[*rank].is_none();
            let ranks = 0..state.brought.len();
            let ended: Vec<usize> = (ranks.clone())
                .filter(|r| state.gone[*r] && missing(&state, r))
                .collect();
            let left = until.saturating_duration_since(Instant::now());
            let lost = match (ended.is_empty(), left.is_zero()) {
                (false, _) => ended,
                (true, true) => ranks.filter(|r| missing(&state, r)).collect(),
                (true, false) => {
                    let waited = self.room.changed.wait_timeout(state, left);
                    state = waited.unwrap_or_else(PoisonError::into_inner).0;
                    continue;
                }
            };
            let lost = RankError::Lost {
                ranks: lost,
                what: what.into(),
                seconds: self.limit.as_secs_f64(),
            };
            state.lost = Some(lost);
            self.room.changed.notify_all();
        }
        Ok(Arc::clone(&state.sum))
    }
}

impl State {
    fn add_up(&mut self) {
        let mut parts = self.brought.iter_mut().filter_map(Option::take);
        let mut sum = parts.next().unwrap_or_default();
        for part in parts {
            if part.len() != sum.len() {
                let text = "ranks brought different numbers of values to one sum";
                self.lost = Some(RankError::Transport(text.into()));
                return;
            }
            sum.iter_mut().zip(part).for_each(|(s, p)| *s += p);
        }
        self.sum = Arc::new(sum);
        self.round += 1;
    }
}

impl Collective for Local {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.state().brought.len()
    }

    fn sum(&self, what: &'static str, values: Values<'_>) -> Result<(), RankError> {
        match values {
            Values::F64(values) => {
                let sum = self.meet(what, values.to_vec())?;
                values.copy_from_slice(&sum);
            }
            Values::F32(values) => {
                let sum = self.meet(what, values.iter().map(|v| f64::from(*v)).collect())?;
                let places = values.iter_mut().zip(&*sum);
                places.for_each(|(v, s)| *v = *s as f32);
            }
        }
        Ok(())
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        self.state().gone[self.rank] = true;
        self.room.changed.notify_all();
    }
}
