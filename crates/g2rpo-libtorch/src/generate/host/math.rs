//! Element-wise work on f32 in host memory, compiled for the widest vectors that the processor has.

use super::simd::vectorised;

/// `eˣ` to two units in the last place; 0 below -87.3, where f32 has no normal number left, and
/// infinite above 88.7. NaN stays NaN. Written without branches, so that loops over it become
/// vector instructions.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    // x = n·ln 2 + r with |r| ≤ ln 2 / 2; ln 2 in two parts, so that the subtraction is exact.
    const SHIFT: f32 = 12_582_912.0; // 1.5 · 2²³: adding it rounds to a whole number.
    let shifted = x.mul_add(std::f32::consts::LOG2_E, SHIFT);
    let n = shifted - SHIFT;
    let r = n.mul_add(-0.693_145_75, x);
    let r = n.mul_add(-1.428_606_8e-6, r);
    // Taylor's series; the next term is below r⁸ / 8!, 5e-9.
    let mut p = 1.0 / 5040.0;
    for c in [
        1.0 / 720.0,
        1.0 / 120.0,
        1.0 / 24.0,
        1.0 / 6.0,
        0.5,
        1.0,
        1.0,
    ] {
        p = r.mul_add(p, c);
    }
    // 2ⁿ by its exponent bits, in two factors, so that n = 128 does not overflow.
    let n = (shifted.to_bits() as i32).wrapping_sub(SHIFT.to_bits() as i32);
    let half = n >> 1;
    let power = |n: i32| f32::from_bits((n.wrapping_add(127) as u32) << 23);
    let y = p * power(half) * power(n.wrapping_sub(half));
    let y = if x < -87.3 { 0.0 } else { y };
    if x > 88.722_83 { f32::INFINITY } else { y }
}

vectorised! {
    /// `out = w · x / √(mean(x²) + eps)` for every column of `[h, b]`.
    pub(crate) fn rms_norm(x: &[f32], w: &[f32], eps: f64, b: usize, out: &mut [f32]) {
        let mut scales = vec![0f64; b];
        for row in x.chunks_exact(b) {
            for (sum, &v) in scales.iter_mut().zip(row) {
                *sum += f64::from(v) * f64::from(v);
            }
        }
        let scales: Vec<f32> = (scales.iter())
            .map(|sum| (1.0 / (sum / w.len() as f64 + eps).sqrt()) as f32)
            .collect();
        for ((out, x), &w) in out.chunks_exact_mut(b).zip(x.chunks_exact(b)).zip(w) {
            for ((out, &x), &scale) in out.iter_mut().zip(x).zip(&scales) {
                *out = x * scale * w;
            }
        }
    }
}

/// The same for one vector, in place.
#[inline(always)]
pub(crate) fn rms_norm_row(x: &mut [f32], w: &[f32], eps: f64) {
    let mut lanes = [0f64; 8];
    let (chunks, rest) = x.as_chunks::<8>();
    for chunk in chunks {
        for (lane, &v) in lanes.iter_mut().zip(chunk) {
            *lane += f64::from(v) * f64::from(v);
        }
    }
    for &v in rest {
        lanes[0] += f64::from(v) * f64::from(v);
    }
    let sum: f64 = lanes.iter().sum();
    let scale = (1.0 / (sum / w.len() as f64 + eps).sqrt()) as f32;
    for (x, &w) in x.iter_mut().zip(w) {
        *x = *x * scale * w;
    }
}

/// Turns the pairs `(i, i + d / 2)` of one vector by the angles whose cosines and sines are given.
#[inline(always)]
pub(crate) fn rotate_row(x: &mut [f32], cos: &[f32], sin: &[f32]) {
    let (low, high) = x.split_at_mut(x.len() / 2);
    for (((a, b), &c), &s) in low.iter_mut().zip(high).zip(cos).zip(sin) {
        (*a, *b) = (*a * c - *b * s, *b * c + *a * s);
    }
}

vectorised! {
    /// `gate = silu(gate) · up`.
    pub(crate) fn silu_mul(gate: &mut [f32], up: &[f32]) {
        for (g, &u) in gate.iter_mut().zip(up) {
            *g = *g / (1.0 + exp(-*g)) * u;
        }
    }
}

vectorised! {
    /// `gate = gelu(gate) · up`, gelu with tanh: `g / (1 + e^(-2u))`, `u = √(2/π) · (g + 0.044715·g³)`.
    pub(crate) fn gelu_mul(gate: &mut [f32], up: &[f32]) {
        for (g, &u) in gate.iter_mut().zip(up) {
            let inner = 1.595_769 * (0.044_715 * *g * *g).mul_add(*g, *g);
            *g = *g / (1.0 + exp(-inner)) * u;
        }
    }

    /// `out += x · factor`.
    pub(crate) fn add_scaled(out: &mut [f32], x: &[f32], factor: f32) {
        for (out, &x) in out.iter_mut().zip(x) {
            *out += x * factor;
        }
    }
}

/// `out = Σᵢ weights[i] · rows[i · stride ..][.. out.len()]`.
#[inline(always)]
pub(crate) fn combine(weights: &[f32], rows: &[f32], stride: usize, out: &mut [f32]) {
    let n = out.len();
    out.fill(0.0);
    let row = |i: usize| &rows[i * stride..][..n];
    let mut i = 0;
    while i + 4 <= weights.len() {
        let [a, b, c, d] = [0, 1, 2, 3].map(|j| weights[i + j]);
        let (ra, rb, rc, rd) = (row(i), row(i + 1), row(i + 2), row(i + 3));
        for j in 0..n {
            let low = b.mul_add(rb[j], a * ra[j]);
            let high = d.mul_add(rd[j], c * rc[j]);
            out[j] += low + high;
        }
        i += 4;
    }
    for (i, &w) in weights.iter().enumerate().skip(i) {
        for (out, &v) in out.iter_mut().zip(row(i)) {
            *out = w.mul_add(v, *out);
        }
    }
}

/// Replaces scores by `exp(score - max)`; returns the maximum and the sum of what was written.
#[inline(always)]
pub(crate) fn exp_scores(scores: &mut [f32]) -> (f32, f32) {
    let max = max(scores);
    let mut lanes = [0f32; 16];
    let (chunks, rest) = scores.as_chunks_mut::<16>();
    for chunk in chunks {
        for (lane, s) in lanes.iter_mut().zip(chunk) {
            *s = exp(*s - max);
            *lane += *s;
        }
    }
    let mut sum: f32 = lanes.iter().sum();
    for s in rest {
        *s = exp(*s - max);
        sum += *s;
    }
    (max, sum)
}

/// The largest number; NaN is passed over.
#[inline(always)]
pub(crate) fn max(values: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; 16];
    let (chunks, rest) = values.as_chunks::<16>();
    for chunk in chunks {
        for (lane, &v) in lanes.iter_mut().zip(chunk) {
            *lane = if v > *lane { v } else { *lane };
        }
    }
    (lanes.iter().chain(rest)).fold(f32::NEG_INFINITY, |m, &v| if v > m { v } else { m })
}

vectorised! {
    /// Replaces logits by `exp((logit - max) / temperature)`; returns the maximum.
    pub(crate) fn soften(logits: &mut [f32], temperature: f64) -> f32 {
        let max = max(logits);
        let inverse = (1.0 / temperature) as f32;
        for x in logits.iter_mut() {
            *x = exp((*x - max) * inverse);
        }
        max
    }

    /// `Σ exp((logit - max) / temperature)` and the maximum.
    pub(crate) fn normaliser(logits: &[f32], temperature: f64) -> (f32, f64) {
        let max = max(logits);
        let inverse = (1.0 / temperature) as f32;
        let mut sum = 0f64;
        for block in logits.chunks(256) {
            let mut lanes = [0f32; 16];
            let (chunks, rest) = block.as_chunks::<16>();
            for chunk in chunks {
                for (lane, &x) in lanes.iter_mut().zip(chunk) {
                    *lane += exp((x - max) * inverse);
                }
            }
            for &x in rest {
                lanes[0] += exp((x - max) * inverse);
            }
            sum += f64::from(lanes.iter().sum::<f32>());
        }
        (max, sum)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_that_of_f64_to_two_units() {
        let mut worst = 0f64;
        for i in -873_000..887_000 {
            let x = i as f32 / 10_000.0;
            let exact = f64::from(x).exp();
            worst = worst.max((f64::from(exp(x)) / exact - 1.0).abs());
        }
        assert!(worst < 2.0 * f64::from(f32::EPSILON), "{worst:e}");
        assert_eq!(
            (exp(0.0), exp(-1e30), exp(f32::NEG_INFINITY)),
            (1.0, 0.0, 0.0)
        );
        assert_eq!(
            (exp(89.0), exp(f32::INFINITY)),
            (f32::INFINITY, f32::INFINITY)
        );
        assert!(exp(f32::NAN).is_nan());
    }

    #[test]
    fn combinations_and_softmax_by_hand() {
        let rows = [1.0, 2.0, 0.0, 3.0, 4.0, 0.0];
        let mut out = [9.0; 2];
        combine(&[2.0, -1.0], &rows, 3, &mut out);
        assert_eq!(out, [-1.0, 0.0]);
        let rows: Vec<f32> = (0..18).map(|i| i as f32).collect();
        combine(&[1.0; 6], &rows, 3, &mut out);
        assert_eq!(out, [45.0, 51.0]);
        let mut scores = [0.0, 2f32.ln()];
        let (max, sum) = exp_scores(&mut scores);
        assert_eq!(max, 2f32.ln());
        approx::assert_relative_eq!(sum, 1.5, epsilon = 1e-6);
        let mut logits = [0.0, 1.0];
        assert_eq!(soften(&mut logits, 2.0), 1.0);
        approx::assert_relative_eq!(logits[0], (-0.5f32).exp(), epsilon = 1e-6);
        let (max, sum) = normaliser(&[0.0, 1.0], 2.0);
        assert_eq!(max, 1.0);
        approx::assert_relative_eq!(sum, 1.0 + (-0.5f64).exp(), epsilon = 1e-6);
    }
}
