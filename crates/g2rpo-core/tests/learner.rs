//! How a loop uses the pieces with a learner of its own: entropies before the update for the
//! top-entropy mask, KL to the reference in the reward, in micro-batches of any size.

use g2rpo_core::{
    AdvantageEstimator, BatchTotals, Error, KlEstimator, KlPlacement, Learner, LossConfig, Ragged,
    Result, Role, Scoring, Sequences, TokenGrads, TokenOutputs, TokenStreams, UpdateStats,
    WhichPolicy, kl_penalties, policy_loss,
};

const VOCAB: usize = 5;

/// Logits of the next id by the id before, trained by plain gradient descent.
#[derive(Clone)]
struct Bigram {
    logits: Vec<[f64; VOCAB]>,
    reference: Vec<[f64; VOCAB]>,
    gradient: Vec<[f64; VOCAB]>,
    rows_per_micro_batch: usize,
}

impl Bigram {
    fn new(rows_per_micro_batch: usize) -> Self {
        let logits = |scale: f64| {
            let row = |i: usize| std::array::from_fn(|j| scale * ((3 * i + 5 * j) as f64).sin());
            (0..VOCAB).map(row).collect()
        };
        Self {
            logits: logits(2.0),
            reference: logits(1.5),
            gradient: vec![[0.0; VOCAB]; VOCAB],
            rows_per_micro_batch,
        }
    }

    fn probabilities(logits: &[f64; VOCAB], temperature: f64) -> [f64; VOCAB] {
        let e = logits.map(|x| (x / temperature).exp());
        let sum: f64 = e.iter().sum();
        e.map(|x| x / sum)
    }

    fn score(
        &self,
        sequences: &Sequences,
        rows: Vec<usize>,
        policy: WhichPolicy,
        scoring: &Scoring,
    ) -> Result<TokenOutputs> {
        scoring.check()?;
        let table = match policy {
            WhichPolicy::Current => &self.logits,
            WhichPolicy::Reference => &self.reference,
        };
        let (mut logp, mut entropy) = (Ragged::default(), Ragged::default());
        for &row in &rows {
            let tokens = sequences.tokens().row(row);
            let steps = (sequences.prompt_lens()[row]..tokens.len()).map(|t| {
                let p = Self::probabilities(&table[tokens[t - 1] as usize], scoring.temperature);
                (p[tokens[t] as usize].ln(), p)
            });
            let steps: Vec<_> = steps.collect();
            logp.push_row(steps.iter().map(|(logp, _)| *logp));
            entropy.push_row(
                (steps.iter()).map(|(_, p)| -> f64 { p.iter().map(|p| -p * p.ln()).sum() }),
            );
        }
        Ok(TokenOutputs {
            rows,
            logp,
            entropy: scoring.entropy.then_some(entropy),
        })
    }
}

impl Learner for Bigram {
    type Error = Error;

    fn token_logps(
        &mut self,
        sequences: &Sequences,
        policy: WhichPolicy,
        scoring: &Scoring,
    ) -> Result<TokenOutputs> {
        let rows = (0..sequences.n_rows()).collect();
        self.score(sequences, rows, policy, scoring)
    }

    fn accumulate(
        &mut self,
        sequences: &Sequences,
        scoring: &Scoring,
        loss: &mut dyn FnMut(&TokenOutputs) -> Result<TokenGrads>,
    ) -> Result<()> {
        let all: Vec<usize> = (0..sequences.n_rows()).collect();
        for rows in all.chunks(self.rows_per_micro_batch) {
            let outputs = self.score(sequences, rows.to_vec(), WhichPolicy::Current, scoring)?;
            let grads = loss(&outputs)?;
            assert_eq!(
                grads.entropy, None,
                "this double takes no gradient of entropies"
            );
            for (&row, grads) in rows.iter().zip(grads.logp.rows()) {
                let tokens = sequences.tokens().row(row);
                for (t, grad) in (sequences.prompt_lens()[row]..).zip(grads) {
                    let context = tokens[t - 1] as usize;
                    let p = Self::probabilities(&self.logits[context], scoring.temperature);
                    for (id, p) in p.into_iter().enumerate() {
                        let drawn = f64::from(u8::from(id == tokens[t] as usize));
                        self.gradient[context][id] += grad * (drawn - p) / scoring.temperature;
                    }
                }
            }
        }
        Ok(())
    }

    fn apply(&mut self, lr: f64) -> Result<UpdateStats> {
        let mut square = 0.0;
        for (logits, gradient) in self.logits.iter_mut().zip(&mut self.gradient) {
            for (logit, g) in logits.iter_mut().zip(gradient) {
                square += *g * *g;
                *logit -= lr * std::mem::take(g);
            }
        }
        Ok(UpdateStats {
            grad_norm: square.sqrt(),
            lr,
            experts: None,
        })
    }
}

fn batch() -> (Sequences, Ragged<Role>) {
    let rows = [
        vec![0, 1, 4, 2],
        vec![0, 3, 3],
        vec![2, 0, 1, 1, 4],
        vec![2, 4],
    ];
    let lengths: Vec<usize> = rows.iter().map(|row| row.len() - 1).collect();
    let sequences = Sequences::new(Ragged::from_rows(rows), vec![1; 4]).unwrap();
    let mut roles = Ragged::from_rows(lengths.iter().map(|&n| vec![Role::Own; n]));
    roles.row_mut(0)[0] = Role::Guidance;
    (sequences, roles)
}

/// The top-entropy mask needs a quantile over the whole batch, so entropies are computed before the
/// update and kept; the micro-batches then agree on which tokens are in.
#[test]
fn the_top_entropy_mask_in_micro_batches() {
    let config = LossConfig {
        top_entropy_quantile: 0.5,
        ..LossConfig::default()
    };
    let scoring = Scoring {
        temperature: 0.8,
        entropy: true,
    };
    let step = |rows_per_micro_batch: usize| -> Result<_> {
        let mut learner = Bigram::new(rows_per_micro_batch);
        let (sequences, roles) = batch();
        let before = learner.token_logps(&sequences, WhichPolicy::Current, &scoring)?;
        let entropy = before.entropy.expect("asked for");
        let totals = BatchTotals::of(&roles, None, &config)?
            .with_entropies(&roles, &entropy, None, &config)?;
        let streams = TokenStreams::new(roles, before.logp, vec![1.0, -1.0, 0.5, -0.5])?
            .with_entropy(entropy.clone())?;
        let update = Scoring {
            entropy: false,
            ..scoring
        };
        let mut grads = vec![Vec::new(); 4];
        learner.accumulate(&sequences, &update, &mut |outputs| {
            let loss = policy_loss(&streams.with_outputs(outputs)?, &config, &totals)?;
            for (&row, grad) in outputs.rows.iter().zip(loss.grad_logp.rows()) {
                grads[row] = grad.to_vec();
            }
            Ok(loss.into_grads())
        })?;
        learner.apply(0.1)?;
        Ok((learner.logits, grads, entropy, totals))
    };
    let (logits, grads, entropy, totals) = step(4).unwrap();
    for rows in 1..4 {
        assert_eq!(step(rows).unwrap().1, grads, "{rows} rows");
    }
    assert_ne!(logits, Bigram::new(1).logits);
    // 9 own tokens; those from the median entropy up are in, 5 unless entropies are equal.
    let threshold = totals.entropy_threshold.unwrap();
    let mut n_kept = 0;
    for (row, grads) in grads.iter().enumerate() {
        for (t, grad) in grads.iter().enumerate() {
            let is_own = (row, t) != (0, 0);
            let is_kept = is_own && entropy.row(row)[t] >= threshold;
            assert_eq!(*grad != 0.0, is_kept, "row {row}, token {t}");
            n_kept += usize::from(is_kept);
        }
    }
    assert!((5..9).contains(&n_kept) && totals.n_entropy == n_kept as f64);
}

/// KL in the reward: subtracted before advantages are formed, and no part of the loss.
#[test]
fn kl_in_the_reward() {
    let config = LossConfig {
        beta: 0.5,
        kl_placement: KlPlacement::Reward,
        kl_estimator: KlEstimator::K1,
        ..LossConfig::default()
    };
    let scoring = Scoring::default();
    let mut learner = Bigram::new(2);
    let (sequences, roles) = batch();
    let mut score = |policy| {
        (learner.token_logps(&sequences, policy, &scoring))
            .unwrap()
            .logp
    };
    let (logp, logp_ref) = (score(WhichPolicy::Current), score(WhichPolicy::Reference));
    let kl = kl_penalties(&roles, &logp, &logp_ref, &config).unwrap();
    for (row, kl) in kl.iter().enumerate() {
        // k1 telescopes: the log-ratio of the sequence, its guidance left out.
        let own = usize::from(row == 0)..roles.row(row).len();
        let ratio: f64 = own.map(|t| logp.row(row)[t] - logp_ref.row(row)[t]).sum();
        assert!((kl - ratio).abs() < 1e-12, "{kl} {ratio}");
    }
    let rewards: Vec<_> = (kl.iter()).map(|kl| Some(1.0 - config.beta * kl)).collect();
    let advantages = AdvantageEstimator::default()
        .advantages(&rewards, &[0; 4], &[], None)
        .unwrap()
        .advantages;
    // Equal rewards before: KL alone decides, and less of it is better.
    for i in 0..4 {
        for j in 0..4 {
            assert_eq!(kl[i] < kl[j], advantages[i] > advantages[j]);
        }
    }
    // The loss asks for no reference and has the gradient of beta = 0.
    let totals = BatchTotals::of(&roles, None, &config).unwrap();
    let streams = TokenStreams::new(roles, logp, advantages).unwrap();
    let got = policy_loss(&streams, &config, &totals).unwrap();
    let without = LossConfig {
        beta: 0.0,
        ..config
    };
    assert_eq!(got, policy_loss(&streams, &without, &totals).unwrap());
}

/// What a forward pass cannot be: refused by name.
#[test]
fn a_temperature_of_zero_is_refused() {
    let (sequences, _) = batch();
    for temperature in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        let scoring = Scoring {
            temperature,
            entropy: false,
        };
        let err = Bigram::new(1)
            .token_logps(&sequences, WhichPolicy::Current, &scoring)
            .unwrap_err();
        let expected = format!("temperature = {temperature} is outside its domain (0, inf)");
        assert_eq!(err.to_string(), expected);
    }
}

#[test]
fn expert_load_is_told_from_counts() {
    // Two layers of four experts, eight reads each: even would be two.
    let layers = [vec![2, 2, 2, 2], vec![5, 0, 3, 0]];
    let load = g2rpo_core::ExpertLoad::of(&layers).unwrap();
    assert_eq!((load.max, load.idle), (2.5, 0.25));
    assert_eq!(g2rpo_core::ExpertLoad::of(&[]), None);
    assert_eq!(g2rpo_core::ExpertLoad::of(&[vec![0, 0]]), None);
}
