//! Products with a few rows, as dot products.

use pulp::{Arch, Simd, WithSimd};

/// So many rows at most: each has a sum of its own in a register.
pub(super) const MAX_ROWS: usize = 8;

/// `out = w · xᵀ`, or `out += w · xᵀ`: `w` is `[n, k]`, `x` is `[b, k]` with at most [`MAX_ROWS`] rows, `out` is
/// `[n, b]`.
///
/// The weights are read once, in one stream, as fast as they come; [`multiply`](super::gemm::multiply) computes as
/// many rows as a vector has numbers, however few there are. A row's numbers do not depend on the other rows.
///
/// # Panics
/// If the lengths do not fit together.
pub(super) fn multiply_few(w: &[f32], x: &[f32], b: usize, out: &mut [f32], accumulate: bool) {
    assert!((1..=MAX_ROWS).contains(&b) && x.len().is_multiple_of(b));
    let k = x.len() / b;
    assert!(out.len().is_multiple_of(b) && w.len() == out.len() / b * k);
    if !accumulate {
        out.fill(0.0);
    }
    if k == 0 {
        return;
    }
    let product = Product { w, x, k, out };
    match b {
        1 => Arch::new().dispatch(Few::<1>(product)),
        2 => Arch::new().dispatch(Few::<2>(product)),
        3 => Arch::new().dispatch(Few::<3>(product)),
        4 => Arch::new().dispatch(Few::<4>(product)),
        5 => Arch::new().dispatch(Few::<5>(product)),
        6 => Arch::new().dispatch(Few::<6>(product)),
        7 => Arch::new().dispatch(Few::<7>(product)),
        _ => Arch::new().dispatch(Few::<8>(product)),
    }
}

struct Product<'a> {
    w: &'a [f32],
    x: &'a [f32],
    k: usize,
    out: &'a mut [f32],
}

struct Few<'a, const B: usize>(Product<'a>);

impl<const B: usize> WithSimd for Few<'_, B> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Product { w, x, k, out } = self.0;
        let rows: [&[f32]; B] = std::array::from_fn(|i| &x[i * k..][..k]);
        let tails = rows.map(|row| S::as_simd_f32s(row).1);
        let rows = rows.map(|row| S::as_simd_f32s(row).0);
        let n = rows[0].len();
        for (w, out) in w.chunks_exact(k).zip(out.chunks_exact_mut(B)) {
            let (w, w_tail) = S::as_simd_f32s(w);
            let w = &w[..n];
            let mut sums = [simd.splat_f32s(0.0); B];
            for t in 0..n {
                for i in 0..B {
                    sums[i] = simd.mul_add_f32s(w[t], rows[i][t], sums[i]);
                }
            }
            for i in 0..B {
                let rest: f32 = w_tail.iter().zip(tails[i]).map(|(w, x)| w * x).sum();
                out[i] += simd.reduce_sum_f32s(sums[i]) + rest;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_are_those_of_the_definition() {
        // Small whole numbers, so that every product is exact.
        let number = |i: usize| ((i * 31 + 17) % 13) as f32 - 6.0;
        for (n, k) in [(1, 1), (5, 3), (4, 8), (7, 40), (13, 67), (3, 0), (0, 5)] {
            for b in 1..=MAX_ROWS {
                let w: Vec<f32> = (0..n * k).map(number).collect();
                let x: Vec<f32> = (0..b * k).map(|i| number(i * 3 + 1)).collect();
                let expected: Vec<f32> = (0..n * b)
                    .map(|p| (0..k).map(|t| w[p / b * k + t] * x[p % b * k + t]).sum())
                    .collect();
                let mut out = vec![f32::NAN; n * b];
                multiply_few(&w, &x, b, &mut out, false);
                assert_eq!(out, expected, "{n} {k} {b}");
                multiply_few(&w, &x, b, &mut out, true);
                let twice: Vec<f32> = expected.iter().map(|v| 2.0 * v).collect();
                assert_eq!(out, twice, "{n} {k} {b}");
            }
        }
    }

    #[test]
    #[should_panic(expected = "assertion failed")]
    fn lengths_that_do_not_fit_are_refused() {
        multiply_few(&[0.0; 6], &[0.0; 5], 2, &mut [0.0; 4], false);
    }
}
