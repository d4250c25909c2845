//! What tch does not bind of libtorch's GPU half: CUDA graphs, and flash attention over sequences of
//! unequal length.
//!
//! `cuda/shim.cpp` wraps both in C. It is compiled into a shared object whose bytes this crate
//! holds, and loaded behind libtorch's CUDA library on machines that have a GPU. A program thus
//! needs nothing of CUDA to be linked or started, and does without the two where they cannot be
//! had.

mod flash;
mod graph;
mod shim;

#[cfg(test)]
pub(crate) use flash::on_the_cpu;
pub(crate) use flash::{Varlen, VarlenKernel, check, on_cuda};
pub(crate) use graph::CudaGraph;
