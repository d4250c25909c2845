//! The rollout engine: which rows are at work, and what becomes of their draws.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use g2rpo_rollout::{Completion, Finished, Request, RolloutEngine, SamplingParams, Stop, TokenId};
use tch::{Device, Kind, Tensor};

use super::cache::{bytes_of, state_bytes};
use super::config::EngineConfig;
use super::decoding::Decoding;
use super::device::DeviceRows;
use super::device_sampler::DeviceSampler;
use super::flash::gpu::Gpu;
use super::flash::rows::FlashRows;
use super::forward::Runner;
use super::host::rows::HostRows;
use super::host_sampler::HostSampler;
use super::prefill::prefill;
use super::readers::Sharing;
use super::sampler::{BatchSampler, Row};
use super::stop::StopRules;
use crate::error::{Doing, Error, Result, ensure};
use crate::hf::tokenizer::HfTokenizer;
use crate::model::decoder::Decoder;

/// Samples from a [`Decoder`] with a KV cache, many rollouts at a time.
///
/// The engine reads the decoder's tensors where they are, so it always samples from the parameters
/// as they are now; nothing has to be refreshed after an update. Adapters must be attached to the
/// decoder before the engine is built.
///
/// Requests with equal prompts that follow one another are a group: the prompt is computed once and
/// its keys and values are kept once, and so are those of guidance that several members share.
///
/// Where the parameters are f32 in host memory, decoding steps run in code made for few rows. In bf16
/// and f16 on a GPU they go through flash attention and are recorded as CUDA graphs. Elsewhere they are
/// libtorch's operations one by one. Every draw is a function of the request's key and the
/// position, so a rollout does not depend on the others, beyond the rounding of matrix products.
///
/// At temperature 0 the log-probabilities are those of the plain distribution at temperature 1.
#[derive(Debug)]
pub struct TorchEngine {
    runner: Runner,
    tokenizer: Option<Arc<HfTokenizer>>,
    config: EngineConfig,
    gpu: Gpu,
}

impl TorchEngine {
    /// An engine on the decoder's tensors.
    pub fn new(decoder: &Decoder) -> Self {
        Self {
            runner: Runner::new(decoder),
            tokenizer: None,
            config: EngineConfig::default(),
            gpu: Gpu::default(),
        }
    }

    /// With a tokenizer, which stop texts need.
    #[must_use]
    pub fn with_tokenizer(mut self, tokenizer: Arc<HfTokenizer>) -> Self {
        self.tokenizer = Some(tokenizer);
        self
    }

    /// With other limits.
    #[must_use]
    pub fn with_config(mut self, config: EngineConfig) -> Self {
        self.config = config;
        self.gpu = Gpu::default();
        self
    }

    /// What of a GPU could not be used so far, and why. Empty on the CPU.
    pub fn fallbacks(&self) -> &[String] {
        &self.gpu.fallbacks
    }

    /// Decodes by the code for GPUs with this kernel.
    #[cfg(test)]
    pub(super) fn with_kernel(mut self, kernel: super::cuda::flash::VarlenKernel) -> Self {
        self.gpu = Gpu::with_kernel(kernel);
        self
    }

    /// The model.
    pub fn decoder(&self) -> &Decoder {
        &self.runner.decoder
    }

    fn check(&self, requests: &[Request]) -> Result<()> {
        let vocab = self.decoder().config().vocab_size;
        for (i, request) in requests.iter().enumerate() {
            ensure(!request.prompt.is_empty(), "requests", || {
                format!("request {i} has an empty prompt")
            })?;
            let mut ids = request.prompt.iter().chain(&request.guidance);
            if let Some(id) = ids.find(|&&id| id as usize >= vocab) {
                let why = format!("request {i} holds id {id}, the model has {vocab}");
                return Err(Error::invalid("requests", why));
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
        self.generate_each(requests, params, &mut |_, _| {})
    }

    fn generate_each(
        &mut self,
        requests: &[Request],
        params: &SamplingParams,
        finished: &mut Finished<'_>,
    ) -> Result<Vec<Completion>> {
        params.check()?;
        self.check(requests)?;
        let stop = StopRules::new(params, self.tokenizer.as_deref())?;
        let _no_grad = tch::no_grad_guard();
        let waiting: VecDeque<usize> = (requests.iter().enumerate())
            .filter(|(_, r)| r.max_new_tokens > 0)
            .map(|(i, _)| i)
            .collect();
        if waiting.is_empty() {
            return Ok(nothing_yet(requests));
        }
        self.gpu.find_out(&self.runner.decoder, &self.config);
        let (runner, config) = (&self.runner, &self.config);
        let decoder = &runner.decoder;
        let model = decoder.config();
        let kind = decoder.kind();
        let context = |i: usize| requests[i].prompt.len() + requests[i].guidance.len();
        let longest = (waiting.iter())
            .map(|&i| context(i) + requests[i].max_new_tokens)
            .max()
            .unwrap_or(0);
        let most_new = (waiting.iter().map(|&i| requests[i].max_new_tokens))
            .max()
            .unwrap_or(0);
        decoder.check_length(longest)?;
        let n = waiting.len();
        // The last token is not fed any more.
        let capacity = most_new.saturating_sub(1).max(1);
        // Contexts count with what a row has of them on average; `next_batch` sees to the rest.
        let bytes = |positions| bytes_of(model, kind, positions);
        let contexts: usize = (distinct_groups(requests, &waiting))
            .map(|group| context_bytes(requests, &group, bytes))
            .sum();
        let row_bytes = bytes(capacity) + state_bytes(model, kind) + contexts.div_ceil(n);
        let max_rows = (config.max_rows.min(n))
            .min(config.max_cache_bytes / row_bytes.max(1))
            .max(1);
        let limits = (max_rows, capacity, longest);
        let flash = FlashRows::new(runner, &mut self.gpu, limits, config.max_cache_bytes)?;
        let decoding: Box<dyn Decoding> = if let Some(flash) = flash {
            Box::new(flash)
        } else if let Some(host) = HostRows::new(runner, max_rows, capacity, longest)? {
            Box::new(host)
        } else {
            Box::new(DeviceRows::new(runner, max_rows, capacity, longest)?)
        };
        let lm_head = decoder.lm_head();
        let sampler: Box<dyn BatchSampler> = match (lm_head.device(), lm_head.kind()) {
            (Device::Cpu, Kind::Float) => Box::new(HostSampler::new(params, max_rows, lm_head)?),
            _ => Box::new(DeviceSampler::new(params, max_rows, lm_head)?),
        };
        let mut run = Run {
            runner,
            config,
            requests,
            params,
            stop: &stop,
            waiting,
            seen: vec![BTreeSet::new(); requests.len()],
            completions: nothing_yet(requests),
            rows: Vec::with_capacity(max_rows),
            max_rows,
            decoding,
            sampler,
        };
        run.run(finished)?;
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
    /// Per row the request it works on; `None` once that is finished.
    rows: Vec<Option<usize>>,
    max_rows: usize,
    decoding: Box<dyn Decoding + 'a>,
    /// Distinct ids of every request's sequence so far; empty unless there is a penalty.
    seen: Vec<BTreeSet<TokenId>>,
    sampler: Box<dyn BatchSampler + 'a>,
}

impl Run<'_> {
    fn run(&mut self, finished: &mut Finished<'_>) -> Result<()> {
        let mut hidden_bh = self.admit()?;
        while let Some(hidden) = hidden_bh {
            self.sample(&hidden, finished)?;
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
            (self.decoding.add_rows(&filled))
                .doing(|| format!("keeping the contexts of {} rollouts", requests.len()))?;
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
        let decoder = &self.runner.decoder;
        let (model, kind) = (decoder.config(), decoder.kind());
        let mut bytes = self.decoding.bytes();
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
            let members: Vec<usize> = self.waiting.iter().take(taken).copied().collect();
            bytes += members.len() * state_bytes(model, kind);
            bytes += context_bytes(self.requests, &members, |n| bytes_of(model, kind, n));
            // A group that exceeds a limit by itself is served alone.
            let joins = !batch.is_empty();
            if taken == 0
                || (joins && tokens > self.config.max_prefill_tokens)
                || ((joins || !self.rows.is_empty()) && bytes > self.config.max_cache_bytes)
            {
                break;
            }
            distinct += 1 + guided;
            widest = widest.max(width);
            batch.extend(self.waiting.drain(..taken));
        }
        batch
    }

    /// Draws the next id of every unfinished row from its hidden state, and hands over what ends by it.
    fn sample(&mut self, hidden_bh: &Tensor, finished: &mut Finished<'_>) -> Result<()> {
        let rows: Vec<Option<Row<'_>>> = (self.rows.iter())
            .map(|place| {
                place.map(|i| Row {
                    u: (self.requests[i].key).uniform(self.completions[i].tokens.len()),
                    seen: &self.seen[i],
                })
            })
            .collect();
        let draws = (self.sampler.draw(hidden_bh, &rows))
            .doing(|| format!("drawing the next ids of {} rollouts", rows.len()))?;
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
            let ends = self.stop.ends(&completion.tokens)?;
            if ends {
                completion.stop = Stop::Eos;
            }
            if ends || completion.tokens.len() >= self.requests[i].max_new_tokens {
                finished(i, completion);
                *place = None;
            }
        }
        Ok(())
    }

    /// Frees the rows that are finished.
    fn drop_finished(&mut self) -> Result<()> {
        let gone: Vec<usize> = (self.rows.iter().enumerate())
            .filter(|(_, place)| place.is_none())
            .map(|(row, _)| row)
            .collect();
        if gone.is_empty() {
            return Ok(());
        }
        (self.decoding.remove_rows(&gone))
            .doing(|| format!("freeing the rows of {} rollouts", gone.len()))?;
        for &row in gone.iter().rev() {
            self.rows.swap_remove(row);
        }
        Ok(())
    }

    /// Feeds every row its last id; the hidden states behind it.
    fn step(&mut self) -> Result<Tensor> {
        let last = |&i: &usize| (self.completions[i].tokens.last()).map_or(0, |&id| i64::from(id));
        let ids: Vec<i64> = self.rows.iter().flatten().map(last).collect();
        (self.decoding.step(&ids))
            .doing(|| format!("computing a position of {} rollouts", ids.len()))
    }
}

fn nothing_yet(requests: &[Request]) -> Vec<Completion> {
    let empty = |_| Completion {
        tokens: Vec::new(),
        logps: Vec::new(),
        log_kept: Vec::new(),
        weight_versions: None,
        stop: Stop::Length,
    };
    requests.iter().map(empty).collect()
}

/// Groups of equal prompts that follow one another.
fn distinct_groups<'a>(
    requests: &'a [Request],
    order: &'a VecDeque<usize>,
) -> impl Iterator<Item = Vec<usize>> + 'a {
    let mut at = 0;
    std::iter::from_fn(move || {
        let prompt = &requests[*order.get(at)?].prompt;
        let group = order
            .range(at..)
            .take_while(|&&i| requests[i].prompt == *prompt);
        let group: Vec<usize> = group.copied().collect();
        at += group.len();
        Some(group)
    })
}

/// Bytes of the contexts of a group.
fn context_bytes(requests: &[Request], group: &[usize], bytes: impl Fn(usize) -> usize) -> usize {
    let sharing = Sharing::of(group.iter().map(|&i| &requests[i]));
    sharing.lens().map(bytes).sum()
}
