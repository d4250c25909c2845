//! CUDA graphs.
#![allow(
    unsafe_code,
    reason = "graphs are held by pointers of the shim; this file pairs every one with its owner"
)]

use std::ffi::c_int;
use std::ptr::{NonNull, null_mut};

use super::shim::{Shim, shim};
use crate::error::{Error, Result};
use crate::shim::{Raw, call};

/// Work on a GPU that was recorded once and is launched as a whole, without the time that a processor
/// takes to launch each of its operations.
///
/// A graph repeats the same operations on the same memory. Whatever it reads or writes must
/// therefore live outside of it, stay where it is for as long as the graph is used, and be changed
/// in place.
#[derive(Debug)]
pub(crate) struct CudaGraph {
    raw: NonNull<std::ffi::c_void>,
    shim: &'static Shim,
}

impl CudaGraph {
    /// Records `work` on the CUDA device of this number.
    ///
    /// `work` runs twice: once in earnest, so that libraries have set themselves up before, and once
    /// for the record, in which nothing is computed. It must not wait for the GPU, copy from or to
    /// the host, or allocate on the host for the GPU. What it allocates on the GPU comes from memory
    /// that graphs recorded `with` one another share; they must not run at the same time.
    ///
    /// # Errors
    /// Those of `work`, and libtorch's if the record cannot be made. The stream that was current
    /// before is so again either way.
    pub(crate) fn capture(
        device: usize,
        with: Option<&Self>,
        mut work: impl FnMut() -> Result<()>,
    ) -> Result<Self> {
        let shim = shim()?;
        let mut raw = null_mut();
        // SAFETY: the pointer goes to a place of our own.
        call(|(text, room)| unsafe {
            (shim.capture_enter)(device as c_int, &raw mut raw, text, room)
        })?;
        let capture = Capture { raw, shim };
        work()?;
        let pool = with.map_or(null_mut(), |graph| graph.raw.as_ptr());
        // SAFETY: the capture lives until the end of this function, and `pool` is null or a graph
        // that `with` keeps alive.
        call(|(text, room)| unsafe { (shim.capture_begin)(capture.raw, pool, text, room) })?;
        work()?;
        let mut raw = null_mut();
        // SAFETY: the capture was begun above; the graph goes to a place of our own.
        call(|(text, room)| unsafe { (shim.capture_end)(capture.raw, &raw mut raw, text, room) })?;
        let raw = NonNull::new(raw).ok_or_else(|| Error::invalid("graph", "none was made"))?;
        Ok(Self { raw, shim })
    }

    /// Launches the work on the stream that is current.
    pub(crate) fn replay(&self) -> Result<()> {
        // SAFETY: the graph lives as long as `self`.
        call(|(text, room)| unsafe { (self.shim.graph_replay)(self.raw.as_ptr(), text, room) })
    }
}

impl Drop for CudaGraph {
    fn drop(&mut self) {
        // SAFETY: the pointer came from the shim, nothing else frees it, and `self` is gone after
        // this.
        unsafe { (self.shim.graph_free)(self.raw.as_ptr()) };
    }
}

/// A stream of its own, until this is dropped.
struct Capture {
    raw: Raw,
    shim: &'static Shim,
}

impl Drop for Capture {
    fn drop(&mut self) {
        // SAFETY: the pointer came from `capture_enter` and is not used after this.
        unsafe { (self.shim.capture_leave)(self.raw) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind, Tensor};

    #[test]
    fn a_replay_repeats_the_work_on_what_is_there_now() {
        if !crate::cuda_is_available() {
            eprintln!("skipped: there is no GPU");
            return;
        }
        let (kind, device) = (Kind::Float, Device::Cuda(0));
        let x = Tensor::full([4], 2.0, (kind, device));
        let mut y = Tensor::zeros([4], (kind, device));
        let mut runs = 0;
        let graph = CudaGraph::capture(0, None, || {
            runs += 1;
            y.copy_(&(&x * 3.0));
            Ok(())
        })
        .unwrap();
        assert_eq!(runs, 2);
        x.shallow_clone()
            .copy_(&Tensor::full([4], 5.0, (kind, device)));
        graph.replay().unwrap();
        assert_eq!(Vec::<f32>::try_from(&y).unwrap(), [15.0; 4]);
        // A second one in the same memory, and one whose work fails.
        let more = CudaGraph::capture(0, Some(&graph), || {
            y.copy_(&(&x * 4.0));
            Ok(())
        });
        more.unwrap().replay().unwrap();
        assert_eq!(Vec::<f32>::try_from(&y).unwrap(), [20.0; 4]);
        let wrong = Tensor::zeros([3], (kind, device));
        let failed = CudaGraph::capture(0, Some(&graph), || {
            let _ = x.f_add(&wrong)?;
            Ok(())
        });
        assert!(failed.is_err());
        graph.replay().unwrap();
        assert_eq!(Vec::<f32>::try_from(&y).unwrap(), [15.0; 4]);
    }

    #[test]
    fn without_a_gpu_there_is_an_error_and_no_work() {
        if crate::cuda_is_available() {
            eprintln!("skipped: there is a GPU");
            return;
        }
        let graph = CudaGraph::capture(0, None, || panic!("there is nothing to record on"));
        assert!(graph.is_err());
    }
}
