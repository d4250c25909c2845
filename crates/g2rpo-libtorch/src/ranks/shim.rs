//! The shim for several processes.
#![allow(
    unsafe_code,
    reason = "a shared object's functions are declared; this file and the one that uses it check what that needs"
)]

use std::ffi::{c_char, c_int};
use std::sync::OnceLock;

use crate::shim::Raw;

crate::shim::shim! {
    g2rpo_gloo_shim, "G2RPO_GLOO_SHIM", "g2rpo_ranks_",
    "this program was built without libtorch's headers for several processes; `cargo xtask setup` brings them",
    call {
        // Host, port, whether this process holds the store, prefix of keys, rank, size, limit in milliseconds, result.
        connect(*const c_char, c_int, c_int, *const c_char, c_int, c_int, i64, *mut Raw);
        join(Raw);
        sum(Raw, Raw, i64, c_int);
        watch(Raw, c_int);
        store(Raw, *mut Raw);
        lost(Raw, *mut u8);
    }
    free { leave; }
}
