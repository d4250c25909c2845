//! Flash attention over sequences of unequal length.
#![allow(
    unsafe_code,
    reason = "tensors are handed to the shim by pointer; `on_cuda` alone does it"
)]

use std::ptr::null_mut;

use tch::{Device, Kind, Tensor};

use super::shim::shim;
use crate::error::{Result, ensure};
use crate::shim::call;

/// Attention of sequences of unequal length, each to its own stretch of keys and values.
///
/// Sequence `i` of `n` has the queries from `cu_q[i]` to `cu_q[i + 1]` and `used_k[i]` keys from `cu_k[i]` on. The
/// stretches may lie in any order and overlap. Queries that belong to no sequence are left out:
/// what comes out for them is not defined.
#[derive(Debug)]
pub(crate) struct Varlen<'a> {
    /// `[total_q, heads, head_dim]`.
    pub(crate) q: &'a Tensor,
    /// `[total_k, kv_heads, head_dim]`.
    pub(crate) k: &'a Tensor,
    /// `[total_k, kv_heads, head_dim]`.
    pub(crate) v: &'a Tensor,
    /// int32, `[n + 1]`.
    pub(crate) cu_q: &'a Tensor,
    /// int32, `[n + 1]`; the last is not read.
    pub(crate) cu_k: &'a Tensor,
    /// int32, at least 1, `[n]`.
    pub(crate) used_k: &'a Tensor,
    /// No sequence has more queries. With 1, all queries must belong to a sequence.
    pub(crate) max_q: i64,
    /// No sequence has more keys.
    pub(crate) max_k: i64,
}

/// Computes the attention output `[total_q, heads, head_dim]` and the natural logarithm of the sum of the
/// exponents of each query's scores, `[heads, total_q]` in f32.
pub(crate) type VarlenKernel = fn(&Varlen<'_>) -> Result<(Tensor, Tensor)>;

/// libtorch's flash attention, for bf16 and f16 on a GPU of compute capability 8.0 or newer.
pub(crate) fn on_cuda(a: &Varlen<'_>) -> Result<(Tensor, Tensor)> {
    let scale = 1.0 / (*a.q.size().last().unwrap_or(&1) as f64).sqrt();
    let (mut out, mut log_sum) = (null_mut(), null_mut());
    let shim = shim()?;
    // SAFETY: tch's pointers are `at::Tensor*` and live as long as the tensors borrowed in `a`; the shim
    // only reads them. The results go to places of our own.
    call(|(text, room)| unsafe {
        (shim.flash)(
            a.q.as_ptr().cast(),
            a.k.as_ptr().cast(),
            a.v.as_ptr().cast(),
            a.cu_q.as_ptr().cast(),
            a.cu_k.as_ptr().cast(),
            a.used_k.as_ptr().cast(),
            a.max_q,
            a.max_k,
            scale,
            &raw mut out,
            &raw mut log_sum,
            text,
            room,
        )
    })?;
    // SAFETY: on success the shim gives two tensors on the heap, made by `new` as torch-sys makes
    // them, which these handles own from here on.
    Ok(unsafe {
        (
            Tensor::from_ptr(out.cast()),
            Tensor::from_ptr(log_sum.cast()),
        )
    })
}

/// Compares a kernel with plain products on a few sequences of the shapes that decoding has.
///
/// A release of libtorch that lays out its results in another way, or a GPU that it has no kernel
/// for, must not change what is sampled.
///
/// # Errors
/// The kernel's, and one of its own if it gives something else than plain products do.
pub(crate) fn check(
    kernel: VarlenKernel,
    (kind, device): (Kind, Device),
    (heads, kv_heads, head_dim): (i64, i64, i64),
) -> Result<()> {
    // Any numbers do that differ; no random generator is touched.
    let numbers = |shape: [i64; 3], pace: f64| -> Result<Tensor> {
        let n: i64 = shape.iter().product();
        Ok(Tensor::f_arange(n, (Kind::Double, device))?
            .f_mul_scalar(pace)?
            .f_sin()?
            .f_view(shape)?
            .f_to_kind(kind)?)
    };
    let ints = |values: &[i32]| -> Result<Tensor> {
        Ok(Tensor::f_from_slice(values)?.f_to_device(device)?)
    };
    let groups = heads / kv_heads;
    let (k, v) = (
        numbers([700, kv_heads, head_dim], 0.37)?,
        numbers([700, kv_heads, head_dim], 0.71)?,
    );
    // One query per sequence, all heads at once, stretches out of order and with gaps; then several
    // queries per sequence, one of them empty, the query heads of a kv head one behind the other.
    let (starts, used) = ([400, 0, 33, 0], [300, 1, 129, 0]);
    let single = numbers([3, heads, head_dim], 0.53)?;
    let several = numbers([6 * groups, kv_heads, head_dim], 0.59)?;
    let g = groups as i32;
    for (q, cu_q, max_q) in [
        (&single, vec![0, 1, 2, 3], 1),
        (&several, vec![0, 2 * g, 5 * g, 6 * g, 6 * g], 8 * groups),
    ] {
        let n = cu_q.len() - 1;
        let (out, log_sum) = kernel(&Varlen {
            q,
            k: &k,
            v: &v,
            cu_q: &ints(&cu_q)?,
            cu_k: &ints(&[&starts[..n], &[0]].concat())?,
            used_k: &ints(&used[..n].iter().map(|&n| n.max(1)).collect::<Vec<_>>())?,
            max_q,
            max_k: 512,
        })?;
        for i in 0..n {
            let (at, count) = (i64::from(cu_q[i]), i64::from(cu_q[i + 1] - cu_q[i]));
            if count == 0 {
                continue;
            }
            let (expected, sums) = plain(
                &q.f_narrow(0, at, count)?,
                &k.f_narrow(0, starts[i].into(), used[i].into())?,
                &v.f_narrow(0, starts[i].into(), used[i].into())?,
            )?;
            let off = |ours: &Tensor, theirs: &Tensor| -> Result<f64> {
                let difference = ours.f_to_kind(Kind::Float)?.f_sub(theirs)?.f_abs()?;
                Ok(f64::try_from(difference.f_max()?)?)
            };
            let out = off(&out.f_narrow(0, at, count)?, &expected)?;
            let log_sum = off(&log_sum.f_narrow(1, at, count)?, &sums)?;
            // Outputs are below 1 and rounded to 8 bits; NaN fails the comparison.
            ensure(out < 0.02 && log_sum < 0.01, "flash attention", || {
                format!(
                    "differs from plain products by {out} in outputs and {log_sum} in logarithms of sums"
                )
            })?;
        }
    }
    Ok(())
}

/// The same for one sequence, in f32: outputs `[queries, heads, head_dim]`, logarithms `[heads, queries]`.
fn plain(q: &Tensor, k: &Tensor, v: &Tensor) -> Result<(Tensor, Tensor)> {
    let (_, heads, d) = q.size3()?;
    let repeats = heads / k.size()[1];
    let [q, k, v] = [(q, 1), (k, repeats), (v, repeats)].map(|(x, repeats)| -> Result<Tensor> {
        Ok(x.f_to_kind(Kind::Float)?
            .f_repeat_interleave_self_int(repeats, 1, None)?
            .f_transpose(0, 1)?)
    });
    let (q, k, v) = (q?, k?, v?);
    let scores = q
        .f_matmul(&k.f_transpose(1, 2)?)?
        .f_div_scalar((d as f64).sqrt())?;
    let out = scores.f_softmax(-1, Kind::Float)?.f_matmul(&v)?;
    Ok((
        out.f_transpose(0, 1)?,
        scores.f_logsumexp(&[-1i64][..], false)?,
    ))
}

/// The same as [`on_cuda`] by libtorch's flash attention for the CPU, sequence by sequence. Queries of no
/// sequence come out as NaN, so that whoever reads them is found out.
#[cfg(test)]
pub(crate) fn on_the_cpu(a: &Varlen<'_>) -> Result<(Tensor, Tensor)> {
    let (total, heads, _) = a.q.size3()?;
    let ints = |t: &Tensor| Vec::<i32>::try_from(t).unwrap();
    let (cu_q, cu_k, used_k) = (ints(a.cu_q), ints(a.cu_k), ints(a.used_k));
    let n = used_k.len();
    assert!(cu_q.len() == n + 1 && cu_k.len() == n + 1);
    assert!(
        a.max_q > 1 || total == n as i64,
        "every query has a sequence"
    );
    let out = a.q.f_full_like(f64::NAN)?;
    let log_sum = Tensor::f_full([heads, total], f64::NAN, (Kind::Float, Device::Cpu))?;
    for i in 0..n {
        let (at, count) = (i64::from(cu_q[i]), i64::from(cu_q[i + 1] - cu_q[i]));
        let (start, used) = (i64::from(cu_k[i]), i64::from(used_k[i]));
        assert!((0..=a.max_q).contains(&count) && (1..=a.max_k).contains(&used));
        if count == 0 {
            continue;
        }
        let repeats = heads / a.k.size()[1];
        let part = |x: &Tensor, at: i64, n: i64, repeats: i64| -> Result<Tensor> {
            Ok(x.f_narrow(0, at, n)?
                .f_repeat_interleave_self_int(repeats, 1, None)?
                .f_transpose(0, 1)?
                .f_unsqueeze(0)?)
        };
        let (y, sums) = Tensor::f_internal_scaled_dot_product_flash_attention_for_cpu(
            &part(a.q, at, count, 1)?,
            &part(a.k, start, used, repeats)?,
            &part(a.v, start, used, repeats)?,
            0.0,
            false,
            None::<&Tensor>,
            None,
        )?;
        // [1, heads, queries, head_dim], and [1, heads, queries]
        (out.f_narrow(0, at, count)?).f_copy_(&y.f_squeeze_dim(0)?.f_transpose(0, 1)?)?;
        (log_sum.f_narrow(1, at, count)?).f_copy_(&sums.f_view([heads, count])?)?;
    }
    Ok((out, log_sum))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::says;

    const SHAPES: [(i64, i64, i64); 3] = [(4, 2, 16), (3, 3, 8), (8, 1, 64)];

    #[test]
    fn the_kernel_for_the_cpu_passes_the_check() {
        for kind in [Kind::Float, Kind::BFloat16] {
            for shape in SHAPES {
                check(on_the_cpu, (kind, Device::Cpu), shape).unwrap();
            }
        }
    }

    #[test]
    fn the_kernel_for_gpus_passes_the_check() {
        if !crate::cuda_is_available() {
            eprintln!("skipped: there is no GPU");
            return;
        }
        for shape in SHAPES.into_iter().chain([(16, 8, 128)]) {
            check(on_cuda, (Kind::BFloat16, Device::Cuda(0)), shape).unwrap();
        }
    }

    #[test]
    fn results_that_are_laid_out_otherwise_fail_the_check() {
        let refused = |kernel: VarlenKernel| {
            let checked = check(kernel, (Kind::Float, Device::Cpu), SHAPES[0]);
            says(checked, "flash attention: differs…");
        };
        refused(|a| {
            let (out, log_sum) = on_the_cpu(a)?;
            let shape = log_sum.size();
            Ok((out, log_sum.f_transpose(0, 1)?.f_reshape(shape)?))
        });
        refused(|a| {
            let (out, log_sum) = on_the_cpu(a)?;
            Ok((out, log_sum.f_div_scalar(std::f64::consts::LN_2)?))
        });
        refused(|a| Ok((a.q.f_full_like(f64::NAN)?, on_the_cpu(a)?.1)));
        refused(|a| {
            let all = a.used_k.f_full_like(a.max_k as f64)?;
            let used_k = &all.f_clamp_max(250)?;
            on_the_cpu(&Varlen { used_k, ..*a })
        });
    }

    #[test]
    fn without_a_gpu_there_is_an_error() {
        let one = Tensor::zeros([1, 1, 8], (Kind::BFloat16, Device::Cpu));
        let ints = Tensor::from_slice(&[0, 1]);
        let a = Varlen {
            q: &one,
            k: &one,
            v: &one,
            cu_q: &ints,
            cu_k: &ints,
            used_k: &ints.narrow(0, 1, 1),
            max_q: 1,
            max_k: 1,
        };
        assert!(on_cuda(&a).is_err());
    }
}
