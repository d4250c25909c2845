//! Reading a tensor's numbers without copying them.
#![allow(
    unsafe_code,
    reason = "a tensor's memory is reached through a raw pointer; this file checks what that needs"
)]

use tch::{Device, Kind, Tensor};

use crate::error::{Result, ensure};

/// The numbers of a contiguous f32 tensor on the CPU, in row-major order.
///
/// The caller must not write to the tensor's storage while the slice lives; this crate calls it
/// only on buffers that it has just filled and that no other thread holds.
pub(crate) fn f32_slice(tensor: &Tensor) -> Result<&[f32]> {
    let (kind, device) = (tensor.kind(), tensor.device());
    let fits = kind == Kind::Float && device == Device::Cpu && tensor.is_contiguous();
    ensure(fits, "tensor", || {
        format!("expected contiguous f32 on the CPU, got {kind:?} on {device:?}")
    })?;
    let n = tensor.numel();
    if n == 0 {
        return Ok(&[]);
    }
    // SAFETY: the tensor is contiguous f32 in host memory, so `n` floats start at its data
    // pointer, aligned by libtorch's allocator or by a view at a multiple of an element. The
    // borrow of the tensor keeps the storage alive for the life of the slice.
    Ok(unsafe { std::slice::from_raw_parts(tensor.data_ptr().cast::<f32>(), n) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_views_and_refuses_what_it_cannot_read() {
        let t = Tensor::arange(6, (Kind::Float, Device::Cpu)).view([2, 3]);
        assert_eq!(f32_slice(&t).unwrap(), [0., 1., 2., 3., 4., 5.]);
        assert_eq!(f32_slice(&t.get(1)).unwrap(), [3., 4., 5.]);
        assert!(f32_slice(&t.transpose(0, 1)).is_err());
        assert!(f32_slice(&t.to_kind(Kind::Double)).is_err());
        assert!(f32_slice(&t.narrow(0, 0, 0)).unwrap().is_empty());
    }
}
