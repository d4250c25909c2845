use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use g2rpo_rollout::{Completion, Request, RolloutEngine, SamplingParams, Stop, TokenId};
use tch::{Device, Kind, Tensor};

use super::batch_sampler::{BatchSampler, Row};
use super::cache::{KvCache, bytes_per_position};
use super::forward::Runner;
use super::prefill::prefill;
use super::sampler;
use super::stop::StopRules;
use crate::error::Doing;
use crate::{Decoder, Error, Result, Tokenizer};

/// Limits of a [`TorchEngine`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineConfig {
    /// Most rollouts generated side by side; the others wait and join when rows get free.
    /// Default 256.
    pub max_rows: usize,
    /// Most bytes of the KV cache, which is allocated once per call; fewer rows run side by side
    /// where it does not suffice. Default 4 GiB.
    pub max_cache_bytes: usize,
    /// Most context tokens computed in one forward pass, unless one group alone has more.
    /// Default 8192.
    pub max_prefill_tokens: usize,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            max_rows: 256,
            max_cache_bytes: 4 << 30,
            max_prefill_tokens: 8192,
        }
    }
}

/// Samples from a [`Decoder`] with a KV cache, many rollouts at a time.
///
/// The engine reads the decoder's tensors where they are, so it always samples from the parameters
/// as they are now; nothing has to be refreshed after an update. Adapters must be attached to the
/// decoder before the engine is built.
///
/// Requests with equal prompts that follow one another are a group: the prompt is computed once,
/// and so is guidance that several members share. Every draw is a function of the request's key
/// and the position, so a rollout does not depend on the others, beyond the rounding of matrix
/// products.
///
/// At temperature 0 the log-probabilities are those of the plain distribution at temperature 1.
#[derive(Debug)]
pub struct TorchEngine {
    runner: Runner,
    tokenizer: Option<Arc<Tokenizer>>,
    config: EngineConfig,
}

impl TorchEngine {
    /// An engine on the decoder's tensors.
    pub fn new(decoder: &Decoder) -> Self {
        Self {
            runner: Runner::new(decoder),
            tokenizer: None,
            config: EngineConfig::default(),
        }
    }

    /// With a tokenizer, which stop texts need.
    #[must_use]
    pub fn with_tokenizer(mut self, tokenizer: Arc<Tokenizer>) -> Self {
        self.tokenizer = Some(tokenizer);
        self
    }

    /// With other limits.
    #[must_use]
    pub fn with_config(mut self, config: EngineConfig) -> Self {
        self.config = config;
        self
    }

    /// The model.
    pub fn decoder(&self) -> &Decoder {
        self.runner.decoder()
    }

    fn check(&self, requests: &[Request]) -> Result<()> {
        let vocab = self.decoder().config().vocab_size;
        for (i, request) in requests.iter().enumerate() {
            if request.prompt.is_empty() {
                return Err(Error::invalid(
                    "requests",
                    format!("request {i} has an empty prompt"),
                ));
            }
            let mut ids = request.prompt.iter().chain(&request.guidance);
            if let Some(id) = ids.find(|&&id| id as usize >= vocab) {
                return Err(Error::invalid(
                    "requests",
                    format!("request {i} holds id {id}, the model has {vocab}"),
                ));
            }
        }
        Ok(())
    }
}

impl RolloutEngine for TorchEngine {
    type Error = Error;

    fn generate(
        &mut self,
        requests: &[Request],
        params: &SamplingParams,
    ) -> Result<Vec<Completion>> {
        sampler::validate(params)?;
        self.check(requests)?;
        let stop = StopRules::new(params, self.tokenizer.as_deref())?;
        let _no_grad = tch::no_grad_guard();
        let completions = requests.iter().map(|_| Completion {
            tokens: Vec::new(),
            logps: Vec::new(),
            log_kept: Vec::new(),
            stop: Stop::Length,
        });
        let waiting: VecDeque<usize> = (requests.iter().enumerate())
            .filter(|(_, r)| r.max_new_tokens > 0)
            .map(|(i, _)| i)
            .collect();
        if waiting.is_empty() {
            return Ok(completions.collect());
        }
        let completions = completions.collect();
        let mut run = Run::new(
            &self.runner,
            &self.config,
            requests,
            params,
            &stop,
            waiting,
            completions,
        )?;
        run.run()?;
        Ok(run.completions)
    }
}

/// One call of `generate`.
struct Run<'a> {
    runner: &'a Runner,
    config: &'a EngineConfig,
    requests: &'a [Request],
    params: &'a SamplingParams,
    stop: &'a StopRules<'a>,
    waiting: VecDeque<usize>,
    completions: Vec<Completion>,
    /// Per row of the cache the request it works on; `None` once that is finished.
    rows: Vec<Option<usize>>,
    max_rows: usize,
    cache: KvCache,
    /// Cosines and sines of all positions, `[positions, 1, head_dim]`.
    rotations: (Tensor, Tensor),
    /// Distinct ids of every request's sequence so far; empty unless there is a penalty.
    seen: Vec<BTreeSet<TokenId>>,
    sampler: BatchSampler<'a>,
}

impl<'a> Run<'a> {
    fn new(
        runner: &'a Runner,
        config: &'a EngineConfig,
        requests: &'a [Request],
        params: &'a SamplingParams,
        stop: &'a StopRules<'a>,
        waiting: VecDeque<usize>,
        completions: Vec<Completion>,
    ) -> Result<Self> {
        let decoder = runner.decoder();
        let model = decoder.config();
        let (kind, device) = (decoder.kind(), decoder.device());
        let context = |i: usize| requests[i].prompt.len() + requests[i].guidance.len();
        let longest_context = waiting.iter().map(|&i| context(i)).max().unwrap_or(0);
        let longest = (waiting
            .iter()
            .map(|&i| context(i) + requests[i].max_new_tokens))
        .max()
        .unwrap_or(0);
        let most_new = (waiting.iter().map(|&i| requests[i].max_new_tokens))
            .max()
            .unwrap_or(0);
        // Room for every row to write as far as it may. Where rows join later, as much again, so
        // that the cache need not be shifted often.
        let n = waiting.len();
        let capacity =
            |rows: usize| longest_context + most_new + if rows < n { most_new } else { 0 };
        let row_bytes = bytes_per_position(model, kind) * capacity(0);
        let max_rows = (config.max_rows.min(n))
            .min(config.max_cache_bytes / row_bytes.max(1))
            .max(1);
        let cache = KvCache::new(
            model,
            max_rows,
            capacity(max_rows).max(longest),
            longest_context,
            kind,
            device,
        )?;
        let positions = Tensor::f_arange(longest as i64, (Kind::Int64, device))?;
        let (cos, sin) = decoder.rope().cos_sin(&positions, kind)?;
        Ok(Self {
            runner,
            config,
            requests,
            params,
            stop,
            waiting,
            seen: vec![BTreeSet::new(); completions.len()],
            completions,
            rows: Vec::with_capacity(max_rows),
            max_rows,
            cache,
            rotations: (cos.f_unsqueeze(1)?, sin.f_unsqueeze(1)?),
            sampler: BatchSampler::new(params, max_rows, model.vocab_size, device)?,
        })
    }

    fn run(&mut self) -> Result<()> {
        let mut hidden_bh = self.admit()?;
        while let Some(hidden) = hidden_bh {
            self.sample(&hidden)?;
            self.drop_finished()?;
            let continued = match self.rows.is_empty() {
                true => None,
                false => Some(self.step()?),
            };
            hidden_bh = match (continued, self.admit()?) {
                (Some(old), Some(new)) => Some(Tensor::f_cat(&[old, new], 0)?),
                (old, new) => old.or(new),
            };
        }
        Ok(())
    }

    /// Lets waiting requests join, whole groups at a time; their hidden states, if any joined.
    fn admit(&mut self) -> Result<Option<Tensor>> {
        let mut hidden = Vec::new();
        loop {
            let batch = self.next_batch();
            if batch.is_empty() {
                break;
            }
            let requests: Vec<&Request> = batch.iter().map(|&i| &self.requests[i]).collect();
            let filled = prefill(self.runner, &requests)
                .doing(|| format!("computing the contexts of {} rollouts", requests.len()))?;
            self.cache.add_rows(&filled.store, &filled.positions)?;
            hidden.push(filled.hidden_bh);
            for &i in &batch {
                if self.params.repetition_penalty != 1.0 {
                    let Request {
                        prompt, guidance, ..
                    } = &self.requests[i];
                    self.seen[i].extend(prompt.iter().chain(guidance));
                }
                self.rows.push(Some(i));
            }
        }
        match hidden.len() {
            0 => Ok(None),
            1 => Ok(hidden.pop()),
            _ => Ok(Some(Tensor::f_cat(&hidden, 0)?)),
        }
    }

    /// The next groups that fit into the free rows and the token budget of a forward pass.
    fn next_batch(&mut self) -> Vec<usize> {
        let mut batch = Vec::new();
        let (mut distinct, mut widest) = (0, 0);
        while let Some(&first) = self.waiting.front() {
            let free = self.max_rows - self.rows.len() - batch.len();
            let prompt = &self.requests[first].prompt;
            let group = (self.waiting.iter())
                .take_while(|&&i| self.requests[i].prompt == *prompt)
                .count();
            let taken = match group <= free {
                true => group,
                // A group waits until it has room as a whole, unless it never will.
                false if group > self.max_rows => free,
                false => 0,
            };
            // One row for the prompt, and one for each piece of guidance at most.
            let guided = (self.waiting.iter().take(taken))
                .filter(|&&i| !self.requests[i].guidance.is_empty())
                .count();
            let width = (self.waiting.iter().take(taken))
                .map(|&i| prompt.len().max(self.requests[i].guidance.len()))
                .max()
                .unwrap_or(0);
            let tokens = (distinct + 1 + guided) * widest.max(width);
            if taken == 0 || (!batch.is_empty() && tokens > self.config.max_prefill_tokens) {
                break;
            }
            distinct += 1 + guided;
            widest = widest.max(width);
            batch.extend(self.waiting.drain(..taken));
        }
        batch
    }

    /// Draws the next id of every unfinished row from its hidden state.
    fn sample(&mut self, hidden_bh: &Tensor) -> Result<()> {
        let rows: Vec<Option<Row<'_>>> = (self.rows.iter())
            .map(|place| {
                place.map(|i| Row {
                    u: (self.requests[i].key).uniform(self.completions[i].tokens.len()),
                    seen: &self.seen[i],
                })
            })
            .collect();
        let lm_head = self.runner.decoder().lm_head();
        let draws = self.sampler.draw(hidden_bh, lm_head, &rows)?;
        for (place, draw) in self.rows.iter_mut().zip(draws) {
            let Some(i) = *place else { continue };
            let completion = &mut self.completions[i];
            let draw = draw.ok_or_else(|| Error::NotFinite {
                what: format!(
                    "the distribution of request {i} at sampled position {}",
                    completion.tokens.len()
                ),
            })?;
            completion.tokens.push(draw.token);
            completion.logps.push(draw.logp);
            completion.log_kept.push(draw.log_kept);
            if self.params.repetition_penalty != 1.0 {
                self.seen[i].insert(draw.token);
            }
            if self.stop.ends(&completion.tokens)? {
                completion.stop = Stop::Eos;
                *place = None;
            } else if completion.tokens.len() >= self.requests[i].max_new_tokens {
                *place = None;
            }
        }
        Ok(())
    }

    /// Frees rows when enough are finished that moving others into their places pays.
    fn drop_finished(&mut self) -> Result<()> {
        let gone: Vec<usize> = (self.rows.iter().enumerate())
            .filter(|(_, place)| place.is_none())
            .map(|(row, _)| row)
            .collect();
        if gone.is_empty() || gone.len() * 16 < self.rows.len() {
            return Ok(());
        }
        for (from, to) in self.cache.remove_rows(&gone)? {
            self.rows[to] = self.rows[from];
        }
        self.rows.truncate(self.cache.n_rows());
        Ok(())
    }

    /// Feeds every row its last id; the hidden states behind it.
    fn step(&mut self) -> Result<Tensor> {
        if self.cache.is_full() {
            let context =
                |i: usize| self.requests[i].prompt.len() + self.requests[i].guidance.len();
            let reserve = self.waiting.iter().map(|&i| context(i)).max().unwrap_or(0);
            self.cache.shift(reserve)?;
        }
        let device: Device = self.runner.decoder().device();
        let mut ids = Vec::with_capacity(self.rows.len());
        let mut positions = Vec::with_capacity(self.rows.len());
        for place in &self.rows {
            // A finished row that was not dropped yet computes something that nobody reads.
            let (id, position) = place.map_or((0, 0), |i| {
                let tokens = &self.completions[i].tokens;
                let request = &self.requests[i];
                let context = request.prompt.len() + request.guidance.len();
                (
                    tokens.last().copied().unwrap_or(0),
                    context + tokens.len() - 1,
                )
            });
            ids.push(i64::from(id));
            positions.push(position as i64);
        }
        let ids_b = Tensor::f_from_slice(&ids)?.f_to_device(device)?;
        let positions = Tensor::f_from_slice(&positions)?.f_to_device(device)?;
        let cos = self.rotations.0.f_index_select(0, &positions)?;
        let sin = self.rotations.1.f_index_select(0, &positions)?;
        (self.runner.decode(&mut self.cache, &ids_b, &cos, &sin))
            .doing(|| format!("computing a position of {} rollouts", ids.len()))
    }
}
