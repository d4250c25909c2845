//! Decoding on a GPU: flash attention over what each row has, and steps of fixed shapes, recorded as
//! CUDA graphs.
//!
//! A step depends on a few sizes (`shape.rs`) and on tensors that stay where they are. So it can be
//! recorded once per combination of sizes and repeated, and it runs unrecorded just the same: the
//! tests do that on the CPU, with libtorch's flash attention for the CPU in place of the GPU's.

pub(super) mod gpu;
mod graphs;
mod part;
mod pool;
pub(super) mod rows;
mod shape;
#[cfg(test)]
mod tests;
