//! Sums of tensors that stay on their GPUs: c10d's `ProcessGroupNCCL`, by a shim of its own.
#![allow(
    unsafe_code,
    reason = "a shared object is loaded and its functions are called with pointers to tensors; this file checks what that needs"
)]

use std::ffi::{c_char, c_int, c_void};
use std::ptr;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use tch::{Device, Tensor};

use super::launch::Launch;
use crate::error::{Error, Result};
use crate::shim::{Raw, call};

/// How long a look at a sum that is under way waits for the next, at most.
const LOOK: Duration = Duration::from_micros(500);
/// Time between looks at the other ranks while a sum is under way.
const WATCH: Duration = Duration::from_secs(1);

crate::shim::shim! {
    g2rpo_nccl_shim, "G2RPO_NCCL_SHIM", "g2rpo_nccl_",
    "this program was built without NCCL's header, which `cargo xtask setup --cuda` brings; \
     ddp_backend = \"gloo\" sums gradients through host memory",
    call {
        // Store, rank, size, index of the GPU, limit in milliseconds, result.
        join(Raw, c_int, c_int, c_int, i64, *mut Raw);
        start(Raw, *const c_void);
        done(Raw, *mut c_int);
        abort(Raw);
    }
    free { leave; }
}

/// The GPU of this process in a group.
#[derive(Debug)]
pub(super) struct Nccl {
    shim: &'static Shim,
    raw: Raw,
    index: usize,
}

impl Nccl {
    /// The shim, loaded at the first call, or why there is none.
    pub(super) fn shim() -> std::result::Result<&'static Shim, String> {
        // Its symbols are those of libtorch's CUDA library, which must be there before.
        crate::cuda_is_available();
        Shim::get()
    }

    /// Connects the GPUs of all ranks, with a store of the other shim, which is taken over.
    pub(super) fn join(
        shim: &'static Shim,
        store: Raw,
        launch: &Launch,
        index: usize,
        limit: Duration,
    ) -> Result<Self> {
        let mut raw = ptr::null_mut();
        // SAFETY: the store is the caller's to give, and the place of the result outlives the call.
        call(|(text, room)| unsafe {
            (shim.join)(
                store,
                launch.rank as c_int,
                launch.size as c_int,
                index as c_int,
                limit.as_millis() as i64,
                &raw mut raw,
                text,
                room,
            )
        })?;
        Ok(Self { shim, raw, index })
    }

    pub(super) fn device(&self) -> Device {
        Device::Cuda(self.index)
    }

    /// Replaces the numbers of a tensor on the GPU by their sums over all ranks. `watch` fails when another rank is
    /// lost; its argument says whether a sum begins.
    pub(super) fn sum(
        &self,
        tensor: &Tensor,
        limit: Duration,
        watch: impl Fn(bool) -> Result<()>,
    ) -> Result<()> {
        watch(true)?;
        let until = Instant::now() + limit;
        // SAFETY: a tensor of tch is a pointer to an `at::Tensor`, which the shim copies.
        let started = call(|(text, room)| unsafe {
            (self.shim.start)(self.raw, tensor.as_ptr().cast(), text, room)
        });
        let summed = started.and_then(|()| {
            let (mut next_watch, mut pause) = (Instant::now() + WATCH, Duration::from_micros(5));
            while !self.done()? {
                let now = Instant::now();
                if now > until {
                    return Err(Error::invalid("NCCL", "the sum does not end"));
                }
                if now > next_watch {
                    watch(false)?;
                    next_watch = now + WATCH;
                }
                std::thread::sleep(pause);
                pause = (2 * pause).min(LOOK);
            }
            Ok(())
        });
        if summed.is_err() {
            // A kernel that waits for a rank that is gone would keep the GPU; the first error is the one to tell.
            // SAFETY: the group lives.
            let _ = call(|(text, room)| unsafe { (self.shim.abort)(self.raw, text, room) });
        }
        summed
    }

    fn done(&self) -> Result<bool> {
        let mut done = 0;
        // SAFETY: the group lives, and the place of the result outlives the call.
        call(|(text, room)| unsafe { (self.shim.done)(self.raw, &raw mut done, text, room) })?;
        Ok(done != 0)
    }
}

impl Drop for Nccl {
    fn drop(&mut self) {
        // SAFETY: nothing uses the group after this.
        unsafe { (self.shim.leave)(self.raw) }
    }
}
