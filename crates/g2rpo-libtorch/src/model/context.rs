//! What a layer is told about the positions that it is given.

use tch::Tensor;

/// What a layer needs to know about the rows it is given: the rotation of every position and who
/// may attend to whom.
#[derive(Debug)]
pub struct Context {
    /// Cosines, shape `[T, 1, head_dim]`.
    pub cos: Tensor,
    /// Sines, shape `[T, 1, head_dim]`.
    pub sin: Tensor,
    /// Who may attend to whom.
    pub pattern: Pattern,
}

/// Who may attend to whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pattern {
    /// Every position sees itself and those before it in its row. Padding behind a row's end
    /// changes nothing before it.
    Causal,
    /// `B = 1`; the sequences stand one behind the other without padding, these are their
    /// lengths, and none sees another.
    Packed(Vec<i64>),
}
