//! What tch does not bind of libtorch's GPU half: CUDA graphs, and flash attention over sequences of
//! unequal length.
//!
//! `cuda/shim.cpp` wraps both in C. It is compiled into a shared object whose bytes this crate
//! holds, and loaded behind libtorch's CUDA library on machines that have a GPU. A program thus
//! needs nothing of CUDA to be linked or started, and does without the two where they cannot be
//! had.

pub(super) mod flash;
pub(super) mod graph;
mod shim;
