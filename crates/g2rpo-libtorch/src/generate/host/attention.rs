//! Attention of single positions to keys and values in host memory.
//!
//! Keys are stored by coordinate, `[head_dim, positions]`, values by position: so both products of
//! attention run along rows. What a row attends to comes in parts (a prompt that many rows share,
//! guidance that some share, its own positions); each part gives a softmax of its own, and
//! [`Part::merge`] joins them into the softmax over all.

use super::gemm::{Rows, multiply};
use super::math::{combine, exp_scores};
use super::simd::vectorised;

/// Keys and values of one head.
#[derive(Debug, Clone, Copy)]
pub(super) struct Head<'a> {
    /// `head_dim` rows of `len` numbers.
    pub(super) keys: Rows<'a>,
    /// `[len, head_dim]`.
    pub(super) values: &'a [f32],
}

/// What some queries of one head read from one part of what they attend to.
#[derive(Debug, Clone, Default)]
pub(super) struct Part {
    /// `Σ exp(score - max) · value` per query, `[queries, head_dim]`.
    pub(super) sums: Vec<f32>,
    /// `(max, Σ exp(score - max))` per query.
    pub(super) scales: Vec<(f32, f32)>,
    /// `exp(score - max)`, `[queries, len]`.
    scores: Vec<f32>,
}

/// From this many queries on, the products are left to the kernels for matrices.
const MATRIX: usize = 4;

impl Part {
    /// Queries `[queries, head_dim]`, already divided by √head_dim, over one head.
    pub(super) fn compute(&mut self, queries: &[f32], head: Head<'_>) {
        let len = head.keys.width;
        let d = head.values.len() / len;
        let n = queries.len() / d;
        let Self {
            sums,
            scales,
            scores,
        } = self;
        scores.resize(n * len, 0.0);
        sums.resize(n * d, 0.0);
        scales.clear();
        if n < MATRIX {
            each_query(queries, head, scores, sums, scales);
        } else {
            multiply(queries, head.keys, scores, 1.0, false);
            exp_rows(scores, len, scales);
            multiply(scores, Rows::dense(head.values, d), sums, 1.0, false);
        }
    }

    /// The output of one query over several parts, each with the query's place in it.
    pub(super) fn merge<'a>(
        parts: impl Iterator<Item = (&'a Self, usize)> + Clone,
        out: &mut [f32],
    ) {
        let d = out.len();
        let max = (parts.clone()).fold(f32::NEG_INFINITY, |m, (part, i)| m.max(part.scales[i].0));
        let factor = |part: &Self, i: usize| (part.scales[i].0 - max).exp();
        let total: f32 = (parts.clone())
            .map(|(part, i)| factor(part, i) * part.scales[i].1)
            .sum();
        out.fill(0.0);
        for (part, i) in parts {
            let weight = factor(part, i) / total;
            for (out, &sum) in out.iter_mut().zip(&part.sums[i * d..][..d]) {
                *out += weight * sum;
            }
        }
    }
}

vectorised! {
    /// Both products and the exponents between them, query by query.
    fn each_query(
        queries: &[f32],
        head: Head<'_>,
        scores: &mut [f32],
        sums: &mut [f32],
        scales: &mut Vec<(f32, f32)>,
    ) {
        let len = head.keys.width;
        let d = head.values.len() / len;
        for (i, scores) in scores.chunks_exact_mut(len).enumerate() {
            combine(&queries[i * d..][..d], head.keys.data, head.keys.stride, scores);
            scales.push(exp_scores(scores));
            combine(scores, head.values, d, &mut sums[i * d..][..d]);
        }
    }

    /// [`exp_scores`] of every row of scores.
    fn exp_rows(scores: &mut [f32], len: usize, scales: &mut Vec<(f32, f32)>) {
        for row in scores.chunks_exact_mut(len) {
            scales.push(exp_scores(row));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(n: usize, seed: u64) -> Vec<f32> {
        (0..n as u64)
            .map(|i| ((i * 7919 + seed * 104_729) % 1000) as f32 / 250.0 - 2.0)
            .collect()
    }

    /// Softmax over all positions, in f64.
    fn plain(query: &[f32], keys: &[f32], values: &[f32], len: usize) -> Vec<f64> {
        let d = query.len();
        let score = |j: usize| -> f64 {
            (0..d)
                .map(|t| f64::from(query[t]) * f64::from(keys[t * len + j]))
                .sum()
        };
        let weights: Vec<f64> = (0..len).map(|j| score(j).exp()).collect();
        let total: f64 = weights.iter().sum();
        let mean = |t: usize| -> f64 {
            (0..len)
                .map(|j| weights[j] / total * f64::from(values[j * d + t]))
                .sum()
        };
        (0..d).map(mean).collect()
    }

    #[test]
    fn parts_give_the_softmax_over_all() {
        let (d, len) = (6, 23);
        let (keys, values) = (numbers(d * len, 1), numbers(len * d, 2));
        for n in [1, 3, 4, 9] {
            let queries = numbers(n * d, 3);
            // Positions 0..cut and the rest; strided keys, so both parts are views.
            for cut in [1, 10, 22] {
                let head = |start: usize, len_part: usize| Head {
                    keys: Rows {
                        data: &keys[start..],
                        width: len_part,
                        stride: len,
                    },
                    values: &values[start * d..][..len_part * d],
                };
                let (mut a, mut b) = (Part::default(), Part::default());
                a.compute(&queries, head(0, cut));
                b.compute(&queries, head(cut, len - cut));
                for i in 0..n {
                    let mut out = vec![0f32; d];
                    Part::merge([(&a, i), (&b, i)].into_iter(), &mut out);
                    let expected = plain(&queries[i * d..][..d], &keys, &values, len);
                    for (o, e) in out.iter().zip(expected) {
                        approx::assert_abs_diff_eq!(f64::from(*o), e, epsilon = 2e-5);
                    }
                }
            }
        }
    }
}
