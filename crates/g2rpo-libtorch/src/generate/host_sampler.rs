//! Draws from hidden states in host memory.

use g2rpo_rollout::{SamplingParams, TokenId};
use tch::Tensor;

use super::filter::{filter, keeps_all};
use super::host::gemm::{Rows, columns, multiply_into_columns};
use super::host::math::{normaliser, soften};
use super::host::own::reserve;
use super::host::threads::Threads;
use super::sampler::{self, BatchSampler, Draw, Row};
use crate::error::Result;
use crate::generate::slice::f32_slice;

/// [`BatchSampler`] for f32 in host memory.
#[derive(Debug)]
pub(super) struct HostSampler<'a> {
    params: &'a SamplingParams,
    /// `[vocab, hidden]`.
    lm_head: &'a [f32],
    vocab: usize,
    threads: Threads,
    /// Scratch, `[rows, vocab]`: reusing it spares the page faults that fresh megabytes cost at
    /// every step.
    logits: Vec<f32>,
}

impl<'a> HostSampler<'a> {
    pub(super) fn new(
        params: &'a SamplingParams,
        max_rows: usize,
        lm_head_vh: &'a Tensor,
    ) -> Result<Self> {
        let vocab = lm_head_vh.size2()?.0 as usize;
        let logits = reserve(max_rows.saturating_mul(vocab), || {
            format!("allocating the logits of {max_rows} rows of {vocab} ids")
        })?;
        Ok(Self {
            params,
            lm_head: f32_slice(lm_head_vh)?,
            vocab,
            threads: Threads::new(usize::try_from(tch::get_num_threads()).unwrap_or(1))?,
            logits,
        })
    }
}

impl BatchSampler for HostSampler<'_> {
    fn draw(&mut self, hidden_bh: &Tensor, rows: &[Option<Row<'_>>]) -> Result<Vec<Option<Draw>>> {
        let (b, h) = hidden_bh.size2()?;
        let (b, h, vocab) = (b as usize, h as usize, self.vocab);
        let hidden_hb = hidden_bh.f_transpose(0, 1)?.f_contiguous()?;
        let x = Rows::dense(f32_slice(&hidden_hb)?, b);
        self.logits.resize(b * vocab, 0.0);
        let (logits, lm_head, params) = (&mut self.logits[..], self.lm_head, self.params);
        let mut draws = vec![None; rows.len()];
        let threads = &self.threads;
        threads.run(|| {
            let share = threads.share(vocab, 1, vocab * h * b);
            threads.each(columns(logits, vocab, share), |i, mut columns| {
                let from = i * share * h;
                let weights = &lm_head[from..lm_head.len().min(from + share * h)];
                multiply_into_columns(weights, x, &mut columns);
            });
            let rows = (logits.chunks_exact_mut(vocab)).zip(rows).zip(&mut draws);
            threads.each(rows.collect(), |_, ((logits, row), draw)| {
                *draw = row.and_then(|row| draw_row(logits, row, params));
            });
        });
        Ok(draws)
    }
}

/// One draw from a row of logits, which are used up.
fn draw_row(logits: &mut [f32], row: Row<'_>, params: &SamplingParams) -> Option<Draw> {
    let greedy = params.temperature == 0.0;
    let temperature = if greedy { 1.0 } else { params.temperature };
    let penalty = params.repetition_penalty != 1.0;
    // Maximum and sum without the penalty, and the logits that it changes.
    let plain = (greedy || penalty).then(|| normaliser(logits, temperature));
    let mut changed = Vec::new();
    if penalty {
        let before = (row.seen.iter()).filter_map(|&id| Some((id, *logits.get(id as usize)?)));
        changed.extend(before);
        sampler::penalise(logits, row.seen.iter().copied(), params.repetition_penalty);
    }
    // What the plain distribution gives to an id whose logit, if the penalty left it alone, is this.
    let plainly = |id: TokenId, logit: f64| {
        let known = changed.binary_search_by_key(&id, |&(id, _)| id);
        let logit = known.map_or(logit, |i| f64::from(changed[i].1));
        plain.map(|(max, sum)| ((logit - f64::from(max)) / temperature - sum.ln()) as f32)
    };
    if greedy {
        let id = sampler::best(logits)?;
        let logp = plainly(id as TokenId, f64::from(logits[id]))?;
        return Draw::greedy(id as TokenId, logp);
    }
    let max = soften(logits, temperature);
    let all = sampler::total(logits);
    if !(all > 0.0 && all < f64::INFINITY) {
        return None;
    }
    if !keeps_all(params) {
        filter(logits, params, all);
    }
    let draw = sampler::draw(logits, all, row.u)?;
    if !penalty {
        return Some(draw);
    }
    let weight = f64::from(logits[draw.token as usize]);
    let logit = f64::from(max) + temperature * weight.ln();
    Some(draw.seen_plainly(plainly(draw.token, logit)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generate::device_sampler::DeviceSampler;
    use std::collections::BTreeSet;
    use tch::{Device, Kind};

    #[test]
    fn draws_are_those_of_the_device() {
        tch::manual_seed(2);
        tch::set_num_threads(1);
        let lm_head = Tensor::randn([300, 8], (Kind::Float, Device::Cpu));
        // Small whole numbers, so that many logits are equal.
        let lm_head = lm_head.round();
        let hidden = Tensor::randn([40, 8], (Kind::Float, Device::Cpu)).round();
        let seen: BTreeSet<u32> = (0..300).step_by(7).collect();
        let rows: Vec<Option<Row<'_>>> = (0..40)
            .map(|i| {
                (i != 5).then_some(Row {
                    u: (f64::from(i) + 0.5) / 40.0,
                    seen: &seen,
                })
            })
            .collect();
        // Temperature, top-k, top-p, min-p, penalty.
        for (temperature, top_k, top_p, min_p, repetition_penalty) in [
            (1.0, 0, 1.0, 0.0, 1.0),
            (0.0, 0, 1.0, 0.0, 1.0),
            (0.6, 0, 1.0, 0.0, 1.0),
            (1.3, 20, 0.9, 0.0, 1.0),
            (1.0, 5, 1.0, 0.0, 1.0),
            (1.0, 0, 0.5, 0.0, 1.0),
            (2.0, 31, 0.9, 0.02, 1.2),
            (0.8, 0, 1.0, 0.05, 1.4),
            (0.0, 0, 1.0, 0.0, 1.4),
        ] {
            let params = SamplingParams {
                temperature,
                top_k,
                top_p,
                min_p,
                repetition_penalty,
                ..SamplingParams::default()
            };
            let mut host = HostSampler::new(&params, 40, &lm_head).unwrap();
            let mut device = DeviceSampler::new(&params, 40, &lm_head).unwrap();
            let ours = host.draw(&hidden, &rows).unwrap();
            let theirs = device.draw(&hidden, &rows).unwrap();
            assert!(ours[5].is_none());
            for (ours, theirs) in ours.iter().zip(&theirs) {
                assert_eq!(ours.is_some(), theirs.is_some());
                let (Some(ours), Some(theirs)) = (ours, theirs) else {
                    continue;
                };
                assert_eq!(ours.token, theirs.token, "{params:?}");
                approx::assert_abs_diff_eq!(ours.logp, theirs.logp, epsilon = 1e-5);
                approx::assert_abs_diff_eq!(ours.log_kept, theirs.log_kept, epsilon = 1e-5);
            }
            assert_eq!(ours.iter().flatten().count(), 39);
        }
    }
}
