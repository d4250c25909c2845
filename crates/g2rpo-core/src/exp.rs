//! Arithmetic that compiles to vector instructions: the losses spend their time in `exp` and sums.

/// Largest argument whose exponential is finite in f64, rounded down.
pub(crate) const EXP_MAX: f64 = 709.0;

/// `eˣ` to within 2 units in the last place on [−708, 709]; arguments outside are moved to the
/// nearer end, so callers refuse overflow beforehand, and NaN. `exp(0) == 1` exactly.
///
/// The standard library's `exp` is a call into libm, which keeps loops around it scalar.
#[inline(always)]
pub(crate) fn exp(x: f64) -> f64 {
    let Reduced { scale, r, tail } = reduce(x);
    (1.0 + (r + tail)) * scale
}

/// `eˣ − x − 1` and `eˣ − 1`, both to a few units in the last place also where `x` is small and the
/// differences would cancel.
#[inline(always)]
pub(crate) fn exp_minus(x: f64) -> (f64, f64) {
    let Reduced { scale, r, tail } = reduce(x);
    let e = (1.0 + (r + tail)) * scale;
    // Where the scale is 1, r is x and the tail is what is left of the series behind it.
    let is_small = scale == 1.0;
    (
        if is_small { tail } else { e - x - 1.0 },
        if is_small { r + tail } else { e - 1.0 },
    )
}

/// `eˣ = scale · (1 + r + tail)`: the scale is a power of 2 and |r| ≤ ln 2 / 2.
struct Reduced {
    scale: f64,
    r: f64,
    /// `eʳ − r − 1`.
    tail: f64,
}

#[inline(always)]
fn reduce(x: f64) -> Reduced {
    const SHIFT: f64 = 6_755_399_441_055_744.0; // 1.5 · 2⁵²: adding it rounds to an integer
    const LN_2_HIGH: f64 = 6.931_471_803_691_238e-1;
    const LN_2_LOW: f64 = 1.908_214_929_270_587_7e-10;
    // 1/3! … 1/13!: the remainder of the series is below 5e-18 on |r| ≤ ln 2 / 2.
    const C: [f64; 11] = [
        1.0 / 6.0,
        1.0 / 24.0,
        1.0 / 120.0,
        1.0 / 720.0,
        1.0 / 5_040.0,
        1.0 / 40_320.0,
        1.0 / 362_880.0,
        1.0 / 3_628_800.0,
        1.0 / 39_916_800.0,
        1.0 / 479_001_600.0,
        1.0 / 6_227_020_800.0,
    ];
    let x = min(max(x, -708.0), 709.0);
    let shifted = x * std::f64::consts::LOG2_E + SHIFT;
    let n = shifted - SHIFT;
    let r = (x - n * LN_2_HIGH) - n * LN_2_LOW;
    // Estrin's scheme: short dependency chains, so that several evaluations overlap.
    let r2 = r * r;
    let r4 = r2 * r2;
    let r8 = r4 * r4;
    let low = (C[0] + C[1] * r) + (C[2] + C[3] * r) * r2;
    let middle = (C[4] + C[5] * r) + (C[6] + C[7] * r) * r2;
    let high = (C[8] + C[9] * r) + C[10] * r2;
    let rest = low + middle * r4 + high * r8;
    Reduced {
        // The low bits of `shifted` hold n; moved into the exponent field they are 2ⁿ.
        scale: f64::from_bits(shifted.to_bits().wrapping_add(1023) << 52),
        r,
        tail: r2 * (0.5 + r * rest),
    }
}

/// The smaller of two numbers; `b` where `a` is NaN. Unlike `f64::min` one instruction.
#[inline(always)]
pub(crate) fn min(a: f64, b: f64) -> f64 {
    if a < b { a } else { b }
}

/// The larger of two numbers; `b` where `a` is NaN. Unlike `f64::max` one instruction.
#[inline(always)]
pub(crate) fn max(a: f64, b: f64) -> f64 {
    if a > b { a } else { b }
}

/// Fills a buffer with `f` of every item. Unlike `Vec::extend` the loop vectorises.
#[inline(always)]
pub(crate) fn map_into<T: Copy>(into: &mut Vec<f64>, from: &[T], f: impl Fn(T) -> f64) {
    into.resize(from.len(), 0.0);
    for (into, &from) in into.iter_mut().zip(from) {
        *into = f(from);
    }
}

/// Fills a buffer with `a − b` where the mask is not 0 and 0 elsewhere, and says whether all of it is at
/// most `limit` and finite.
#[inline(always)]
pub(crate) fn differences(
    into: &mut Vec<f64>,
    mask: &[f64],
    a: &[f64],
    b: &[f64],
    limit: f64,
) -> bool {
    into.resize(mask.len(), 0.0);
    let mut all_usable = true;
    for (((into, &m), &a), &b) in into.iter_mut().zip(mask).zip(a).zip(b) {
        let difference = if m > 0.0 { a - b } else { 0.0 };
        all_usable &= (difference <= limit) & (difference >= -f64::MAX);
        *into = difference;
    }
    all_usable
}

/// Smallest and largest of the values whose mask is not 0, infinite where there is none.
pub(crate) fn extremes(values: &[f64], mask: &[f64]) -> (f64, f64) {
    let (mut lows, mut highs) = ([f64::INFINITY; 8], [f64::NEG_INFINITY; 8]);
    let mut take = |lane: usize, value: f64, m: f64| {
        lows[lane] = min(if m > 0.0 { value } else { f64::INFINITY }, lows[lane]);
        highs[lane] = max(if m > 0.0 { value } else { f64::NEG_INFINITY }, highs[lane]);
    };
    let (values, masks) = (values.chunks_exact(8), mask.chunks_exact(8));
    let rest = values.remainder().iter().zip(masks.remainder());
    rest.for_each(|(&value, &m)| take(0, value, m));
    for (value, m) in values.zip(masks) {
        for lane in 0..8 {
            take(lane, value[lane], m[lane]);
        }
    }
    (
        lows.into_iter().fold(f64::INFINITY, min),
        highs.into_iter().fold(f64::NEG_INFINITY, max),
    )
}

/// Sum in eight interleaved parts: a fixed order, but one that the processor can add in parallel.
#[inline]
pub(crate) fn sum(values: &[f64]) -> f64 {
    sum_of(values, |x| x)
}

/// Sum of `f` over the values, in the order of [`sum`].
#[inline(always)]
pub(crate) fn sum_of(values: &[f64], f: impl Fn(f64) -> f64) -> f64 {
    let mut lanes = [0.0; 8];
    let chunks = values.chunks_exact(8);
    let rest: f64 = chunks.remainder().iter().map(|&x| f(x)).sum();
    for chunk in chunks {
        for (lane, &x) in lanes.iter_mut().zip(chunk) {
            *lane += f(x);
        }
    }
    lanes.iter().sum::<f64>() + rest
}

/// Multiplies by factors; an empty slice stands for ones.
pub(crate) fn scale_by(values: &mut [f64], factors: &[f64]) {
    for (value, factor) in values.iter_mut().zip(factors) {
        *value *= factor;
    }
}

/// Sum of products, in the order of [`sum`].
#[inline]
pub(crate) fn dot(a: &[f64], b: &[f64]) -> f64 {
    let mut lanes = [0.0; 8];
    let (a_chunks, b_chunks) = (a.chunks_exact(8), b.chunks_exact(8));
    let rest: f64 = (a_chunks.remainder().iter())
        .zip(b_chunks.remainder())
        .map(|(x, y)| x * y)
        .sum();
    for (x, y) in a_chunks.zip(b_chunks) {
        for lane in 0..8 {
            lanes[lane] += x[lane] * y[lane];
        }
    }
    lanes.iter().sum::<f64>() + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_agrees_with_the_standard_library() {
        let mut worst = 0.0f64;
        let points = (-708_000..=709_000).map(|i| f64::from(i) / 1000.0 + 1e-7);
        for x in points.chain((-100_000..=100_000).map(|i| f64::from(i) * 1e-5)) {
            let x = x.min(709.0);
            worst = worst.max((exp(x) / x.exp() - 1.0).abs());
        }
        assert!(
            worst <= 2.0 * f64::EPSILON,
            "worst relative error {worst:e}"
        );
        assert_eq!(exp(0.0), 1.0);
        assert_eq!(exp(-0.0), 1.0);
    }

    #[test]
    fn differences_do_not_cancel() {
        // Past |x| = 1/100 eˣ − x − 1 in f64 is good to 1e-11; below, its series is.
        let points = (-16..2).flat_map(|e| (1..10).map(move |m| f64::from(m) * 10f64.powi(e)));
        for x in points.flat_map(|x| [x, -x]) {
            let series = x * x * (0.5 + x / 6.0 * (1.0 + x / 4.0 * (1.0 + x / 5.0)));
            let (k, e) = exp_minus(x);
            let expected = if x.abs() < 1e-2 {
                series
            } else {
                x.exp_m1() - x
            };
            assert!((k / expected - 1.0).abs() < 1e-10, "{x}: {k}, {expected}");
            assert!((e / x.exp_m1() - 1.0).abs() < 1e-15, "{x}: {e}");
        }
        assert_eq!(exp_minus(0.0), (0.0, 0.0));
    }

    #[test]
    fn exp_is_bounded_outside_its_range() {
        assert_eq!(exp(-1e9), exp(-708.0));
        assert_eq!(exp(f64::NEG_INFINITY), exp(-708.0));
        assert!(exp(f64::INFINITY).is_finite());
    }

    #[test]
    fn sums_take_every_value_once() {
        let values: Vec<f64> = (0..19).map(f64::from).collect();
        assert_eq!(sum(&values), 171.0);
        assert_eq!(sum_of(&values, |x| x * x), 2109.0);
        assert_eq!(dot(&values, &values), 2109.0);
        assert_eq!(sum(&[]), 0.0);
    }

    #[test]
    fn extremes_skip_what_is_masked() {
        let values: Vec<f64> = (0..19).map(f64::from).collect();
        for masked in 0..19 {
            let mask: Vec<f64> = (0..19).map(|i| f64::from(u8::from(i > masked))).collect();
            let expected = if masked == 18 {
                (f64::INFINITY, f64::NEG_INFINITY)
            } else {
                (masked as f64 + 1.0, 18.0)
            };
            assert_eq!(extremes(&values, &mask), expected);
        }
    }
}
