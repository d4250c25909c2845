//! A policy that is a table, which samples and learns: the test double of learners.

use std::borrow::Cow;
use std::collections::BTreeMap;

use g2rpo_core::{
    Learner, Ragged, Result as CoreResult, Scoring, Sequences, TokenGrads, TokenId, TokenOutputs,
    UpdateStats, WhichPolicy,
};

use crate::ranks::{Collective, DataParallel, RankedError, fingerprint, share};
use crate::{Completion, Error, Request, RolloutEngine, SamplingParams, Stop};

/// A policy that is a table: a row of logits for every context of a few tokens.
///
/// It generates and it learns, in microseconds and without a tensor library, so that whole
/// training loops are tested and demonstrated with it. Rows start at zero (uniform) and are updated
/// by plain gradient descent. It is the test double of [`Learner`] and, where a script is not
/// enough, of [`RolloutEngine`].
///
/// ```
/// use g2rpo_core::{Learner, Ragged, Scoring, Sequences, TokenGrads, WhichPolicy};
/// use g2rpo_rollout::TabularPolicy;
/// let mut policy = TabularPolicy::new(4, 1);
/// let sequences = Sequences::new(Ragged::from_rows([vec![0, 2]]), vec![1])?;
/// let scoring = Scoring { entropy: true, ..Scoring::default() };
/// let before = policy.token_logps(&sequences, WhichPolicy::Current, &scoring)?;
/// assert_eq!(before.logp.values(), [-(4f64.ln())]);
/// assert_eq!(before.entropy.unwrap().values(), [4f64.ln()]);
/// // Gradient −1 on the only log-probability: one step of supervised learning.
/// policy.accumulate(&sequences, &Scoring::default(), &mut |outputs| {
///     Ok(TokenGrads { logp: outputs.logp.map(|_| -1.0), entropy: None })
/// })?;
/// policy.apply(1.0)?;
/// let after = policy.token_logps(&sequences, WhichPolicy::Current, &scoring)?;
/// assert!(after.logp.values() > before.logp.values());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct TabularPolicy {
    vocab: usize,
    sees: Sees,
    rows: Table,
    gradient: Table,
    reference: Table,
}

/// A number for every id behind each context.
type Table = BTreeMap<Vec<TokenId>, Vec<f64>>;

/// What names a row.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Sees {
    /// So many tokens before.
    Last(usize),
    /// So many tokens at the start, and how many there are.
    FirstAndPosition(usize),
}

impl TabularPolicy {
    /// A uniform policy over ids `0..vocab` that looks at the last `context` tokens. As it stands
    /// it is also the reference.
    pub fn new(vocab: usize, context: usize) -> Self {
        Self::seeing(vocab, Sees::Last(context))
    }

    /// A uniform policy over ids `0..vocab` that knows the first `prompt` tokens and the position,
    /// but not what stands in between: what it learns of a position helps whatever came before.
    pub fn by_position(vocab: usize, prompt: usize) -> Self {
        Self::seeing(vocab, Sees::FirstAndPosition(prompt))
    }

    fn seeing(vocab: usize, sees: Sees) -> Self {
        Self {
            vocab,
            sees,
            rows: Table::new(),
            gradient: Table::new(),
            reference: Table::new(),
        }
    }

    /// Probability of each id behind `prefix`.
    pub fn probabilities(&self, prefix: &[TokenId]) -> Vec<f64> {
        softmax(self.logits(&self.rows, &self.key(prefix)), 1.0)
    }

    /// Sets the logits behind `prefix` where training starts, of the policy and of the reference.
    ///
    /// ```
    /// let mut policy = g2rpo_rollout::TabularPolicy::by_position(2, 1);
    /// policy.start_at(&[0, 1, 1], vec![3f64.ln(), 0.0]);
    /// assert!((policy.probabilities(&[0, 0, 0])[0] - 0.75).abs() < 1e-15);
    /// assert_eq!(policy.probabilities(&[1, 0, 0]), [0.5; 2]);
    /// ```
    ///
    /// # Panics
    /// If there is not one logit for every id.
    pub fn start_at(&mut self, prefix: &[TokenId], logits: Vec<f64>) {
        assert_eq!(logits.len(), self.vocab, "one logit for every id");
        let key = self.key(prefix).into_owned();
        self.reference.insert(key.clone(), logits.clone());
        self.rows.insert(key, logits);
    }

    fn key<'a>(&self, prefix: &'a [TokenId]) -> Cow<'a, [TokenId]> {
        match self.sees {
            Sees::Last(n) => Cow::Borrowed(&prefix[prefix.len().saturating_sub(n)..]),
            Sees::FirstAndPosition(n) => {
                let mut key = prefix[..n.min(prefix.len())].to_vec();
                key.push(prefix.len() as TokenId);
                Cow::Owned(key)
            }
        }
    }

    fn logits(&self, table: &Table, key: &[TokenId]) -> Vec<f64> {
        (table.get(key).cloned()).unwrap_or_else(|| vec![0.0; self.vocab])
    }

    fn check(&self, tokens: &[TokenId]) -> Result<(), Error> {
        match tokens.iter().find(|&&id| id as usize >= self.vocab) {
            None => Ok(()),
            Some(&id) => Err(Error::Engine {
                what: "size of the vocabulary",
                expected: self.vocab,
                got: id as usize,
            }),
        }
    }
}

fn softmax(mut logits: Vec<f64>, temperature: f64) -> Vec<f64> {
    let max = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let mut sum = 0.0;
    for l in &mut logits {
        *l = ((*l - max) / temperature).exp();
        sum += *l;
    }
    for l in &mut logits {
        *l /= sum;
    }
    logits
}

/// Entropy in nats.
fn entropy(probabilities: &[f64]) -> f64 {
    (probabilities.iter().filter(|&&p| p > 0.0))
        .map(|p| -p * p.ln())
        .sum()
}

impl Learner for TabularPolicy {
    type Error = Error;

    fn token_logps(
        &mut self,
        sequences: &Sequences,
        policy: WhichPolicy,
        scoring: &Scoring,
    ) -> Result<TokenOutputs, Error> {
        scoring.check()?;
        let table = match policy {
            WhichPolicy::Current => &self.rows,
            WhichPolicy::Reference => &self.reference,
        };
        let (mut logp, mut entropies) = (Ragged::default(), Ragged::default());
        for (tokens, &prompt) in sequences.tokens().rows().zip(sequences.prompt_lens()) {
            self.check(tokens)?;
            let at = |t: usize| {
                let logits = self.logits(table, &self.key(&tokens[..t]));
                softmax(logits, scoring.temperature)
            };
            logp.push_row((prompt..tokens.len()).map(|t| at(t)[tokens[t] as usize].ln()));
            if scoring.entropy {
                entropies.push_row((prompt..tokens.len()).map(|t| entropy(&at(t))));
            }
        }
        Ok(TokenOutputs {
            rows: (0..sequences.n_rows()).collect(),
            logp,
            entropy: scoring.entropy.then_some(entropies),
        })
    }

    fn accumulate(
        &mut self,
        sequences: &Sequences,
        scoring: &Scoring,
        loss: &mut dyn FnMut(&TokenOutputs) -> CoreResult<TokenGrads>,
    ) -> Result<(), Error> {
        let outputs = (self.token_logps(sequences, WhichPolicy::Current, scoring))
            .inspect_err(|_| self.gradient.clear())?;
        let grads = loss(&outputs).inspect_err(|_| self.gradient.clear())?;
        for (row, tokens) in sequences.tokens().rows().enumerate() {
            let prompt = sequences.prompt_lens()[row];
            for (place, t) in (prompt..tokens.len()).enumerate() {
                let key = self.key(&tokens[..t]);
                let p = softmax(self.logits(&self.rows, &key), scoring.temperature);
                let of_logp = grads.logp.row(row)[place];
                let of_entropy = grads.entropy.as_ref().map_or(0.0, |g| g.row(row)[place]);
                let h = entropy(&p);
                let zeros = || vec![0.0; self.vocab];
                let sum = (self.gradient.entry(key.into_owned())).or_insert_with(zeros);
                for (id, (sum, p)) in sum.iter_mut().zip(p).enumerate() {
                    // ∂logp_y/∂z = (onehot(y) − p)/T, ∂H/∂z = −p·(ln p + H)/T.
                    let drawn = f64::from(u8::from(id == tokens[t] as usize));
                    let spread = if p > 0.0 { -p * (p.ln() + h) } else { 0.0 };
                    *sum += (of_logp * (drawn - p) + of_entropy * spread) / scoring.temperature;
                }
            }
        }
        Ok(())
    }

    fn apply(&mut self, lr: f64) -> Result<UpdateStats, Error> {
        let mut square = 0.0;
        for (key, gradient) in std::mem::take(&mut self.gradient) {
            let row = (self.rows.entry(key)).or_insert_with(|| vec![0.0; gradient.len()]);
            for (logit, g) in row.iter_mut().zip(gradient) {
                square += g * g;
                *logit -= lr * g;
            }
        }
        Ok(UpdateStats {
            grad_norm: square.sqrt(),
            lr,
            experts: None,
        })
    }
}

impl DataParallel for TabularPolicy {
    fn sum_gradient(&mut self, ranks: &dyn Collective) -> Result<(), RankedError<Error>> {
        // Ranks have met different contexts, so rows go with their keys.
        let mut numbers = Vec::new();
        for (key, row) in &self.gradient {
            numbers.push(key.len() as f64);
            numbers.extend(key.iter().map(|id| f64::from(*id)));
            numbers.extend(row);
        }
        let same = fingerprint((self.vocab, format!("{:?}", self.sees)));
        let shared = share(ranks, "the sum of gradients", same, Ok(numbers))?;
        self.gradient.clear();
        for numbers in &shared {
            let mut rest = &numbers[..];
            while let Some((&length, tail)) = rest.split_first() {
                let (key, tail) = tail.split_at(length as usize);
                let (row, tail) = tail.split_at(self.vocab);
                let key = key.iter().map(|id| *id as TokenId).collect();
                let zeros = || vec![0.0; row.len()];
                let sum = self.gradient.entry(key).or_insert_with(zeros);
                sum.iter_mut().zip(row).for_each(|(s, g)| *s += g);
                rest = tail;
            }
        }
        Ok(())
    }

    fn fingerprint(&self) -> Result<u64, Error> {
        let bits = |row: &Vec<f64>| row.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        let rows = self.rows.iter().map(|(key, row)| (key, bits(row)));
        Ok(fingerprint(rows.collect::<Vec<_>>()))
    }
}

impl RolloutEngine for TabularPolicy {
    type Error = Error;

    /// Temperature, greedy decoding and stop ids are honoured; other settings are refused.
    fn generate(
        &mut self,
        requests: &[Request],
        params: &SamplingParams,
    ) -> Result<Vec<Completion>, Error> {
        let known = SamplingParams {
            temperature: params.temperature,
            stop_token_ids: params.stop_token_ids.clone(),
            ..SamplingParams::default()
        };
        if *params != known {
            return Err(Error::Unsupported {
                engine: "a table",
                known: "temperature and stop_token_ids",
            });
        }
        let one = |request: &Request| {
            let mut tokens = [&request.prompt[..], &request.guidance].concat();
            self.check(&tokens)?;
            let start = tokens.len();
            let mut logps = Vec::new();
            let mut stop = Stop::Length;
            for position in 0..request.max_new_tokens {
                let logits = self.logits(&self.rows, &self.key(&tokens));
                let greedy = params.temperature == 0.0;
                let p = softmax(logits, if greedy { 1.0 } else { params.temperature });
                let id = if greedy {
                    (0..p.len()).rev().max_by(|&a, &b| p[a].total_cmp(&p[b]))
                } else {
                    let draw = request.key.uniform(position);
                    let mut sum = 0.0;
                    p.iter().position(|x| {
                        sum += x;
                        draw < sum
                    })
                };
                // Rounding may leave the sum a hair below the draw; the last id then has it.
                let id = id.unwrap_or(p.len() - 1);
                logps.push(p[id].ln() as f32);
                tokens.push(id as TokenId);
                if params.stop_token_ids.contains(&(id as TokenId)) {
                    stop = Stop::Eos;
                    break;
                }
            }
            Ok(Completion {
                tokens: tokens.split_off(start),
                log_kept: vec![0.0; logps.len()],
                weight_versions: None,
                logps,
                stop,
            })
        };
        requests.iter().map(one).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::slice::from_ref;

    use super::*;
    use crate::RolloutKey;

    fn sequences() -> Sequences {
        Sequences::new(Ragged::from_rows([vec![0, 1, 2], vec![1, 1]]), vec![1, 1]).unwrap()
    }

    fn scored(
        policy: &mut TabularPolicy,
        sequences: &Sequences,
        scoring: &Scoring,
    ) -> Result<TokenOutputs, Error> {
        policy.token_logps(sequences, WhichPolicy::Current, scoring)
    }

    #[test]
    fn gradient_is_that_of_finite_differences() {
        let mut policy = TabularPolicy::new(3, 1);
        policy.rows.insert(vec![0], vec![0.3, -0.2, 0.5]);
        policy.rows.insert(vec![1], vec![-0.4, 0.1, 0.0]);
        let weights = [0.7, -1.3, 0.4];
        let scoring = Scoring {
            temperature: 0.7,
            entropy: true,
        };
        let value = |policy: &mut TabularPolicy| {
            let outputs = scored(policy, &sequences(), &scoring).unwrap();
            let entropy = outputs.entropy.unwrap();
            let terms = outputs.logp.values().iter().zip(entropy.values());
            (terms.zip(weights))
                .map(|((l, h), w)| w * l + w * w * h)
                .sum::<f64>()
        };
        policy
            .accumulate(&sequences(), &scoring, &mut |o| {
                let lengths: Vec<_> = o.logp.lengths().collect();
                let squares = weights.iter().map(|w| w * w).collect();
                Ok(TokenGrads {
                    logp: Ragged::from_parts(weights.to_vec(), &lengths)?,
                    entropy: Some(Ragged::from_parts(squares, &lengths)?),
                })
            })
            .unwrap();
        let h = 1e-6;
        for key in [vec![0], vec![1]] {
            for id in 0..3 {
                let moved = |by: f64| {
                    let mut copy = policy.clone();
                    copy.rows.get_mut(&key).unwrap()[id] += by;
                    value(&mut copy)
                };
                let numeric = (moved(h) - moved(-h)) / (2.0 * h);
                let exact = policy.gradient[&key][id];
                assert!((numeric - exact).abs() < 1e-8, "{key:?} {id}");
            }
        }
    }

    #[test]
    fn what_a_table_cannot_do_is_refused() {
        let params = SamplingParams {
            top_k: 3,
            ..SamplingParams::default()
        };
        let error = TabularPolicy::new(3, 1).generate(&[], &params).unwrap_err();
        assert_eq!(
            error.to_string(),
            "a table samples by temperature and stop_token_ids alone; leave other sampling settings at their defaults"
        );
    }

    #[test]
    fn sampled_log_probabilities_are_the_learners() {
        let mut policy = TabularPolicy::new(5, 2);
        let logits = vec![1.0, 0.0, -1.0, 0.5, 0.2];
        policy.rows.insert(vec![3, 1], logits);
        let request = |member| Request {
            prompt: vec![3],
            guidance: vec![1],
            key: RolloutKey {
                member,
                ..RolloutKey::default()
            },
            max_new_tokens: 6,
        };
        let requests: Vec<_> = (0..8).map(request).collect();
        let params = SamplingParams {
            temperature: 1.3,
            ..SamplingParams::default()
        };
        let all = policy.generate(&requests, &params).unwrap();
        for (request, completion) in requests.iter().zip(&all) {
            let alone = policy.generate(from_ref(request), &params).unwrap();
            assert_eq!(&alone[0], completion, "a rollout depends on its company");
            let ids = [&[3, 1][..], &completion.tokens].concat();
            let sequences = Sequences::new(Ragged::from_rows([ids]), vec![2]).unwrap();
            let outputs = scored(&mut policy, &sequences, &params.scoring(false)).unwrap();
            for (a, b) in outputs.logp.values().iter().zip(&completion.logps) {
                assert!((*a as f32 - b).abs() < 1e-6);
            }
        }
        assert!(all.iter().any(|c| c.tokens != all[0].tokens));
    }

    #[test]
    fn ids_beyond_the_vocabulary_are_refused() {
        let mut policy = TabularPolicy::new(2, 1);
        let err = scored(&mut policy, &sequences(), &Scoring::default()).unwrap_err();
        let expected = "rollout engine: size of the vocabulary: expected 2, got 2";
        assert_eq!(err.to_string(), expected);
    }
}
