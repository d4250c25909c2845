//! Decoding in host memory.
//!
//! A decoding step has a few rows and reads all weights once, so what counts is that they are read
//! in order and that little happens besides. libtorch's matrix products rearrange the weights at
//! every call when rows are few, and each of the sixty small operations of a layer costs it a
//! microsecond or two. Here activations are stored feature by feature, `[features, b]`, so that
//! weights are read as they lie, and what stands between two products is a handful of loops.
//!
//! Contexts that rows share (a prompt, guidance) are kept once; every row's own positions follow.

mod attention;
mod context;
mod delta;
mod dots;
pub(super) mod gemm;
pub(super) mod math;
pub(super) mod own;
pub(super) mod rows;
mod simd;
mod step;
pub(super) mod threads;
mod weights;
