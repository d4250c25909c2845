//! Verdicts on completions that are finished, while others are still being sampled.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
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

/// Says so when sampling has ended, be it by a panic of the engine.
struct AtEnd<'f>(&'f AtomicBool);

impl Drop for AtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// Samples as [`collect`] does. Answers that end early are judged meanwhile, each by itself, on as many threads as the
/// verifier allows: `items` has the task of each. Those that nobody has begun to judge when the last one
/// ends have no verdict here, so that the caller asks for all of them in one batch; those that are begun are waited for.
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
    let (ended, waiting) = mpsc::channel::<(usize, Vec<TokenId>)>();
    let (waiting, all_sampled) = (Mutex::new(waiting), AtomicBool::new(false));
    let next = || {
        let next = (waiting.lock().unwrap_or_else(PoisonError::into_inner)).recv();
        next.ok().filter(|_| !all_sampled.load(Ordering::Acquire))
    };
    let judge = || {
        let mut judged = Vec::new();
        while let Some((place, ids)) = next() {
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
        // The threads end with these, whatever becomes of the engine.
        let sampling_goes_on = AtEnd(&all_sampled);
        let mut hand_over = move |place: usize, completion: &Completion| {
            if let Some(guidance) = guidance.get(place) {
                let answer = [&guidance[..], &completion.tokens].concat();
                // They wait as long as this is there to hand over.
                let _ = ended.send((place, answer));
            }
        };
        let rollouts = collect_each(engine, requests, sampling, &mut hand_over);
        drop(sampling_goes_on);
        drop(hand_over);
        for worker in workers {
            for (place, early) in worker.join().unwrap_or_default() {
                found[place] = Some(early);
            }
        }
        rollouts
    })?;
    Ok((rollouts, found))
}
