//! Number formats of parameters.

use tch::Kind;

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
    /// With libtorch's name, that in config.json and a short one.
    const TABLE: [(Self, Kind, &'static str, &'static str); 3] = [
        (Self::F32, Kind::Float, "float32", "f32"),
        (Self::Bf16, Kind::BFloat16, "bfloat16", "bf16"),
        (Self::F16, Kind::Half, "float16", "f16"),
    ];

    /// libtorch's name.
    pub fn kind(self) -> Kind {
        Self::TABLE[self as usize].1
    }

    /// The name in config.json.
    pub fn name(self) -> &'static str {
        Self::TABLE[self as usize].2
    }

    /// From the name in config.json.
    pub(crate) fn of_name(name: &str) -> Option<Self> {
        (Self::TABLE.iter().find(|row| row.2 == name)).map(|row| row.0)
    }

    /// From libtorch's name.
    ///
    /// # Errors
    /// [`Error::Invalid`] for any kind that is not a 16- or 32-bit float.
    pub fn from_kind(kind: Kind) -> Result<Self> {
        let row = Self::TABLE.iter().find(|row| row.1 == kind);
        row.map(|row| row.0).ok_or_else(|| {
            let why = format!("expected a 16- or 32-bit float, got {kind:?}");
            Error::invalid("dtype", why)
        })
    }
}

impl std::str::FromStr for DType {
    type Err = Error;

    /// `f32`, `bf16` or `f16`, or a name of config.json.
    fn from_str(name: &str) -> Result<Self> {
        let row = (Self::TABLE.iter()).find(|row| [row.2, row.3].contains(&name));
        row.map(|row| row.0).ok_or_else(|| {
            let why = format!("expected f32, bf16 or f16, got `{name}`");
            Error::invalid("dtype", why)
        })
    }
}
