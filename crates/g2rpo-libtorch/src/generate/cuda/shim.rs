//! Loading of the shim, and the types of its functions.
#![allow(
    unsafe_code,
    reason = "a shared object is loaded and its functions are called; this file and the two that use it check what that needs"
)]

use std::ffi::{c_char, c_int, c_void};
use std::sync::OnceLock;

use tch::TchError;

use crate::error::{Error, Result};

/// A pointer to something that the shim made, or to an `at::Tensor`.
pub(super) type Raw = *mut c_void;

/// The functions of `cuda/shim.cpp`, which says what they do.
#[derive(Debug, Clone, Copy)]
#[cfg_attr(
    not(all(g2rpo_cuda_shim, target_os = "linux")),
    allow(dead_code, reason = "nothing makes one where the shim was not built")
)]
pub(super) struct Shim {
    pub(super) capture_enter: unsafe extern "C" fn(c_int, *mut Raw, *mut c_char, usize) -> c_int,
    pub(super) capture_begin: unsafe extern "C" fn(Raw, Raw, *mut c_char, usize) -> c_int,
    pub(super) capture_end: unsafe extern "C" fn(Raw, *mut Raw, *mut c_char, usize) -> c_int,
    pub(super) capture_leave: unsafe extern "C" fn(Raw),
    pub(super) graph_replay: unsafe extern "C" fn(Raw, *mut c_char, usize) -> c_int,
    pub(super) graph_free: unsafe extern "C" fn(Raw),
    pub(super) flash: FlashFn,
}

/// Queries, keys, values, `cu_q`, `cu_k`, `used_k`, `max_q`, `max_k`, scale, and two results.
type FlashFn = unsafe extern "C" fn(
    *const c_void,
    *const c_void,
    *const c_void,
    *const c_void,
    *const c_void,
    *const c_void,
    i64,
    i64,
    f64,
    *mut Raw,
    *mut Raw,
    *mut c_char,
    usize,
) -> c_int;

/// The shim, loaded at the first call.
///
/// # Errors
/// libtorch-like, with the reason, if it was not built or cannot be loaded: on a machine without
/// libtorch's CUDA library its symbols are missing.
pub(super) fn shim() -> Result<&'static Shim> {
    static SHIM: OnceLock<std::result::Result<Shim, String>> = OnceLock::new();
    // Its symbols are those of libtorch's CUDA library, which must be there before.
    crate::cuda_is_available();
    match SHIM.get_or_init(load) {
        Ok(shim) => Ok(shim),
        Err(why) => Err(Error::Torch(TchError::Torch(why.clone()))),
    }
}

#[cfg(not(all(g2rpo_cuda_shim, target_os = "linux")))]
fn load() -> std::result::Result<Shim, String> {
    Err(
        "this program was built without libtorch's CUDA headers; `cargo xtask setup` brings them"
            .into(),
    )
}

#[cfg(all(g2rpo_cuda_shim, target_os = "linux"))]
fn load() -> std::result::Result<Shim, String> {
    let bytes = include_bytes!(env!("G2RPO_CUDA_SHIM"));
    let library = crate::shim::open(c"g2rpo-cuda-shim", bytes)?;
    macro_rules! function {
        ($name:literal) => {{
            // SAFETY: the symbol is the function of this name in `cuda/shim.cpp`, whose declaration
            // the type of the field repeats.
            let symbol = unsafe { library.get($name) };
            *symbol.map_err(|error| format!("the shim lacks a function: {error}"))?
        }};
    }
    let shim = Shim {
        capture_enter: function!(b"g2rpo_capture_enter"),
        capture_begin: function!(b"g2rpo_capture_begin"),
        capture_end: function!(b"g2rpo_capture_end"),
        capture_leave: function!(b"g2rpo_capture_leave"),
        graph_replay: function!(b"g2rpo_graph_replay"),
        graph_free: function!(b"g2rpo_graph_free"),
        flash: function!(b"g2rpo_flash"),
    };
    // The functions must stay where they are.
    std::mem::forget(library);
    Ok(shim)
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
