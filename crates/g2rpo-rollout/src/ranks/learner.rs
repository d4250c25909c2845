//! A learner whose rows are divided among the ranks, and whose gradient is the sum of all.

use std::ops::Range;
use std::sync::Arc;

use g2rpo_core::{
    Learner, Ragged, Result as CoreResult, Scoring, Sequences, TokenGrads, TokenOutputs,
    UpdateStats, WhichPolicy,
};

use super::collective::{Collective, RankError};
use super::share::{Reader, fingerprint, share};

/// A learner of which every rank has a copy, and what is asked of it to keep the copies equal.
pub trait DataParallel: Learner {
    /// Replaces the accumulated gradient by its sum over all ranks.
    ///
    /// # Errors
    /// The backend's, and those of the ranks.
    fn sum_gradient(&mut self, ranks: &dyn Collective) -> Result<(), RankedError<Self::Error>>;

    /// A hash of every bit of what is trained.
    ///
    /// # Errors
    /// The backend's.
    fn fingerprint(&self) -> Result<u64, Self::Error>;
}

/// What can go wrong on a rank.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RankedError<E> {
    /// This rank's own part.
    #[error(transparent)]
    Own(E),
    /// The other ranks.
    #[error(transparent)]
    Ranks(#[from] RankError),
    /// The loss of rows that another rank scored.
    #[error(transparent)]
    Core(#[from] g2rpo_core::Error),
}

/// Scores the rows of this rank, takes the log-probabilities of the others from them, and updates from the sum of
/// all gradients.
///
/// The loss is shown every row on every rank, so that its value and its metrics are those of the whole batch;
/// derivatives of other ranks' rows are computed there.
#[derive(Debug)]
pub struct RankedLearner<L> {
    learner: L,
    ranks: Arc<dyn Collective>,
    check_every: u64,
    updates: u64,
    /// Whether half of a gradient may be there.
    broken: bool,
}

impl<L: DataParallel> RankedLearner<L> {
    /// Divides the work of `learner`, of which every rank has the same. Their parameters are compared here and
    /// after every `check_every` updates; 0 compares them here alone.
    ///
    /// # Errors
    /// [`RankError::Differs`] with the rank that has other parameters.
    pub fn new(
        learner: L,
        ranks: Arc<dyn Collective>,
        check_every: u64,
    ) -> Result<Self, RankedError<L::Error>> {
        let ranked = Self {
            learner,
            ranks,
            check_every,
            updates: 0,
            broken: false,
        };
        ranked.compare()?;
        Ok(ranked)
    }

    /// The learner of this rank.
    pub fn get(&self) -> &L {
        &self.learner
    }

    /// The learner of this rank, to restore it, or to save it.
    pub fn get_mut(&mut self) -> &mut L {
        &mut self.learner
    }

    /// Compares the parameters of all ranks.
    ///
    /// # Errors
    /// [`RankError::Differs`] with the rank that has other parameters.
    pub fn compare(&self) -> Result<(), RankedError<L::Error>> {
        if self.ranks.size() == 1 {
            return Ok(());
        }
        let hash = self.learner.fingerprint().map_err(RankedError::Own)?;
        let nothing = Ok(Vec::new());
        share(&*self.ranks, "the hash of the parameters", hash, nothing)?;
        Ok(())
    }

    /// The rows of this rank: consecutive ones, as many tokens to each rank as that allows.
    fn mine(&self, sequences: &Sequences) -> Range<usize> {
        let (rank, size) = (self.ranks.rank(), self.ranks.size());
        let total = sequences.tokens().values().len();
        let (mut before, mut range) = (0, 0..0);
        for (row, length) in sequences.tokens().lengths().enumerate() {
            // The rank in whose share of all tokens the middle of the row lies.
            let owner = ((2 * before + length) * size / (2 * total)).min(size - 1);
            before += length;
            if owner < rank {
                range = row + 1..row + 1;
            } else if owner == rank {
                range.end = row + 1;
            }
        }
        range
    }

    /// What all ranks found about their rows, and this rank's failure before that of the others.
    fn exchange(
        &self,
        what: &'static str,
        same: u64,
        sequences: &Sequences,
        scoring: &Scoring,
        mine: Result<Outputs, L::Error>,
    ) -> Result<TokenOutputs, RankedError<L::Error>> {
        let (numbers, failed) = match mine {
            Ok(outputs) => (Ok([outputs.logp, outputs.entropy].concat()), None),
            Err(error) => (Err(error.to_string()), Some(error)),
        };
        let shared = share(&*self.ranks, what, same, numbers);
        if let Some(error) = failed {
            return Err(RankedError::Own(error));
        }
        let (mut logp, mut entropy) = (Vec::new(), Vec::new());
        for numbers in shared? {
            let mut numbers = Reader(&numbers);
            let n = numbers.0.len() / if scoring.entropy { 2 } else { 1 };
            logp.extend_from_slice(numbers.take(n)?);
            entropy.extend_from_slice(numbers.0);
        }
        let lengths: Vec<usize> = sequences.completion_lens().collect();
        Ok(TokenOutputs {
            rows: (0..sequences.n_rows()).collect(),
            logp: Ragged::from_parts(logp, &lengths)?,
            entropy: (scoring.entropy)
                .then(|| Ragged::from_parts(entropy, &lengths))
                .transpose()?,
        })
    }
}

/// Log-probabilities and entropies of consecutive rows.
#[derive(Default)]
struct Outputs {
    logp: Vec<f64>,
    entropy: Vec<f64>,
}

/// A number for a call that every rank must make alike.
fn call(sequences: &Sequences, scoring: &Scoring, policy: WhichPolicy) -> u64 {
    fingerprint((
        sequences.tokens().values(),
        sequences.tokens().offsets(),
        sequences.prompt_lens(),
        (scoring.temperature.to_bits(), scoring.entropy),
        policy,
    ))
}

impl<L: DataParallel> Learner for RankedLearner<L> {
    type Error = RankedError<L::Error>;

    fn token_logps(
        &mut self,
        sequences: &Sequences,
        policy: WhichPolicy,
        scoring: &Scoring,
    ) -> Result<TokenOutputs, Self::Error> {
        let rows: Vec<usize> = self.mine(sequences).collect();
        let mut mine = Ok(Outputs::default());
        if !rows.is_empty() {
            let outputs = (self.learner).token_logps(&sequences.select(&rows), policy, scoring);
            mine = outputs.map(|o| Outputs {
                logp: o.logp.values().to_vec(),
                entropy: o.entropy.map_or(Vec::new(), |e| e.values().to_vec()),
            });
        }
        let same = call(sequences, scoring, policy);
        self.exchange("scoring of rows", same, sequences, scoring, mine)
    }

    fn accumulate(
        &mut self,
        sequences: &Sequences,
        scoring: &Scoring,
        loss: &mut dyn FnMut(&TokenOutputs) -> CoreResult<TokenGrads>,
    ) -> Result<(), Self::Error> {
        self.broken = true;
        let mine = self.mine(sequences);
        let rows: Vec<usize> = mine.clone().collect();
        let mut logp: Vec<Vec<f64>> = vec![Vec::new(); rows.len()];
        let mut entropy = logp.clone();
        let mut done = Ok(());
        if !rows.is_empty() {
            let mut of_whole = |outputs: &TokenOutputs| {
                for (i, &row) in outputs.rows.iter().enumerate() {
                    logp[row] = outputs.logp.row(i).to_vec();
                    if let Some(entropies) = &outputs.entropy {
                        entropy[row] = entropies.row(i).to_vec();
                    }
                }
                loss(&TokenOutputs {
                    rows: outputs.rows.iter().map(|row| row + mine.start).collect(),
                    ..outputs.clone()
                })
            };
            let own = sequences.select(&rows);
            done = (self.learner).accumulate(&own, scoring, &mut of_whole);
        }
        let outputs = done.map(|()| Outputs {
            logp: logp.concat(),
            entropy: entropy.concat(),
        });
        let same = call(sequences, scoring, WhichPolicy::Current);
        let what = "the gradient of rows";
        let all = self.exchange(what, same, sequences, scoring, outputs)?;
        let others: Vec<usize> = (0..mine.start)
            .chain(mine.end..sequences.n_rows())
            .collect();
        if !others.is_empty() {
            loss(&TokenOutputs {
                logp: all.logp.select(&others),
                entropy: all.entropy.map(|e| e.select(&others)),
                rows: others,
            })?;
        }
        self.broken = false;
        Ok(())
    }

    fn apply(&mut self, lr: f64) -> Result<UpdateStats, Self::Error> {
        if self.broken {
            let text = "an earlier call failed, so there is no whole gradient; resume from the last checkpoint";
            return Err(RankError::Transport(text.into()).into());
        }
        let same = fingerprint((self.updates, lr.to_bits()));
        share(&*self.ranks, "an update", same, Ok(Vec::new()))?;
        if self.ranks.size() > 1 {
            self.learner.sum_gradient(&*self.ranks)?;
        }
        let stats = self.learner.apply(lr).map_err(RankedError::Own)?;
        self.updates += 1;
        if self.check_every > 0 && self.updates.is_multiple_of(self.check_every) {
            self.compare()?;
        }
        Ok(stats)
    }
}
