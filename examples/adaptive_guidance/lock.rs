//! The task and the policy: combination locks, and a table of logits for each.

use g2rpo_core::{Ragged, TokenId};
use g2rpo_rollout::{Purpose, RolloutKey};
use rand::RngExt;

/// Positions of a lock. The reward is 1 if all are right and 0 otherwise.
pub(crate) const LENGTH: usize = 12;
/// Symbols per position: a uniform policy opens a lock with probability 4⁻¹² = 6·10⁻⁸.
pub(crate) const SYMBOLS: usize = 4;
/// Locks, each with a code and a table of its own.
pub(crate) const LOCKS: usize = 16;

/// A softmax over symbols for every lock and position.
pub(crate) struct Policy {
    codes: Vec<Vec<TokenId>>,
    logits: Vec<f64>,
    /// Log-softmax of `logits`, renewed after every update.
    log_probs: Vec<f64>,
}

impl Policy {
    /// Random codes; `success` is the probability with which every lock is opened at first.
    pub(crate) fn new(seed: u64, success: f64) -> Self {
        let key = RolloutKey {
            run: seed,
            ..RolloutKey::default()
        };
        let mut rng = key.rng(Purpose::Task);
        let code = |_| {
            (0..LENGTH)
                .map(|_| rng.random_range(0..SYMBOLS as TokenId))
                .collect()
        };
        let codes: Vec<Vec<TokenId>> = (0..LOCKS).map(code).collect();
        let mut policy = Self {
            codes,
            logits: vec![0.0; LOCKS * LENGTH * SYMBOLS],
            log_probs: Vec::new(),
        };
        // p = eᵇ / (eᵇ + 3) for the right symbol.
        let p = success.powf(1.0 / LENGTH as f64);
        let bonus = (p * (SYMBOLS - 1) as f64 / (1.0 - p)).ln();
        for lock in 0..LOCKS {
            for position in 0..LENGTH {
                let at = Self::place(lock, position) + policy.codes[lock][position] as usize;
                policy.logits[at] = bonus;
            }
        }
        policy.normalise();
        policy
    }

    /// The code of a lock, which is also its worked solution.
    pub(crate) fn code(&self, lock: usize) -> &[TokenId] {
        &self.codes[lock]
    }

    /// Exact probability of opening a lock without guidance, mean over locks.
    pub(crate) fn accuracy(&self) -> f64 {
        let opens = |lock: usize| -> f64 {
            (self.codes[lock].iter().enumerate())
                .map(|(position, &symbol)| self.log_probs(lock, position)[symbol as usize])
                .sum::<f64>()
                .exp()
        };
        (0..LOCKS).map(opens).sum::<f64>() / LOCKS as f64
    }

    /// Samples the rest of a completion that begins with `prefix`.
    pub(crate) fn complete(
        &self,
        lock: usize,
        prefix: &[TokenId],
        key: RolloutKey,
    ) -> Vec<TokenId> {
        let mut rng = key.rng(Purpose::Token);
        let mut tokens = prefix.to_vec();
        for position in prefix.len()..LENGTH {
            let mut draw: f64 = rng.random();
            let log_probs = self.log_probs(lock, position);
            let passed = |logp: &f64| {
                draw -= logp.exp();
                draw < 0.0
            };
            let symbol = log_probs.iter().position(passed).unwrap_or(SYMBOLS - 1);
            tokens.push(symbol as TokenId);
        }
        tokens
    }

    /// Log-probability of every token of a whole completion.
    pub(crate) fn logp(&self, lock: usize, tokens: &[TokenId]) -> Vec<f64> {
        (tokens.iter().enumerate())
            .map(|(position, &symbol)| self.log_probs(lock, position)[symbol as usize])
            .collect()
    }

    /// Gradient descent: `∂logp/∂logits = onehot - softmax`.
    pub(crate) fn descend(
        &mut self,
        locks: &[usize],
        tokens: &Ragged<TokenId>,
        grad: &Ragged<f64>,
        lr: f64,
    ) {
        for (row, &lock) in locks.iter().enumerate() {
            for (position, (&symbol, &g)) in tokens.row(row).iter().zip(grad.row(row)).enumerate() {
                if g == 0.0 {
                    continue;
                }
                let at = Self::place(lock, position);
                for other in 0..SYMBOLS {
                    let hot = f64::from(u8::from(other == symbol as usize));
                    self.logits[at + other] -= lr * g * (hot - self.log_probs[at + other].exp());
                }
            }
        }
        self.normalise();
    }

    fn normalise(&mut self) {
        self.log_probs.clear();
        for logits in self.logits.chunks(SYMBOLS) {
            let max = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let norm = max + logits.iter().map(|l| (l - max).exp()).sum::<f64>().ln();
            self.log_probs.extend(logits.iter().map(|l| l - norm));
        }
    }

    fn log_probs(&self, lock: usize, position: usize) -> &[f64] {
        let at = Self::place(lock, position);
        &self.log_probs[at..at + SYMBOLS]
    }

    fn place(lock: usize, position: usize) -> usize {
        (lock * LENGTH + position) * SYMBOLS
    }
}
