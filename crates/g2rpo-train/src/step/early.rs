//! Verdicts on completions that are finished, while others are still being sampled.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use g2rpo_rollout::{
    Completion, Request, Rollout, RolloutEngine, SamplingParams, TokenId, collect, collect_each,
};
use g2rpo_verify::{Verdict, Verifier, verify_parallel};

use crate::data::dataset::{Dataset, Item};
use crate::error::Result;

/// An answer that was judged before all were sampled.
pub(crate) struct Early {
    /// The answer as ids. An engine that returns another one than it handed over has that judged.
    pub(crate) ids: Vec<TokenId>,
    pub(crate) text: String,
    pub(crate) verdict: Verdict,
}

/// Samples as [`collect`] does. Answers that end early are judged meanwhile, each by itself, on as many threads as the
/// verifier allows: `items` has the task of each. Those that nobody has begun to judge when the last one
/// ends have no verdict here, so that the caller asks for all of them in one batch; those that are begun are waited for.
///
/// # Errors
/// As [`collect`].
pub(crate) fn collect_judged<E: RolloutEngine + ?Sized>(
    engine: &mut E,
    requests: Vec<Request>,
    sampling: &SamplingParams,
    data: &Dataset<'_>,
    verifier: &dyn Verifier,
    items: &[Arc<Item>],
) -> Result<(Vec<Rollout>, Vec<Option<Early>>)> {
    let mut found: Vec<Option<Early>> = requests.iter().map(|_| None).collect();
    let threads = verifier.parallelism().min(requests.len());
    if threads == 0 {
        return Ok((collect(engine, requests, sampling)?, found));
    }
    let guidance: Vec<Vec<TokenId>> = requests.iter().map(|r| r.guidance.clone()).collect();
    let queue = Queue::default();
    let judge = || {
        let mut judged = Vec::new();
        while let Some((place, ids)) = queue.next() {
            // What cannot be decoded is an error of the batch that follows.
            let Ok(text) = data.tokenizer().decode(&ids) else {
                continue;
            };
            let pair = (text.as_str(), items[place].task.reference.as_str());
            if let Some(verdict) = verify_parallel(verifier, &[pair], 1).pop() {
                judged.push((place, Early { ids, text, verdict }));
            }
        }
        judged
    };
    let rollouts = thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(judge)).collect();
        let mut hand_over = |place: usize, completion: &Completion| {
            if let Some(guidance) = guidance.get(place) {
                queue.push(place, [&guidance[..], &completion.tokens].concat());
            }
        };
        let rollouts = {
            let _closing = Closing(&queue);
            collect_each(engine, requests, sampling, &mut hand_over)
        };
        for worker in workers {
            for (place, early) in worker.join().unwrap_or_default() {
                found[place] = Some(early);
            }
        }
        rollouts
    })?;
    Ok((rollouts, found))
}

/// Answers that wait for a thread.
#[derive(Default)]
struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<(usize, Vec<TokenId>)>,
    closed: bool,
}

impl Queue {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, place: usize, ids: Vec<TokenId>) {
        self.state().waiting.push_back((place, ids));
        self.changed.notify_one();
    }

    /// The next answer; nothing once no more is to be begun.
    fn next(&self) -> Option<(usize, Vec<TokenId>)> {
        let waits = |state: &mut State| state.waiting.is_empty() && !state.closed;
        let state = self.changed.wait_while(self.state(), waits);
        let mut state = state.unwrap_or_else(PoisonError::into_inner);
        state.waiting.pop_front()
    }
}

/// Lets the threads end, whatever becomes of the engine.
struct Closing<'q>(&'q Queue);

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.closed = true;
        state.waiting.clear();
        self.0.changed.notify_all();
    }
}
