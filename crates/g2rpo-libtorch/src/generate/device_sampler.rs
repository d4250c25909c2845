//! Sampling where the probabilities are, so that only what was drawn leaves a GPU. With filters or
//! a penalty the probabilities are copied to the host.

use g2rpo_rollout::{SamplingParams, TokenId};
use tch::{Device, Kind, Tensor};

use super::sampler::{self, Draw, Filter, Row};
use crate::error::Doing;
use crate::error::Result;
use crate::generate::slice::f32_slice;

/// [`BatchSampler`](super::batch_sampler::BatchSampler) by libtorch's operations.
#[derive(Debug)]
pub(super) struct DeviceSampler<'a> {
    params: &'a SamplingParams,
    lm_head_vh: &'a Tensor,
    filter: Filter,
    /// Scratch for logits and probabilities, `[rows, vocab]`.
    logits_bv: Tensor,
    probabilities_bv: Tensor,
}

impl<'a> DeviceSampler<'a> {
    pub(super) fn new(
        params: &'a SamplingParams,
        max_rows: usize,
        lm_head_vh: &'a Tensor,
    ) -> Result<Self> {
        let vocab = lm_head_vh.size2()?.0;
        let scratch = || {
            Tensor::f_empty([max_rows as i64, vocab], (Kind::Float, lm_head_vh.device()))
                .doing(|| format!("allocating the logits of {max_rows} rows of {vocab} ids"))
        };
        Ok(Self {
            params,
            lm_head_vh,
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
        rows: &[Option<Row<'_>>],
    ) -> Result<Vec<Option<Draw>>> {
        let b = rows.len() as i64;
        let logits_bv = self.logits_bv.f_narrow(0, 0, b)?;
        let probabilities_bv = self.probabilities_bv.f_narrow(0, 0, b)?;
        let logits = hidden_bh.f_linear(self.lm_head_vh, None::<&Tensor>)?;
        logits_bv.shallow_clone().f_copy_(&logits)?;
        let greedy = self.params.temperature == 0.0;
        let penalty = self.params.repetition_penalty != 1.0;
        let keeps_all = sampler::keeps_all(self.params);
        let temperature = if greedy { 1.0 } else { self.params.temperature };
        if !penalty && (greedy || keeps_all) {
            if greedy {
                soften(&logits_bv, temperature, &probabilities_bv)?;
                return greedy_all(&logits_bv, &probabilities_bv);
            }
            soften(&logits_bv, temperature, &probabilities_bv)?;
            let draws: Vec<f64> = rows.iter().map(|r| r.map_or(0.0, |r| r.u)).collect();
            return draw_all(&probabilities_bv, &draws);
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
                true => {
                    draw.map(|draw| sampler::seen_plainly(draw, plain[draw.token as usize].ln()))
                }
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

/// As [`sampler::draw_all`](super::sampler::draw_all) for every row of `probabilities`
/// (`[b, v]`, f32), with one draw in `[0, 1)` per row.
fn draw_all(probabilities_bv: &Tensor, draws: &[f64]) -> Result<Vec<Option<Draw>>> {
    let u = Tensor::f_from_slice(draws)?.f_to_device(probabilities_bv.device())?;
    let cumulative_bv = probabilities_bv.f_cumsum(-1, Kind::Double)?;
    let total_b1 = cumulative_bv.f_narrow(1, cumulative_bv.size()[1] - 1, 1)?;
    let target_b1 = u.f_unsqueeze(1)?.f_mul(&total_b1)?;
    let id_b1 = target_b1
        .f_searchsorted(&cumulative_bv, false, true, "right", None::<&Tensor>)?
        .f_clamp_max(cumulative_bv.size()[1] - 1)?;
    let logp_b1 = probabilities_bv.f_gather(1, &id_b1, false)?.f_log()?;
    collect(&id_b1, &logp_b1, &total_b1, |_, logp| {
        // A draw at the very end of the distribution can be rounded past its last id.
        logp.is_finite().then_some(0.0)
    })
}

/// As [`sampler::greedy`](super::sampler::greedy) for every row.
fn greedy_all(logits_bv: &Tensor, probabilities_bv: &Tensor) -> Result<Vec<Option<Draw>>> {
    let id_b1 = logits_bv.f_argmax(-1, true)?;
    let logp_b1 = probabilities_bv.f_gather(1, &id_b1, false)?.f_log()?;
    let total_b1 = probabilities_bv.f_sum_dim_intlist(-1, true, Kind::Double)?;
    collect(&id_b1, &logp_b1, &total_b1, |_, logp| Some(logp))
}

/// One transfer of ids, log-probabilities and sums to the host; rows whose sum is not finite hold
/// no distribution.
fn collect(
    id_b1: &Tensor,
    logp_b1: &Tensor,
    total_b1: &Tensor,
    log_kept: impl Fn(TokenId, f32) -> Option<f32>,
) -> Result<Vec<Option<Draw>>> {
    let columns = Tensor::f_cat(
        &[
            id_b1.f_to_kind(Kind::Double)?,
            logp_b1.f_to_kind(Kind::Double)?,
            total_b1.f_to_kind(Kind::Double)?,
        ],
        1,
    )?;
    let values = Vec::<f64>::try_from(columns.f_reshape([-1])?)?;
    Ok((values.chunks_exact(3))
        .map(|row| {
            let (token, logp) = (row[0] as TokenId, row[1] as f32);
            let valid = row[2].is_finite() && row[2] > 0.0;
            log_kept(token, logp)
                .filter(|_| valid)
                .map(|log_kept| Draw {
                    token,
                    logp,
                    log_kept,
                })
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_are_those_of_the_host() {
        tch::manual_seed(1);
        let logits = Tensor::randn([300, 700], (Kind::Float, Device::Cpu)) * 3.0;
        let probabilities = logits.softmax(-1, Kind::Float);
        let u: Vec<f64> = (0..300).map(|i| f64::from(i) / 300.0).collect();
        let ours = draw_all(&probabilities, &u).unwrap();
        let best = greedy_all(&logits, &probabilities).unwrap();
        let (logits, rows) = (
            f32_slice(&logits).unwrap(),
            f32_slice(&probabilities).unwrap(),
        );
        for (i, row) in rows.chunks_exact(700).enumerate() {
            let host = sampler::draw_all(row, u[i]).unwrap();
            let device = ours[i].unwrap();
            assert_eq!(device.token, host.token, "row {i}");
            approx::assert_abs_diff_eq!(device.logp, host.logp, epsilon = 1e-6);
            let host = sampler::greedy(&logits[i * 700..][..700], row).unwrap();
            assert_eq!(best[i].unwrap().token, host.token, "row {i}");
            approx::assert_abs_diff_eq!(best[i].unwrap().log_kept, host.log_kept, epsilon = 1e-6);
        }
    }

    #[test]
    fn rows_without_a_distribution_draw_nothing() {
        let bad = Tensor::from_slice(&[0.5f32, f32::NAN, 0.5, 0.5]).view([2, 2]);
        let draws = draw_all(&bad, &[0.1, 0.1]).unwrap();
        assert!(draws[0].is_none() && draws[1].is_some());
        assert!(greedy_all(&bad, &bad).unwrap()[0].is_none());
    }
}
