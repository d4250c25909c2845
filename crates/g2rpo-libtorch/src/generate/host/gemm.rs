//! Matrix products of f32 in host memory.
#![allow(
    unsafe_code,
    reason = "the kernels of the gemm crate take raw pointers; this file checks what they read and write"
)]

use gemm_common::Parallelism;

/// Rows of numbers of one length, `stride` apart.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rows<'a> {
    pub(crate) data: &'a [f32],
    pub(crate) width: usize,
    pub(crate) stride: usize,
}

impl<'a> Rows<'a> {
    /// Rows without a gap between them.
    pub(crate) fn dense(data: &'a [f32], width: usize) -> Self {
        Self {
            data,
            width,
            stride: width,
        }
    }

    fn hold(&self, rows: usize) -> bool {
        rows == 0
            || (self.width <= self.stride
                && (rows - 1) * self.stride + self.width <= self.data.len())
    }
}

/// `out = scale · w · x`, or `out += scale · w · x`: `w` is `[n, k]`, `x` has `k` rows of width `b`, `out`
/// is `[n, b]`.
///
/// This is how a linear layer is computed on activations that are stored feature by feature: the
/// weights are read in the order in which they lie, once, without being rearranged.
///
/// # Panics
/// If the lengths do not fit together.
pub(crate) fn multiply(w: &[f32], x: Rows<'_>, out: &mut [f32], scale: f32, accumulate: bool) {
    let b = x.width;
    if out.is_empty() {
        return;
    }
    let n = out.len() / b;
    let k = w.len() / n;
    assert!(out.len() == n * b && w.len() == n * k && x.hold(k));
    let place = (out.as_mut_ptr(), 1, b as isize);
    // SAFETY: `out` holds n·b numbers, of which element (i, j) of the [b, n] product is at j·b + i;
    // `x` holds element (i, t) at t·stride + i for all t < k, i < b, by the assertion; `w` holds
    // element (t, j) at j·k + t. `out` is borrowed mutably, so it overlaps neither.
    unsafe { product(place, (b, n, k), x, w, scale, accumulate) }
}

/// The product of `x`, seen as `[b, k]`, and `w`, seen as `[k, n]`, where its first number is and how far apart those of
/// a column and of a row are.
///
/// # Safety
/// All numbers of `x` and `w` and all places of the product must be there, and the latter nobody else's.
unsafe fn product(
    (out, down, across): (*mut f32, isize, isize),
    (b, n, k): (usize, usize, usize),
    x: Rows<'_>,
    w: &[f32],
    scale: f32,
    accumulate: bool,
) {
    let (x, x_stride) = (x.data.as_ptr(), x.stride as isize);
    let (w, w_stride) = (w.as_ptr(), k as isize);
    let gemm = gemm_f32::gemm::f32::get_gemm_fn();
    // SAFETY: the caller's.
    unsafe {
        gemm(
            b,
            n,
            k,
            out,
            across,
            down,
            accumulate,
            x,
            x_stride,
            1,
            w,
            w_stride,
            1,
            1.0,
            scale,
            false,
            false,
            false,
            Parallelism::None,
        );
    }
}

/// A block of columns of a matrix `[b, n]`, being written by one thread while others write other
/// columns.
#[derive(Debug)]
pub(crate) struct Columns<'a> {
    start: *mut f32,
    n: usize,
    stride: usize,
    b: usize,
    matrix: std::marker::PhantomData<&'a mut [f32]>,
}

// SAFETY: a `Columns` is a mutable borrow of elements that no other `Columns` of the same matrix
// holds (see `columns`), and f32 is Send.
unsafe impl Send for Columns<'_> {}

/// Cuts a matrix `[b, n]` into blocks of at most `width` columns.
///
/// # Panics
/// If the matrix is not a whole number of rows, or the width is 0.
pub(crate) fn columns(matrix: &mut [f32], n: usize, width: usize) -> Vec<Columns<'_>> {
    assert!(width > 0 && matrix.len().is_multiple_of(n.max(1)));
    let b = matrix.len() / n.max(1);
    let start = matrix.as_mut_ptr();
    (0..n)
        .step_by(width)
        .map(|first| Columns {
            // SAFETY: `first` is less than n, the length of the first row; if there is no row,
            // the pointer is not used.
            start: if b == 0 {
                start
            } else {
                unsafe { start.add(first) }
            },
            n: width.min(n - first),
            stride: n,
            b,
            matrix: std::marker::PhantomData,
        })
        .collect()
}

/// `out = (w · x)ᵀ`: `w` is `[n, k]`, `x` has `k` rows of width `b`, `out` is n columns of `b` rows.
///
/// # Panics
/// If the lengths do not fit together.
pub(crate) fn multiply_into_columns(w: &[f32], x: Rows<'_>, out: &mut Columns<'_>) {
    if out.n == 0 || out.b == 0 {
        return;
    }
    let k = w.len() / out.n;
    assert!(x.width == out.b && w.len() == out.n * k && x.hold(k));
    let place = (out.start, out.stride as isize, 1);
    // SAFETY: as in `multiply`, except that element (i, j) of the product is at i·stride + j from
    // `start`, which is inside the borrowed columns for i < b, j < n.
    unsafe { product(place, (out.b, out.n, k), x, w, 1.0, false) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Small whole numbers, so that every product is exact.
    fn numbers(n: usize, seed: usize) -> Vec<f32> {
        (0..n)
            .map(|i| ((i * 31 + seed * 17) % 13) as f32 - 6.0)
            .collect()
    }

    fn plain(w: &[f32], x: Rows<'_>, n: usize, k: usize) -> Vec<f32> {
        let at = |j: usize, i: usize| {
            (0..k)
                .map(|t| w[j * k + t] * x.data[t * x.stride + i])
                .sum()
        };
        (0..n * x.width)
            .map(|p| at(p / x.width, p % x.width))
            .collect()
    }

    #[test]
    fn products_are_those_of_the_definition() {
        for (n, k, b, stride) in [
            (1, 1, 1, 1),
            (5, 3, 1, 1),
            (7, 40, 2, 5),
            (40, 64, 16, 16),
            (33, 17, 19, 24),
            (2, 64, 300, 512),
        ] {
            let (w, x) = (numbers(n * k, 1), numbers(k * stride, 2));
            let x = Rows {
                data: &x,
                width: b,
                stride,
            };
            let expected = plain(&w, x, n, k);
            let mut out = vec![f32::NAN; n * b];
            multiply(&w, x, &mut out, 1.0, false);
            assert_eq!(out, expected, "{n} {k} {b}");
            multiply(&w, x, &mut out, 2.0, true);
            let thrice: Vec<f32> = expected.iter().map(|v| 3.0 * v).collect();
            assert_eq!(out, thrice, "{n} {k} {b}");
            // The same by columns, in two blocks.
            let mut rows = vec![f32::NAN; n * b];
            let half = n.div_ceil(2);
            for (block, mut columns) in columns(&mut rows, n, half).into_iter().enumerate() {
                let w = &w[block * half * k..][..columns.n * k];
                multiply_into_columns(w, x, &mut columns);
            }
            let transposed: Vec<f32> = (0..b * n).map(|p| expected[(p % n) * b + p / n]).collect();
            assert_eq!(rows, transposed, "{n} {k} {b}");
        }
    }

    #[test]
    #[should_panic(expected = "assertion failed")]
    fn lengths_that_do_not_fit_are_refused() {
        let x = [0f32; 5];
        multiply(&[0f32; 6], Rows::dense(&x, 2), &mut [0f32; 4], 1.0, false);
    }
}
