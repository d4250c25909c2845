//! What a layer is told about the positions that it is given.

use std::cell::RefCell;

use tch::{Device, Kind, Tensor};

use crate::error::Result;
use crate::model::config::LayerRope;

/// What a layer needs to know about the rows it is given: the rotation of every position and who
/// may attend to whom.
#[derive(Debug)]
pub struct Context {
    /// Cosines and sines, shape `[T, 1, rotated]`.
    pub rotations: Rotations,
    /// Who may attend to whom.
    pub pattern: Pattern,
    /// For layers with a window that is shorter than the longest row: 0 where a position may look,
    /// -inf elsewhere, `[T, T]` of the longest row.
    pub window_mask: Option<Tensor>,
    /// Where layers with experts put down whom every position went to, layer after layer:
    /// `[B · T, experts per position]`. `None` if nobody asks.
    pub routes: Option<RefCell<Vec<Tensor>>>,
}

/// What positions do to queries and keys: cosines and sines for the layers' kinds of rotary embedding.
#[derive(Debug)]
pub struct Rotations<T = Tensor> {
    /// Of the main one.
    pub main: (T, T),
    /// Of the local one, if the model has it.
    pub local: Option<(T, T)>,
    /// What queries are multiplied by, `[.., 1, 1]`, if that depends on the position.
    pub query_factor: Option<T>,
}

/// Who may attend to whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pattern {
    /// Every position sees itself and those before it in its row, as far as the layer's window
    /// reaches. Padding behind a row's end changes nothing before it.
    Causal,
    /// `B = 1`; the sequences stand one behind the other without padding, these are their
    /// lengths, and none sees another.
    Packed(Vec<i64>),
}

impl<T> Rotations<T> {
    /// Those of a layer; `None` if it does not turn anything.
    pub fn of(&self, rope: LayerRope) -> Option<&(T, T)> {
        match rope {
            LayerRope::Main => Some(&self.main),
            LayerRope::Local => self.local.as_ref(),
            LayerRope::None => None,
        }
    }

    /// The same for other positions, or in another shape.
    pub(crate) fn map<U>(&self, change: impl Fn(&T) -> Result<U>) -> Result<Rotations<U>> {
        let change = &change;
        let both = |(cos, sin): &(T, T)| -> Result<_> { Ok((change(cos)?, change(sin)?)) };
        Ok(Rotations {
            main: both(&self.main)?,
            local: self.local.as_ref().map(both).transpose()?,
            query_factor: self.query_factor.as_ref().map(change).transpose()?,
        })
    }
}

/// 0 where a position (row) may look at another (column), -inf elsewhere: itself and the
/// `window - 1` before it. `[len, len]`.
pub(crate) fn window_mask(len: usize, window: usize, kind: Kind, device: Device) -> Result<Tensor> {
    let shape = [len as i64, len as i64];
    let sees = Tensor::f_ones(shape, (Kind::Bool, device))?
        .f_tril(0)?
        .f_triu(1 - window as i64)?;
    let mask = Tensor::f_zeros(shape, (kind, device))?;
    Ok(mask.f_masked_fill(&sees.f_logical_not()?, f64::NEG_INFINITY)?)
}
