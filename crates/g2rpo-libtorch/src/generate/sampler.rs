//! What a draw is, for the host and for devices.
//!
//! There is one definition. Weights are probabilities at the sampling temperature, up to a factor; what top-k, top-p
//! and min-p do not keep ([`filter`](super::filter)) is set to zero; drawn is the first id at which the sum of what is
//! left, in f64 and in the order of ids, passes `u` of the total. The host does it in loops ([`draw`]), a device by
//! tensor operations ([`device_sampler`](super::device_sampler)), with the same ids.

use std::collections::BTreeSet;

use g2rpo_rollout::TokenId;
use tch::Tensor;

use crate::error::Result;

/// One sampled id.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Draw {
    pub(super) token: TokenId,
    /// Log-probability under the plain distribution at the sampling temperature.
    pub(super) logp: f32,
    /// `logp` minus the log-probability under the distribution that was sampled from.
    pub(super) log_kept: f32,
}

/// What a draw of one row depends on besides its distribution.
#[derive(Debug, Clone, Copy)]
pub(super) struct Row<'a> {
    /// In `[0, 1)`.
    pub(super) u: f64,
    /// Ids of the sequence so far; looked at only if there is a repetition penalty.
    pub(super) seen: &'a BTreeSet<TokenId>,
}

/// From hidden states to drawn ids, for all rows at once.
pub(super) trait BatchSampler {
    /// One draw per row of `hidden_bh`; rows that are `None` draw nothing. A row's draw is `None`
    /// as well if its logits are not finite.
    fn draw(&mut self, hidden_bh: &Tensor, rows: &[Option<Row<'_>>]) -> Result<Vec<Option<Draw>>>;
}

/// Divides positive and multiplies negative logits of ids that occurred (CTRL).
pub(super) fn penalise(logits: &mut [f32], seen: impl Iterator<Item = TokenId>, penalty: f64) {
    for id in seen {
        if let Some(x) = logits.get_mut(id as usize) {
            *x = match *x > 0.0 {
                true => (f64::from(*x) / penalty) as f32,
                false => (f64::from(*x) * penalty) as f32,
            };
        }
    }
}

/// The most probable id; the lowest of equals. `None` if the logits hold NaN or +inf, or nothing
/// else than -inf.
pub(super) fn best(logits: &[f32]) -> Option<usize> {
    let mut best = (f32::NEG_INFINITY, None);
    let mut valid = true;
    for (id, &x) in logits.iter().enumerate() {
        valid &= x < f32::INFINITY;
        if x > best.0 {
            best = (x, Some(id));
        }
    }
    best.1.filter(|_| valid)
}

impl Draw {
    /// A draw by its weight, the sum of the weights that were kept, and that of all weights. `None` if these are no
    /// distribution: a sum is not finite, or there is nothing to draw.
    pub(super) fn of(token: TokenId, weight: f64, kept: f64, all: f64) -> Option<Self> {
        // NaN fails the comparisons.
        (weight > 0.0 && all > 0.0 && all < f64::INFINITY).then(|| Self {
            token,
            logp: (weight / all).ln() as f32,
            log_kept: (kept / all).ln() as f32,
        })
    }

    /// The most probable id, by its log-probability; `None` if that is not finite.
    pub(super) fn greedy(token: TokenId, logp: f32) -> Option<Self> {
        logp.is_finite().then_some(Self {
            token,
            logp,
            log_kept: logp,
        })
    }

    /// What was drawn under a penalty, seen from the plain distribution, which gives it `logp`.
    pub(super) fn seen_plainly(self, logp: f32) -> Self {
        Self {
            logp,
            log_kept: logp - (self.logp - self.log_kept),
            ..self
        }
    }
}

/// The draw at `u` in `[0, 1)` among weights, of which those that are not kept are zero; `all` is the sum of the
/// weights before.
pub(super) fn draw(weights: &[f32], all: f64, u: f64) -> Option<Draw> {
    let sums: Vec<f64> = weights.chunks(BLOCK).map(sum).collect();
    let total: f64 = sums.iter().sum();
    let target = u * total;
    let mut below = 0.0;
    let mut last = None;
    for (block, sum) in sums.iter().enumerate() {
        // The last block with any weight serves a target that rounding put past the end.
        if *sum > 0.0 {
            last = Some((block, below));
        }
        if below + sum > target {
            break;
        }
        below += sum;
    }
    let (block, mut below) = last?;
    let mut id = None;
    for (i, &w) in weights[block * BLOCK..].iter().take(BLOCK).enumerate() {
        if w > 0.0 {
            id = Some(block * BLOCK + i);
        }
        below += f64::from(w);
        if below > target {
            break;
        }
    }
    let id = id?;
    Draw::of(id as TokenId, f64::from(weights[id]), total, all)
}

/// The sum of all weights, NaN if one of them is.
pub(super) fn total(weights: &[f32]) -> f64 {
    weights.chunks(BLOCK).map(sum).sum()
}

const BLOCK: usize = 256;

fn sum(chunk: &[f32]) -> f64 {
    // Eight sums side by side, so that the compiler can use vector instructions.
    let mut lanes = [0f64; 8];
    let (pieces, rest) = chunk.as_chunks::<8>();
    for piece in pieces {
        for (lane, &w) in lanes.iter_mut().zip(piece) {
            *lane += f64::from(w);
        }
    }
    for (lane, &w) in lanes.iter_mut().zip(rest) {
        *lane += f64::from(w);
    }
    lanes.iter().sum()
}

/// Plain sampling with some settings changed.
#[cfg(test)]
pub(super) fn with(
    change: impl FnOnce(&mut g2rpo_rollout::SamplingParams),
) -> g2rpo_rollout::SamplingParams {
    let mut params = g2rpo_rollout::SamplingParams::default();
    change(&mut params);
    params
}

#[cfg(test)]
mod tests {
    use super::*;

    const P: [f32; 5] = [0.1, 0.4, 0.05, 0.25, 0.2];

    #[test]
    fn draws_are_inverse_of_the_cumulative_sum() {
        for (u, token) in [
            (0.0, 0),
            (0.099, 0),
            (0.101, 1),
            (0.49, 1),
            (0.52, 2),
            (0.56, 3),
            (0.999, 4),
        ] {
            assert_eq!(draw(&P, 1.0, u).unwrap().token, token, "{u}");
        }
        // Over several blocks: weight only at 700.
        let mut far = vec![0f32; 1000];
        far[700] = 1.0;
        assert_eq!(draw(&far, 1.0, 0.0).unwrap().token, 700);
        assert_eq!(draw(&far, 1.0, 1.0 - f64::EPSILON).unwrap().token, 700);
    }

    #[test]
    fn not_a_number_draws_nothing() {
        let bad = [0.5, f32::NAN];
        assert!(draw(&bad, total(&bad), 0.1).is_none());
        assert!(draw(&[0.0; 2], 0.0, 0.1).is_none());
        assert!(draw(&[f32::INFINITY, 0.5], f64::INFINITY, 0.1).is_none());
        assert!(best(&[1.0, f32::INFINITY]).is_none());
        assert!(best(&[f32::NEG_INFINITY; 2]).is_none());
        assert!(best(&[f32::NAN, 0.0]).is_none());
        assert!(Draw::greedy(0, f32::NAN).is_none());
    }

    #[test]
    fn penalty_pulls_down_what_occurred() {
        let mut logits = [2.0, -2.0, 2.0];
        penalise(&mut logits, [0, 1, 9].into_iter(), 2.0);
        assert_eq!(logits, [1.0, -4.0, 2.0]);
    }
}
