//! GMPO: the geometric mean of one-sidedly clipped ratios.

use super::count::{count_where, record_clips};
use super::row::{RowPass, Scratch};
use crate::error::Result;
use crate::exp::{EXP_MAX, map_into, max, min, scale_by, sum};
use crate::metrics::LossMetrics;

impl RowPass<'_> {
    /// The geometric mean of one-sidedly clipped ratios. The top-entropy mask acts inside the mean.
    pub(super) fn gmpo(&self, scratch: &mut Scratch, metrics: &mut LossMetrics) -> Result<()> {
        let n_policy = scratch.n_policy;
        let (low, high) = (-self.config.epsilon, self.config.epsilon_high());
        let (mut n_low, mut n_high) = (0, 0);
        if self.advantage < 0.0 {
            n_low = count_where(&scratch.log_ratio, &scratch.mask, |d| d < low);
        } else if self.advantage > 0.0 {
            n_high = count_where(&scratch.log_ratio, &scratch.mask, |d| d > high);
        }
        record_clips(metrics, n_policy as u64, n_low, n_high);
        let Scratch {
            mask,
            log_ratio,
            weight,
            value: clipped,
            slope,
            kl: kept,
            ..
        } = scratch;
        map_into(kept, mask, |m| m);
        for (kept, &weight) in kept.iter_mut().zip(weight.iter()) {
            *kept = if weight > 0.0 { *kept } else { 0.0 };
        }
        let (from, to) = if self.advantage > 0.0 {
            (f64::NEG_INFINITY, high)
        } else {
            (low, f64::INFINITY)
        };
        for (((clipped, slope), &d), &kept) in (clipped.iter_mut().zip(slope.iter_mut()))
            .zip(log_ratio.iter())
            .zip(kept.iter())
        {
            *clipped = min(max(d, from), to) * kept;
            *slope = if (d >= from) & (d <= to) { kept } else { 0.0 };
        }
        let (total, n_kept) = (sum(clipped), sum(kept));
        let mean = total / f64::max(n_kept, 1.0);
        if mean > EXP_MAX {
            return Err(self.overflow("mean of clipped logp - logp_old", 0, mean));
        }
        let value = -mean.exp() * self.advantage * scratch.row_weight;
        let per_token = value * n_policy / f64::max(n_kept, 1.0);
        for ((into, slope), &m) in
            (scratch.value.iter_mut().zip(&mut scratch.slope)).zip(&scratch.mask)
        {
            *into = value * m;
            *slope *= per_token;
        }
        scale_by(&mut scratch.slope, &scratch.flow);
        Ok(())
    }
}
