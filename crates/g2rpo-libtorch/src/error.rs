use tch::TchError;

/// What can go wrong in this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// libtorch failed; out-of-memory and CUDA errors arrive here.
    #[error("libtorch failed while {doing}: {source}")]
    Torch {
        /// What was being computed or allocated, with sizes where they matter.
        doing: String,
        /// libtorch's own words.
        source: TchError,
    },
    /// A tensor was asked for by a name that does not exist.
    #[error("there is no tensor named {name}")]
    UnknownTensor {
        /// The name.
        name: String,
    },
    /// Two tensors have the same name.
    #[error("two tensors are named {name}")]
    DuplicateTensor {
        /// The name.
        name: String,
    },
    /// A tensor has the wrong shape.
    #[error("tensor {name}: expected shape {expected:?}, got {got:?}")]
    Shape {
        /// Name of the tensor.
        name: String,
        /// The shape that is needed.
        expected: Vec<i64>,
        /// The shape found.
        got: Vec<i64>,
    },
    /// Numbers handed over do not fit together.
    #[error(transparent)]
    Core(#[from] g2rpo_core::Error),
}

/// [`std::result::Result`] with this crate's [`enum@Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Says what was being done when libtorch failed.
pub(crate) trait TorchContext<T> {
    /// Wraps the error; `doing` completes the sentence "libtorch failed while …".
    fn doing(self, doing: impl FnOnce() -> String) -> Result<T>;
}

impl<T> TorchContext<T> for Result<T, TchError> {
    fn doing(self, doing: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|source| Error::Torch {
            doing: doing(),
            source,
        })
    }
}
