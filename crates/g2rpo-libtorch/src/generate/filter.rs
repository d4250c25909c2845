//! Top-k, top-p and min-p on weights in host memory.

use g2rpo_rollout::SamplingParams;

/// Whether sampling keeps every id of the vocabulary.
pub(super) fn keeps_all(params: &SamplingParams) -> bool {
    params.top_k == 0 && params.top_p >= 1.0 && params.min_p <= 0.0
}

/// How many of the ids whose weight is the least that top-p keeps are kept, the first in the order of ids: as many as
/// bring the sum `above` of all greater weights to `target`.
pub(super) fn ties(target: f64, above: f64, weight: f64) -> f64 {
    ((target - above) / weight).ceil().max(1.0)
}

/// Sets the weights that are not kept to zero: top-k, top-p and min-p in this order, as transformers does. Of ids that
/// share the k-th weight top-k keeps all.
///
/// Weights are finite and not negative; `all` is their sum.
pub(super) fn filter(weights: &mut [f32], params: &SamplingParams, all: f64) {
    let best = weights.iter().copied().fold(0f32, f32::max);
    let mut floor = (params.min_p * f64::from(best)) as f32;
    let mut allowed = None;
    let top_k = params.top_k > 0 && params.top_k < weights.len();
    if top_k || params.top_p < 1.0 {
        let buckets = Buckets::new(weights);
        let mut mass = all;
        if top_k {
            let (kth, above) = buckets.descend(|count, _| count >= params.top_k);
            floor = floor.max(kth);
            let equal = weights.iter().filter(|&&w| w == kth).count();
            mass = above + equal as f64 * f64::from(kth);
        }
        if params.top_p < 1.0 {
            let target = params.top_p * mass;
            let (least, above) = buckets.descend(|_, mass| mass >= target);
            // Above it all ties are kept, and below it nothing is.
            if least >= floor && least > 0.0 {
                floor = least;
                allowed = Some(ties(target, above, f64::from(least)) as usize);
            }
        }
    }
    for w in weights.iter_mut() {
        *w = if *w < floor { 0.0 } else { *w };
    }
    if let Some(allowed) = allowed {
        let equal = weights.iter_mut().filter(|w| **w == floor);
        equal.skip(allowed).for_each(|w| *w = 0.0);
    }
}

/// Weights by the leading bits of their numbers, whose order is that of the numbers: eight buckets for each factor of
/// two.
struct Buckets<'a> {
    weights: &'a [f32],
    sums: Vec<(u32, f64)>,
}

impl<'a> Buckets<'a> {
    fn new(weights: &'a [f32]) -> Self {
        let mut sums = vec![(0, 0.0); 1 << 11];
        for &w in weights {
            let (count, mass) = &mut sums[bucket(w)];
            *count += 1;
            *mass += f64::from(w);
        }
        Self { weights, sums }
    }

    /// The greatest weight with which `enough` holds of the number and the sum of the weights from the greatest down
    /// to it, and the sum of all greater weights. Zero, and the sum of all, if it never holds.
    fn descend(&self, enough: impl Fn(usize, f64) -> bool) -> (f32, f64) {
        let (mut count, mut mass) = (0, 0.0);
        for (i, &(n, sum)) in self.sums.iter().enumerate().rev() {
            if n == 0 {
                continue;
            }
            if !enough(count + n as usize, mass + sum) {
                (count, mass) = (count + n as usize, mass + sum);
                continue;
            }
            let inside = self.weights.iter().copied().filter(|&w| bucket(w) == i);
            let mut inside: Vec<f32> = inside.collect();
            inside.sort_unstable_by(|a, b| b.total_cmp(a));
            let (mut least, mut above) = (f32::INFINITY, mass);
            for w in inside {
                if w < least {
                    (least, above) = (w, mass);
                }
                (count, mass) = (count + 1, mass + f64::from(w));
                if enough(count, mass) {
                    break;
                }
            }
            return (least, above);
        }
        (0.0, mass)
    }
}

fn bucket(weight: f32) -> usize {
    (weight.to_bits() >> 20) as usize & 0x7ff
}

#[cfg(test)]
mod tests {
    use super::super::sampler::{self, Draw, with};
    use super::*;
    use g2rpo_rollout::TokenId;

    const P: [f32; 5] = [0.1, 0.4, 0.05, 0.25, 0.2];

    fn filters(top_k: usize, top_p: f64, min_p: f64) -> SamplingParams {
        with(|p| (p.top_k, p.top_p, p.min_p) = (top_k, top_p, min_p))
    }

    fn draw(weights: &[f32], params: &SamplingParams, u: f64) -> (Vec<TokenId>, Draw) {
        let all = sampler::total(weights);
        let mut kept = weights.to_vec();
        filter(&mut kept, params, all);
        let ids = (0..).zip(&kept).filter(|(_, w)| **w > 0.0);
        (
            ids.map(|(id, _)| id).collect(),
            sampler::draw(&kept, all, u).unwrap(),
        )
    }

    #[test]
    fn filters_keep_what_they_say() {
        let ln = |x: f64| x.ln() as f32;
        let cases = [
            (with(|p| p.top_k = 2), vec![1, 3], 0.65),
            // .4 + .25 = .65 < .7, so one more.
            (with(|p| p.top_p = 0.7), vec![1, 3, 4], 0.85),
            (with(|p| p.top_p = 1e-9), vec![1], 0.4),
            // At least half of .4.
            (with(|p| p.min_p = 0.5), vec![1, 3, 4], 0.85),
            // Of the three kept by top-k, .4/.85 = .47 < .5, so two.
            (filters(3, 0.5, 0.0), vec![1, 3], 0.65),
            (filters(3, 1.0, 0.6), vec![1, 3], 0.65),
            (with(|p| p.top_k = 99), vec![0, 1, 2, 3, 4], 1.0),
        ];
        for (params, ids, mass) in cases {
            for u in [0.0, 0.3, 0.999] {
                let (got, draw) = draw(&P, &params, u);
                assert_eq!(got, ids, "{params:?}");
                approx::assert_relative_eq!(draw.log_kept, ln(mass), epsilon = 1e-6);
                let logp = P[draw.token as usize].ln();
                approx::assert_relative_eq!(draw.logp, logp, epsilon = 1e-6);
            }
        }
    }

    #[test]
    fn top_p_over_a_long_tail_equals_a_full_sort() {
        let weights: Vec<f32> = (0..5000)
            .map(|i| 1.0 / (1.0 + ((i * 7919) % 5000) as f32))
            .collect();
        let total: f64 = weights.iter().map(|&w| f64::from(w)).sum();
        let mut sorted: Vec<f32> = weights.clone();
        sorted.sort_by(|a, b| b.total_cmp(a));
        for top_p in [0.3, 0.8, 0.99] {
            let mut below = 0.0;
            let n = (sorted.iter()).take_while(|&&w| {
                let keep = below < top_p * total;
                below += f64::from(w);
                keep
            });
            let mass: f64 = n.map(|&w| f64::from(w)).sum();
            let (_, draw) = draw(&weights, &with(|p| p.top_p = top_p), 0.5);
            let log_kept = f64::from(draw.log_kept);
            approx::assert_relative_eq!(log_kept, (mass / total).ln(), epsilon = 1e-5);
        }
    }

    /// `testdata/libtorch/filters.json`, written by transformers' logits processors.
    #[test]
    fn kept_ids_are_those_of_transformers() {
        let text = include_str!("../../../../testdata/libtorch/filters.json");
        let file: serde_json::Value = serde_json::from_str(text).unwrap();
        let logits: Vec<f32> = serde_json::from_value(file["logits"].clone()).unwrap();
        let seen: Vec<TokenId> = serde_json::from_value(file["seen"].clone()).unwrap();
        for case in file["cases"].as_array().unwrap() {
            let setting = |name: &str, or: f64| case["setting"][name].as_f64().unwrap_or(or);
            let params = SamplingParams {
                temperature: setting("temperature", 1.0),
                repetition_penalty: setting("repetition_penalty", 1.0),
                ..filters(
                    setting("top_k", 0.0) as usize,
                    setting("top_p", 1.0),
                    setting("min_p", 0.0),
                )
            };
            let mut scores = logits.clone();
            sampler::penalise(&mut scores, seen.iter().copied(), params.repetition_penalty);
            let weight = |x: f32| (f64::from(x) / params.temperature).exp() as f32;
            let mut weights: Vec<f32> = scores.into_iter().map(weight).collect();
            let total: f64 = weights.iter().map(|&w| f64::from(w)).sum();
            weights
                .iter_mut()
                .for_each(|w| *w = (f64::from(*w) / total) as f32);
            let ids: Vec<TokenId> = serde_json::from_value(case["ids"].clone()).unwrap();
            let expected: Vec<f64> = serde_json::from_value(case["probabilities"].clone()).unwrap();
            // A draw in the middle of every id's share of the distribution that f32 can tell from
            // its neighbours'.
            let mut below = 0.0;
            for (&id, p) in ids.iter().zip(&expected) {
                if *p < 1e-5 {
                    below += p;
                    continue;
                }
                let (_, draw) = draw(&weights, &params, below + p / 2.0);
                assert_eq!(draw.token, id, "{params:?}");
                let logp = f64::from(draw.logp - draw.log_kept);
                approx::assert_abs_diff_eq!(logp, p.ln(), epsilon = 1e-5);
                below += p;
            }
            assert_eq!(draw(&weights, &params, 0.5).0, ids, "{params:?}");
        }
    }

    /// Against sorting everything, with weights of which many are equal.
    #[test]
    fn ties_are_kept_in_the_order_of_ids() {
        for case in 0..400usize {
            let n = 40 + case % 7;
            let weights: Vec<f32> = (0..n)
                .map(|i| ((i * 31 + case * 17) % 5) as f32 / 8.0)
                .collect();
            let top_p = [1.0, 0.4, 0.75, 0.05][case % 4];
            let params = filters([0, 3, 17][case % 3], top_p, [0.0, 0.3][case % 2]);
            let mut order: Vec<usize> = (0..n).collect();
            order.sort_by(|&a, &b| weights[b].total_cmp(&weights[a]).then(a.cmp(&b)));
            if params.top_k > 0 {
                let kth = weights[order[params.top_k - 1]];
                order.retain(|&i| weights[i] >= kth);
            }
            let mass: f32 = order.iter().map(|&i| weights[i]).sum();
            let mut below = 0.0;
            order.retain(|&i| {
                let keep = below < params.top_p * f64::from(mass);
                below += f64::from(weights[i]);
                keep
            });
            order.retain(|&i| weights[i] > 0.0 && f64::from(weights[i]) >= params.min_p * 0.5);
            order.sort_unstable();
            let (ids, _) = draw(&weights, &params, 0.5);
            assert!(order.iter().map(|&i| i as TokenId).eq(ids), "{params:?}");
        }
    }
}
