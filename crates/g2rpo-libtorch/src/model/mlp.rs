//! The gated feed-forward layer.

use tch::Tensor;

use super::linear::{Linear, Parallel};
use crate::error::Result;
use crate::model::config::Activation;

/// Gated feed-forward layer: `down(f(gate(x)) · up(x))`.
#[derive(Debug)]
pub struct Mlp {
    /// Gate and up, `[ffn, hidden]` each.
    pub gate_up: Parallel,
    /// `[hidden, ffn]`.
    pub down_proj: Linear,
    /// `f`.
    pub activation: Activation,
}

impl Mlp {
    /// `x` of shape `[.., hidden]` to the same shape.
    ///
    /// # Errors
    /// libtorch's.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let width = self.down_proj.weight.size2()?.1;
        let gate_up = self.gate_up.forward(x, &[width, width])?;
        let gate = self.activation.of(&gate_up[0])?;
        self.down_proj.forward(&gate.f_mul(&gate_up[1])?)
    }

    /// Another handle to the same tensors.
    #[must_use]
    pub fn shallow_clone(&self) -> Self {
        Self {
            gate_up: self.gate_up.shallow_clone(),
            down_proj: self.down_proj.shallow_clone(),
            activation: self.activation,
        }
    }
}

impl Activation {
    /// Element by element.
    ///
    /// # Errors
    /// libtorch's.
    pub fn of(self, x: &Tensor) -> Result<Tensor> {
        Ok(match self {
            Self::Silu => x.f_silu()?,
            Self::GeluTanh => x.f_gelu("tanh")?,
        })
    }
}
