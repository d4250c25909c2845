//! An engine whose groups are dealt to the ranks.

use std::collections::HashMap;
use std::sync::Arc;

use super::collective::{Collective, RankError};
use super::learner::RankedError;
use super::share::{Reader, fingerprint, share};
use crate::engine::{Completion, Finished, Request, RolloutEngine, SamplingParams, Stop};

/// Samples the groups of this rank and takes those of the others from them; every rank has all completions.
///
/// Groups are dealt whole, by their place in the call. The draws of a rollout are named by its key, so the
/// completions are those of one process.
#[derive(Debug)]
pub struct RankedEngine<E> {
    engine: E,
    ranks: Arc<dyn Collective>,
    /// Whether rank 0 samples all groups.
    by_first: bool,
}

impl<E> RankedEngine<E> {
    /// Divides the work of `engine`, which every rank has.
    pub fn new(engine: E, ranks: Arc<dyn Collective>) -> Self {
        Self {
            engine,
            ranks,
            by_first: false,
        }
    }

    /// Lets rank 0 sample for all, for an engine that is shared by all ranks: servers, for example. Those of the
    /// other ranks are never asked.
    #[must_use]
    pub fn by_first(mut self) -> Self {
        self.by_first = true;
        self
    }

    /// The engine of this rank.
    pub fn get_mut(&mut self) -> &mut E {
        &mut self.engine
    }
}

impl<E: RolloutEngine> RolloutEngine for RankedEngine<E> {
    type Error = RankedError<E::Error>;

    fn generate(
        &mut self,
        requests: &[Request],
        params: &SamplingParams,
    ) -> Result<Vec<Completion>, Self::Error> {
        self.generate_each(requests, params, &mut |_, _| {})
    }

    /// As [`generate`](Self::generate); those of this rank are handed over as they end, the others when they arrive.
    fn generate_each(
        &mut self,
        requests: &[Request],
        params: &SamplingParams,
        finished: &mut Finished<'_>,
    ) -> Result<Vec<Completion>, Self::Error> {
        const WHAT: &str = "sampling of rollouts";
        let fields = |r: &Request| {
            let ids = fingerprint((&r.prompt, &r.guidance));
            (ids, r.key, r.max_new_tokens)
        };
        let all: Vec<_> = requests.iter().map(fields).collect();
        let same = fingerprint((all, format!("{params:?}")));
        let owners = if self.by_first {
            vec![0; requests.len()]
        } else {
            owners(requests, self.ranks.size())
        };
        let rank = self.ranks.rank();
        let places: Vec<usize> = (0..requests.len()).filter(|i| owners[*i] == rank).collect();
        let mine: Vec<Request> = places.iter().map(|i| requests[*i].clone()).collect();
        let (mut numbers, mut failed) = (Ok(Vec::new()), None);
        if !mine.is_empty() {
            let mut of_mine = |i: usize, completion: &Completion| {
                if let Some(place) = places.get(i) {
                    finished(*place, completion);
                }
            };
            match self.engine.generate_each(&mine, params, &mut of_mine) {
                Ok(done) if done.len() == mine.len() => {
                    numbers = Ok(done.iter().flat_map(encode).collect());
                }
                Ok(done) => {
                    let (got, expected) = (done.len(), mine.len());
                    numbers = Err(format!("the engine made {got} completions of {expected}"));
                }
                Err(error) => {
                    numbers = Err(error.to_string());
                    failed = Some(error);
                }
            }
        }
        let shared = share(&*self.ranks, WHAT, same, numbers);
        if let Some(error) = failed {
            return Err(RankedError::Own(error));
        }
        let shared = shared?;
        let mut readers: Vec<Reader<'_>> = shared.iter().map(|numbers| Reader(numbers)).collect();
        let mut all = Vec::with_capacity(owners.len());
        for (place, owner) in owners.iter().enumerate() {
            let completion = decode(&mut readers[*owner])?;
            if *owner != rank {
                finished(place, &completion);
            }
            all.push(completion);
        }
        Ok(all)
    }
}

/// The rank that samples each request.
fn owners(requests: &[Request], size: usize) -> Vec<usize> {
    let mut places = HashMap::new();
    (requests.iter())
        .map(|request| {
            let next = places.len();
            *places.entry(request.key.group).or_insert(next) % size
        })
        .collect()
}

fn encode(completion: &Completion) -> Vec<f64> {
    let versions = completion.weight_versions.as_deref();
    let mut numbers = vec![
        completion.tokens.len() as f64,
        completion.logps.len() as f64,
        completion.log_kept.len() as f64,
        f64::from(u8::from(completion.stop == Stop::Eos)),
        versions.map_or(0.0, |v| v.len() as f64 + 1.0),
    ];
    numbers.extend(completion.tokens.iter().map(|id| f64::from(*id)));
    numbers.extend(completion.logps.iter().map(|v| f64::from(*v)));
    numbers.extend(completion.log_kept.iter().map(|v| f64::from(*v)));
    for version in versions.unwrap_or_default() {
        numbers.extend([(version >> 32) as u32, *version as u32].map(f64::from));
    }
    numbers
}

fn decode(numbers: &mut Reader<'_>) -> Result<Completion, RankError> {
    let (tokens, logps) = (numbers.count()?, numbers.count()?);
    let (log_kept, stop, versions) = (numbers.count()?, numbers.count()?, numbers.count()?);
    let floats = |values: &[f64]| values.iter().map(|v| *v as f32).collect();
    Ok(Completion {
        tokens: numbers.take(tokens)?.iter().map(|id| *id as u32).collect(),
        logps: floats(numbers.take(logps)?),
        log_kept: floats(numbers.take(log_kept)?),
        weight_versions: match versions.checked_sub(1) {
            None => None,
            Some(n) => {
                let joined = |h: &[f64]| ((h[0] as u64) << 32) | h[1] as u64;
                Some(numbers.take(2 * n)?.chunks(2).map(joined).collect())
            }
        },
        stop: if stop == 1 { Stop::Eos } else { Stop::Length },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_completion_survives_the_way() {
        let whole = Completion {
            tokens: vec![7, u32::MAX],
            logps: vec![-0.1, f32::NEG_INFINITY],
            log_kept: vec![0.0, -1e-30],
            weight_versions: Some(vec![3, u64::MAX]),
            stop: Stop::Eos,
        };
        let plain = Completion {
            weight_versions: None,
            stop: Stop::Length,
            ..whole.clone()
        };
        let numbers = [encode(&whole), encode(&plain)].concat();
        let mut reader = Reader(&numbers);
        assert_eq!(decode(&mut reader), Ok(whole));
        assert_eq!(decode(&mut reader), Ok(plain));
        assert!(decode(&mut reader).is_err());
    }
}
