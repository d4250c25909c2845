//! Handles to tensors.

use std::ops::Deref;

use tch::Tensor;

/// A handle to a tensor. A clone is another one to the same numbers.
#[derive(Debug)]
pub struct Handle(Tensor);

impl Clone for Handle {
    fn clone(&self) -> Self {
        Self(self.0.shallow_clone())
    }
}

impl Deref for Handle {
    type Target = Tensor;

    fn deref(&self) -> &Tensor {
        &self.0
    }
}

impl From<Tensor> for Handle {
    fn from(tensor: Tensor) -> Self {
        Self(tensor)
    }
}
