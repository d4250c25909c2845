//! `g2rpo-core` under another autograd: GRPO on a contextual bandit, in candle.
//!
//! ```text
//! cargo run -p g2rpo-examples --no-default-features --features candle --example own_autograd
//! ```
//!
//! The learner only scores tokens and pushes the derivatives that core hands it back through
//! candle: `(grad.detach() * logp).sum()` has the right gradient, whatever the loss. A prompt is
//! one token, a completion is one token (the arm), and one arm of eight pays per prompt. What is
//! left out: a model, a tokenizer, an engine, evaluation, checkpoints.

use candle_core::{DType, Device, Error, Result, Tensor, Var};
use g2rpo_core::{
    AdvantageEstimator, BatchTotals, Learner, LossConfig, LossMetrics, Ragged, Role, Scoring,
    Sequences, TokenGrads, TokenOutputs, TokenStreams, UpdateStats, WhichPolicy, policy_loss,
};
use rand::SeedableRng;
use rand::distr::{Distribution, weighted::WeightedIndex};
use rand::rngs::StdRng;

const N_PROMPTS: u32 = 4;
const N_ARMS: u32 = 8;
const NUM_GENERATIONS: usize = 16;
const MICRO_BATCH: usize = 24;

/// A table of logits, one row per prompt.
struct Bandit {
    logits: Var,
    grad: Option<Tensor>,
}

impl Bandit {
    /// Log-probability of each row's single completion token, with gradient.
    fn logp(&self, sequences: &Sequences, scoring: &Scoring, rows: &[usize]) -> Result<Tensor> {
        if scoring.entropy {
            return Err(Error::Msg("the bandit gives no entropies".into()));
        }
        let prompts: Vec<u32> = rows.iter().map(|&i| sequences.tokens().row(i)[0]).collect();
        let arms: Vec<u32> = rows.iter().map(|&i| sequences.completion(i)[0]).collect();
        let device = self.logits.device();
        let logits = (self.logits).index_select(&Tensor::new(prompts, device)?, 0)?;
        let logits = (logits / scoring.temperature)?;
        let logp = logits.broadcast_sub(&logits.log_sum_exp(1)?.unsqueeze(1)?)?;
        let arms = Tensor::new(arms, device)?.unsqueeze(1)?;
        logp.gather(&arms, 1)?.squeeze(1)
    }
}

fn one_token_rows(logp: &Tensor) -> Result<Ragged<f64>> {
    let values = logp.to_vec1::<f64>()?;
    Ok(Ragged::from_rows(values.into_iter().map(|x| [x])))
}

impl Learner for Bandit {
    type Error = Error;

    fn token_logps(
        &mut self,
        sequences: &Sequences,
        policy: WhichPolicy,
        scoring: &Scoring,
    ) -> Result<TokenOutputs> {
        if policy == WhichPolicy::Reference {
            return Err(Error::Msg("the bandit keeps no reference policy".into()));
        }
        let rows: Vec<usize> = (0..sequences.n_rows()).collect();
        Ok(TokenOutputs {
            logp: one_token_rows(&self.logp(sequences, scoring, &rows)?)?,
            rows,
            entropy: None,
        })
    }

    fn accumulate(
        &mut self,
        sequences: &Sequences,
        scoring: &Scoring,
        loss: &mut dyn FnMut(&TokenOutputs) -> g2rpo_core::Result<TokenGrads>,
    ) -> Result<()> {
        let all: Vec<usize> = (0..sequences.n_rows()).collect();
        for rows in all.chunks(MICRO_BATCH) {
            let logp = self.logp(sequences, scoring, rows)?;
            let outputs = TokenOutputs {
                rows: rows.to_vec(),
                logp: one_token_rows(&logp)?,
                entropy: None,
            };
            let grads = loss(&outputs).map_err(Error::wrap)?;
            let grads = Tensor::new(grads.logp.values(), self.logits.device())?;
            let store = (logp * grads)?.sum_all()?.backward()?;
            if let Some(grad) = store.get(&self.logits) {
                self.grad = Some(match self.grad.take() {
                    Some(sum) => (sum + grad)?,
                    None => grad.clone(),
                });
            }
        }
        Ok(())
    }

    fn apply(&mut self, lr: f64) -> Result<UpdateStats> {
        let mut grad_norm = 0.0;
        if let Some(grad) = self.grad.take() {
            grad_norm = grad.sqr()?.sum_all()?.to_scalar::<f64>()?.sqrt();
            self.logits
                .set(&(self.logits.as_tensor() - (grad * lr)?)?)?;
        }
        Ok(UpdateStats {
            grad_norm,
            lr,
            experts: None,
        })
    }
}

fn best_arm(prompt: u32) -> u32 {
    (3 * prompt + 1) % N_ARMS
}

fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let shape = (N_PROMPTS as usize, N_ARMS as usize);
    let logits = Var::zeros(shape, DType::F64, &Device::Cpu)?;
    let mut bandit = Bandit { logits, grad: None };
    let (mut rng, config) = (StdRng::seed_from_u64(0), LossConfig::default());
    let scoring = Scoring::default();
    for step in 0..=60 {
        let table = bandit.logits.to_vec2::<f64>()?;
        let (mut tokens, mut groups, mut rewards) = (Vec::new(), Vec::new(), Vec::new());
        for prompt in 0..N_PROMPTS {
            let policy = WeightedIndex::new(table[prompt as usize].iter().map(|x| x.exp()))?;
            for _ in 0..NUM_GENERATIONS {
                let arm = policy.sample(&mut rng) as u32;
                tokens.push([prompt, arm]);
                groups.push(prompt as usize);
                rewards.push(Some(f64::from(u8::from(arm == best_arm(prompt)))));
            }
        }
        let n = tokens.len();
        let advantages = AdvantageEstimator::default().advantages(&rewards, &groups, &[], None)?;
        let sequences = Sequences::new(Ragged::from_rows(tokens), vec![1; n])?;
        let roles = Ragged::from_rows(vec![[Role::Own]; n]);
        let scored = bandit.token_logps(&sequences, WhichPolicy::Current, &scoring)?;
        let logp_old = scored.logp;
        let batch = TokenStreams::new(roles, logp_old.clone(), advantages.advantages.clone())?
            .with_logp_old(logp_old)?;
        let totals = BatchTotals::of(&batch.roles, None, &config)?;
        let mut metrics = LossMetrics::default();
        for _ in 0..2 {
            bandit.accumulate(&sequences, &scoring, &mut |outputs| {
                let loss = policy_loss(&batch.with_outputs(outputs)?, &config, &totals)?;
                metrics.merge(&loss.metrics);
                Ok(loss.into_grads())
            })?;
            bandit.apply(4.0)?;
        }
        if step % 10 == 0 {
            let reward = rewards.iter().flatten().sum::<f64>() / n as f64;
            let clipped = metrics.clip_high.mean().unwrap_or(0.0);
            println!(
                "step {step:3}  reward {reward:.3}  clip_ratio/high_mean {clipped:.3}  frac_reward_zero_std {:.2}",
                advantages.frac_reward_zero_std()
            );
        }
    }
    for (prompt, row) in bandit.logits.to_vec2::<f64>()?.iter().enumerate() {
        let arm = best_arm(prompt as u32) as usize;
        let p = row[arm].exp() / row.iter().map(|x| x.exp()).sum::<f64>();
        println!("prompt {prompt}: probability of its best arm {p:.3}");
        if p < 0.9 {
            return Err(format!("prompt {prompt} was not learnt").into());
        }
    }
    Ok(())
}
