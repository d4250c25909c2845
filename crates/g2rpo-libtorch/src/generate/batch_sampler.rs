use std::collections::BTreeSet;

use g2rpo_rollout::{SamplingParams, TokenId};
use tch::{Device, Kind, Tensor};

use super::device_sampler;
use super::sampler::{self, Draw, Filter};
use crate::Result;
use crate::error::Doing;
use crate::slice::f32_slice;

/// From hidden states to drawn ids, for all rows at once.
#[derive(Debug)]
pub(super) struct BatchSampler<'a> {
    params: &'a SamplingParams,
    filter: Filter,
    /// Scratch for logits and probabilities, `[rows, vocab]`: reusing it spares the page faults
    /// that a fresh buffer of megabytes costs at every step.
    logits_bv: Tensor,
    probabilities_bv: Tensor,
}

/// What a draw of one row depends on besides its distribution.
#[derive(Debug, Clone, Copy)]
pub(super) struct Row<'a> {
    /// In `[0, 1)`.
    pub(super) u: f64,
    /// Ids of the sequence so far; looked at only if there is a repetition penalty.
    pub(super) seen: &'a BTreeSet<TokenId>,
}

impl<'a> BatchSampler<'a> {
    pub(super) fn new(
        params: &'a SamplingParams,
        max_rows: usize,
        vocab: usize,
        device: Device,
    ) -> Result<Self> {
        let scratch = || {
            Tensor::f_empty([max_rows as i64, vocab as i64], (Kind::Float, device))
                .doing(|| format!("allocating the logits of {max_rows} rows of {vocab} ids"))
        };
        Ok(Self {
            params,
            filter: Filter::default(),
            logits_bv: scratch()?,
            probabilities_bv: scratch()?,
        })
    }

    /// One draw per row of `hidden_bh`; rows that are `None` draw nothing. A row's draw is `None`
    /// as well if its logits are not finite.
    pub(super) fn draw(
        &mut self,
        hidden_bh: &Tensor,
        lm_head_vh: &Tensor,
        rows: &[Option<Row<'_>>],
    ) -> Result<Vec<Option<Draw>>> {
        let b = rows.len() as i64;
        let logits_bv = self.logits_bv.f_narrow(0, 0, b)?;
        let probabilities_bv = self.probabilities_bv.f_narrow(0, 0, b)?;
        project(hidden_bh, lm_head_vh, &logits_bv)?;
        let greedy = self.params.temperature == 0.0;
        let penalty = self.params.repetition_penalty != 1.0;
        let keeps_all = sampler::keeps_all(self.params);
        let temperature = if greedy { 1.0 } else { self.params.temperature };
        if hidden_bh.device() != Device::Cpu && !penalty && (greedy || keeps_all) {
            if greedy {
                soften(&logits_bv, temperature, &probabilities_bv)?;
                return device_sampler::greedy(&logits_bv, &probabilities_bv);
            }
            soften(&logits_bv, temperature, &probabilities_bv)?;
            let draws: Vec<f64> = rows.iter().map(|r| r.map_or(0.0, |r| r.u)).collect();
            return device_sampler::draw_all(&probabilities_bv, &draws);
        }
        // What ids are drawn from, if not the plain probabilities: those under the penalty, or
        // logits when the best is taken.
        let other_bv = match (penalty, greedy) {
            (true, true) => Some(self.penalised(&logits_bv, rows)?),
            (true, false) => {
                let logits_bv = self.penalised(&logits_bv, rows)?;
                let out = logits_bv.f_empty_like()?;
                soften(&logits_bv, temperature, &out)?;
                Some(out)
            }
            (false, true) => Some(on_host(&logits_bv)?),
            (false, false) => None,
        };
        soften(&logits_bv, temperature, &probabilities_bv)?;
        let plain_bv = on_host(&probabilities_bv)?;
        let plain = f32_slice(&plain_bv)?;
        let weights = match &other_bv {
            Some(t) => f32_slice(t)?,
            None => plain,
        };
        let (_, vocab) = logits_bv.size2()?;
        let vocab = vocab as usize;
        let mut draws = Vec::with_capacity(rows.len());
        for (i, row) in rows.iter().enumerate() {
            let plain = &plain[i * vocab..][..vocab];
            let weights = &weights[i * vocab..][..vocab];
            let draw = row.and_then(|row| match (greedy, keeps_all) {
                (true, _) => sampler::greedy(weights, plain),
                (false, true) => sampler::draw_all(weights, row.u),
                (false, false) => self.filter.draw(weights, self.params, row.u),
            });
            draws.push(match penalty && !greedy {
                true => draw.map(|draw| unpenalised(draw, plain)),
                false => draw,
            });
        }
        Ok(draws)
    }

    /// A copy of the logits on the CPU with the ids of each sequence made less probable.
    fn penalised(&self, logits_bv: &Tensor, rows: &[Option<Row<'_>>]) -> Result<Tensor> {
        let (b, v) = logits_bv.size2()?;
        let host = on_host(logits_bv)?;
        let mut values = f32_slice(&host)?.to_vec();
        for (logits, row) in values.chunks_exact_mut(v as usize).zip(rows) {
            if let Some(row) = row {
                let seen = row.seen.iter().copied();
                sampler::penalise(logits, seen, self.params.repetition_penalty);
            }
        }
        Ok(Tensor::f_from_slice(&values)?.f_view([b, v])?)
    }
}

/// Hidden states `[b, h]` to f32 logits `[b, v]` in `out`.
fn project(hidden_bh: &Tensor, lm_head_vh: &Tensor, out: &Tensor) -> Result<()> {
    // libtorch's CPU kernels multiply this shape faster with the large matrix on the left.
    let logits = match hidden_bh.device() {
        Device::Cpu => (lm_head_vh.f_mm(&hidden_bh.f_transpose(0, 1)?)?).f_transpose(0, 1)?,
        _ => hidden_bh.f_linear(lm_head_vh, None::<&Tensor>)?,
    };
    out.shallow_clone().f_copy_(&logits)?;
    Ok(())
}

/// Probabilities at a temperature; the logits are divided by it in place.
fn soften(logits: &Tensor, temperature: f64, out: &Tensor) -> Result<()> {
    if temperature != 1.0 {
        let _ = logits.shallow_clone().f_div_scalar_(temperature)?;
    }
    let _ = logits.f_internal_softmax_out(out, -1, false)?;
    Ok(())
}

fn on_host(t: &Tensor) -> Result<Tensor> {
    Ok(t.f_to_device(Device::Cpu)?.f_contiguous()?)
}

/// What was drawn under penalised probabilities, seen from the plain ones.
fn unpenalised(draw: Draw, plain: &[f32]) -> Draw {
    let logp = plain[draw.token as usize].ln();
    Draw {
        logp,
        log_kept: logp - (draw.logp - draw.log_kept),
        ..draw
    }
}
