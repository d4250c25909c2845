//! Sampling where the probabilities are, so that only what was drawn leaves a GPU.

use g2rpo_rollout::TokenId;
use tch::{Kind, Tensor};

use super::sampler::Draw;
use crate::Result;

/// As [`sampler::draw_all`](super::sampler::draw_all) for every row of `probabilities`
/// (`[b, v]`, f32), with one draw in `[0, 1)` per row.
pub(super) fn draw_all(probabilities_bv: &Tensor, draws: &[f64]) -> Result<Vec<Option<Draw>>> {
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
pub(super) fn greedy(logits_bv: &Tensor, probabilities_bv: &Tensor) -> Result<Vec<Option<Draw>>> {
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
    use crate::generate::sampler;
    use crate::slice::f32_slice;
    use tch::Device;

    #[test]
    fn draws_are_those_of_the_host() {
        tch::manual_seed(1);
        let logits = Tensor::randn([300, 700], (Kind::Float, Device::Cpu)) * 3.0;
        let probabilities = logits.softmax(-1, Kind::Float);
        let u: Vec<f64> = (0..300).map(|i| f64::from(i) / 300.0).collect();
        let ours = draw_all(&probabilities, &u).unwrap();
        let best = greedy(&logits, &probabilities).unwrap();
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
        assert!(greedy(&bad, &bad).unwrap()[0].is_none());
    }
}
