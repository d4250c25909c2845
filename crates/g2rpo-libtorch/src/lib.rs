//! G²RPO-A on libtorch.
#![deny(missing_docs)]
