//! Loading of the shim for several processes, and the types of its functions.
#![allow(
    unsafe_code,
    reason = "a shared object is loaded and its functions are called; this file and the one that uses it check what that needs"
)]

use std::ffi::{c_char, c_int, c_void};
use std::sync::OnceLock;

/// A pointer to a group that the shim made.
pub(super) type Raw = *mut c_void;

/// The functions of `gloo/shim.cpp`, which says what they do.
#[derive(Debug, Clone, Copy)]
#[cfg_attr(
    not(all(g2rpo_gloo_shim, target_os = "linux")),
    allow(dead_code, reason = "nothing makes one where the shim was not built")
)]
pub(super) struct Shim {
    pub(super) connect: ConnectFn,
    pub(super) join: unsafe extern "C" fn(Raw, *mut c_char, usize) -> c_int,
    pub(super) sum: unsafe extern "C" fn(Raw, Raw, i64, c_int, *mut c_char, usize) -> c_int,
    pub(super) watch: unsafe extern "C" fn(Raw, c_int, *mut c_char, usize) -> c_int,
    pub(super) store: unsafe extern "C" fn(Raw, *mut Raw, *mut c_char, usize) -> c_int,
    pub(super) lost: unsafe extern "C" fn(Raw, *mut u8, *mut c_char, usize) -> c_int,
    pub(super) leave: unsafe extern "C" fn(Raw),
}

/// Host, port, whether this process holds the store, prefix of keys, rank, size, limit in milliseconds, result.
type ConnectFn = unsafe extern "C" fn(
    *const c_char,
    c_int,
    c_int,
    *const c_char,
    c_int,
    c_int,
    i64,
    *mut Raw,
    *mut c_char,
    usize,
) -> c_int;

/// The shim, loaded at the first call, or why there is none.
pub(super) fn shim() -> Result<&'static Shim, String> {
    static SHIM: OnceLock<Result<Shim, String>> = OnceLock::new();
    SHIM.get_or_init(load).as_ref().map_err(String::clone)
}

#[cfg(not(all(g2rpo_gloo_shim, target_os = "linux")))]
fn load() -> Result<Shim, String> {
    Err(
        "this program was built without libtorch's headers for several processes; `cargo xtask setup` brings them"
            .into(),
    )
}

#[cfg(all(g2rpo_gloo_shim, target_os = "linux"))]
fn load() -> Result<Shim, String> {
    let bytes = include_bytes!(env!("G2RPO_GLOO_SHIM"));
    let library = crate::shim::open(c"g2rpo-gloo-shim", bytes)?;
    macro_rules! function {
        ($name:literal) => {{
            // SAFETY: the symbol is the function of this name in `gloo/shim.cpp`, whose declaration
            // the type of the field repeats.
            let symbol = unsafe { library.get($name) };
            *symbol.map_err(|error| format!("the shim lacks a function: {error}"))?
        }};
    }
    let shim = Shim {
        connect: function!(b"g2rpo_ranks_connect"),
        join: function!(b"g2rpo_ranks_join"),
        sum: function!(b"g2rpo_ranks_sum"),
        watch: function!(b"g2rpo_ranks_watch"),
        store: function!(b"g2rpo_ranks_store"),
        lost: function!(b"g2rpo_ranks_lost"),
        leave: function!(b"g2rpo_ranks_leave"),
    };
    // The functions must stay where they are.
    std::mem::forget(library);
    Ok(shim)
}
