//! Number formats of parameters.

use crate::error::{Error, Result};

/// Number format of a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DType {
    /// 32-bit float.
    F32,
    /// bfloat16.
    Bf16,
    /// 16-bit IEEE float.
    F16,
}

impl DType {
    /// libtorch's name.
    pub fn kind(self) -> tch::Kind {
        match self {
            Self::F32 => tch::Kind::Float,
            Self::Bf16 => tch::Kind::BFloat16,
            Self::F16 => tch::Kind::Half,
        }
    }

    /// The name in config.json.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "float32",
            Self::Bf16 => "bfloat16",
            Self::F16 => "float16",
        }
    }

    /// From libtorch's name.
    ///
    /// # Errors
    /// [`Error::Invalid`] for any kind that is not a 16- or 32-bit float.
    pub fn from_kind(kind: tch::Kind) -> Result<Self> {
        match kind {
            tch::Kind::Float => Ok(Self::F32),
            tch::Kind::BFloat16 => Ok(Self::Bf16),
            tch::Kind::Half => Ok(Self::F16),
            other => Err(Error::invalid(
                "dtype",
                format!("expected a 16- or 32-bit float, got {other:?}"),
            )),
        }
    }
}

impl std::str::FromStr for DType {
    type Err = Error;

    /// `f32`, `bf16` or `f16`, or a name of config.json.
    fn from_str(name: &str) -> Result<Self> {
        match name {
            "f32" | "float32" => Ok(Self::F32),
            "bf16" | "bfloat16" => Ok(Self::Bf16),
            "f16" | "float16" => Ok(Self::F16),
            _ => Err(Error::invalid(
                "dtype",
                format!("expected f32, bf16 or f16, got `{name}`"),
            )),
        }
    }
}
