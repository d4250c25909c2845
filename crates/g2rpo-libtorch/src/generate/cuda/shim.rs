//! The shim for GPUs.
#![allow(
    unsafe_code,
    reason = "a shared object's functions are declared; this file and the two that use it check what that needs"
)]

use std::ffi::{c_char, c_int, c_void};
use std::sync::OnceLock;

use tch::TchError;

use crate::error::{Error, Result};
use crate::shim::Raw;

crate::shim::shim! {
    g2rpo_cuda_shim, "G2RPO_CUDA_SHIM", "g2rpo_",
    "this program was built without libtorch's CUDA headers; `cargo xtask setup` brings them",
    call {
        capture_enter(c_int, *mut Raw);
        capture_begin(Raw, Raw);
        capture_end(Raw, *mut Raw);
        graph_replay(Raw);
        // Queries, keys, values, `cu_q`, `cu_k`, `used_k`, `max_q`, `max_k`, scale, and two results.
        flash(
            *const c_void, *const c_void, *const c_void, *const c_void, *const c_void, *const c_void,
            i64, i64, f64, *mut Raw, *mut Raw
        );
    }
    free { capture_leave; graph_free; }
}

/// The shim, loaded at the first call.
///
/// # Errors
/// libtorch-like, with the reason, if it was not built or cannot be loaded: on a machine without
/// libtorch's CUDA library its symbols are missing.
pub(super) fn shim() -> Result<&'static Shim> {
    // Its symbols are those of libtorch's CUDA library, which must be there before.
    crate::cuda_is_available();
    Shim::get().map_err(|why| Error::Torch(TchError::Torch(why)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_without_a_gpu_says_why_there_is_no_shim() {
        if crate::cuda_is_available() {
            eprintln!("skipped: there is a GPU");
            return;
        }
        // With libtorch's CUDA library, but without a GPU, the shim loads and its calls fail.
        let Err(error) = shim() else {
            return;
        };
        let text = error.to_string();
        let expected = match cfg!(g2rpo_cuda_shim) {
            true => "loading the shim: ",
            false => "built without libtorch's CUDA headers",
        };
        assert!(text.contains(expected), "{text}");
    }
}
