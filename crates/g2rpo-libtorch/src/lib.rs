//! G²RPO-A on libtorch.
#![deny(missing_docs)]

mod error;
mod params;

pub use error::{Error, Result};
pub use params::{ParamSpec, Parameters};
