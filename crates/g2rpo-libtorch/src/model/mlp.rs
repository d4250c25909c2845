//! The gated feed-forward layer.

use tch::Tensor;

use super::linear::{Linear, Parallel};
use crate::error::Result;
use crate::model::config::Activation;

/// Gated feed-forward layer: `down(f(gate(x)) · up(x))`.
#[derive(Debug, Clone)]
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
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let width = self.down_proj.weight.size2()?.1;
        let gate_up = self.gate_up.forward(x, &[width, width])?;
        let gate = self.activation.of(&gate_up[0])?;
        self.down_proj.forward(&gate.f_mul(&gate_up[1])?)
    }
}

impl Activation {
    /// Element by element.
    pub fn of(self, x: &Tensor) -> Result<Tensor> {
        Ok(match self {
            Self::Silu => x.f_silu()?,
            Self::GeluTanh => x.f_gelu("tanh")?,
        })
    }
}
