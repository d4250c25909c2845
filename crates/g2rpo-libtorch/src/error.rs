//! What can go wrong.

use std::ops::RangeBounds;
use std::path::PathBuf;

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong between a checkpoint on disk and a sampled or trained token.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file could not be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A JSON file does not parse, or a field of it does not fit.
    #[error("{}: {what}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it and, where it helps, what to do.
        what: String,
    },
    /// A field of a model configuration is missing, malformed or names something this crate does
    /// not support.
    #[error("{}: field `{field}`: {what}", path.display())]
    Config {
        /// The configuration file.
        path: PathBuf,
        /// Name of the field, with dots between levels.
        field: String,
        /// What is wrong with its value.
        what: String,
    },
    /// A tensor that the model needs is in no file of the checkpoint.
    #[error("{}: tensor `{name}` is missing", path.display())]
    MissingTensor {
        /// The checkpoint.
        path: PathBuf,
        /// Name of the tensor.
        name: String,
    },
    /// The checkpoint holds a tensor that the model does not have.
    #[error("{}: tensor `{name}` does not belong to a model with this config.json", path.display())]
    ExtraTensor {
        /// The checkpoint.
        path: PathBuf,
        /// Name of the tensor.
        name: String,
    },
    /// A tensor of the checkpoint has another shape than the configuration says.
    #[error("{}: tensor `{name}` has shape {got:?}, config.json asks for {expected:?}", path.display())]
    TensorShape {
        /// The checkpoint.
        path: PathBuf,
        /// Name of the tensor.
        name: String,
        /// Shape that the configuration asks for.
        expected: Vec<i64>,
        /// Shape in the file.
        got: Vec<i64>,
    },
    /// No parameter has this name.
    #[error("no parameter is named `{0}`")]
    UnknownParameter(String),
    /// A value given to a function does not fit.
    #[error("{what}: {why}")]
    Invalid {
        /// The argument or field.
        what: &'static str,
        /// Expected and got.
        why: String,
    },
    /// A number is not finite where it must be.
    #[error("{what} holds a value that is not finite")]
    NotFinite {
        /// What holds it: a parameter, the logits of a position, a gradient.
        what: String,
    },
    /// Memory did not suffice.
    #[error("out of memory while {doing}: {message}")]
    OutOfMemory {
        /// What was being computed or allocated.
        doing: String,
        /// First line of what libtorch said.
        message: String,
    },
    /// The GPU reported an error. It may belong to an operation before the one named, as
    /// operations run behind the program's back; `CUDA_LAUNCH_BLOCKING=1` finds the right one.
    #[error("CUDA failed while {doing}: {message}")]
    Cuda {
        /// What was being computed or allocated.
        doing: String,
        /// First line of what libtorch said.
        message: String,
    },
    /// The tokenizer could not be read, trained or applied.
    #[error("tokenizer: {0}")]
    Tokenizer(String),
    /// A chat template does not parse, or raised an error while it was rendered.
    #[error("chat template: {0}")]
    Template(String),
    /// libtorch refused an operation.
    #[error("libtorch: {0}")]
    Torch(#[from] tch::TchError),
    /// Two parameters have the same name.
    #[error("two parameters are named `{0}`")]
    DuplicateParameter(String),
    /// Values for a parameter do not have its shape.
    #[error("parameter `{name}`: expected shape {expected:?}, got {got:?}")]
    ParameterShape {
        /// Name of the parameter.
        name: String,
        /// The parameter's shape.
        expected: Vec<i64>,
        /// The shape found.
        got: Vec<i64>,
    },
    /// Numbers handed over do not fit together, or the closure of `Learner::accumulate` failed.
    #[error(transparent)]
    Core(#[from] g2rpo_core::Error),
    /// A sampling setting is outside its range.
    #[error(transparent)]
    Sampling(#[from] g2rpo_rollout::Error),
}

impl Error {
    /// Wraps an I/O error with the path it happened at.
    pub(crate) fn io(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, source }
    }

    /// An argument that does not fit.
    pub(crate) fn invalid(what: &'static str, why: impl Into<String>) -> Self {
        Self::Invalid {
            what,
            why: why.into(),
        }
    }
}

/// Refuses an argument that does not fit.
pub(crate) fn ensure<S: Into<String>>(
    fits: bool,
    what: &'static str,
    why: impl FnOnce() -> S,
) -> Result<()> {
    match fits {
        true => Ok(()),
        false => Err(Error::invalid(what, why())),
    }
}

/// Refuses a setting outside its domain, which is the range and how it is written.
pub(crate) fn within(
    name: &'static str,
    value: f64,
    range: &impl RangeBounds<f64>,
    domain: &'static str,
) -> Result<()> {
    if range.contains(&value) {
        return Ok(());
    }
    Err(Error::Core(g2rpo_core::Error::Config {
        name,
        value,
        domain,
    }))
}

/// Names what was being done when libtorch ran out of memory.
pub(crate) trait Doing<T> {
    /// Turns libtorch's out-of-memory and CUDA errors into [`Error::OutOfMemory`] and
    /// [`Error::Cuda`]; other errors pass.
    fn doing(self, doing: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: Into<Error>> Doing<T> for std::result::Result<T, E> {
    fn doing(self, doing: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|error| match error.into() {
            Error::Torch(tch::TchError::Torch(text)) => {
                let message = || text.lines().next().unwrap_or_default().to_owned();
                if is_out_of_memory(&text) {
                    Error::OutOfMemory {
                        doing: doing(),
                        message: message(),
                    }
                } else if is_cuda(&text) {
                    Error::Cuda {
                        doing: doing(),
                        message: message(),
                    }
                } else {
                    Error::Torch(tch::TchError::Torch(text))
                }
            }
            other => other,
        })
    }
}

/// Checks what an error says: `…` stands for anything.
#[cfg(test)]
#[track_caller]
pub(crate) fn says<T, E: std::fmt::Display>(result: std::result::Result<T, E>, expected: &str) {
    let said = result
        .err()
        .map_or("nothing".into(), |error| error.to_string());
    let fits = match expected.split('…').collect::<Vec<_>>()[..] {
        [whole] => said == whole,
        [start, end] => said.starts_with(start) && said.ends_with(end),
        [start, middle, end] => {
            said.starts_with(start) && said.contains(middle) && said.ends_with(end)
        }
        _ => false,
    };
    assert!(fits, "said: {said}\nexpected: {expected}");
}

/// CUDA's own errors and those of its matrix products, as libtorch words them.
fn is_cuda(message: &str) -> bool {
    ["CUDA error", "CUBLAS_STATUS", "CUDNN_STATUS"]
        .iter()
        .any(|m| message.contains(m))
}

fn is_out_of_memory(message: &str) -> bool {
    // The first is the CUDA allocator's, the second the CPU allocator's.
    [
        "out of memory",
        "not enough memory",
        "can't allocate memory",
    ]
    .iter()
    .any(|m| message.contains(m))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn out_of_memory_says_what_was_allocated() {
        let huge = tch::Tensor::f_zeros([1 << 50], (tch::Kind::Float, tch::Device::Cpu))
            .doing(|| "allocating a KV cache of 4096 TiB".into());
        assert!(matches!(huge, Err(Error::OutOfMemory { .. })), "{huge:?}");
        let expected = "out of memory while allocating a KV cache of 4096 TiB: …";
        says(huge, expected);
    }

    #[test]
    fn cuda_errors_say_what_was_computed() {
        let said = "CUDA error: device-side assert triggered\nCUDA kernel errors might be ...";
        let failed: Result<(), _> = Err(tch::TchError::Torch(said.into()));
        let expected = "CUDA failed while scoring 4 rows: CUDA error: device-side assert triggered";
        says(failed.doing(|| "scoring 4 rows".into()), expected);
    }

    #[test]
    fn other_errors_pass_unchanged() {
        let a = tch::Tensor::zeros([2, 3], (tch::Kind::Float, tch::Device::Cpu));
        let err = a.f_matmul(&a).doing(|| "multiplying".into()).unwrap_err();
        assert!(matches!(err, Error::Torch(_)), "{err}");
    }
}
