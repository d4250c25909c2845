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
use super::shim::Raw;
use crate::error::{Error, Result};
use crate::shim::call;

/// How long a look at a sum that is under way waits for the next, at most.
const LOOK: Duration = Duration::from_micros(500);
/// Time between looks at the other ranks while a sum is under way.
const WATCH: Duration = Duration::from_secs(1);

/// The functions of `nccl/shim.cpp`, which says what they do.
#[derive(Debug, Clone, Copy)]
#[cfg_attr(
    not(all(g2rpo_nccl_shim, target_os = "linux")),
    allow(dead_code, reason = "nothing makes one where the shim was not built")
)]
pub(super) struct Shim {
    join: JoinFn,
    start: unsafe extern "C" fn(Raw, *const c_void, *mut c_char, usize) -> c_int,
    done: unsafe extern "C" fn(Raw, *mut c_int, *mut c_char, usize) -> c_int,
    abort: unsafe extern "C" fn(Raw, *mut c_char, usize) -> c_int,
    leave: unsafe extern "C" fn(Raw),
}

/// Store, rank, size, index of the GPU, limit in milliseconds, result.
type JoinFn =
    unsafe extern "C" fn(Raw, c_int, c_int, c_int, i64, *mut Raw, *mut c_char, usize) -> c_int;

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
        static SHIM: OnceLock<std::result::Result<Shim, String>> = OnceLock::new();
        // Its symbols are those of libtorch's CUDA library, which must be there before.
        crate::cuda_is_available();
        SHIM.get_or_init(load).as_ref().map_err(String::clone)
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
        let summed = self.start(tensor).and_then(|()| {
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

    fn start(&self, tensor: &Tensor) -> Result<()> {
        // SAFETY: a tensor of tch is a pointer to an `at::Tensor`, which the shim copies.
        call(|(text, room)| unsafe {
            (self.shim.start)(self.raw, tensor.as_ptr().cast(), text, room)
        })
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

#[cfg(not(all(g2rpo_nccl_shim, target_os = "linux")))]
fn load() -> std::result::Result<Shim, String> {
    Err(
        "this program was built without NCCL's header, which `cargo xtask setup --cuda` brings; \
         ddp_backend = \"gloo\" sums gradients through host memory"
            .into(),
    )
}

#[cfg(all(g2rpo_nccl_shim, target_os = "linux"))]
fn load() -> std::result::Result<Shim, String> {
    let bytes = include_bytes!(env!("G2RPO_NCCL_SHIM"));
    let library = crate::shim::open(c"g2rpo-nccl-shim", bytes)?;
    macro_rules! function {
        ($name:literal) => {{
            // SAFETY: the symbol is the function of this name in `nccl/shim.cpp`, whose declaration
            // the type of the field repeats.
            let symbol = unsafe { library.get($name) };
            *symbol.map_err(|error| format!("the shim lacks a function: {error}"))?
        }};
    }
    let shim = Shim {
        join: function!(b"g2rpo_nccl_join"),
        start: function!(b"g2rpo_nccl_start"),
        done: function!(b"g2rpo_nccl_done"),
        abort: function!(b"g2rpo_nccl_abort"),
        leave: function!(b"g2rpo_nccl_leave"),
    };
    // The functions must stay where they are.
    std::mem::forget(library);
    Ok(shim)
}
