//! The norm of a gradient, and its clipping.

use tch::{Device, Kind, Tensor};

use crate::error::{Doing, Result};

/// Euclidean norm of a flat buffer. NaN or infinite if an element is.
///
/// Norms of slices are combined in f64, so the relative error does not grow with the number of
/// parameters.
pub(crate) fn grad_norm(flat: &Tensor) -> Result<f64> {
    tch::no_grad(|| {
        let len = flat.numel() as i64;
        if len == 0 {
            return Ok(0.0);
        }
        let slice = slice_len(flat.device());
        let norms = (0..len)
            .step_by(slice as usize)
            .map(|at| flat.f_narrow(0, at, slice.min(len - at))?.f_norm())
            .collect::<Result<Vec<_>, tch::TchError>>()?;
        let norms = Tensor::f_stack(&norms, 0)?.f_to_kind(Kind::Double)?;
        f64::try_from(norms.f_norm()?)
    })
    .doing(|| "computing the norm of the gradient".into())
}

/// What the gradient is multiplied by so that its norm does not exceed `max_norm`:
/// `min(1, max_norm / (norm + 1e-6))`, as `torch.nn.utils.clip_grad_norm_` does. A `max_norm` of 0
/// or less switches clipping off, as in transformers.
pub(crate) fn clip_factor(norm: f64, max_norm: f64) -> f64 {
    match max_norm > 0.0 {
        true => (max_norm / (norm + 1e-6)).min(1.0),
        false => 1.0,
    }
}

/// Elements per slice of a flat buffer. On the CPU the few buffers that an update touches then
/// stay in the second-level cache between its element-wise operations; on a GPU a slice is large
/// enough that starting the kernels costs nothing.
pub(super) fn slice_len(device: Device) -> i64 {
    match device {
        Device::Cpu => 1 << 16,
        _ => 1 << 26,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn norm_is_exact_over_many_slices() {
        // 300 000 elements of 0.5: √(300 000 / 4) = 273.861…
        let flat = Tensor::full([300_000], 0.5, (Kind::Float, Device::Cpu));
        approx::assert_relative_eq!(
            grad_norm(&flat).unwrap(),
            75_000f64.sqrt(),
            max_relative = 1e-7
        );
        let empty = Tensor::zeros([0], (Kind::Float, Device::Cpu));
        assert_eq!(grad_norm(&empty).unwrap(), 0.0);
    }

    #[test]
    fn clipping_is_off_below_the_limit_and_at_zero() {
        assert_eq!(clip_factor(0.5, 1.0), 1.0);
        assert_eq!(clip_factor(4.0, 0.0), 1.0);
        approx::assert_relative_eq!(clip_factor(4.0, 1.0), 1.0 / 4.000001);
    }
}
