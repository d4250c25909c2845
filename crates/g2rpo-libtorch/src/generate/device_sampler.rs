//! Sampling where the logits are: only what was drawn leaves a device.

use g2rpo_rollout::{SamplingParams, TokenId};
use tch::{Device, Kind, Tensor};

use super::filter::keeps_all;
use super::sampler::{BatchSampler, Draw, Row};
use crate::error::{Doing, Result};

/// [`BatchSampler`] by libtorch's operations.
#[derive(Debug)]
pub(super) struct DeviceSampler<'a> {
    params: &'a SamplingParams,
    lm_head_vh: &'a Tensor,
    /// Scratch for logits, which become weights, `[rows, vocab]`.
    logits_bv: Tensor,
    /// Scratch for logits under a penalty, if there is one.
    penalised_bv: Option<Tensor>,
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
            logits_bv: scratch()?,
            penalised_bv: (params.repetition_penalty != 1.0)
                .then(scratch)
                .transpose()?,
        })
    }
}

impl BatchSampler for DeviceSampler<'_> {
    fn draw(&mut self, hidden_bh: &Tensor, rows: &[Option<Row<'_>>]) -> Result<Vec<Option<Draw>>> {
        let b = rows.len() as i64;
        let mut logits_bv = self.logits_bv.f_narrow(0, 0, b)?;
        logits_bv.f_copy_(&hidden_bh.f_linear(self.lm_head_vh, None::<&Tensor>)?)?;
        let params = self.params;
        let greedy = params.temperature == 0.0;
        let temperature = if greedy { 1.0 } else { params.temperature };
        let penalised_bv = match &self.penalised_bv {
            None => None,
            Some(scratch) => {
                let mut copy = scratch.f_narrow(0, 0, b)?;
                copy.f_copy_(&logits_bv)?;
                penalise(&copy, rows, params.repetition_penalty)?;
                Some(copy)
            }
        };
        if !greedy && penalised_bv.is_none() {
            let drawn = drawn(&soften(&logits_bv, temperature)?, rows, params)?;
            return drawn.collect(rows, Columns::draw);
        }
        // The plain log-probability of what is chosen by other numbers.
        let _ = logits_bv.f_div_scalar_(temperature)?;
        let all_b1 = logits_bv.f_logsumexp([-1i64], true)?;
        let plainly = |id_b1: &Tensor| logits_bv.f_gather(1, id_b1, false)?.f_sub(&all_b1);
        if greedy {
            let id_b1 = (penalised_bv.as_ref().unwrap_or(&logits_bv)).f_argmax(-1, true)?;
            let logp_b1 = plainly(&id_b1)?;
            let chosen = Columns(vec![id_b1, logp_b1]);
            return chosen.collect(rows, |row| Draw::greedy(row[0] as TokenId, row[1] as f32));
        }
        let weights_bv = soften(penalised_bv.as_ref().unwrap_or(&logits_bv), temperature)?;
        let mut drawn = drawn(&weights_bv, rows, params)?;
        drawn.0.push(plainly(&drawn.0[0])?);
        drawn.collect(rows, |row| {
            let draw = Columns::draw(row)?;
            row[4].is_finite().then(|| draw.seen_plainly(row[4] as f32))
        })
    }
}

/// As [`sampler::penalise`](super::sampler::penalise) for every row, in place.
fn penalise(logits_bv: &Tensor, rows: &[Option<Row<'_>>], penalty: f64) -> Result<()> {
    let vocab = logits_bv.size2()?.1;
    let ids: Vec<i64> = (0..)
        .zip(rows)
        .filter_map(|(i, row)| Some((i, row.as_ref()?)))
        .flat_map(|(i, row)| row.seen.iter().map(move |&id| i * vocab + i64::from(id)))
        .collect();
    let ids = Tensor::f_from_slice(&ids)?.f_to_device(logits_bv.device())?;
    let mut flat = logits_bv.f_view(-1)?;
    let x = flat.f_index_select(0, &ids)?.f_to_kind(Kind::Double)?;
    let (less, more) = (x.f_div_scalar(penalty)?, x.f_mul_scalar(penalty)?);
    let x = less.f_where_self(&x.f_gt(0.0)?, &more)?;
    let _ = flat.f_index_copy_(0, &ids, &x.f_to_kind(Kind::Float)?)?;
    Ok(())
}

/// Weights `exp((logit - max) / temperature)`, in place.
fn soften(logits_bv: &Tensor, temperature: f64) -> Result<Tensor> {
    let max_b1 = logits_bv.f_amax([-1i64], true)?;
    Ok(logits_bv
        .shallow_clone()
        .f_sub_(&max_b1)?
        .f_div_scalar_(temperature)?
        .f_exp_()?)
}

/// As [`sampler::draw`](super::sampler::draw) for every row of weights, `[b, v]` in f32: ids, weights, sums of the
/// weights that are kept and of all. What is not kept is set to zero.
fn drawn(
    weights_bv: &Tensor,
    rows: &[Option<Row<'_>>],
    params: &SamplingParams,
) -> Result<Columns> {
    let last = weights_bv.size2()?.1 - 1;
    let all_b1 = weights_bv.f_sum_dim_intlist(-1, true, Kind::Double)?;
    if !keeps_all(params) {
        filter(weights_bv, params, &all_b1)?;
    }
    let u: Vec<f64> = rows.iter().map(|r| r.map_or(0.0, |r| r.u)).collect();
    let u_b1 = Tensor::f_from_slice(&u)?
        .f_to_device(weights_bv.device())?
        .f_unsqueeze(1)?;
    let sums_bv = weights_bv.f_cumsum(-1, Kind::Double)?;
    let kept_b1 = sums_bv.f_narrow(1, last, 1)?.f_contiguous()?;
    let find = |target_b1: &Tensor, side: &str| {
        target_b1.f_searchsorted(&sums_bv, false, false, side, None::<&Tensor>)
    };
    // Where rounding put the target at the end, the last id that has any weight.
    let id_b1 = find(&u_b1.f_mul(&kept_b1)?, "right")?
        .f_minimum(&find(&kept_b1, "left")?)?
        .f_clamp_max(last)?;
    let weight_b1 = weights_bv.f_gather(1, &id_b1, false)?;
    Ok(Columns(vec![id_b1, weight_b1, kept_b1, all_b1]))
}

/// As [`filter`](super::filter::filter) for every row, in place; `all_b1` are the sums of the weights.
fn filter(weights_bv: &Tensor, params: &SamplingParams, all_b1: &Tensor) -> Result<()> {
    let vocab = weights_bv.size2()?.1;
    let best_b1 = weights_bv.f_amax([-1i64], true)?.f_to_kind(Kind::Double)?;
    let mut floor_b1 = best_b1.f_mul_scalar(params.min_p)?.f_to_kind(Kind::Float)?;
    let mut mass_b1 = all_b1.shallow_clone();
    let k = params.top_k as i64;
    let top_k = k > 0 && k < vocab;
    // Sums over those that a mask keeps.
    let sum_b1 = |kept_bv: &Tensor| {
        let none = Tensor::f_zeros([1], (Kind::Float, weights_bv.device()))?;
        (weights_bv.f_where_self(kept_bv, &none)?).f_sum_dim_intlist(-1, true, Kind::Double)
    };
    let sorted_bk = match (top_k, params.top_p < 1.0) {
        (true, _) => Some(weights_bv.f_topk(k, -1, true, true)?.0),
        (false, true) => Some(weights_bv.f_sort(-1, true)?.0),
        (false, false) => None,
    };
    if let Some(sorted_bk) = &sorted_bk {
        let n = sorted_bk.size2()?.1;
        if top_k {
            let kth_b1 = sorted_bk.f_narrow(1, n - 1, 1)?;
            floor_b1 = floor_b1.f_maximum(&kth_b1)?;
            mass_b1 = sum_b1(&weights_bv.f_ge_tensor(&kth_b1)?)?;
        }
        if params.top_p < 1.0 {
            let target_b1 = mass_b1.f_mul_scalar(params.top_p)?;
            let sums_bk = sorted_bk.f_cumsum(-1, Kind::Double)?;
            let before_bk = sums_bk.f_sub(sorted_bk)?;
            let place_b1 = (before_bk.f_lt_tensor(&target_b1)?)
                .f_sum_dim_intlist(-1, true, Kind::Int64)?
                .f_sub_scalar(1)?
                .f_clamp(0, n - 1)?;
            let least_b1 = sorted_bk.f_gather(1, &place_b1, false)?;
            let above_b1 = sum_b1(&weights_bv.f_gt_tensor(&least_b1)?)?;
            // As `ties` of the host; of those at the floor the first are kept.
            let ties_b1 = target_b1
                .f_sub(&above_b1)?
                .f_div(&least_b1)?
                .f_ceil()?
                .f_clamp_min(1)?;
            let equal_bv = weights_bv.f_eq_tensor(&least_b1)?;
            let rank_bv = equal_bv.f_cumsum(-1, Kind::Int)?;
            let excess_bv = rank_bv.f_gt_tensor(&ties_b1)?.f_logical_and(&equal_bv)?;
            // A greater floor drops none of its own.
            let excess_bv = excess_bv.f_logical_and(&least_b1.f_ge_tensor(&floor_b1)?)?;
            let _ = weights_bv.shallow_clone().f_masked_fill_(&excess_bv, 0.0)?;
            floor_b1 = floor_b1.f_maximum(&least_b1)?;
        }
    }
    let below_bv = weights_bv.f_lt_tensor(&floor_b1)?;
    let _ = weights_bv.shallow_clone().f_masked_fill_(&below_bv, 0.0)?;
    Ok(())
}

/// Columns `[b, 1]` of numbers about the draws.
struct Columns(Vec<Tensor>);

impl Columns {
    /// The draw that the numbers of a row of [`drawn`] say.
    fn draw(row: &[f64]) -> Option<Draw> {
        Draw::of(row[0] as TokenId, row[1], row[2], row[3])
    }

    /// The one transfer to the host; the draw that `of` makes of the numbers of each row that draws.
    fn collect(
        &self,
        rows: &[Option<Row<'_>>],
        of: impl Fn(&[f64]) -> Option<Draw>,
    ) -> Result<Vec<Option<Draw>>> {
        let columns = (self.0.iter().map(|column| column.f_to_kind(Kind::Double)))
            .collect::<Result<Vec<_>, _>>()?;
        let rows_bc = Tensor::f_cat(&columns, 1)?.f_to_device(Device::Cpu)?;
        let values = Vec::<f64>::try_from(rows_bc.f_reshape([-1])?)?;
        Ok((values.chunks_exact(self.0.len()).zip(rows))
            .map(|(values, row)| row.and_then(|_| of(values)))
            .collect())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::generate::filter;
    use crate::generate::sampler;
    use crate::generate::slice::f32_slice;

    /// What the host draws and keeps of the same weights.
    fn of_host(weights: &[f32], params: &SamplingParams, u: f64) -> (Option<Draw>, Vec<f32>) {
        let (mut kept, all) = (weights.to_vec(), sampler::total(weights));
        filter::filter(&mut kept, params, all);
        (sampler::draw(&kept, all, u), kept)
    }

    #[test]
    fn draws_are_those_of_the_host() {
        tch::manual_seed(1);
        let (b, v) = (48, 300);
        let smooth = (Tensor::randn([b, v], (Kind::Float, Device::Cpu)) * 3.0).exp();
        // Of few different weights, some of them zero.
        let ties = Tensor::randint(6, [b, v], (Kind::Float, Device::Cpu)) / 8.0;
        let seen = BTreeSet::new();
        let us: Vec<f64> = (0..b)
            .map(|i| i as f64 / b as f64)
            .chain([1.0 - f64::EPSILON / 2.0])
            .collect();
        let rows: Vec<Option<Row<'_>>> = (us[1..].iter())
            .map(|&u| Some(Row { u, seen: &seen }))
            .collect();
        for case in 0..72 {
            let params = sampler::with(|p| {
                p.top_k = [0, 1, 20, 299][case % 4];
                p.top_p = [1.0, 0.9, 0.3][case / 4 % 3];
                p.min_p = [0.0, 0.25, 1.0][case / 12 % 3];
            });
            let weights = if case < 36 { &smooth } else { &ties };
            let before = f32_slice(weights).unwrap();
            let device_bv = weights.copy();
            let ours = drawn(&device_bv, &rows, &params).unwrap();
            let ours = ours.collect(&rows, Columns::draw);
            let kept = f32_slice(&device_bv).unwrap();
            for (i, ours) in ours.unwrap().into_iter().enumerate() {
                let row = i * v as usize..(i + 1) * v as usize;
                let (draw, kept_there) = of_host(&before[row.clone()], &params, us[i + 1]);
                assert_eq!(&kept[row], kept_there, "{params:?}, row {i}");
                let (ours, draw) = (ours.unwrap(), draw.unwrap());
                assert_eq!(ours.token, draw.token, "{params:?}, row {i}");
                approx::assert_abs_diff_eq!(ours.logp, draw.logp, epsilon = 1e-6);
                approx::assert_abs_diff_eq!(ours.log_kept, draw.log_kept, epsilon = 1e-6);
            }
        }
    }

    #[test]
    fn rows_without_a_distribution_draw_nothing() {
        let bad = Tensor::from_slice(&[0.5f32, f32::NAN, 0.5, 0.5]).view([2, 2]);
        let seen = BTreeSet::new();
        let row = Some(Row {
            u: 0.1,
            seen: &seen,
        });
        for top_p in [1.0, 0.9] {
            let params = sampler::with(|p| p.top_p = top_p);
            let columns = drawn(&bad.copy(), &[row, row], &params).unwrap();
            let draws = columns.collect(&[row, row], Columns::draw).unwrap();
            assert!(draws[0].is_none() && draws[1].is_some());
        }
    }
}
