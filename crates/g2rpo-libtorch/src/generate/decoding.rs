//! What the three forms of decoding have in common.

use tch::Tensor;

use super::prefill::Prefilled;
use crate::error::Result;

/// The rows being generated: keys and values of their positions, and how one more is computed.
pub(super) trait Decoding: std::fmt::Debug {
    /// Bytes that keys and values take at present.
    fn bytes(&self) -> usize;

    /// Adds a row for each request whose context was computed, behind those there are.
    fn add_rows(&mut self, filled: &Prefilled) -> Result<()>;

    /// Drops rows, given in ascending order: from behind, each is overwritten by the last row
    /// there is then, as by [`Vec::swap_remove`].
    fn remove_rows(&mut self, gone: &[usize]) -> Result<()>;

    /// Feeds every row an id at its next position; the hidden states behind the final norm,
    /// `[rows, hidden]`.
    fn step(&mut self, ids: &[i64]) -> Result<Tensor>;
}
