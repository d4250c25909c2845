//! The gated feed-forward layer.

use tch::Tensor;

use super::linear::Linear;
use crate::error::Result;
use crate::model::config::Activation;

/// Gated feed-forward layer: `down(f(gate(x)) · up(x))`.
#[derive(Debug)]
pub struct Mlp {
    /// `[ffn, hidden]`.
    pub gate_proj: Linear,
    /// `[ffn, hidden]`.
    pub up_proj: Linear,
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
        let gate = self.activation.of(&self.gate_proj.forward(x)?)?;
        self.down_proj
            .forward(&gate.f_mul(&self.up_proj.forward(x)?)?)
    }

    /// Another handle to the same tensors.
    #[must_use]
    pub fn shallow_clone(&self) -> Self {
        Self {
            gate_proj: self.gate_proj.shallow_clone(),
            up_proj: self.up_proj.shallow_clone(),
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
