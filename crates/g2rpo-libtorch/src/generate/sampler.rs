//! Drawing an id from a distribution: temperature, penalty and filters.

use std::collections::BTreeSet;

use g2rpo_rollout::{SamplingParams, TokenId};

use crate::error::{Error, Result};

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

/// Checks the ranges that [`SamplingParams`] documents.
pub(super) fn validate(params: &SamplingParams) -> Result<()> {
    let check = |what, ok: bool, range: &str, got: f64| match ok {
        true => Ok(()),
        false => Err(Error::invalid(what, format!("expected {range}, got {got}"))),
    };
    let SamplingParams {
        temperature: t,
        top_p,
        min_p,
        repetition_penalty: penalty,
        ..
    } = *params;
    check(
        "temperature",
        t.is_finite() && t >= 0.0,
        "a number of at least 0",
        t,
    )?;
    check(
        "top_p",
        top_p > 0.0 && top_p <= 1.0,
        "a number in (0, 1]",
        top_p,
    )?;
    check(
        "min_p",
        (0.0..=1.0).contains(&min_p),
        "a number in [0, 1]",
        min_p,
    )?;
    check(
        "repetition_penalty",
        penalty.is_finite() && penalty > 0.0,
        "a number above 0",
        penalty,
    )?;
    match params.stop.iter().any(String::is_empty) {
        true => Err(Error::invalid(
            "stop",
            "an empty text would stop everything",
        )),
        false => Ok(()),
    }
}

/// Whether sampling keeps every id of the vocabulary.
pub(super) fn keeps_all(params: &SamplingParams) -> bool {
    params.top_k == 0 && params.top_p >= 1.0 && params.min_p <= 0.0
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

/// Greedy choice with the log-probability that `plain` probabilities give it.
pub(super) fn greedy(logits: &[f32], plain: &[f32]) -> Option<Draw> {
    let id = best(logits)?;
    let logp = plain[id].ln();
    Some(Draw {
        token: id as TokenId,
        logp,
        log_kept: logp,
    })
}

/// What was drawn under other weights, seen from the plain distribution.
pub(super) fn seen_plainly(draw: Draw, logp: f32) -> Draw {
    Draw {
        logp,
        log_kept: logp - (draw.logp - draw.log_kept),
        ..draw
    }
}

/// The id at which the sum of weights, in the order of ids, passes `u` (in `[0, 1)`) of the total.
///
/// `weights` are probabilities up to a factor. `None` if they hold NaN.
pub(super) fn draw_all(weights: &[f32], u: f64) -> Option<Draw> {
    let total: f64 = weights.chunks(BLOCK).map(sum).sum();
    // NaN fails the comparison.
    if !(total > 0.0 && total < f64::INFINITY) {
        return None;
    }
    let target = u * total;
    let mut below = 0.0;
    let mut last = None;
    for (block, chunk) in weights.chunks(BLOCK).enumerate() {
        let after = below + sum(chunk);
        // The last block with any weight serves a target that rounding put past the end.
        if after > below {
            last = Some((block, below));
        }
        if after > target {
            break;
        }
        below = after;
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
    Some(Draw {
        token: id as TokenId,
        logp: (f64::from(weights[id]) / total).ln() as f32,
        log_kept: 0.0,
    })
}

const BLOCK: usize = 256;

fn sum(chunk: &[f32]) -> f64 {
    // Eight sums side by side, so that the compiler can use vector instructions.
    let mut lanes = [0f32; 8];
    let mut rest = 0f32;
    let pieces = chunk.chunks_exact(8);
    for &w in pieces.remainder() {
        rest += w;
    }
    for piece in pieces {
        for (lane, &w) in lanes.iter_mut().zip(piece) {
            *lane += w;
        }
    }
    lanes.iter().map(|&x| f64::from(x)).sum::<f64>() + f64::from(rest)
}

/// Draws among the ids that the filters keep. Buffers are reused from row to row.
#[derive(Debug, Default)]
pub(super) struct Filter {
    kept: Vec<(TokenId, f32)>,
    scratch: Vec<f32>,
}

impl Filter {
    /// Applies top-k, top-p and min-p in this order, as transformers does, to `weights`
    /// (probabilities at the sampling temperature, up to a factor) and draws among the ids kept, in the order of
    /// ids. `None` if the weights hold NaN.
    pub(super) fn draw(
        &mut self,
        weights: &[f32],
        params: &SamplingParams,
        u: f64,
    ) -> Option<Draw> {
        let all: f64 = weights.chunks(BLOCK).map(sum).sum();
        if !(all > 0.0 && all < f64::INFINITY) {
            return None;
        }
        let mut floor = 0f32;
        if params.top_k > 0 && params.top_k < weights.len() {
            self.scratch.clear();
            self.scratch.extend_from_slice(weights);
            let (_, kth, _) =
                (self.scratch).select_nth_unstable_by(params.top_k - 1, |a, b| b.total_cmp(a));
            floor = *kth;
        }
        let best = weights.iter().copied().fold(0f32, f32::max);
        floor = floor.max((params.min_p * f64::from(best)) as f32);
        self.kept.clear();
        // Ids without weight cannot be drawn, whatever the filters say.
        self.kept.extend(
            (weights.iter().enumerate())
                .filter(|&(_, &w)| w >= floor && w > 0.0)
                .map(|(id, &w)| (id as TokenId, w)),
        );
        if params.top_p < 1.0 {
            self.keep_top_p(params, weights);
        }
        let total: f64 = self.kept.iter().map(|&(_, w)| f64::from(w)).sum();
        let target = u * total;
        let mut below = 0.0;
        let &(token, w) = (self.kept.iter())
            .find(|&&(_, w)| {
                below += f64::from(w);
                below > target
            })
            .or(self.kept.last())?;
        Some(Draw {
            token,
            logp: (f64::from(w) / all).ln() as f32,
            log_kept: (total / all).ln() as f32,
        })
    }

    /// Keeps the most probable ids until their mass reaches `top_p` of what top-k left.
    fn keep_top_p(&mut self, params: &SamplingParams, weights: &[f32]) {
        // min-p was applied already, which commutes with top-p except in the mass that top-p
        // refers to: that is the mass before min-p.
        let mass: f64 = match params.top_k {
            k if k > 0 && k < weights.len() => {
                let kth = self.scratch[k - 1];
                (weights.iter().filter(|&&w| w >= kth))
                    .map(|&w| f64::from(w))
                    .sum()
            }
            _ => weights.chunks(BLOCK).map(sum).sum(),
        };
        let target = params.top_p * mass;
        let by_weight =
            |a: &(TokenId, f32), b: &(TokenId, f32)| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0));
        // A sorted head is enough; it grows until it holds the mass.
        let mut head = 64;
        let mut below = 0.0;
        let mut n = 0;
        while n < self.kept.len() {
            let end = head.min(self.kept.len());
            if end < self.kept.len() {
                self.kept[n..].select_nth_unstable_by(end - n, by_weight);
            }
            self.kept[n..end].sort_unstable_by(by_weight);
            while n < end && below < target {
                below += f64::from(self.kept[n].1);
                n += 1;
            }
            if below >= target {
                break;
            }
            head *= 8;
        }
        self.kept.truncate(n.max(1));
        self.kept.sort_unstable_by_key(|&(id, _)| id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const P: [f32; 5] = [0.1, 0.4, 0.05, 0.25, 0.2];

    fn kept(params: &SamplingParams) -> (Vec<TokenId>, f32) {
        let mut filter = Filter::default();
        let mut ids: Vec<TokenId> = Vec::new();
        let mut log_kept = 0.0;
        for i in 0..1000 {
            let draw = filter.draw(&P, params, f64::from(i) / 1000.0).unwrap();
            approx::assert_relative_eq!(draw.logp, P[draw.token as usize].ln(), epsilon = 1e-6);
            log_kept = draw.log_kept;
            ids.push(draw.token);
        }
        assert!(ids.is_sorted());
        ids.dedup();
        (ids, log_kept)
    }

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
            assert_eq!(draw_all(&P, u).unwrap().token, token, "{u}");
        }
        // Over several blocks: weight only at 700.
        let mut far = vec![0f32; 1000];
        far[700] = 1.0;
        assert_eq!(draw_all(&far, 0.0).unwrap().token, 700);
        assert_eq!(draw_all(&far, 1.0 - f64::EPSILON).unwrap().token, 700);
    }

    #[test]
    fn filters_keep_what_they_say() {
        let p = SamplingParams::default();
        let ln = |x: f64| x.ln() as f32;
        let cases = [
            (
                SamplingParams {
                    top_k: 2,
                    ..p.clone()
                },
                vec![1, 3],
                0.65,
            ),
            // .4 + .25 = .65 < .7, so one more.
            (
                SamplingParams {
                    top_p: 0.7,
                    ..p.clone()
                },
                vec![1, 3, 4],
                0.85,
            ),
            (
                SamplingParams {
                    top_p: 1e-9,
                    ..p.clone()
                },
                vec![1],
                0.4,
            ),
            // At least half of .4.
            (
                SamplingParams {
                    min_p: 0.5,
                    ..p.clone()
                },
                vec![1, 3, 4],
                0.85,
            ),
            // Of the three kept by top-k, .4/.85 = .47 < .5, so two.
            (
                SamplingParams {
                    top_k: 3,
                    top_p: 0.5,
                    ..p.clone()
                },
                vec![1, 3],
                0.65,
            ),
            (
                SamplingParams {
                    top_k: 3,
                    min_p: 0.6,
                    ..p.clone()
                },
                vec![1, 3],
                0.65,
            ),
            (
                SamplingParams {
                    top_k: 99,
                    ..p.clone()
                },
                vec![0, 1, 2, 3, 4],
                1.0,
            ),
        ];
        for (params, ids, mass) in cases {
            let (got, log_kept) = kept(&params);
            assert_eq!(got, ids, "{params:?}");
            approx::assert_relative_eq!(log_kept, ln(mass), epsilon = 1e-6);
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
            let params = SamplingParams {
                top_p,
                ..SamplingParams::default()
            };
            let draw = Filter::default().draw(&weights, &params, 0.5).unwrap();
            approx::assert_relative_eq!(
                f64::from(draw.log_kept),
                (mass / total).ln(),
                epsilon = 1e-5
            );
        }
    }

    /// `testdata/libtorch/filters.json`, written by transformers' logits processors.
    #[test]
    fn kept_ids_are_those_of_transformers() {
        let text = include_str!("../../../../testdata/libtorch/filters.json");
        let file: serde_json::Value = serde_json::from_str(text).unwrap();
        let logits: Vec<f32> = serde_json::from_value(file["logits"].clone()).unwrap();
        let seen: BTreeSet<TokenId> = serde_json::from_value(file["seen"].clone()).unwrap();
        for case in file["cases"].as_array().unwrap() {
            let setting =
                |name: &str, default: f64| case["setting"][name].as_f64().unwrap_or(default);
            let params = SamplingParams {
                temperature: setting("temperature", 1.0),
                top_k: setting("top_k", 0.0) as usize,
                top_p: setting("top_p", 1.0),
                min_p: setting("min_p", 0.0),
                repetition_penalty: setting("repetition_penalty", 1.0),
                ..SamplingParams::default()
            };
            let mut scores = logits.clone();
            penalise(&mut scores, seen.iter().copied(), params.repetition_penalty);
            let weights: Vec<f32> = scores
                .iter()
                .map(|x| (f64::from(*x) / params.temperature).exp() as f32)
                .collect();
            let total: f64 = weights.iter().map(|&w| f64::from(w)).sum();
            let weights: Vec<f32> = weights
                .iter()
                .map(|&w| (f64::from(w) / total) as f32)
                .collect();
            let ids: Vec<TokenId> = serde_json::from_value(case["ids"].clone()).unwrap();
            let expected: Vec<f64> = serde_json::from_value(case["probabilities"].clone()).unwrap();
            let mut filter = Filter::default();
            // A draw in the middle of every id's share of the distribution that f32 can tell from
            // its neighbours'.
            let mut below = 0.0;
            for (&id, p) in ids.iter().zip(&expected) {
                if *p < 1e-5 {
                    below += p;
                    continue;
                }
                let draw = filter.draw(&weights, &params, below + p / 2.0).unwrap();
                assert_eq!(draw.token, id, "{params:?}");
                let logp = f64::from(draw.logp - draw.log_kept);
                approx::assert_abs_diff_eq!(logp, p.ln(), epsilon = 1e-5);
                below += p;
            }
            let kept: Vec<TokenId> = filter.kept.iter().map(|k| k.0).collect();
            assert_eq!(kept, ids, "{params:?}");
        }
    }

    #[test]
    fn not_a_number_draws_nothing() {
        let params = SamplingParams {
            top_k: 2,
            ..SamplingParams::default()
        };
        let bad = [0.5, f32::NAN];
        assert!(draw_all(&bad, 0.1).is_none());
        assert!(Filter::default().draw(&bad, &params, 0.1).is_none());
        assert!(greedy(&[1.0, f32::INFINITY], &P).is_none());
        assert!(greedy(&[f32::NEG_INFINITY; 2], &P).is_none());
        assert!(greedy(&[f32::NAN, 0.0], &P).is_none());
    }

    #[test]
    fn penalty_pulls_down_what_occurred() {
        let mut logits = [2.0, -2.0, 2.0];
        penalise(&mut logits, [0, 1, 9].into_iter(), 2.0);
        assert_eq!(logits, [1.0, -4.0, 2.0]);
    }

    #[test]
    fn ranges_are_checked() {
        let p = SamplingParams::default();
        for (params, message) in [
            (
                SamplingParams {
                    temperature: -1.0,
                    ..p.clone()
                },
                "temperature: expected a number of at least 0, got -1",
            ),
            (
                SamplingParams {
                    temperature: f64::NAN,
                    ..p.clone()
                },
                "temperature: expected a number of at least 0, got NaN",
            ),
            (
                SamplingParams {
                    top_p: 0.0,
                    ..p.clone()
                },
                "top_p: expected a number in (0, 1], got 0",
            ),
            (
                SamplingParams {
                    min_p: 1.5,
                    ..p.clone()
                },
                "min_p: expected a number in [0, 1], got 1.5",
            ),
            (
                SamplingParams {
                    repetition_penalty: 0.0,
                    ..p.clone()
                },
                "repetition_penalty: expected a number above 0, got 0",
            ),
            (
                SamplingParams {
                    stop: vec![String::new()],
                    ..p.clone()
                },
                "stop: an empty text would stop everything",
            ),
        ] {
            assert_eq!(validate(&params).unwrap_err().to_string(), message);
        }
        validate(&p).unwrap();
    }
}
